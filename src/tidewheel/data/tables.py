"""Tables of the data room: which content came in with which version, and what checks found."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, String, Table

from tidewheel.database.schema import Json, Utc, metadata

segment = Table(
    "data_segment",
    metadata,
    Column("entity_id", String(36), primary_key=True),
    Column("digest", String(80), primary_key=True),
    Column("version_id", String(36), primary_key=True),
    Column("rows", Integer, nullable=False),
)

validation = Table(
    "data_validation",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("version_id", String(36), nullable=False, index=True),
    Column("execution_id", String(36), nullable=False),
    Column("at", Utc, nullable=False),
    Column("accepted", Boolean, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("findings", Json, nullable=False),
    Index("ix_data_validation_name_id", "name", "id"),
)
