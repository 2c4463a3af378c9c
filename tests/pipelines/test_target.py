"""Load what a command line names; say what is wrong with what it names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.pipelines.pipeline import Pipeline
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.target import load_step, load_target

GOOD = """
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.step import step

@step
def fit(x: int) -> int:
    return x

@pipeline
def bikes(x: int = 1) -> int:
    return fit(x)
"""


@pytest.fixture(autouse=True)
def clean_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    for name in ("target_bikes", "target_other", "target_broken", "target_two"):
        sys.modules.pop(name, None)


def test_load_target_finds_pipelines_by_file_and_by_module(tmp_path: Path) -> None:
    (tmp_path / "target_bikes.py").write_text(GOOD)
    by_file = load_target(f"{tmp_path / 'target_bikes.py'}:bikes")
    assert isinstance(by_file, Pipeline)
    assert load_target("target_bikes.py:bikes") is by_file
    assert load_target("target_bikes:bikes") is by_file
    assert load_target("target_bikes.py") is by_file
    assert isinstance(load_step("target_bikes", "fit", None), Step)


def test_load_target_of_another_file_with_the_same_name_loads_that(tmp_path: Path) -> None:
    for folder, default in (("a", "1"), ("b", "2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "target_bikes.py").write_text(GOOD.replace("= 1", f"= {default}"))
    first = load_target("a/target_bikes.py:bikes")
    second = load_target("b/target_bikes.py:bikes")
    assert (first(), second()) == (1, 2)


@pytest.mark.parametrize(
    ("target", "text", "kind", "hint"),
    [
        ("target_bikes.py:biks", GOOD, NotFound, "Did you mean 'bikes'"),
        ("target_bike.py:bikes", GOOD, NotFound, "Did you mean 'target_bikes.py'"),
        ("nowhere/bikes.py:bikes", GOOD, NotFound, "no file named"),
        ("no_such_module:bikes", GOOD, NotFound, "bikes.py:bikes"),
        (":bikes", GOOD, InvalidInput, "names no file"),
        ("target_bikes.py:bikes", "def f(:\n", InvalidInput, r"SyntaxError.*line 1"),
        ("target_bikes.py:bikes", "import no_such_package\n", InvalidInput, "pip install no_such_package"),
        ("target_bikes:bikes", "import no_such_package\n", InvalidInput, "pip install no_such_package"),
        ("target_bikes.py:bikes", "1 / 0\n", InvalidInput, r"ZeroDivisionError: division by zero \(target_bikes.py"),
        ("target_bikes.py", GOOD.replace("@pipeline", ""), InvalidInput, "not one pipeline but: none"),
        ("target_bikes.py", GOOD + GOOD.replace("bikes", "cars"), InvalidInput, "bikes, cars"),
    ],
)
def test_load_target_says_what_is_wrong(
    tmp_path: Path, target: str, text: str, kind: type[Exception], hint: str
) -> None:
    (tmp_path / "target_bikes.py").write_text(text)
    with pytest.raises(kind, match=hint):
        load_target(target)
    if kind is InvalidInput and "not one" not in hint:
        assert "target_bikes" not in sys.modules or hint in ("names no file", "bikes, cars")


def test_a_near_name_may_be_that_of_a_loop(tmp_path: Path) -> None:
    loop = "from tidewheel import Loop\nlap = Loop(bikes, model='b', data='d', label='y')\n"
    (tmp_path / "target_bikes.py").write_text(GOOD.replace("bikes(x:", "bikes(rows:") + loop)
    with pytest.raises(NotFound, match=r"Did you mean 'lap'"):
        load_target("target_bikes.py:laps")


def test_load_step_of_a_file_that_lost_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "target_bikes.py").write_text(GOOD)
    load_target("target_bikes.py:bikes")
    with pytest.raises(NotFound, match=r"Did you mean 'fit'.*changed after the run began"):
        load_step("target_bikes", "fitt", str(tmp_path / "target_bikes.py"))
