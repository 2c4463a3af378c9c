"""What steps print is kept, shown, and can be followed by another process while it comes."""

from __future__ import annotations

import threading
from pathlib import Path
from types import ModuleType

import pytest

from tidewheel.errors import NotFound, RunFailed, StepFailed
from tidewheel.lineage.store import Store
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.printed import Printed, follow_logs, read_logs
from tidewheel.pipelines.runs import get_run, list_runs, start_run
from tidewheel.pipelines.step import step


@step
def chatter(word: str) -> str:
    """Say a word, and one without an end."""
    print(word)
    print("ü" * 3, end="")
    return word


@step
def wait_for(mark: Path) -> int:
    """Say something, wait for a sign, say something more."""
    print("before")
    while not mark.exists():
        threading.Event().wait(0.005)
    print("after")
    return 1


@step
def trip() -> int:
    """Fail."""
    raise ValueError("over a stone")


@pipeline
def chat() -> tuple[str, str]:
    """Talk."""
    return chatter("one"), chatter("two")


@pipeline
def patient(mark: Path) -> int:
    """Wait."""
    return wait_for(mark)


@pipeline
def tripping() -> int:
    """Fall."""
    return trip()


@pipeline
def clumsy() -> int:
    """Fall without a step."""
    raise KeyError("stone")


def _shortly(seconds: float) -> None:
    del seconds
    threading.Event().wait(0.005)


def test_read_logs_gives_each_call_its_own_in_order(store: Store) -> None:
    run = start_run(store, chat)
    assert list(read_logs(store, run.id)) == [
        Printed(step="chatter", text="one\n"),
        Printed(step="chatter", text="üüü\n"),
        Printed(step="chatter-2", text="two\n"),
        Printed(step="chatter-2", text="üüü\n"),
    ]


@pytest.mark.parametrize(
    ("named", "words"), [("chatter-2", ["two\n", "üüü\n"]), ("chatter", ["one\n", "üüü\n", "two\n", "üüü\n"])]
)
def test_read_logs_takes_one_call_or_all_of_a_step(store: Store, named: str, words: list[str]) -> None:
    run = start_run(store, chat)
    assert [piece.text for piece in read_logs(store, run.id, named)] == words


def test_read_logs_takes_the_id_of_a_step(store: Store) -> None:
    run = start_run(store, chat)
    assert {piece.step for piece in read_logs(store, run.steps[1].id)} == {"chatter-2"}


def test_read_logs_names_the_steps_there_are(store: Store) -> None:
    run = start_run(store, chat)
    with pytest.raises(NotFound, match="chatter-2"):
        list(read_logs(store, run.id, "chater-2"))
    with pytest.raises(NotFound, match="nowhere"):
        list(read_logs(store, "nowhere"))


def test_tracebacks_of_steps_and_of_the_body_are_in_the_logs(store: Store) -> None:
    with pytest.raises(StepFailed) as failed:
        start_run(store, tripping)
    assert "ValueError: over a stone" in "".join(piece.text for piece in read_logs(store, failed.value.run_id, "trip"))
    with pytest.raises(RunFailed) as fallen:
        start_run(store, clumsy)
    assert "KeyError: 'stone'" in "".join(piece.text for piece in read_logs(store, fallen.value.run_id))


def test_follow_logs_goes_on_until_the_run_has_ended(store: Store, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    thread = threading.Thread(target=start_run, args=(store, patient, {"mark": mark}))
    thread.start()
    try:
        while not (runs := list_runs(store)):
            threading.Event().wait(0.005)
        pieces = follow_logs(store, runs[0].id, "wait_for", pause=_shortly)
        assert next(pieces).text == "before\n"
        mark.touch()
        assert [piece.text for piece in pieces] == ["after\n"]
    finally:
        mark.touch()
        thread.join()
    assert get_run(store, runs[0].id).state == "SUCCEEDED"


def test_follow_logs_of_a_run_that_has_ended_ends(store: Store, sample: ModuleType) -> None:
    run = start_run(store, chat)
    assert len(list(follow_logs(store, run.id))) == 4
