"""Freeze a strategy as it goes into a traffic row: its salt, who sits where, since when it learns."""

from __future__ import annotations

import msgspec

from tidewheel.registry.seats import Seats, seated
from tidewheel.registry.strategy import AnyStrategy, Bandit, Experiment, Experiments, Split, Thompson


def strategy_salt(strategy: AnyStrategy, model: str, seq: int, before: tuple[AnyStrategy | None, str]) -> str:
    """Return what units are hashed with: an experiment's or layer's name, else that of the same strategy before.

    >>> from tidewheel.registry.strategy import BlueGreen
    >>> strategy_salt(BlueGreen(standby=2), "bikes", 4, (None, "old"))
    'bikes:blue-green:4'
    """
    if isinstance(strategy, Split) and strategy.experiment:
        return f"experiment {strategy.experiment}"
    if isinstance(strategy, Experiments):
        return f"layer {strategy.layer}"
    held, salt = before
    return salt if held is not None and held.kind == strategy.kind else f"{model}:{strategy.kind}:{seq}"


def freeze(strategy: AnyStrategy, champion: int, before: AnyStrategy | None, *, at: int) -> AnyStrategy:
    """Return a strategy with seats, taken over as far as shares allow from the one `before` on the same salt.

    `at` is the moment of its row, microseconds since 1970 UTC; a bandit that has not begun counts rewards from then.
    """
    if isinstance(strategy, Split | Thompson):
        old = before.seats if isinstance(before, type(strategy)) else ()
        strategy = msgspec.structs.replace(strategy, seats=seated(strategy.shares(champion), old))
    elif isinstance(strategy, Experiments):
        held = {each.name: each.seats for each in before.experiments} if isinstance(before, Experiments) else {}
        experiments = tuple(_seated(each, held.get(each.name, ())) for each in strategy.experiments)
        strategy = msgspec.structs.replace(strategy, experiments=experiments)
    if isinstance(strategy, Bandit) and not strategy.since:
        strategy = msgspec.structs.replace(strategy, since=at, learned=at)
    return strategy


def _seated(experiment: Experiment, before: Seats) -> Experiment:
    return msgspec.structs.replace(experiment, seats=seated(experiment.weights, before))
