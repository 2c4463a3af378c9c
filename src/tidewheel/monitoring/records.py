"""What monitoring keeps: windows with their comparisons, and alerts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec

WindowKind = Literal["traffic", "labels"]
AlertKind = Literal["drift", "decay", "errors", "latency", "schema"]
AlertState = Literal["open", "closed"]


class ColumnDrift(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a window beside the champion's baseline."""

    name: str  # feature, or "prediction" or "probability" for the model's answers
    rows: int  # rows of the window that have the column
    psi: float  # population stability index
    psi_band: float  # what chance alone reaches at the policy's level for so many rows
    ks: float | None  # Kolmogorov-Smirnov distance; None for columns without order
    ks_band: float | None  # what chance alone reaches
    missing: float  # share of missing values, less that of the baseline
    unknown: float  # share of values the baseline never held, where it lists them all
    drifted: bool  # beyond the policy's threshold and outside the band


class ArmTraffic(msgspec.Struct, frozen=True, kw_only=True):
    """How one arm answered."""

    requests: int  # requests given to it, refused ones left out
    errors: int  # of them failed
    refused: int  # refused as the caller's mistake
    p50_ms: float | None  # median latency of answered requests; None without any
    p95_ms: float | None  # 95 % were faster
    p99_ms: float | None  # 99 % were faster


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """A window over predicted rows, in the order of the log."""

    columns: list[ColumnDrift]  # features and answers, the strongest drift first
    arms: dict[str, ArmTraffic]  # by arm: champion, challenger
    per_second: float | None  # requests per second over the window; None when it had no duration


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """A window over labelled rows of the champion, in the order in which labels arrived."""

    metric: str  # what is watched
    value: float  # over the rows of the window
    reference: float | None  # the champion's holdout metric, or that of its first labelled rows; None before them
    tolerated: float | None  # beyond it is decay
    metrics: dict[str, float]  # everything that can be computed from the rows
    unusable: int  # rows whose label could not be used, left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of rows, compared and closed."""

    id: str  # UUIDv7
    model: str  # name of the model
    kind: WindowKind  # over traffic or over labels
    number: int  # 1, 2, 3 ... within model and kind
    version: int  # the champion it is compared with
    rows: int  # rows in it
    start: datetime  # its first record
    end: datetime  # its last record
    at: datetime  # when it was closed
    traffic: Traffic | None = None  # of a traffic window
    performance: Performance | None = None  # of a labels window


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something that is wrong, from when to when."""

    id: str  # UUIDv7
    model: str  # name of the model
    kind: AlertKind  # what is wrong
    state: AlertState  # open until it is calm again or the champion changes
    version: int  # the champion it was opened on
    opened: datetime  # when
    closed: datetime | None  # when, None while it is open
    reason: str  # what opened it, in words
    evidence: Mapping[str, Any]  # the numbers that opened it
    ending: Mapping[str, Any] | None  # why it was closed
