"""Rollouts as they are read, and the decisions they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal

import msgspec

from tidewheel.errors import Conflict
from tidewheel.rollout.decide import RunningTest
from tidewheel.rollout.rollouts import Canary

State = Literal["running", "promoted", "rolled_back", "inconclusive"]
# The one transition table: an ended rollout never runs again.
TRANSITIONS: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        "running": frozenset({"running", "promoted", "rolled_back", "inconclusive"}),
        "promoted": frozenset(),
        "rolled_back": frozenset(),
        "inconclusive": frozenset(),
    }
)


class Cursors(msgspec.Struct, frozen=True, kw_only=True):
    """How far the log has been read."""

    log: dict[str, int] = {}  # predictions
    labels: dict[str, int] = {}  # joined labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Something a rollout decided; the same facts stand in the journal."""

    rollout_id: str  # which rollout
    model: str  # name of the model
    action: Literal["start", "step", "promote", "roll_back", "inconclusive"]  # what was done
    state: State  # of the rollout from now on
    champion: int  # version that serves from now on
    candidate: int  # version on trial
    share: float  # share of units the candidate gets from now on; 1 when it is promoted
    reason: str  # why, in words
    numbers: Mapping[str, Any]  # the evidence
    at: datetime  # when

    @property
    def text(self) -> str:
        """The decision as one line."""
        name = f"{self.model}:{self.candidate}"
        if self.action == "start":
            return f"{name} starts as canary at {self.share:.0%}"
        if self.action == "step":
            return f"{name} goes on to {self.share:.0%}: {self.reason}"
        ends = {"promote": "promoted", "roll_back": "rolled back", "inconclusive": "undecided"}
        return f"{name} is {ends[self.action]}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A rollout as it stands."""

    id: str  # UUIDv7, also of its execution
    model: str  # name of the model
    state: State  # running until it is decided
    champion: int  # version that served when it began
    candidate: int  # version on trial
    step: int  # index into `config.stages`
    started: datetime  # when it began
    ended: datetime | None  # when it was decided
    by: str  # who or what began it
    reason: str  # what the last look concluded, in words
    config: Canary  # how it goes
    requests: int  # requests that the split led to either arm
    scored: int  # of them scored by the candidate
    tests: tuple[RunningTest, ...]  # running tests, guards first
    numbers: Mapping[str, Any]  # the evidence as decisions record it

    @property
    def share(self) -> float:
        """Share of units that the candidate gets at the present step."""
        return self.config.stages[self.step]


def check_transition(before: State, after: State) -> None:
    """Raise Conflict for a transition that the table does not hold."""
    if after not in TRANSITIONS[before]:
        raise Conflict(f"A rollout that is {before} cannot become {after}.", "Begin another one.")
