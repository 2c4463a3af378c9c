"""Foretell a run without executing anything; explain one that happened."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from tidewheel.errors import NotFound, RunFailed, StepFailed
from tidewheel.lineage.store import Store
from tidewheel.pipelines.plan import plan_run
from tidewheel.pipelines.runs import list_runs, start_run
from tidewheel.pipelines.target import load_target
from tidewheel.pipelines.why import why

ROWS = pl.DataFrame({"a": [1.0, 2.0, 3.0, 4.0]})


def test_plan_of_a_first_run_ends_where_the_body_needs_a_value(store: Store, sample: ModuleType, book: Path) -> None:
    plan = plan_run(store, sample.tide, {"rows": ROWS, "book": str(book)})
    assert [(step.step, step.action) for step in plan.steps] == [
        ("split", "run"),
        ("total", "run"),
        ("total-2", "run"),
        ("biggest", "run"),
    ]
    assert plan.steps[0].reason == "it was never executed"
    assert plan.steps[1].reason == "its input from split will be new"
    assert (plan.complete, plan.stopped_at) == (False, "biggest")
    assert book.read_text() == ""
    assert list_runs(store) == []


def test_plan_after_a_run_foretells_the_cache(store: Store, sample: ModuleType, book: Path) -> None:
    start_run(store, sample.tide, {"rows": ROWS, "book": str(book)})
    plan = plan_run(store, sample.tide, {"rows": ROWS, "book": str(book), "depth": 3})
    assert [(step.step, step.action, step.reason) for step in plan.steps][2:] == [
        ("total-2", "run", "input factor: 3.0 -> 4.0"),
        ("biggest", "run", "its input from total-2 will be new"),
    ]
    whole = plan_run(store, sample.tide, {"rows": ROWS, "book": str(book)})
    assert [step.action for step in whole.steps] == ["cached"] * 4 + ["run"]
    assert whole.complete


def test_plan_of_a_body_that_raises_says_so(store: Store, sample: ModuleType, book: Path) -> None:
    start_run(store, sample.chain, {"n": 1, "book": str(book), "start": 1})
    with pytest.raises(RunFailed, match="invalid literal"):
        plan_run(store, sample.body_raises, {"book": str(book)})


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """A user's file with a neighbour, each of which can be edited; gives its pipeline, freshly loaded."""
    names = ("why_features", "why_project")
    texts = {
        "why_features": "FACTOR = 2\n\n\ndef clean(x):\n    return x * FACTOR\n",
        "why_project": (
            "import why_features\n"
            "from tidewheel.pipelines.pipeline import pipeline\n"
            "from tidewheel.pipelines.step import step\n\n\n"
            "@step\ndef prepare(x: int) -> int:\n    return why_features.clean(x)\n\n\n"
            "@step\ndef finish(x: int) -> int:\n    return x + 1\n\n\n"
            "@pipeline\ndef flow(x: int = 1) -> int:\n    return finish(prepare(x))\n"
        ),
    }
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(old: str = "", new: str = "") -> Any:
        for name in names:
            sys.modules.pop(name, None)
            (tmp_path / f"{name}.py").write_text(texts[name].replace(old, new) if old else texts[name])
        return load_target(f"{tmp_path / 'why_project.py'}:flow")

    yield load
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("FACTOR = 2", "FACTOR = 3", "code why_features.FACTOR: "),
        ("return x * FACTOR", "return x + FACTOR", "code why_features.clean: "),
        ("def flow(x: int = 1)", "def flow(x: int = 2)", "input x: 1 -> 2"),
    ],
)
def test_why_names_the_part_that_changed(
    store: Store, project: Callable[..., Any], old: str, new: str, change: str
) -> None:
    start_run(store, project())
    plan = plan_run(store, project(old, new))
    run = start_run(store, project(old, new), cause={"kind": "drift", "reason": "psi 0.31 of hum"})
    found = why(store, run.id)
    assert found.cause == {"kind": "drift", "reason": "psi 0.31 of hum"}
    assert str(found.steps[0].changes[0]).startswith(change)
    assert plan.steps[0].reason.startswith(change)
    assert "started because: kind drift, reason psi 0.31 of hum" in "\n".join(found.lines())


@pytest.mark.parametrize(
    ("old", "new"), [("return x + 1", "# why not\n    return x + 1"), ("@step\n", "@step(retries=3)\n")]
)
def test_comments_and_options_change_nothing(store: Store, project: Callable[..., Any], old: str, new: str) -> None:
    start_run(store, project())
    run = start_run(store, project(old, new))
    assert [step.state for step in run.steps] == ["CACHED", "CACHED"]
    assert "answered by" in why(store, run.steps[0].id).steps[0].reason


def test_why_of_a_step_tells_that_step_alone(store: Store, project: Callable[..., Any]) -> None:
    run = start_run(store, project())
    found = why(store, run.steps[1].id[-12:])
    assert [step.step for step in found.steps] == ["finish"]
    assert found.steps[0].reason == "it was never executed before"


def test_why_tells_inputs_and_failures(store: Store, sample: ModuleType, book: Path) -> None:
    from tidewheel.data.datasets import register

    register(store, "bikes", ROWS)
    run = start_run(store, sample.newest)
    assert "  input rows: bikes:1" in why(store, run.id).lines()
    with pytest.raises(StepFailed) as failed:
        start_run(store, sample.broken, {"book": str(book)})
    states = {step.step: (step.state, step.reason) for step in why(store, failed.value.run_id).steps}
    assert states["noted-2"] == ("SKIPPED", "its input from breaks failed")


def test_why_of_an_unknown_id_lists_where_to_look(store: Store) -> None:
    with pytest.raises(NotFound, match="tidewheel runs"):
        why(store, "ffff")
