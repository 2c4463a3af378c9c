"""Tables of deployments, one row for every traffic split there ever was, and of what people say of models."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Integer, String, Table, Text

from tidewheel.database.schema import Utc, metadata

deployment = Table(
    "deployment",
    metadata,
    Column("model", String(200), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("champion", Integer, nullable=False),
    Column("challenger", Integer),
    Column("share", Float(53), nullable=False),
    Column("salt", String(250), nullable=False),
    Column("paired", Boolean, nullable=False),
    Column("fault", Float(53), nullable=False),
    Column("undo", Boolean, nullable=False),
    Column("at", Utc, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("reason", Text, nullable=False),
    Column("strategy", Text, nullable=False, server_default=""),
)

annotation = Table(
    "model_annotation",
    metadata,
    Column("entity_id", String(36), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("name", String(100), primary_key=True),
    Column("value", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("actor", String(200), nullable=False),
)
