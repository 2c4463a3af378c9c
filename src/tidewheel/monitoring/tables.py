"""Tables of monitoring: where reading the log stands, the windows it produced, the alerts."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text, UniqueConstraint

from tidewheel.database.schema import Json, Utc, metadata

cursor = Table(
    "monitor_cursor",
    metadata,
    Column("model", String(200), primary_key=True),
    Column("revision", BigInteger, nullable=False),  # grows with every observation; guards against a second observer
    Column("at", Utc, nullable=False),
    Column("state", Json, nullable=False),  # MonitorState
)

window = Table(
    "monitor_window",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("model", String(200), nullable=False),
    Column("kind", String(16), nullable=False),  # traffic or labels
    Column("number", Integer, nullable=False),  # 1, 2, 3 ... within model and kind
    Column("version", Integer, nullable=False),  # the champion it is compared with
    Column("rows", Integer, nullable=False),
    Column("start", Utc, nullable=False),  # moment of its first record
    Column("end", Utc, nullable=False),  # moment of its last record
    Column("at", Utc, nullable=False),  # when it was closed
    Column("body", Json, nullable=False),  # Traffic or Performance
    UniqueConstraint("model", "kind", "number"),
)

alert = Table(
    "monitor_alert",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("model", String(200), nullable=False),
    Column("kind", String(16), nullable=False),  # drift, decay, errors, latency or schema
    Column("state", String(8), nullable=False),  # open or closed
    Column("version", Integer, nullable=False),  # the champion it was opened on
    Column("opened", Utc, nullable=False),
    Column("closed", Utc),
    Column("reason", Text, nullable=False),  # what opened it, in words
    Column("evidence", Json, nullable=False),  # what opened it, in numbers
    Column("ending", Json),  # what closed it
    Index("ix_monitor_alert_model_state", "model", "state"),
)
