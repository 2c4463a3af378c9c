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
