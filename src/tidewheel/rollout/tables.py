"""Table of rollouts: one row each, with its evidence and the cursors it was read up to."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from tidewheel.database.schema import Json, Utc, metadata

rollout = Table(
    "rollout",
    metadata,
    Column("id", String(36), primary_key=True),  # also the id of its execution
    Column("model", String(200), nullable=False),
    Column("state", String(16), nullable=False),  # running, promoted, rolled_back or inconclusive
    Column("champion", Integer, nullable=False),
    Column("candidate", Integer, nullable=False),
    Column("step", Integer, nullable=False),  # index into the stages of the config
    Column("traffic", Integer, nullable=False),  # seq of the traffic row this rollout set last
    Column("revision", BigInteger, nullable=False),  # grows with every write; guards against a second process
    Column("started", Utc, nullable=False),
    Column("ended", Utc),
    Column("actor", String(200), nullable=False),
    Column("reason", Text, nullable=False),  # what the last look concluded, in words
    Column("config", Json, nullable=False),  # Canary
    Column("subject", Json, nullable=False),  # Subject
    Column("evidence", Json, nullable=False),  # Evidence
    Column("cursors", Json, nullable=False),  # Cursors
    Index("ix_rollout_model_state", "model", "state"),
)
