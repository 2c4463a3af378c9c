"""Records of the data room: versions, schemas, findings and what a manifest blob holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import msgspec

from tidewheel.stats.column import Dtype

Severity = Literal["error", "warning"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One deviation of a table from its schema; errors stop a run, warnings do not."""

    column: str  # the column it is about, "" for the whole table
    code: str  # missing, extra, mistyped, nulls, infinite, one_class, range, unseen, ...; listed in docs/data.md
    severity: Severity  # whether it stops
    expected: str  # what the schema says
    seen: str  # what the table holds
    message: str  # one sentence with the values and how to mend it


class ColumnSchema(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is expected of one column."""

    name: str  # the column's name
    type: Dtype  # logical type; "null" while only nulls have been seen, so that any type may follow
    detail: str = ""  # the full type of nested columns
    nullable: bool = False  # whether more than the tolerated share of values has been missing so far
    missing: float = 0.0  # share of missing values so far, 0 to 1
    low: float | None = None  # smallest number so far
    high: float | None = None  # largest number so far
    categories: list[str] | None = None  # every value so far, for texts and booleans with few values; None: any
    distinct: int = 0  # number of distinct values so far


class Schema(msgspec.Struct, frozen=True, kw_only=True):
    """What is expected of a table."""

    columns: list[ColumnSchema]  # in the order of the table
    time: str | None = None  # the column that says when a row happened
    label: str | None = None  # the column to be predicted

    def column(self, name: str) -> ColumnSchema | None:
        """Return the column of that name, if there is one."""
        return next((column for column in self.columns if column.name == name), None)


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """An immutable part of a dataset: one Parquet blob and its profile."""

    digest: str  # blob of the rows, Parquet
    rows: int  # number of rows, at least 1
    size: int  # bytes of the Parquet blob
    profile: str  # blob of the profile of these rows
    first: int | None = None  # earliest value of the time column, microseconds since 1970
    last: int | None = None  # latest value of the time column, microseconds since 1970
    level: int = 0  # how often small segments were packed together to make it


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a version consists of; the digest of this record is the version's digest."""

    segments: list[Segment]  # in the order in which rows were kept
    profile: str  # blob of the profile of all rows
    schema: Schema  # what the next version is checked against
    form: int = 1  # form of this record, for readers of later releases


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVersion:
    """A version of a dataset, without its rows."""

    name: str  # name of the dataset
    seq: int  # 1, 2, 3 ... within the dataset
    version_id: str  # id in the graph
    digest: str  # digest of the manifest blob
    rows: int  # number of rows
    added: int  # rows that this version added to the one before
    segments: int  # number of segments
    time: str | None  # column that says when a row happened
    label: str | None  # column to be predicted
    schema: Schema  # what the next version is checked against
    at: datetime  # when it was kept

    @property
    def reference(self) -> str:
        """The reference to this very version, `name:seq`."""
        return f"{self.name}:{self.seq}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """The outcome of one check of incoming rows."""

    name: str  # dataset that the rows were meant for
    version_id: str  # version they became, "" when they were refused
    execution_id: str  # ingestion in the graph
    at: datetime  # when
    rows: int  # rows checked
    findings: tuple[Finding, ...]  # errors first

    @property
    def accepted(self) -> bool:
        """Whether the rows were kept."""
        return bool(self.version_id)
