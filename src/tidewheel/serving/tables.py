"""Table of the API keys that callers of the prediction server show."""

from __future__ import annotations

from sqlalchemy import Column, String, Table

from tidewheel.database.schema import Json, Utc, metadata

api_key = Table(
    "api_key",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("digest", String(64), nullable=False, unique=True),  # SHA-256 of the secret, which is stored nowhere
    Column("models", Json, nullable=False),  # names; empty: all
    Column("verbs", Json, nullable=False),
    Column("at", Utc, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("expires", Utc),
    Column("revoked", Utc),
)
