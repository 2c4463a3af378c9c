"""The style checker finds each thing that it is there to find, and lets the ordinary pass."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_style", ROOT / "scripts" / "check_style.py")
    if spec is None or spec.loader is None:
        pytest.fail("scripts/check_style.py cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_style"] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def _nested(depth: int) -> str:
    lines = ["def f(x):"] + ["    " * (level + 1) + "if x:" for level in range(depth)]
    return "\n".join([*lines, "    " * (depth + 1) + "return x"]) + "\n"


def _function(lines: int, docstring: int = 0) -> str:
    doc = ['    """Say.'] + ["    more"] * docstring + ['    """'] if docstring else []
    return "\n".join(["def f():", *doc, *["    x = 1"] * lines]) + "\n"


METHODS = "class C:\n" + "".join(f"    def m{n}(self):\n        pass\n" for n in range(13))
LATER = "# TO" + "DO: more\n"
ELIFS = "def f(x):\n    if x == 0:\n        pass\n" + "".join(
    f"    elif x == {n}:\n        pass\n" for n in range(1, 9)
)

HANDLERS = """
def f(x):
    try:
        pass
    except ValueError:
        if x:
            pass
        else:
            for _ in x:
                while x:
                    pass
"""


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (_function(51), "f() has 51 lines"),
        (_nested(4), "f() nests 4 deep"),
        ("def f(a, b, c, d, e, g):\n    pass\n", "6 positional arguments"),
        (METHODS, "13 public methods"),
        ("class C:\n" + "    x = 1\n" * 250, "class C has 251 lines"),
        ("assert True\n", "assert in src"),
        ("from tidewheel import step\n", "imports from the face"),
        (LATER, "asks for later work"),
        ("x = 1\n" * 601, "file has 601 lines"),
    ],
)
def test_finds_what_breaks_a_limit(checker: ModuleType, source: str, words: str) -> None:
    errors = [str(finding) for finding in checker.check_source("src/tidewheel/x.py", source) if finding.error]
    assert len(errors) == 1
    assert words in errors[0]


@pytest.mark.parametrize(
    "source",
    [
        _function(50, docstring=30),
        _nested(3),
        ELIFS,
        "class C:\n    def m(self, a, b, c, d, e, *, g):\n        pass\n",
        "x = 1\n" * 400,
    ],
)
def test_passes_what_keeps_the_limits(checker: ModuleType, source: str) -> None:
    assert checker.check_source("src/tidewheel/x.py", source) == []


def test_lets_a_test_take_as_many_fixtures_as_it_needs(checker: ModuleType) -> None:
    assert checker.check_source("tests/test_x.py", "def test_x(a, b, c, d, e, g):\n    assert a\n") == []


def test_only_warns_between_400_and_600_lines(checker: ModuleType) -> None:
    (finding,) = checker.check_source("src/tidewheel/x.py", "x = 1\n" * 401)
    assert not finding.error


def test_counts_blocks_under_else_and_handlers(checker: ModuleType) -> None:
    (finding,) = checker.check_source("src/tidewheel/x.py", HANDLERS)
    assert "nests 4 deep" in str(finding)


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "misc", "base", "core", "manager", "service", "_utils"])
def test_refuses_drawer_names(checker: ModuleType, name: str) -> None:
    assert checker.check_name(f"src/tidewheel/{name}.py")
    assert checker.check_name(f"src/tidewheel/{name}/x.py")
    assert not checker.check_name("src/tidewheel/baseline.py")


def test_refuses_machine_paths_and_registries(checker: ModuleType) -> None:
    assert checker.check_text("a.md", "see " + "/home" + "/someone/x")
    assert checker.check_text("a.md", "https:" + "//packages.example/" + "pyp" + "i/simple")
    assert not checker.check_text(
        "a.md", "GET /v2/models, http://127.0.0.1:8080/predict, https://www.apache.org/licenses/"
    )


def test_reads_what_git_holds(checker: ModuleType, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("ignored/\n")
    for name in ("src/utils.py", "ignored/utils.py", "src/vendor/utils.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    assert [finding.path for finding in checker.check_tree(tmp_path)] == ["src/utils.py"]
    assert checker.main([str(tmp_path)]) == 1
