"""The table of reasons why a due retraining waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest

from tidewheel.clock import micros
from tidewheel.errors import InvalidInput
from tidewheel.loop.loop import Loop
from tidewheel.loop.policy import gives_up, refusal
from tidewheel.loop.state import LoopState
from tidewheel.loop.triggers import Cause, Context

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR_AGO = micros(NOW - timedelta(hours=1))


@pytest.mark.parametrize(
    ("declared", "state", "facts", "rule"),
    [
        ({}, {}, {}, None),
        ({}, {}, {"rolling": True}, "one_at_a_time"),
        ({"cooldown": timedelta(hours=2)}, {}, {}, "cooldown"),
        ({"cooldown": timedelta(hours=1)}, {}, {}, None),
        ({"cooldown": timedelta(hours=2)}, {"last_run": 0}, {}, None),
        ({"cooldown_rows": 51}, {"labelled_at_last_run": 50}, {"labelled": 100}, "cooldown_rows"),
        ({"cooldown_rows": 50}, {"labelled_at_last_run": 50}, {"labelled": 100}, None),
        ({"budget": 2}, {"day": "2026-06-01", "today": 2}, {}, "budget"),
        ({"budget": 2}, {"day": "2026-05-31", "today": 2}, {}, None),
        ({"budget": 2}, {"day": "2026-06-01", "today": 1}, {}, None),
        ({"give_up_after": 3}, {"fruitless": 3}, {}, "gave_up"),
        ({"give_up_after": 3}, {"fruitless": 2}, {}, None),
        ({"give_up_after": None}, {"fruitless": 999}, {}, None),
    ],
)
def test_refusal(
    orchard: ModuleType, declared: dict[str, Any], state: dict[str, Any], facts: dict[str, Any], rule: str | None
) -> None:
    loop = orchard.make_loop(**declared)
    settings: dict[str, Any] = {"now": NOW, "version": "d1", "rows": 1, "labelled": 0}
    context = Context(**(settings | facts), state=LoopState(**({"last_run": HOUR_AGO} | state)))
    found = refusal(loop, context, Cause(trigger="drift", rule="drift", mark="1", reason=""))
    assert (found.rule if found else None) == rule
    asked = refusal(loop, context, Cause(trigger="manual", rule="manual", mark="1", reason=""))
    assert (asked is not None) == bool(facts.get("rolling"))  # people wait for a rollout alone


def test_giving_up(orchard: ModuleType) -> None:
    assert not gives_up(orchard.make_loop(give_up_after=None), 10_000)
    assert gives_up(orchard.make_loop(give_up_after=2), 2)


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"holdout": 1.0}, "between 0 and 1"),
        ({"holdout_rows": (50, 20)}, "fewest, most"),
        ({"ladder": (80, 40)}, "rising"),
        ({"budget": 0}, "1 or more"),
        ({"give_up_after": 0}, "1 or more"),
        ({"cooldown": timedelta(days=-1)}, "below zero"),
        ({"model": "two words"}, "no space"),
        ({"parameters": {"rows": 3}}, "out of parameters"),
        ({"pipeline": len}, "@pipeline"),
    ],
)
def test_a_loop_that_cannot_work_is_refused_when_declared(
    orchard: ModuleType, changes: dict[str, Any], hint: str
) -> None:
    with pytest.raises(InvalidInput, match=hint):
        orchard.make_loop(**changes)


def test_the_pipeline_of_a_loop_takes_rows(orchard: ModuleType) -> None:
    from tidewheel.pipelines.pipeline import pipeline

    @pipeline
    def odd(table: int) -> int:
        return table

    with pytest.raises(InvalidInput, match="no parameter rows"):
        Loop(odd, model="apples", data="orchard", label="good")
