"""What pipelines at full strength keep besides."""

from __future__ import annotations

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what is new; nothing is changed or taken away."""
