"""What pipelines at full strength keep besides."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what is new; nothing is changed or taken away."""
    _lease()
    _step_flight()
    _triggers()
    _outbox()
    _api_key()
    _model_annotation()
    op.add_column("deployment", sa.Column("strategy", sa.Text, nullable=False, server_default=""))
    # What is added here and in a room's tables.py goes into schema.sql too: python scripts/write_schema.py


def _lease() -> None:
    op.create_table(
        "lease",
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("holder", sa.String(36), nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("written", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_lease"),
    )


def _step_flight() -> None:
    op.create_table(
        "step_flight",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("execution_id", sa.String(36), nullable=False),
        sa.Column("run_id", sa.String(36), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_step_flight")),
    )
    op.create_index(op.f("ix_step_flight_run_id"), "step_flight", ["run_id"])


def _triggers() -> None:
    op.create_table(
        "trigger_state",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("declaration", sa.Text, nullable=False),
        sa.Column("memory", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_trigger_state")),
    )
    op.create_table(
        "trigger_fired",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("tick_id", sa.String(36), nullable=False),
        sa.Column("run_id", sa.String(36), nullable=False),
        sa.Column("place", sa.BigInteger, nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("name", "epoch", "key", name=op.f("pk_trigger_fired")),
    )
    op.create_index(op.f("ix_trigger_fired_name_done"), "trigger_fired", ["name", "done"])
    op.create_table(
        "trigger_item",
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("source", sa.String(300), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("item", sa.Text, nullable=False),
        sa.Column("stamp", sa.String(200), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", "epoch", "source", "digest", name=op.f("pk_trigger_item")),
    )
    op.create_table(
        "trigger_delivery",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=True, nullable=False),
        sa.Column("hook", sa.String(200), nullable=False),
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_trigger_delivery")),
        sa.UniqueConstraint("hook", "id", name=op.f("uq_trigger_delivery_hook_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_trigger_delivery_hook_at"), "trigger_delivery", ["hook", "at"])


def _outbox() -> None:
    op.add_column("outbox", sa.Column("stream", sa.String(36), nullable=False, server_default=""))
    op.add_column("outbox", sa.Column("tries", sa.Integer, nullable=False, server_default="0"))
    op.add_column("outbox", sa.Column("due", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("outbox", sa.Column("parked", sa.BigInteger))
    op.add_column("outbox", sa.Column("error", sa.Text))
    op.create_index(op.f("ix_outbox_sink_stream"), "outbox", ["sink", "stream", "seq"])


def _model_annotation() -> None:
    op.create_table(
        "model_annotation",
        sa.Column("entity_id", sa.String(36), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.PrimaryKeyConstraint("entity_id", "seq", "name", name=op.f("pk_model_annotation")),
    )


def _api_key() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("models", sa.Text, nullable=False),
        sa.Column("verbs", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("expires", sa.BigInteger),
        sa.Column("revoked", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("name", name=op.f("uq_api_key_name")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_key_digest")),
    )
