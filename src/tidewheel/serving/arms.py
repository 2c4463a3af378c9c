"""The model versions behind one endpoint at one moment, and how a request is led to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol

import msgspec
from msgspec import UNSET

from tidewheel.errors import ModelFailed, TidewheelError
from tidewheel.models.scorer import Scorer
from tidewheel.models.signature import Field, Signature
from tidewheel.predictions.block import Block
from tidewheel.predictions.records import Arm as ArmName
from tidewheel.predictions.records import Other
from tidewheel.registry.traffic import Traffic
from tidewheel.serving.ask import Ask, Row
from tidewheel.serving.routing import BUCKETS, bucket, injected, threshold
from tidewheel.serving.rows import RowCodec
from tidewheel.serving.tensors import TensorCodec

SAID = 300  # characters of an error that are kept


@dataclass(frozen=True, slots=True)
class Answer:
    """What one arm says to some rows. Positional, because one is built per request."""

    output: list[Any]  # one prediction per row
    probability: list[list[float]] | None  # [row][class]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One model version that is loaded, or could not be."""

    name: ArmName  # champion or challenger
    version: int  # seq of the model version
    digest: str  # of its bundle
    signature: Signature  # what it reads and answers
    scorer: Scorer | None  # None when it could not be loaded
    form: str = ""  # stored form that is scored, such as onnx
    trouble: str = ""  # why it could not be loaded
    golden: Sequence[Sequence[Any]] = ()  # rows that it is known to answer, values in the order of its fields
    columns: tuple[int, ...] | None = None  # places of its fields in a decoded row; None: all, in order, none left out
    fault: float = 0.0  # share of requests that a game day lets fail
    salt: str = ""  # keys that share

    def select(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the values that this version reads, in its order."""
        if self.columns is None:
            return rows
        if isinstance(rows, Block):
            return rows.take(self.columns)
        return [tuple(row[place] for place in self.columns) for row in rows]

    def score(self, rows: Sequence[Row], request_id: str) -> Answer:
        """Score rows that `select` returned. Raises ModelFailed, and whatever the model itself raises."""
        if self.scorer is None:
            raise ModelFailed(f"Version {self.version} could not be loaded: {self.trouble}", "Deploy another version.")
        if self.fault and injected(self.salt, request_id, self.fault):
            raise ModelFailed("A game day made this request fail.", "Set the fault rate to 0 to end it.")
        if self.columns is not None and isinstance(rows, list) and any(value is UNSET for row in rows for value in row):
            raise ModelFailed("The request lacks a column that only this version reads.", "Send it with every row.")
        scores = self.scorer.score_rows(rows)
        output: list[Any] = scores.prediction.tolist()
        probability: list[list[float]] | None = None
        if scores.probabilities is not None:
            probability = scores.probabilities.tolist()
        if not self._sound(output, probability, len(rows)):
            raise ModelFailed("The model answered with NaN, infinity or too few rows.", "Look at its inputs.")
        return Answer(output, probability)

    def _sound(self, output: list[Any], probability: list[list[float]] | None, rows: int) -> bool:
        if len(output) != rows:
            return False
        if probability is not None:
            return all(map(isfinite, map(sum, probability)))
        return self.signature.classes is not None or all(map(isfinite, output))


class Choice(msgspec.Struct, frozen=True, gc=False):
    """Who is to answer a request. Positional, because one may be built per request."""

    arm: Arm  # the version that is scored first
    propensity: float  # probability with which it was chosen
    experiment: str = ""  # that the unit takes part in


class Case(Protocol):
    """A request while a strategy works on it."""

    ask: Ask  # what is to be scored
    arm: Arm  # who was scored; the strategy puts here who answers
    parts: Sequence[Other]  # what else was said; the strategy puts it here
    failures: Sequence[tuple[Arm, Exception]]  # who failed before somebody answered; the strategy puts it here


class Way(Protocol):
    """A strategy on loaded arms: how requests are led to them, and what becomes of their answers.

    Made anew with every deployment, and never changed, so that all workers decide alike.
    """

    @property
    def kind(self) -> str:
        """Name of the strategy."""
        ...

    @property
    def shadows(self) -> Sequence[Arm]:
        """Versions that are scored after the answer has left."""
        ...

    def choose(self, unit: str, ask: Ask) -> Choice:
        """Return who is scored first for a unit; the same for the same unit as long as the row holds."""
        ...

    def settle(self, cases: Sequence[Case], scored: Sequence[Answer | Exception]) -> Sequence[Answer | Exception]:
        """Ask further versions where it takes them; return the answers in order."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """An immutable picture of an endpoint; a swap replaces the whole of it by one assignment."""

    traffic: Traffic  # the row it was made from
    champion: Arm  # answers unless the split says otherwise, and whenever the challenger fails
    challenger: Arm | None  # None: no canary
    rows: RowCodec  # decodes /predict
    tensors: TensorCodec  # decodes /v2
    places: int  # of 10,000 that lead to the challenger
    way: Way | None = None  # the strategy; None: champion, and challenger if any
    others: Sequence[Arm] = ()  # further arms of the strategy

    def route(self, unit: str) -> tuple[Arm, Arm | None, float]:
        """Return the arm for a unit, the other arm, and the probability with which the split gives that arm."""
        challenger = self.challenger
        if challenger is None:
            return self.champion, None, 1.0
        if bucket(self.traffic.salt, unit) < self.places:
            return challenger, self.champion, self.places / BUCKETS
        return self.champion, challenger, 1.0 - self.places / BUCKETS

    def arms(self) -> Sequence[Arm]:
        """The arms, the champion first."""
        return (self.champion, *self.others) if self.challenger is None else (self.champion, self.challenger)

    def shares(self) -> Sequence[tuple[Arm, float]]:
        """The arms with the share of the units that is led to each first."""
        shares = self.traffic.shares()
        return [(arm, shares.get(arm.version, 0.0)) for arm in self.arms()]

    def named(self, version: str) -> Arm | None:
        """Return the arm of a version; None when it is not deployed."""
        return next((arm for arm in self.arms() if str(arm.version) == version), None)


def extra_fields(champion: Signature, *others: Signature) -> list[Field]:
    """Return the columns that the champion does not read but another arm does; a request may leave them out."""
    known = set(champion.names)
    found = {field.name: field for other in others for field in other.fields if field.name not in known}
    return list(found.values())


def places_of(signature: Signature, rows: RowCodec) -> tuple[int, ...] | None:
    """Return where a signature's fields stand in a decoded row; None when every row is just these, in order."""
    names = [field.name for field in (*rows.fields, *rows.extra)]
    if names == signature.names and not rows.extra:
        return None
    return tuple(names.index(name) for name in signature.names)


def share_places(traffic: Traffic) -> int:
    """Return how many of the 10,000 places lead to the challenger."""
    return threshold(traffic.share) if traffic.challenger is not None else 0


def said(error: Exception) -> str:
    """Return an error as one line of at most 300 characters: its situation, or its type and text.

    >>> said(ValueError("no"))
    'ValueError: no'
    """
    text = error.what if isinstance(error, TidewheelError) else f"{type(error).__name__}: {error}"
    return text[:SAID]
