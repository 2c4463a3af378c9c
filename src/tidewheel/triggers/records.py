"""What triggers are asked with, what they answer, and how they combine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from tidewheel.clock import from_micros, micros
from tidewheel.errors import InvalidInput
from tidewheel.lineage.store import Store
from tidewheel.monitoring.records import Alert
from tidewheel.pipelines.durations import seconds

_WINDOWS = re.compile(r"\s*(\d+)\s+windows?\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """How far a dataset has come."""

    rows: int  # rows of its newest version
    version: str  # id of that version
    at: datetime | None = None  # when it was kept; None where nobody asked
    before: int | None = None  # rows at the last run, where the asker counts; None: the trigger counts itself


class Asked(Protocol):
    """What somebody has asked for."""

    @property
    def id(self) -> str:
        """Identity of the request."""
        ...

    @property
    def by(self) -> str:
        """Who."""
        ...

    @property
    def reason(self) -> str:
        """Why."""
        ...


class Context(Protocol):
    """What a trigger is asked with."""

    @property
    def now(self) -> datetime:
        """The present moment, aware."""
        ...

    @property
    def store(self) -> Store:
        """Where everything else stands."""
        ...

    def remembered(self, rule: str) -> Any:
        """Return what a rule remembers, None at the first look that knows it."""
        ...

    def used_up(self, rule: str) -> Mapping[str, str]:
        """Return what a rule has used up: name to stamp."""
        ...

    def growth(self, data: str) -> Growth | None:
        """Return how far a dataset has come ("": the asker's own), None when there is none of that name."""
        ...

    def open_alerts(self, model: str) -> Sequence[Alert]:
        """Return the open alerts of a model ("": the asker's own)."""
        ...

    def requested(self) -> Sequence[Asked]:
        """Return what people have asked for and nobody has taken yet, oldest first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Something that counts once: a file, an object, a delivery."""

    source: str  # the rule that found it
    name: str  # its path or id
    stamp: str  # tells its contents apart: size and time, digest or etag


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why something is due."""

    trigger: str  # kind: manual, cron, interval, new_data, files, objects, alias, webhook, absent, drift, decay ...
    rule: str  # the rule that found it; a rule remembers the mark of its last cause
    mark: str  # tells its causes apart: the due time, the alert, the request
    reason: str  # in words, with the numbers
    numbers: Mapping[str, Any] = field(default_factory=dict)  # the evidence
    after: Mapping[str, Any] = field(default_factory=dict)  # what rules remember once it was acted on
    items: tuple[Item, ...] = ()  # what is used up once it was acted on

    @property
    def key(self) -> str:
        """Identity of the cause: one cause, one run."""
        return f"{self.rule}:{self.mark}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a trigger found at one look, with the readings that it is made of."""

    rule: str  # the trigger as declared; its memory goes by that name
    kind: str  # cron, interval, new_data ...; of a combination that of the part that leads
    holds: bool  # whether it is due
    reason: str  # in words: why it holds, or what it waits for
    mark: str = ""  # tells its causes apart
    numbers: Mapping[str, Any] = field(default_factory=dict)  # the evidence, and what parameters may take
    after: Mapping[str, Any] = field(default_factory=dict)  # memory once a run has taken the cause
    keep: Mapping[str, Any] = field(default_factory=dict)  # memory from this look on; None forgets
    items: tuple[Item, ...] = ()  # used up once a run has taken the cause
    seen: tuple[Item, ...] = ()  # used up from this look on, run or not
    parts: tuple[Reading, ...] = ()  # of a combination

    def cause(self) -> Cause:
        """Return the reading as a cause."""
        return Cause(
            trigger=self.kind,
            rule=self.rule,
            mark=self.mark,
            reason=self.reason,
            numbers=self.numbers,
            after=self.after,
            items=self.items,
        )

    def leaves(self) -> Iterator[Reading]:
        """Give the readings at the ends of the tree."""
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.leaves()

    def tree(self) -> dict[str, Any]:
        """Return the evaluation as JSON: each rule, whether it held, and why."""
        found: dict[str, Any] = {"rule": self.rule, "holds": self.holds, "reason": self.reason}
        return found | ({"parts": [part.tree() for part in self.parts]} if self.parts else {})


class Rule:
    """A trigger that combines with `&`, `|` and `.for_(...)`."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The trigger as declared."""
        raise NotImplementedError

    def look(self, context: Context) -> Reading:
        """Answer from what is stored whether it is due."""
        raise NotImplementedError

    def due(self, context: Context) -> Cause | None:
        """Return the cause when it is due, else None."""
        found = self.look(context)
        return found.cause() if found.holds else None

    def __and__(self, other: Rule) -> Rule:
        return Both(parts=(*_parts(self, Both), *_parts(other, Both)))

    def __or__(self, other: Rule) -> Rule:
        return Either(parts=(*_parts(self, Either), *_parts(other, Either)))

    def for_(self, duration: str | float | timedelta) -> Rule:
        """Return a trigger that is due once this one has held for a time ("30m") or for some windows ("2 windows").

        Raises InvalidInput for windows of a trigger that is not judged by windows.
        """
        windows = _WINDOWS.fullmatch(duration) if isinstance(duration, str) else None
        if windows:
            return self.for_windows(int(windows[1]))
        return Lasting(part=self, seconds=span(duration, "for_"))

    def for_windows(self, count: int) -> Rule:
        """Return this trigger asking for so many windows in a row; raises InvalidInput where it has none."""
        raise InvalidInput(
            f'{self.name} is not judged by windows, so for_("{count} windows") means nothing.',
            'Give a time, like for_("30m"), or put for_ on drift(...) or metric(...).',
        )


def _parts(rule: Rule, kind: type[Both | Either]) -> tuple[Rule, ...]:
    if not isinstance(rule, Rule):
        raise InvalidInput(f"{rule!r} is not a trigger.", "Combine triggers with triggers: cron(...) & new_data(...).")
    return rule.parts if isinstance(rule, kind) else (rule,)


def leaves(rule: object) -> Iterator[object]:
    """Give the triggers at the ends of a combination."""
    if isinstance(rule, Both | Either):
        for part in rule.parts:
            yield from leaves(part)
    elif isinstance(rule, Lasting):
        yield from leaves(rule.part)
    else:
        yield rule


def span(duration: str | float | timedelta, name: str, *, positive: bool = True) -> float:
    """Return a duration in seconds; raises InvalidInput for what is none."""
    given = duration.total_seconds() if isinstance(duration, timedelta) else duration
    return seconds(given, name, positive=positive)


def words(period: float) -> str:
    """Return seconds as people write them.

    >>> words(900), words(90_000), words(0.5)
    ('15m', '25h', '0.5s')
    """
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if period >= length and period % length == 0:
            return f"{period / length:g}{unit}"
    return f"{period:g}s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Both(Rule):
    """Due when all its parts are due at once; a run takes the causes of all."""

    parts: tuple[Rule, ...]  # what must hold

    @property
    def name(self) -> str:
        """The parts as declared."""
        return " & ".join(f"({part.name})" if isinstance(part, Either) else part.name for part in self.parts)

    def look(self, context: Context) -> Reading:
        """Ask every part."""
        found = tuple(part.look(context) for part in self.parts)
        return _joined(self.name, found, found, holds=all(part.holds for part in found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Either(Rule):
    """Due when one of its parts is; a run takes the causes of those that are."""

    parts: tuple[Rule, ...]  # of which one must hold

    @property
    def name(self) -> str:
        """The parts as declared."""
        return " | ".join(part.name for part in self.parts)

    def look(self, context: Context) -> Reading:
        """Ask every part, so that each goes on remembering."""
        found = tuple(part.look(context) for part in self.parts)
        taken = tuple(part for part in found if part.holds)
        return _joined(self.name, found, taken, holds=bool(taken))


def _joined(name: str, found: tuple[Reading, ...], taken: tuple[Reading, ...], *, holds: bool) -> Reading:
    told = taken if holds else tuple(part for part in found if not part.holds)
    numbers: dict[str, Any] = {}
    after: dict[str, Any] = {}
    keep: dict[str, Any] = {}
    for part in found:
        keep |= part.keep
    for part in reversed(taken if holds else ()):  # where two say the same name, the first leads
        numbers |= part.numbers
        after |= part.after
    return Reading(
        rule=name,
        kind=(taken or found)[0].kind,
        holds=holds,
        reason=(" and " if holds else "; ").join(part.reason for part in told),
        mark="+".join(f"{part.rule}:{part.mark}" for part in taken) if holds else "",
        numbers=numbers,
        after=after,
        keep=keep,
        items=tuple(item for part in taken for item in part.items) if holds else (),
        seen=tuple(item for part in found for item in part.seen),
        parts=found,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lasting(Rule):
    """Due once its part has been due at every look of some time."""

    part: Rule  # what must hold
    seconds: float  # how long

    @property
    def name(self) -> str:
        """The part as declared, and how long."""
        inner = f"({self.part.name})" if isinstance(self.part, Both | Either) else self.part.name
        return f"{inner}.for_({words(self.seconds)})"

    def look(self, context: Context) -> Reading:
        """Ask the part, and remember since when it holds."""
        inner, since = self.part.look(context), context.remembered(self.name)
        whole = replace(inner, rule=self.name, parts=(inner,))
        if not inner.holds:
            forget = {self.name: None} if since is not None else {}
            return replace(whole, keep={**inner.keep, **forget})
        if since is None:
            since = micros(context.now)
        passed = context.now - from_micros(since)
        return replace(
            whole,
            holds=passed >= timedelta(seconds=self.seconds),
            reason=f"{inner.reason}, for {words(max(round(passed.total_seconds()), 0))} of {words(self.seconds)}",
            mark=f"{inner.rule}:{inner.mark}",
            after={**inner.after, self.name: None},
            keep={**inner.keep, self.name: since},
        )
