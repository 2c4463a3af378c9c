"""Tables of the graph: entity, version, execution, edge, event, alias, outbox."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text, UniqueConstraint

from tidewheel.database.schema import Counter, Json, Utc, metadata

entity = Table(
    "entity",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("name", String(200), nullable=False),
    Column("at", Utc, nullable=False),
    Column("facets", Json, nullable=False),
    UniqueConstraint("kind", "name"),
)

version = Table(
    "version",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("entity_id", String(36), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("digest", String(80), nullable=False, index=True),
    Column("uri", Text, nullable=False),
    Column("media_type", String(100), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("schema", Json),
    Column("state", String(16), nullable=False),
    Column("facets", Json, nullable=False),
    Column("at", Utc, nullable=False),
    UniqueConstraint("entity_id", "seq"),
)

execution = Table(
    "execution",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("job", String(200), nullable=False),
    Column("parent_id", String(36), index=True),
    Column("state", String(16), nullable=False),
    Column("owner", String(200), nullable=False),
    Column("fencing", Integer, nullable=False),
    Column("code_digest", String(80), nullable=False),
    Column("environment_digest", String(80), nullable=False),
    Column("parameters", Json, nullable=False),
    Column("started", Utc, nullable=False),
    Column("ended", Utc),
    Column("error", Text),
    Column("facets", Json, nullable=False),
    Index("ix_execution_kind_started", "kind", "started"),
)

edge = Table(
    "edge",
    metadata,
    Column("src", String(36), primary_key=True),
    Column("relation", String(16), primary_key=True),
    Column("dst", String(36), primary_key=True),
    Column("role", String(100), primary_key=True),
    Column("idx", Integer, primary_key=True),
    Index("ix_edge_dst", "dst"),
)

event = Table(
    "event",
    metadata,
    Column("seq", Counter, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False),
    Column("at", Utc, nullable=False),
    Column("type", String(64), nullable=False, index=True),
    Column("subject_id", String(200), nullable=False, index=True),
    Column("execution_id", String(36), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("body", Json, nullable=False),
    Column("governs", Boolean, nullable=False),
    Column("digest", String(80), nullable=False),
    sqlite_autoincrement=True,
)

alias = Table(
    "alias",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("entity_id", String(36), nullable=False, index=True),
    Column("name", String(64), nullable=False),
    Column("version_id", String(36)),
    Column("valid_from", Utc, nullable=False),
    Column("valid_to", Utc),
    Column("actor", String(200), nullable=False),
    Column("reason", Text, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("seq", Counter, primary_key=True, autoincrement=True),
    Column("sink", String(64), nullable=False),
    Column("at", Utc, nullable=False),
    Column("payload", Json, nullable=False),
    Column("sent", Utc),
    Column("stream", String(36), nullable=False, server_default=""),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("due", BigInteger, nullable=False, server_default="0"),
    Column("parked", BigInteger),
    Column("error", Text),
    Index("ix_outbox_sink_stream", "sink", "stream", "seq"),
    sqlite_autoincrement=True,
)
