"""Tables of this room: what steps answered, by key, and what code stood behind a digest."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, String, Table

from tidewheel.database.schema import Json, Utc, metadata

step_cache = Table(
    "step_cache",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("step", String(200), nullable=False),
    Column("execution_id", String(36), nullable=False),
    Column("outputs", Json, nullable=False),
    Column("at", Utc, nullable=False),
    Index("ix_step_cache_step_at", "step", "at"),
)

step_code = Table(
    "step_code",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("parts", Json, nullable=False),
)

lease = Table(
    "lease",
    metadata,
    Column("subject", String(200), primary_key=True),
    Column("holder", String(36), nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("written", BigInteger, nullable=False),
)

step_flight = Table(
    "step_flight",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("execution_id", String(36), nullable=False),
    Column("run_id", String(36), nullable=False, index=True),
)
