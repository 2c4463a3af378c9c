"""Which version is best depends on the request: a linear bandit over its numeric columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tidewheel.errors import ValidationFailed
from tidewheel.registry.strategy import Feature, Learned, Linear
from tidewheel.serving.arms import Arm, Choice
from tidewheel.serving.ask import Ask, Row
from tidewheel.serving.routing import position
from tidewheel.serving.rows import RowCodec
from tidewheel.serving.strategies.seated import Direct
from tidewheel.stats.linear_policy import LinearPolicy

Array = NDArray[np.float64]

NUMERIC = ("float", "int", "bool")


class Contextual(Direct):
    """Draws the arm by the unit's place from the chances that the frozen policy gives the request.

    The same unit with the same columns is answered by the same arm as long as the policy holds; another policy, or
    other columns, may lead it elsewhere. A request of several rows is decided on their mean.
    """

    def __init__(self, strategy: Linear, arms: Mapping[int, Arm], rows: RowCodec, salt: str) -> None:
        self.kind = strategy.kind
        self._arms = [arms[version] for version in strategy.versions]
        self._salt = salt
        self._policy = policy_of(strategy)
        _check(strategy, self._arms)
        self._context = Context(strategy.features, places_of(strategy.features, rows))

    def choose(self, unit: str, ask: Ask) -> Choice:
        """Return the arm for a unit and the chance that it had."""
        chances = self._policy.chances(self._context.mean(ask.rows))
        drawn = int(np.searchsorted(np.cumsum(chances), position(self._salt, unit), side="right"))
        drawn = min(drawn, len(self._arms) - 1)  # the sum of chances is 1 but for rounding
        return Choice(self._arms[drawn], float(chances[drawn]))


class Context:
    """Turns rows into what the bandit looks at: a constant, and each feature on its scale; a missing value is 0."""

    def __init__(self, features: Sequence[Feature], places: Sequence[int]) -> None:
        self._scaled = [(place, each.centre, each.scale) for place, each in zip(places, features, strict=True)]

    def one(self, row: Sequence[object]) -> Array:
        """Return the context of one row."""
        values = [1.0]
        for place, centre, scale in self._scaled:
            value = row[place]
            values.append((value - centre) / scale if isinstance(value, int | float) else 0.0)
        return np.array(values)

    def mean(self, rows: Sequence[Row]) -> Array:
        """Return the mean context of some rows."""
        if len(rows) == 1:
            return self.one(rows[0])
        middle: Array = np.mean([self.one(row) for row in rows], axis=0)
        return middle


def places_of(features: Sequence[Feature], rows: RowCodec) -> list[int]:
    """Return where the features stand in a decoded row; ValidationFailed for one that is no numeric column."""
    known = {field.name: place for place, field in enumerate((*rows.fields, *rows.extra)) if field.kind in NUMERIC}
    missing = [each.name for each in features if each.name not in known]
    if missing:
        raise ValidationFailed(
            f"The bandit looks at {', '.join(missing)}, which no request has as a number.",
            f"These are numeric columns: {', '.join(known) or 'none'}.",
        )
    return [known[each.name] for each in features]


def _check(strategy: Linear, arms: Sequence[Arm]) -> None:
    """Refuse a version that does not read a feature: its log would not hold what it was chosen by."""
    for arm in arms:
        lacking = [each.name for each in strategy.features if each.name not in arm.signature.names]
        if lacking:
            raise ValidationFailed(
                f"Version {arm.version} does not read {', '.join(lacking)}, so nobody could learn from its log.",
                "Name features that every version reads.",
            )


def policy_of(strategy: Linear) -> LinearPolicy:
    """Return the frozen policy of a traffic row."""
    size = len(strategy.features) + 1
    learned = [strategy.seen.get(version, Learned()) for version in strategy.versions]
    return LinearPolicy(
        [np.array(each.gram or [0.0] * size**2).reshape(size, size) for each in learned],
        [np.array(each.moment or [0.0] * size) for each in learned],
        algorithm=strategy.algorithm,
        explore=strategy.explore,
        ridge=strategy.ridge,
        floor=strategy.floor,
    )
