"""What pipelines at full strength keep besides."""

from __future__ import annotations

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what is new; nothing is changed or taken away."""
    # What is added here and in a room's tables.py goes into schema.sql too: python scripts/write_schema.py
