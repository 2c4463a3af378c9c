"""The trigger of people."""

from __future__ import annotations

from dataclasses import dataclass

from tidewheel.triggers.records import Context, Reading, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Manual(Rule):
    """Somebody asked."""

    name: str = "manual"  # as declared

    def look(self, context: Context) -> Reading:
        """Hold for the oldest request that was not taken yet."""
        for request in context.requested():
            words = f"{request.by or 'somebody'} asked for it" + (f": {request.reason}" if request.reason else "")
            return Reading(rule="manual", kind="manual", holds=True, reason=words, mark=request.id)
        return Reading(rule="manual", kind="manual", holds=False, reason="nobody has asked")


def manual() -> Manual:
    """Retrain when somebody asks: `tidewheel loop trigger MODEL`. Always on in a loop, whether declared or not."""
    return Manual()
