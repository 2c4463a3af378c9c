"""Triggers on datasets: what has come, and what has not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tidewheel.clock import from_micros, micros
from tidewheel.errors import InvalidInput
from tidewheel.triggers.deliveries import RETENTION, last_delivery
from tidewheel.triggers.records import Context, Growth, Reading, Rule, span, words
from tidewheel.triggers.webhooks import Webhook


@dataclass(frozen=True, slots=True, kw_only=True)
class NewData(Rule):
    """A dataset has grown since the last run."""

    rows: int | None  # by how many rows at least; None: any new version
    data: str = ""  # name of the dataset; empty: that of the loop
    quiet: float = 0.0  # seconds in which no further version may have come

    @property
    def name(self) -> str:
        """The trigger as declared."""
        parts = [self.data, "" if self.rows is None else str(self.rows)]
        parts.append(f"quiet={words(self.quiet)}" if self.quiet else "")
        return f"new_data({', '.join(part for part in parts if part)})"

    def look(self, context: Context) -> Reading:
        """Hold when the dataset has grown enough; in a loop a retraining of any cause begins the count anew."""
        found = context.growth(self.data)
        memory = context.remembered(self.name)
        if found is None:
            keep = {} if memory else {self.name: {"rows": 0, "version": ""}}
            return self._waits(f"there is no dataset {self.data} yet", keep)
        if memory is None and (found.before is None or self.rows is None):
            return self._waits(f"counts from {found.rows:,} rows on", {self.name: _mark(found)})
        return self._compared(context, found, memory or {})

    def _compared(self, context: Context, found: Growth, memory: Mapping[str, Any]) -> Reading:
        before = int(memory.get("rows", 0)) if found.before is None else found.before
        grown = found.rows - before
        text = f"{grown:,} new rows since the last retraining"
        if found.before is None:
            text = f"{grown:,} new rows in {self.data} since the last run"
        if self.rows is None:
            text = f"a new version of {self.data or 'the dataset'}, {text}"
        if (self.rows is None and found.version == memory.get("version")) or grown < (self.rows or 0):
            return self._waits("no new version" if self.rows is None else f"{text}, {self.rows:,} asked")
        loud = self._loud_until(found)
        if loud is not None and context.now < loud:
            return self._waits(f"{text}, but it has not been quiet for {words(self.quiet)}")
        numbers: dict[str, Any] = {"rows": grown, "needed": self.rows, "version": found.version, "data": self.data}
        if found.before is not None and self.rows is not None:
            numbers = {"rows": grown, "needed": self.rows}
        return Reading(
            rule=self.name,
            kind="new_data",
            holds=True,
            reason=text,
            mark=str(before) if self.rows is not None else found.version,
            numbers=numbers,
            after={self.name: _mark(found)},
        )

    def _loud_until(self, found: Growth) -> datetime | None:
        if not self.quiet or found.at is None:
            return None
        return found.at + timedelta(seconds=self.quiet)

    def _waits(self, reason: str, keep: Mapping[str, Any] | None = None) -> Reading:
        return Reading(rule=self.name, kind="new_data", holds=False, reason=reason, keep=keep or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent(Rule):
    """What was expected has not come: no new version of a dataset, no delivery to a webhook."""

    what: str  # name of the dataset or webhook
    within: float  # seconds in which it should have come
    hook: bool = False  # whether it is a webhook

    @property
    def name(self) -> str:
        """The trigger as declared."""
        return f"absent({f'webhook {self.what}' if self.hook else self.what}, {words(self.within)})"

    def look(self, context: Context) -> Reading:
        """Hold once for every silence that is too long; what never came counts from the first look."""
        memory = context.remembered(self.name)
        armed = int(memory["armed"]) if memory else micros(context.now)
        keep = {} if memory else {self.name: {"armed": armed, "acted": ""}}
        mark, came = self._last(context)
        since = came or from_micros(armed)
        told = f"nothing new in {self.what} since {since:%Y-%m-%d %H:%M} UTC"
        holds = context.now - since >= timedelta(seconds=self.within)
        if holds and memory and memory["acted"] == mark:
            holds, told = False, f"{told}, which was acted on"
        return Reading(
            rule=self.name,
            kind="absent",
            holds=holds,
            reason=f"{told}; expected within {words(self.within)}",
            mark=mark if holds else "",
            numbers={"since": since.isoformat(), "what": self.what} if holds else {},
            after={self.name: {"armed": armed, "acted": mark}} if holds else {},
            keep=keep,
        )

    def _last(self, context: Context) -> tuple[str, datetime | None]:
        if self.hook:
            with context.store.database.reading() as tx:
                found = last_delivery(tx, self.what)
            return ("never", None) if found is None else (found.id, found.at)
        growth = context.growth(self.what)
        return ("never", None) if growth is None else (growth.version, growth.at)


def _mark(found: Growth) -> dict[str, Any]:
    return {"rows": found.rows, "version": found.version}


def new_data(data: str | int = "", rows: int | None = None, *, quiet: str | float = 0) -> NewData:
    """Be due when a dataset has so many more rows than at the last run; without `rows`, when it has a new version.

    A loop means its own dataset: `new_data(5_000)`. With `quiet="10m"` it waits until no version has come for so long.
    """
    name, rows = ("", data) if isinstance(data, int) else (data, rows)
    if rows is not None and rows < 1:
        raise InvalidInput(f"new_data(rows={rows}) is always due.", "Give 1 or more.")
    return NewData(data=name, rows=rows, quiet=span(quiet, "quiet", positive=False))


def absent(what: str | Webhook, within: str | float) -> Absent:
    """Be due when a dataset has had no new version, or a webhook no delivery, for a time such as "26h".

    Raises InvalidInput for a time longer than deliveries are kept.
    """
    length = span(within, "within")
    if not isinstance(what, Webhook):
        return Absent(what=what, within=length)
    if length > RETENTION.total_seconds():
        raise InvalidInput(
            f"absent({what.name}, {within!r}) cannot be known: deliveries are kept for {RETENTION.days} days.",
            f"Give at most {RETENTION.days}d.",
        )
    return Absent(what=what.hook, within=length, hook=True)
