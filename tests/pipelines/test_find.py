"""Runs are found by what they were, over pages of rows, and followed while they go on."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import tidewheel
from tidewheel.errors import InvalidInput
from tidewheel.pipelines import find
from tidewheel.pipelines.find import Wanted, find_runs, moment_since, pipeline_names
from tidewheel.pipelines.follow import MANY, Follower, counted, step_name
from tidewheel.pipelines.records import RunEvent

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
FLOW = """
from tidewheel import pipeline, step

@step
def add(x: int) -> int:
    return x + 1

@pipeline
def flow(x: int, name: str = "a", on: bool = True):
    return add(x)
"""


def test_pages_of_rows_are_read_until_enough_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "_PAGE", 2)
    (tmp_path / "flow.py").write_text(FLOW)
    app = tidewheel.open(tmp_path / "home")
    runs = [app.run(f"{tmp_path / 'flow.py'}:flow", x=number, on=number != 3).id for number in (1, 2, 3, 1, 1)]
    assert [run.id for run in find_runs(app.store, Wanted())] == runs[::-1]
    assert [run.id for run in find_runs(app.store, Wanted(parameters={"x": "1"}))] == [runs[4], runs[3], runs[0]]
    assert [run.id for run in find_runs(app.store, Wanted(parameters={"x": 1}, limit=2))] == [runs[4], runs[3]]
    assert [run.id for run in find_runs(app.store, Wanted(parameters={"on": "false"}))] == [runs[2]]
    assert find_runs(app.store, Wanted(parameters={"y": "1"})) == []
    assert find_runs(app.store, Wanted(cause="drift")) == []
    assert len(find_runs(app.store, Wanted(cause="command line", pipeline="flow", states=("SUCCEEDED",)))) == 5
    assert find_runs(app.store, Wanted(since=datetime.now(UTC) + timedelta(days=1))) == []
    assert pipeline_names(app.store) == ["flow"]
    for wrong in (Wanted(limit=0), Wanted(states=("DONE",)), Wanted(since=datetime(2026, 3, 2))):  # noqa: DTZ001
        with pytest.raises(InvalidInput):
            find_runs(app.store, wrong)
    app.close()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90m", NOW - timedelta(minutes=90)),
        ("3d", NOW - timedelta(days=3)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T10:00+02:00", datetime(2026, 3, 1, 8, tzinfo=UTC)),
    ],
)
def test_since_is_read_as_people_write_it(text: str, moment: datetime) -> None:
    assert moment_since(text, NOW) == moment


def event(step: str, state: str, second: float, detail: str = "") -> RunEvent:
    at = NOW + timedelta(seconds=second)
    return RunEvent(run_id="r", pipeline="p", step=step, execution_id="", state=state, detail=detail, at=at)


def test_a_follower_keeps_a_line_per_call() -> None:
    follower = Follower()
    for told in (event("", "RUNNING", 0), event("fit", "RUNNING", 1), event("fit", "COMMITTED", 3, "2 s\nmore")):
        follower(told)
    follower(event("fit-2", "RUNNING", 4))
    later = NOW + timedelta(seconds=10)
    assert [(line.name, line.state, line.seconds, line.detail) for line in follower.lines(later)] == [
        ("fit", "COMMITTED", 2.0, "2 s"),
        ("fit-2", "RUNNING", 6.0, ""),
    ]
    assert follower.total() == "1 running, 1 committed"
    assert not follower.over
    follower(event("", "SUCCEEDED", 11))
    assert follower.over


def test_a_follower_of_many_calls_keeps_a_line_per_step() -> None:
    follower = Follower()
    for number in range(MANY + 1):
        name = "score" if not number else f"score-{number + 1}"
        follower(event(name, "FAILED" if number == 7 else "COMMITTED", number, "broken" if number == 7 else ""))
    (line,) = follower.lines(NOW + timedelta(seconds=99))
    assert (line.name, line.state, line.detail) == ("score", "FAILED", "broken")
    assert line.counts == f"1 failed, {MANY} committed"
    assert line.seconds == MANY


def test_states_that_want_attention_come_first() -> None:
    assert counted(Counter({"CACHED": 3, "LOST": 1, "RETRY_AT": 2})) == "1 lost, 2 retry, 3 cached"
    assert [step_name(name) for name in ("fit", "fit-2", "fit_2")] == ["fit", "fit", "fit_2"]
