"""Promote and roll back: alias and traffic move in one transaction, so that no reader sees them apart."""

from __future__ import annotations

from datetime import datetime

from tidewheel.registry.aliases import CHALLENGER, CHAMPION, set_alias, undoing
from tidewheel.registry.scope import Scope, moment, writing
from tidewheel.registry.traffic import Traffic, rollback_traffic, set_traffic


def promote(
    scope: Scope,
    name: str,
    seq: int,
    *,
    by: str,
    reason: str,
    at: datetime | None = None,
    expected_seq: int | None = None,
) -> Traffic:
    """Let a version answer all requests from now on, as champion; a trial in progress ends.

    `expected_seq` is the traffic row the decision was made on, as in `set_traffic`.
    Raises NotFound for an unknown model or version, Conflict when the traffic has moved since.
    """
    when = moment(scope, at)
    with writing(scope) as tx:
        moved = set_traffic(tx, name, champion=seq, by=by, reason=reason, at=when, expected_seq=expected_seq)
        set_alias(tx, name, CHAMPION, seq, by=by, reason=reason, at=when)
        set_alias(tx, name, CHALLENGER, None, by=by, reason=reason, at=when)
        return moved


def rollback(scope: Scope, name: str, *, by: str, reason: str, at: datetime | None = None) -> Traffic:
    """End the trial in progress, or give the champion's place back to the version before; alias and traffic together.

    Raises NotFound for an unknown model, Conflict when there is nothing to go back to.
    """
    when = moment(scope, at)
    with writing(scope) as tx:
        moved = rollback_traffic(tx, name, by=by, reason=reason, at=when)
        set_alias(tx, name, CHAMPION, moved.champion, by=by, reason=undoing(reason), at=when)
        set_alias(tx, name, CHALLENGER, None, by=by, reason=undoing(reason), at=when)
        return moved
