"""Tables of the loop: its state, and what people ask of it."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Integer, String, Table, Text

from tidewheel.database.schema import Json, Utc, metadata

loop_state = Table(
    "loop_state",
    metadata,
    Column("model", String(200), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("at", Utc, nullable=False),
    Column("body", Json, nullable=False),
)

loop_request = Table(
    "loop_request",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("model", String(200), nullable=False, index=True),
    Column("at", Utc, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("taken", Boolean, nullable=False),
)
