"""When a due retraining has to wait: one at a time, given up, cooldown, budget."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from tidewheel.clock import from_micros
from tidewheel.loop.loop import Loop
from tidewheel.loop.triggers import Cause, Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a due retraining has to wait."""

    rule: str  # one_at_a_time, gave_up, cooldown, cooldown_rows or budget
    text: str  # in words, with the numbers


def refusal(loop: Loop, context: Context, cause: Cause) -> Refusal | None:
    """Return why a retraining has to wait, None when it may begin.

    People, and the very first model, wait only for a rollout that is being decided.
    """
    if context.rolling:
        return Refusal(rule="one_at_a_time", text="a rollout is being decided")
    if cause.trigger == "manual" or not context.state.last_run:
        return None
    return (
        _given_up(loop, context) or _too_soon(loop, context) or _too_few_rows(loop, context) or _too_many(loop, context)
    )


def gives_up(loop: Loop, fruitless: int) -> bool:
    """Say whether so many retrainings in a row that came to nothing are enough."""
    return loop.give_up_after is not None and fruitless >= loop.give_up_after


def _given_up(loop: Loop, context: Context) -> Refusal | None:
    fruitless = context.state.fruitless
    if not gives_up(loop, fruitless):
        return None
    return Refusal(
        rule="gave_up",
        text=f"{fruitless} retrainings in a row came to nothing; go on with: tidewheel loop trigger {loop.model}",
    )


def _too_soon(loop: Loop, context: Context) -> Refusal | None:
    passed = context.now - from_micros(context.state.last_run)
    if passed >= loop.cooldown:
        return None
    left = timedelta(seconds=round((loop.cooldown - passed).total_seconds()))
    return Refusal(rule="cooldown", text=f"cooldown of {loop.cooldown}, {left} left")


def _too_few_rows(loop: Loop, context: Context) -> Refusal | None:
    grown = context.labelled - context.state.labelled_at_last_run
    if grown >= loop.cooldown_rows:
        return None
    return Refusal(
        rule="cooldown_rows", text=f"{grown} labelled rows since the last retraining, {loop.cooldown_rows} asked"
    )


def _too_many(loop: Loop, context: Context) -> Refusal | None:
    today = context.state.today if context.state.day == context.now.date().isoformat() else 0
    if loop.budget is None or today < loop.budget:
        return None
    return Refusal(rule="budget", text=f"{today} retrainings today, the budget is {loop.budget}")
