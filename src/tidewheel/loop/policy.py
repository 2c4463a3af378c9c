"""When a due retraining has to wait: one at a time, given up, cooldown, budget."""

from __future__ import annotations

from tidewheel.clock import from_micros
from tidewheel.loop.loop import Loop
from tidewheel.loop.triggers import Cause, Context
from tidewheel.triggers.policy import Refusal, too_many, too_soon


def refusal(loop: Loop, context: Context, cause: Cause) -> Refusal | None:
    """Return why a retraining has to wait, None when it may begin.

    People, and the very first model, wait only for a rollout that is being decided.
    """
    if context.rolling:
        return Refusal(rule="one_at_a_time", text="a rollout is being decided")
    if cause.trigger == "manual" or not context.state.last_run:
        return None
    today = context.state.today if context.state.day == context.now.date().isoformat() else 0
    return (
        _given_up(loop, context)
        or too_soon(loop.cooldown, from_micros(context.state.last_run), context.now)
        or _too_few_rows(loop, context)
        or too_many(loop.budget, today, "retrainings")
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


def _too_few_rows(loop: Loop, context: Context) -> Refusal | None:
    grown = context.labelled - context.state.labelled_at_last_run
    if grown >= loop.cooldown_rows:
        return None
    return Refusal(
        rule="cooldown_rows", text=f"{grown} labelled rows since the last retraining, {loop.cooldown_rows} asked"
    )
