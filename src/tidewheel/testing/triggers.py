"""The in-memory twin of what triggers are asked with, and a trigger that is due when it is told so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tidewheel.errors import NotFound
from tidewheel.lineage.store import Store
from tidewheel.monitoring.records import Alert
from tidewheel.triggers.records import Asked, Context, Growth, Reading, Rule


@dataclass(frozen=True, slots=True)
class Asking:
    """What a trigger is asked with."""

    now: datetime  # the present moment
    memory: Mapping[str, Any] = field(default_factory=dict)  # what rules remember
    growths: Mapping[str, Growth] = field(default_factory=dict)  # datasets by name
    held: Store | None = None  # where the rest stands
    used: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # rule to what it has used up

    @property
    def store(self) -> Store:
        """The store that was given; raises NotFound without one."""
        if self.held is None:
            raise NotFound("store", "of this test")
        return self.held

    def remembered(self, rule: str) -> Any:
        """Return what the memory holds."""
        return self.memory.get(rule)

    def used_up(self, rule: str) -> Mapping[str, str]:
        """Return what it was given as used up by a rule."""
        return self.used.get(rule, {})

    def growth(self, data: str) -> Growth | None:
        """Return how far a dataset has come."""
        return self.growths.get(data)

    def open_alerts(self, model: str) -> Sequence[Alert]:
        """Return none."""
        del model
        return ()

    def requested(self) -> Sequence[Asked]:
        """Return nothing."""
        return ()


@dataclass(frozen=True, slots=True)
class Switch(Rule):
    """A trigger that is due when it is told so, and says which time it is."""

    label: str  # its name
    on: bool = True  # whether it is due
    mark: str = "1"  # tells its causes apart

    @property
    def name(self) -> str:
        """Its name."""
        return self.label

    def look(self, context: Context) -> Reading:
        """Answer as it was told."""
        del context
        word = "is" if self.on else "is not"
        return Reading(
            rule=self.label,
            kind=self.label,
            holds=self.on,
            reason=f"{self.label} {word} on",
            mark=self.mark if self.on else "",
            numbers={self.label: self.mark} if self.on else {},
            after={self.label: self.mark} if self.on else {},
            keep={f"{self.label} looked": True},
        )
