"""Bring outcomes and predictions together: late, repeated, out of order or unknown."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from tidewheel.errors import StorageUnavailable
from tidewheel.predictions.claims import Claim, Claims, Place, Seen
from tidewheel.predictions.reader import Cursor, Frame, LogReader
from tidewheel.predictions.records import ANSWERED, Label, Outcome, Prediction, row_id

BATCH_FRAMES = 20_000  # records that are held in memory at once

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRow:
    """One predicted row whose truth is known."""

    prediction: Prediction  # the answered request
    row: int  # which of its rows, from 0
    label: Label  # what turned out to be true
    at: int  # when the outcome arrived, microseconds since 1970 UTC

    @property
    def id(self) -> str:
        """The row id that the outcome named."""
        return row_id(self.prediction.id, self.row, len(self.prediction.output))

    @property
    def kept(self) -> bool:
        """Whether its features stand in the log, and were not left out of it by a rule."""
        return self.row < len(self.prediction.features)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """What one look at the log brought."""

    rows: list[LabelledRow]  # in the order in which their outcomes arrived
    cursor: Cursor  # where to go on; covers predictions and outcomes, can be kept as JSON
    duplicates: int  # outcomes since the log began for a row that had one already; the first one counts
    orphans: int  # outcomes that wait for a prediction nobody has seen yet
    damaged: int  # stretches of this look that could not be read
    more: bool = False  # whether the limit left outcomes to the next look


class _Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The fields at the front of a Prediction, which are all that the index needs."""

    id: str
    at: int
    model: str
    version: int
    arm: str
    propensity: float
    unit: str
    status: int
    features: msgspec.Raw
    output: list[msgspec.Raw]


class _Brought(NamedTuple):
    claims: list[Claim]
    damaged: int
    outcomes: int


class Joiner:
    """Joins the outcomes of one model's log to its predictions, each outcome exactly once.

    The state is a function of the cursor alone: another process that goes on from a stored cursor gets the same rows.
    A row's first outcome counts, later ones are duplicates. An outcome that comes before its prediction is an orphan
    until the prediction is seen, and is then joined. Where an id was answered twice, the first answer counts.

    What is known of the log stands in a temporary file beyond the first megabytes, so that memory does not grow with
    the log. Raises StorageUnavailable when there is no room for it.

    >>> Joiner(Path("no/such/folder")).labelled({}).rows
    []
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._predictions = LogReader(folder, Prediction)
        self._outcomes = LogReader(folder, Outcome)
        self._head = msgspec.msgpack.Decoder(_Head)
        self._outcome = msgspec.msgpack.Decoder(Outcome)
        self._reset()

    def labelled(self, cursor: Cursor | None = None, *, limit: int | None = None) -> Labelled:
        """Return the rows whose truth became known behind a cursor; {} or None is the beginning.

        `limit` bounds how many outcomes are taken in, and so the memory of the answer; its cursor goes on behind them.
        Going on from the cursor that came last is cheap; another one costs reading the log up to it.
        """
        try:
            if (cursor or {}) != self._cursor:
                self._rebuild(cursor or {})
            return self._labelled(limit)
        except sqlite3.Error as error:
            self._reset()
            raise StorageUnavailable(
                f"The outcomes in {self.folder} cannot be joined: {error}.",
                "Free room for temporary files.",
            ) from error

    def _labelled(self, limit: int | None) -> Labelled:
        rows: list[LabelledRow] = []
        damaged = taken = 0
        while True:
            size = BATCH_FRAMES if limit is None else min(BATCH_FRAMES, limit - taken)
            brought = self._advance(None, size)
            found = self._load(brought.claims)
            rows += found
            taken += brought.outcomes
            damaged += brought.damaged + len(brought.claims) - len(found)
            more = brought.outcomes == size
            if not more or (limit is not None and taken >= limit):
                break
        return Labelled(
            rows=rows,
            cursor=dict(self._cursor),
            duplicates=self._claims.duplicates,
            orphans=self._claims.orphans,
            damaged=damaged,
            more=more,
        )

    def _reset(self) -> None:
        self._cursor: Cursor = {}
        self._claims = Claims()

    def _rebuild(self, cursor: Cursor) -> None:
        self._reset()
        while self._advance(cursor, BATCH_FRAMES).outcomes == BATCH_FRAMES:
            pass
        self._cursor = dict(cursor)

    def _advance(self, until: Mapping[str, int] | None, limit: int) -> _Brought:
        # Outcomes first: whatever they answer was logged before them, so the predictions read next contain it.
        batch = self._outcomes.frames(self._cursor, until=until, limit=limit)
        self._cursor |= batch.cursor
        outcomes = [decoded for one in batch.frames if (decoded := _decoded(self._outcome, one)) is not None]
        damaged = batch.damaged + len(batch.frames) - len(outcomes)
        damaged += self._index_predictions(until)
        return _Brought(self._claims.take(outcomes), damaged, len(batch.frames))

    def _index_predictions(self, until: Mapping[str, int] | None) -> int:
        damaged = 0
        while True:
            batch = self._predictions.frames(self._cursor, limit=BATCH_FRAMES, until=until)
            self._cursor |= batch.cursor
            damaged += batch.damaged + self._index(batch.frames)
            if len(batch.frames) < BATCH_FRAMES:
                return damaged

    def _index(self, frames: Sequence[Frame]) -> int:
        """Take note of answers; return how many frames hold no record."""
        seen: list[Seen] = []
        damaged = 0
        for one in frames:
            head = _decoded(self._head, one)
            if head is None:
                damaged += 1
            elif head.status == ANSWERED:
                seen.append(Seen(head.id, Place(one.segment, one.offset, len(head.output))))
        self._claims.see(seen)
        return damaged

    def _load(self, claims: Sequence[Claim]) -> list[LabelledRow]:
        """Read the answers of claims, each segment once."""
        offsets: dict[str, set[int]] = {}
        for claim in claims:
            offsets.setdefault(claim.place.segment, set()).add(claim.place.offset)
        found = {segment: self._predictions.pick(segment, sorted(each)) for segment, each in offsets.items()}
        return list(_rows(claims, found))


def _rows(claims: Iterable[Claim], found: Mapping[str, Mapping[int, Prediction]]) -> Iterable[LabelledRow]:
    for place, row, outcome in claims:
        prediction = found[place.segment].get(place.offset)
        if prediction is not None:
            yield LabelledRow(prediction=prediction, row=row, label=outcome.label, at=outcome.at)


def _decoded(decoder: msgspec.msgpack.Decoder[T], frame: Frame) -> T | None:
    try:
        return decoder.decode(frame.payload)
    except msgspec.DecodeError:
        return None
