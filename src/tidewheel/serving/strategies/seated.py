"""Fixed shares: a unit's place among ten thousand says which version answers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tidewheel.registry.seats import PLACES, Seats, shares_of
from tidewheel.registry.strategy import Experiments
from tidewheel.serving.arms import Answer, Arm, Case, Choice
from tidewheel.serving.ask import Ask
from tidewheel.serving.routing import bucket


class Direct:
    """A way whose first answer is the last word."""

    shadows: Sequence[Arm] = ()

    def settle(self, cases: Sequence[Case], scored: Sequence[Answer | Exception]) -> Sequence[Answer | Exception]:
        """Return the answers as they are."""
        del cases
        return scored


class Alone(Direct):
    """The champion answers everything; other versions stand by, or are scored in the shadow."""

    def __init__(self, kind: str, champion: Arm, shadows: Sequence[Arm] = ()) -> None:
        self.kind = kind
        self.shadows = shadows
        self._choice = Choice(champion, 1.0)

    def choose(self, unit: str, ask: Ask) -> Choice:
        """Return the champion."""
        del unit, ask
        return self._choice


class Seated(Direct):
    """Each version answers the units whose places it holds: A/B/n, and Thompson sampling between two learnings."""

    def __init__(self, kind: str, arms: Mapping[int, Arm], seats: Seats, salt: str, experiment: str = "") -> None:
        self.kind = kind
        self._salt = salt
        shares = shares_of(seats)
        choices = {version: Choice(arms[version], shares[version], experiment) for version in shares}
        self._places = [choices[version] for version, count in seats for _ in range(count)]

    def choose(self, unit: str, ask: Ask) -> Choice:
        """Return who holds the unit's place."""
        del ask
        return self._places[bucket(self._salt, unit)]


class Layered(Direct):
    """Experiments side by side in one layer; who is in none is answered by the champion."""

    def __init__(self, strategy: Experiments, champion: Arm, arms: Mapping[int, Arm], salt: str) -> None:
        self.kind = strategy.kind
        self._salt = salt
        outside: Seated | Alone = Alone(self.kind, champion)
        self._places = [outside] * PLACES
        for each in strategy.experiments:
            inside = Seated(self.kind, arms, each.seats, f"experiment {each.name}", each.name)
            start, end = round(each.start * PLACES), round(each.end * PLACES)
            self._places[start:end] = [inside] * (end - start)

    def choose(self, unit: str, ask: Ask) -> Choice:
        """Return who holds the unit's place in its experiment."""
        return self._places[bucket(self._salt, unit)].choose(unit, ask)
