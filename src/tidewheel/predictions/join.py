"""Bring outcomes and predictions together: late, repeated, out of order or unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from tidewheel.predictions.reader import Cursor, Frame, LogReader
from tidewheel.predictions.records import ANSWERED, Label, Outcome, Prediction, row_id

BATCH_FRAMES = 50_000

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
    features: list[msgspec.Raw]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an answer stands in the log."""

    segment: str  # file name
    offset: int  # bytes
    rows: int  # rows it answered


_Claim = tuple[_Place, int, Outcome]  # an answer, one of its rows, and the outcome that was joined to it


class Joiner:
    """Joins the outcomes of one model's log to its predictions, each outcome exactly once.

    The state is a function of the cursor alone: another process that goes on from a stored cursor gets the same rows.
    A row's first outcome counts, later ones are duplicates. An outcome that comes before its prediction is an orphan
    until the prediction is seen, and is then joined. Where an id was answered twice, the first answer counts.

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

    def labelled(self, cursor: Cursor | None = None) -> Labelled:
        """Return the rows whose truth became known behind a cursor; {} or None is the beginning.

        Going on from the cursor that came last is cheap; another one costs reading the log up to it.
        """
        if (cursor or {}) != self._cursor:
            self._rebuild(cursor or {})
        claims, damaged = self._advance(None)
        rows = [row for claim in claims if (row := self._load(*claim)) is not None]
        return Labelled(
            rows=rows,
            cursor=dict(self._cursor),
            duplicates=self._duplicates,
            orphans=len(self._orphans),
            damaged=damaged + len(claims) - len(rows),
        )

    def _reset(self) -> None:
        self._cursor: Cursor = {}
        self._index: dict[str, _Place] = {}  # request id -> its first answer
        self._joined: set[tuple[str, int]] = set()  # request id, row
        self._orphans: dict[str, Outcome] = {}  # row id -> outcome
        self._duplicates = 0

    def _rebuild(self, cursor: Cursor) -> None:
        self._reset()
        self._advance(cursor)
        self._cursor = dict(cursor)

    def _advance(self, until: Mapping[str, int] | None) -> tuple[list[_Claim], int]:
        # Outcomes first: whatever they answer was logged before them, so the predictions read next contain it.
        outcomes, damaged = self._read_outcomes(until)
        damaged += self._index_predictions(until)
        waiting, self._orphans = self._orphans, {}
        claims = [claim for outcome in (*waiting.values(), *outcomes) if (claim := self._claim(outcome)) is not None]
        return claims, damaged

    def _read_outcomes(self, until: Mapping[str, int] | None) -> tuple[list[Outcome], int]:
        batch = self._outcomes.frames(self._cursor, until=until)
        self._cursor |= batch.cursor
        found = [decoded for one in batch.frames if (decoded := _decoded(self._outcome, one)) is not None]
        return found, batch.damaged + len(batch.frames) - len(found)

    def _index_predictions(self, until: Mapping[str, int] | None) -> int:
        damaged = 0
        while True:
            batch = self._predictions.frames(self._cursor, limit=BATCH_FRAMES, until=until)
            self._cursor |= batch.cursor
            damaged += batch.damaged
            for one in batch.frames:
                head = _decoded(self._head, one)
                if head is None:
                    damaged += 1
                elif head.status == ANSWERED:
                    self._index.setdefault(head.id, _Place(one.segment, one.offset, len(head.features)))
            if len(batch.frames) < BATCH_FRAMES:
                return damaged

    def _claim(self, outcome: Outcome) -> _Claim | None:
        request, row = self._named(outcome.id)
        key = (request, max(row, 0))
        if key in self._joined or outcome.id in self._orphans:
            self._duplicates += 1
            return None
        place = self._index.get(request)
        if place is None or key[1] >= place.rows or (row < 0 and place.rows != 1):
            self._orphans[outcome.id] = outcome
            return None
        self._joined.add(key)
        return place, key[1], outcome

    def _load(self, place: _Place, row: int, outcome: Outcome) -> LabelledRow | None:
        prediction = self._predictions.at(place.segment, place.offset)
        if prediction is None:
            return None
        return LabelledRow(prediction=prediction, row=row, label=outcome.label, at=outcome.at)

    def _named(self, outcome_id: str) -> tuple[str, int]:
        """Return the request and the row that a row id names; -1 for the only row of a request."""
        request, slash, row = outcome_id.rpartition("/")
        if slash and row.isascii() and row.isdigit() and outcome_id not in self._index and len(row) < 10:
            return request, int(row)
        return outcome_id, -1


def _decoded(decoder: msgspec.msgpack.Decoder[T], frame: Frame) -> T | None:
    try:
        return decoder.decode(frame.payload)
    except msgspec.DecodeError:
        return None
