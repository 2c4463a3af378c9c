"""What the prediction log holds: one record per scored request, and outcomes that come later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

Value = bool | int | float | str | None
Label = bool | int | float | str
Arm = Literal["champion", "challenger"]
Route = Literal["split", "pinned", "fallback", "refused"]

ANSWERED = 200


class Other(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """What an arm that did not answer says to the same rows: under paired traffic, or as a part of the answer."""

    version: int  # model version (seq) of that arm
    output: Sequence[Value] = []  # one prediction per row; empty when it failed
    probability: Sequence[Sequence[float]] | None = None  # [row, class], in the order of the signature's classes
    error: str = ""  # why it failed; empty when it did not
    latency_us: int = 0  # time its scoring took, microseconds


class Prediction(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """One request as one arm met it. Stored as an array: fields are only ever added at the end.

    A request whose challenger failed leaves two records with the same id: the failure (arm "challenger", status 500,
    route "split", no output) and the answer (arm "champion", status 200, route "fallback"). Only records with route
    "split" were assigned by the split; those alone may be counted when two arms are compared. Where a strategy has more
    arms, each but the champion's is called "challenger"; `version` tells them apart.
    """

    id: str  # request id; see row_id for its rows
    at: int  # when the answer was ready, microseconds since 1970 UTC
    model: str  # model name
    version: int  # model version (seq) of the arm
    arm: Arm  # which arm scored, or failed
    propensity: float  # probability with which the split gives this arm, 0 to 1; 1 for pinned
    unit: str  # what the split was keyed on; empty when it was the request id
    status: int  # 200 answered; 4xx refused, the caller's mistake; 5xx the arm failed
    features: Sequence[Sequence[Value]]  # rows in the order of that version's signature; empty when refused or not kept
    output: Sequence[Value]  # one prediction per row; empty unless status is 200
    probability: Sequence[Sequence[float]] | None = None  # [row, class], in the order of the signature's classes
    latency_us: int = 0  # from the request's last byte to the arm's answer, microseconds
    other: Other | None = None  # the other arm's answer under paired traffic
    error: str = ""  # what was wrong, unless status is 200
    route: Route = "split"  # chosen by the split, named by the caller, in place of a failure, or refused unscored
    redacted: tuple[int, ...] = ()  # columns of the features that a rule has dropped, hashed or masked
    deployment: int = 0  # seq of the traffic row that decided, where the frozen policy stands; 0: written before
    strategy: str = ""  # kind of the strategy that decided; empty: champion and challenger
    experiment: str = ""  # name of the experiment that the unit takes part in
    parts: Sequence[Other] = []  # what other versions said that had a part in the answer


class Outcome(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """The truth about one predicted row, brought by the caller some time later."""

    id: str  # row id; see row_id
    at: int  # when it arrived, microseconds since 1970 UTC
    label: Label  # what turned out to be true


class Shadowed(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """What a challenger in the shadow says to a request that the champion has answered."""

    id: str  # request id of the answer
    at: int  # when it was scored, microseconds since 1970 UTC
    model: str  # model name
    version: int  # the challenger (seq)
    champion: int  # the version that answered (seq)
    deployment: int  # seq of the traffic row
    output: Sequence[Value] = []  # one prediction per row; empty when it failed
    probability: Sequence[Sequence[float]] | None = None  # [row, class], in the order of the signature's classes
    latency_us: int = 0  # time its scoring took, microseconds
    error: str = ""  # why it failed; empty when it did not
    differ: int = 0  # rows that it predicts otherwise than the answer
    distance: float = 0.0  # greatest absolute difference of a probability, or of a number, from the answer's


def row_id(request_id: str, row: int, rows: int) -> str:
    """Return the id by which an outcome names one row of a request.

    >>> row_id("r1", 0, 1), row_id("r1", 2, 5)
    ('r1', 'r1/2')
    """
    return request_id if rows == 1 else f"{request_id}/{row}"
