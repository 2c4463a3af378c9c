"""Steps that hang or are killed within a retraining: it fails with its reason, the conductor's other loops go on."""

from __future__ import annotations

from types import ModuleType

import pytest

from tidewheel.lineage.store import Store
from tidewheel.loop.conductor import Turn
from tidewheel.loop.status import status
from tidewheel.loop.tick import Ticker
from tidewheel.pipelines.approvals import answer_question
from tidewheel.pipelines.runs import list_runs


def test_a_retraining_that_waits_for_people_is_left_and_gone_on_with_when_it_is_answered(
    any_store: Store, orchard: ModuleType
) -> None:
    orchard.plant(any_store)
    ticker = Ticker(any_store, orchard.make_loop(pipeline=orchard.asking, refit=False))
    assert [ticker.tick().busy for _ in range(3)] == [True, True, True]
    (run,) = list_runs(any_store, pipeline="asking")
    assert (run.state, run.resumed) == ("WAITING", 0)
    answer_question(any_store, run.id, by="ann", granted=True)
    report = Ticker(any_store, ticker.loop).tick()
    assert report.trained is not None
    assert (report.trained.ending, status(any_store, "apples")[0].champion) == ("deployed", 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pipe", "reason"),
    [("stalled", "timeout of 0.5 s"), ("fallen", "killed by SIGKILL")],
)
def test_a_step_that_hangs_or_is_killed_ends_its_retraining_alone(
    store: Store, orchard: ModuleType, pipe: str, reason: str
) -> None:
    orchard.plant(store)
    bad = orchard.make_loop(model="pears", pipeline=getattr(orchard, pipe))
    turns = [Turn(Ticker(store, bad), 1.0), Turn(Ticker(store, orchard.make_loop()), 1.0)]
    for moment in (0.0, 10.0):
        for turn in turns:
            turn.take(lambda now=moment: now)  # type: ignore[misc]
    assert [turn.failures for turn in turns] == [0, 0]
    good, failed = status(store, "apples")[0], status(store, "pears")[0]
    assert (good.champion, failed.champion) == (1, None)
    assert (failed.busy, failed.doing, failed.counters["triggers"]) == (False, "watching", 1)
    assert any(text.startswith("retraining failed: ") and reason in text for _, text in failed.decisions)
    (run,) = list_runs(store, pipeline=pipe)
    assert run.state == "FAILED"
