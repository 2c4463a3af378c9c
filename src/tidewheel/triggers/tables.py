"""Tables of triggers: what each remembers, what fired, what was used up, what was delivered."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text, UniqueConstraint

from tidewheel.database.schema import Counter, Json, Utc, metadata

trigger_state = Table(
    "trigger_state",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("kind", String(16), nullable=False),  # schedule or loop
    Column("revision", BigInteger, nullable=False),  # grows with every write; guards against a second scheduler
    Column("epoch", Integer, nullable=False),  # grows when it is re-armed; keys of an older one block nothing
    Column("at", Utc, nullable=False),  # last change
    Column("declaration", Json, nullable=False),
    Column("memory", Json, nullable=False),  # rule -> what it remembers
    Column("verdict", Json, nullable=False),  # of the newest look that said something new
)

trigger_fired = Table(
    "trigger_fired",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("key", String(200), primary_key=True),
    Column("at", Utc, nullable=False),
    Column("tick_id", String(36), nullable=False),
    Column("run_id", String(36), nullable=False),
    Column("place", BigInteger, nullable=False),  # order of the runs of a schedule: several fire in one moment
    Column("done", Boolean, nullable=False),  # whether its run was seen to have ended
    Index("ix_trigger_fired_name_done", "name", "done"),
)

trigger_item = Table(
    "trigger_item",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    Column("source", String(300), primary_key=True),
    Column("digest", String(64), primary_key=True),  # of the item, whose name may be long
    Column("item", Text, nullable=False),
    Column("stamp", String(200), nullable=False),
    Column("at", Utc, nullable=False),
)

trigger_delivery = Table(
    "trigger_delivery",
    metadata,
    Column("seq", Counter, primary_key=True, autoincrement=True),
    Column("hook", String(200), nullable=False),
    Column("id", String(200), nullable=False),
    Column("at", Utc, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("hook", "id"),
    Index("ix_trigger_delivery_hook_at", "hook", "at"),
    sqlite_autoincrement=True,
)
