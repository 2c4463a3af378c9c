"""Table of the registry: the traffic rows, append-only."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, Integer, String, Table, Text, UniqueConstraint

from tidewheel.database.schema import Utc, metadata

deployment = Table(
    "deployment",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("model", String(200), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("champion", Integer, nullable=False),
    Column("challenger", Integer),
    Column("share", Float, nullable=False),
    Column("salt", String(64), nullable=False),
    Column("paired", Boolean, nullable=False),
    Column("fault", Float, nullable=False),
    Column("at", Utc, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    UniqueConstraint("model", "seq"),
)
