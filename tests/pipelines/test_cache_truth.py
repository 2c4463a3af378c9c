"""The truth table of the cache: each row runs a project twice, in two new processes, with one thing changed between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
MISS, HIT = "COMMITTED", "CACHED"

STEPS = '''"""Steps of a project."""
from pathlib import Path
from typing import Any

import fakedep
import near
from shapes import LIMIT, Shape, scaled
from tidewheel import pipeline, step

RATE = 2
triple = scaled(3)


def local(x, by=10):
    """Say nothing."""
    return (x, by)


def unused():
    return 1


@step(code=["sql/*.sql", "plugins"], ignore=["chatty"], isolate=None)
def work(x: Any = 1, path: Path | None = None, chatty: bool = False) -> str:
    """Reach everything."""
    total = near.near(RATE)  # a comment
    found = [total, Shape().area(), LIMIT, triple(2), local(0), fakedep.one(), repr(x)]
    return repr(found) + (path.read_text() if path else "")


@pipeline
def flow(x: Any = 1, path: Path | None = None, chatty: bool = False) -> str:
    return work(x, path, chatty)
'''
FILES = {
    "project/steps.py": STEPS,
    "project/near.py": "import far\n\n\ndef near(x):\n    return far.far(x)\n\n\ndef other():\n    return 5\n",
    "project/far.py": "BASE = {'a': [1, 2]}\n\n\ndef far(x):\n    return x + BASE['a'][0]\n\n\n"
    "def doubled(f):\n    def call(x):\n        return 2 * f(x)\n    return call\n",
    "project/shapes.py": (
        "LIMIT = 7\n\n\nclass Shape:\n    side: int = 3\n\n    def area(self):\n        return self.side * 2\n\n\n"
        "def scaled(by):\n    def inner(x):\n        return x * by\n    return inner\n"
    ),
    "project/plugins.py": "NAMES = ['a']\n",
    "project/sql/one.sql": "select 1",
    "project/data.txt": "some rows",
    "project/req.lock": "polars==1.0\n",
    "site-packages/fakedep/__init__.py": "import fakebase\n\n\ndef one():\n    return fakebase.VALUE\n",
    "site-packages/fakebase/__init__.py": "VALUE = 1\n",
    "site-packages/fakedep-1.0.dist-info/METADATA": "Name: fakedep\nVersion: 1.0\nRequires-Dist: fakebase>=1\n\nText\n",
    "site-packages/fakebase-1.0.dist-info/METADATA": "Name: fakebase\nVersion: 1.0\n\nText\n",
}


class Driver:
    """Runs orders in new processes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, folder: Path, parameters: dict[str, str], **more: Any) -> dict[str, Any]:
        """Run the project's pipeline; each process sees the files as they are."""
        order = {
            "home": str(folder / "home"),
            "folder": str(folder / "project"),
            "paths": [str(folder / "site-packages")],
            "target": "steps.py:flow",
            "parameters": parameters,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order | more) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert answer["status"] == 0, answer
        return answer


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    """One process that has imported the platform, and forks the others."""
    command = [sys.executable, str(HERE / "fresh.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Driver(process)
        if process.stdin is not None:
            process.stdin.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with a neighbour, data, and two installed distributions."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def edited(file: str, old: str, new: str) -> Callable[[Path], None]:
    """Change one place in one file."""

    def change(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))

    return change


def renamed(old: str, new: str) -> Callable[[Path], None]:
    """Rename a file or folder."""

    def change(folder: Path) -> None:
        (folder / old).rename(folder / new)

    return change


def written(file: str, text: str) -> Callable[[Path], None]:
    """Write a file."""

    def change(folder: Path) -> None:
        (folder / file).write_text(text)

    return change


def touched(file: str) -> Callable[[Path], None]:
    """Change the times of a file and nothing else."""
    return lambda folder: os.utime(folder / file, (1, 1))


def nothing(folder: Path) -> None:
    """Change nothing."""


def without_blobs(folder: Path) -> None:
    """Delete every blob."""
    found = [path for path in (folder / "home" / "blobs").rglob("*") if path.is_file()]
    assert found
    for path in found:
        path.unlink()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of the table."""

    name: str  # what is changed
    wanted: str  # MISS or HIT
    change: Callable[[Path], None] = nothing  # to the project, between the runs
    before: dict[str, str] = field(default_factory=dict)  # parameters of the first run, as Python text
    after: dict[str, str] | None = None  # of the second one; None: the same
    setup: Callable[[Path], None] = nothing  # to the project, before the first run
    because: str = ""  # what the second run gives as the reason of a miss


DATA = {"path": "Path('data.txt')"}
LONG = {"x": "'a' * 5000"}
FRAME = "pl.DataFrame({'a': [1, 2], 'b': [3, 4]})"
SHARED = "lambda x: x"
ISOLATED = edited("project/steps.py", "isolate=None", "isolate='req.lock', on='process'")

MISSES = (
    Row(name="data behind a path", wanted=MISS, before=DATA, change=edited("project/data.txt", "some", "more")),
    Row(
        name="a helper two modules away",
        wanted=MISS,
        change=edited("project/far.py", "x + BASE", "x - BASE"),
        because="code far.far",
    ),
    Row(name="a constant", wanted=MISS, change=edited("project/steps.py", "RATE = 2", "RATE = 3"), because="RATE"),
    Row(
        name="a constant two modules away",
        wanted=MISS,
        change=edited("project/far.py", "[1, 2]", "[1, 3]"),
        because="far.BASE",
    ),
    Row(name="an imported constant", wanted=MISS, change=edited("project/shapes.py", "LIMIT = 7", "LIMIT = 8")),
    Row(name="1 against '1'", wanted=MISS, before={"x": "1"}, after={"x": "'1'"}, because="input x: 1 -> '1'"),
    Row(name="True against 1", wanted=MISS, before={"x": "1"}, after={"x": "True"}, because="input x: 1 -> True"),
    Row(name="1.0 against 1", wanted=MISS, before={"x": "1"}, after={"x": "1.0"}),
    Row(name="a list against a tuple", wanted=MISS, before={"x": "[1, 2]"}, after={"x": "(1, 2)"}),
    Row(name="True in a list", wanted=MISS, before={"x": "[1] * 9"}, after={"x": "[True] * 9"}),
    Row(name="None against 'None'", wanted=MISS, before={"x": "None"}, after={"x": "'None'"}),
    Row(name="the dtype of a column", wanted=MISS, before={"x": FRAME}, after={"x": FRAME + ".cast(pl.Int32)"}),
    Row(
        name="the dtype of an array",
        wanted=MISS,
        before={"x": "np.arange(3, dtype='int32')"},
        after={"x": "np.arange(3, dtype='uint32')"},
    ),
    Row(
        name="the shape of an array",
        wanted=MISS,
        before={"x": "np.zeros((2, 3))"},
        after={"x": "np.zeros((3, 2))"},
    ),
    Row(name="the order of columns", wanted=MISS, before={"x": FRAME}, after={"x": FRAME + ".select('b', 'a')"}),
    Row(name="the order of rows", wanted=MISS, before={"x": FRAME}, after={"x": FRAME + ".reverse()"}),
    Row(name="the name of a column", wanted=MISS, before={"x": FRAME}, after={"x": FRAME + ".rename({'a': 'c'})"}),
    Row(
        name="a null for a zero",
        wanted=MISS,
        before={"x": "pl.Series([0])"},
        after={"x": "pl.Series([None], dtype=int)"},
    ),
    Row(
        name="a dependency bump",
        wanted=MISS,
        change=renamed("site-packages/fakedep-1.0.dist-info", "site-packages/fakedep-1.1.dist-info"),
        because="package fakedep: fakedep==1.0 -> fakedep==1.1",
    ),
    Row(
        name="a bump of what a dependency needs",
        wanted=MISS,
        change=renamed("site-packages/fakebase-1.0.dist-info", "site-packages/fakebase-2.0.dist-info"),
        because="package fakebase: fakebase==1.0 -> fakebase==2.0",
    ),
    Row(name="a deleted blob", wanted=MISS, before=LONG, change=without_blobs, because="not kept"),
    Row(name="a method", wanted=MISS, change=edited("project/shapes.py", "side * 2", "side * 4"), because="Shape.area"),
    Row(name="a class attribute", wanted=MISS, change=edited("project/shapes.py", "int = 3", "int = 4")),
    Row(name="a default of a helper", wanted=MISS, change=edited("project/steps.py", "by=10", "by=11")),
    Row(
        name="a default of the step",
        wanted=MISS,
        change=edited("project/steps.py", "work(x: Any = 1", "work(x: Any = 2"),
    ),
    Row(name="a variable of a closure", wanted=MISS, change=edited("project/steps.py", "scaled(3)", "scaled(4)")),
    Row(
        name="a file named by code=",
        wanted=MISS,
        change=edited("project/sql/one.sql", "1", "2"),
        because="file sql/one.sql",
    ),
    Row(
        name="one more file named by code=",
        wanted=MISS,
        change=written("project/sql/two.sql", "select 2"),
        because="file sql/two.sql is new",
    ),
    Row(
        name="a module named by code=",
        wanted=MISS,
        change=edited("project/plugins.py", "'a'", "'b'"),
        because="plugins",
    ),
    Row(
        name="a variable that is set for the step",
        wanted=MISS,
        setup=edited("project/steps.py", "isolate=None", "variables={'MODE': 'a'}"),
        change=edited("project/steps.py", "'MODE': 'a'", "'MODE': 'b'"),
        because="variable MODE",
    ),
    Row(
        name="a decorator of a helper",
        wanted=MISS,
        change=edited("project/near.py", "def near", "@far.doubled\ndef near"),
    ),
    Row(
        name="what a decorator of a helper does",
        wanted=MISS,
        setup=edited("project/near.py", "def near", "@far.doubled\ndef near"),
        change=edited("project/far.py", "2 * f(x)", "3 * f(x)"),
        because="doubled",
    ),
)
HITS = (
    Row(name="nothing", wanted=HIT),
    Row(name="a comment", wanted=HIT, change=edited("project/steps.py", "# a comment", "# another")),
    Row(name="a comment two modules away", wanted=HIT, change=edited("project/far.py", "def far", "# here\ndef far")),
    Row(name="a docstring", wanted=HIT, change=edited("project/steps.py", "Reach everything", "Reach all")),
    Row(name="the docstring of a helper", wanted=HIT, change=edited("project/steps.py", "Say nothing", "Speak")),
    Row(name="an option", wanted=HIT, change=edited("project/steps.py", "isolate=None", "retries=3, timeout='9m'")),
    Row(name="touched data", wanted=HIT, before=DATA, change=touched("project/data.txt")),
    Row(name="touched code", wanted=HIT, change=touched("project/far.py")),
    Row(
        name="layout",
        wanted=HIT,
        change=edited(
            "project/steps.py", "[total, Shape().area(), LIMIT,", "[\n        total,\n        Shape().area(), LIMIT,"
        ),
    ),
    Row(
        name="the order of functions",
        wanted=HIT,
        change=edited(
            "project/near.py",
            "def near(x):\n    return far.far(x)\n\n\ndef other():\n    return 5\n",
            "def other():\n    return 5\n\n\ndef near(x):\n    return far.far(x)\n",
        ),
    ),
    Row(name="a function that is not reached", wanted=HIT, change=edited("project/steps.py", "return 1", "return 2")),
    Row(name="a module that is not reached", wanted=HIT, change=edited("project/near.py", "return 5", "return 6")),
    Row(name="an argument left out by ignore=", wanted=HIT, after={"chatty": "True"}),
    Row(
        name="a moved file",
        wanted=HIT,
        before=DATA,
        after={"path": "Path('moved.txt')"},
        change=renamed("project/data.txt", "project/moved.txt"),
    ),
    Row(
        name="chunks of a frame",
        wanted=HIT,
        before={"x": FRAME},
        after={"x": f"pl.concat([{FRAME}[:1], {FRAME}[1:]], rechunk=False)"},
    ),
    Row(
        name="the memory order of an array",
        wanted=HIT,
        before={"x": "np.ones((2, 3))"},
        after={"x": "np.asfortranarray(np.ones((2, 3)))"},
    ),
    Row(
        name="the body of the pipeline",
        wanted=HIT,
        change=edited(
            "project/steps.py", "    return work(x, path, chatty)", "    note = 0\n    return work(x, path, chatty)"
        ),
    ),
)


@pytest.mark.parametrize("row", [*MISSES, *HITS], ids=lambda row: row.name)
def test_cache(row: Row, driver: Driver, folder: Path) -> None:
    row.setup(folder)
    first = driver.run(folder, row.before)
    assert first["states"] == {"work": MISS}
    row.change(folder)
    second = driver.run(folder, row.before if row.after is None else row.after)
    assert second["states"] == {"work": row.wanted}
    action, reason = second["planned"]["work"]
    assert action == ("cached" if row.wanted == HIT else "run")
    assert row.because in reason
    assert row.because in "\n".join(second["why"])
