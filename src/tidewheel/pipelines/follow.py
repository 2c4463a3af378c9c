"""Follow a run by what it tells: a line per call, or per step where there are many calls."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from tidewheel.pipelines.records import RunEvent

MANY = 30  # calls beyond which those of one step share a line
_OVER = frozenset({"COMMITTED", "CACHED", "FAILED", "SKIPPED", "CANCELLED", "LOST"})
_WORST = ("FAILED", "LOST", "RETRY_AT", "RUNNING", "CLAIMED", "READY", "CANCELLED", "SKIPPED", "COMMITTED", "CACHED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What there is to say about a call, or about all calls of a step."""

    name: str  # of the call or step
    state: str  # where it stands; of several calls the one that wants attention most
    counts: str  # "8,213 committed, 12 running" for several calls, "" for one
    seconds: float | None  # since it began, or how long it took; None before it begins
    detail: str  # the newest one line: seconds, why, what went wrong


@dataclass(slots=True, kw_only=True)
class _Call:
    state: str  # where it stands
    begun: datetime  # when it was first heard of
    at: datetime  # when it was last heard of
    detail: str  # the newest one


class Follower:
    """Takes the events of one run in order and says at any time what they come to."""

    def __init__(self) -> None:
        self.run_id = ""  # the run, once it has begun
        self.pipeline = ""  # its pipeline
        self.state = "QUEUED"  # where it stands
        self.detail = ""  # what was last said about the run itself
        self.begun: datetime | None = None  # when it began
        self._calls: dict[str, _Call] = {}

    def __call__(self, event: RunEvent) -> None:
        """Take an event."""
        self.run_id, self.pipeline = event.run_id, event.pipeline
        self.begun = self.begun or event.at
        if not event.step:
            self.state, self.detail = event.state, event.detail
            return
        known = self._calls.get(event.step)
        if known is None:
            self._calls[event.step] = _Call(state=event.state, begun=event.at, at=event.at, detail=event.detail)
        else:
            known.state, known.at, known.detail = event.state, event.at, event.detail

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self.state in ("SUCCEEDED", "FAILED", "CANCELLED", "LOST")

    def lines(self, now: datetime) -> list[Line]:
        """Return what there is to show, in the order of the calls."""
        if len(self._calls) <= MANY:
            return [_line(name, [call], now) for name, call in self._calls.items()]
        steps: dict[str, list[_Call]] = {}
        for name, call in self._calls.items():
            steps.setdefault(step_name(name), []).append(call)
        return [_line(name, calls, now) for name, calls in steps.items()]

    def total(self) -> str:
        """Return how many calls stand where: "12 committed, 3 cached"."""
        return counted(Counter(call.state for call in self._calls.values()))


def step_name(label: str) -> str:
    """Return the step of a call's name in its run.

    >>> step_name("fit-12"), step_name("fit")
    ('fit', 'fit')
    """
    name, mark, number = label.rpartition("-")
    return name if mark and number.isdigit() else label


def counted(states: Counter[str]) -> str:
    """Return how many are in which state, those that want attention first.

    >>> counted(Counter({"COMMITTED": 1200, "FAILED": 1}))
    '1 failed, 1,200 committed'
    """
    ordered = sorted(states, key=lambda state: _WORST.index(state) if state in _WORST else len(_WORST))
    return ", ".join(f"{states[state]:,} {state.lower().replace('_at', '')}" for state in ordered)


def worst(states: Counter[str]) -> str:
    """Return the state that wants attention most."""
    return min(states, key=lambda state: _WORST.index(state) if state in _WORST else len(_WORST))


def _line(name: str, calls: list[_Call], now: datetime) -> Line:
    states = Counter(call.state for call in calls)
    begun = min(call.begun for call in calls)
    until = max(call.at for call in calls) if all(call.state in _OVER for call in calls) else now
    newest = max(calls, key=lambda call: call.at)
    state = worst(states)
    telling = next((call for call in calls if call.state == state), newest)
    return Line(
        name=name,
        state=state,
        counts=counted(states) if len(calls) > 1 else "",
        seconds=max((until - begun).total_seconds(), 0.0),
        detail=telling.detail.splitlines()[0] if telling.detail else "",
    )
