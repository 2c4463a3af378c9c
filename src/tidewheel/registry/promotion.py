"""Promote, share out and roll back: alias and traffic move in one transaction, so that no reader sees them apart."""

from __future__ import annotations

from datetime import datetime

from tidewheel.database.transaction import Transaction
from tidewheel.errors import InvalidInput
from tidewheel.registry.aliases import CHALLENGER, CHAMPION, current_aliases, set_alias, undoing
from tidewheel.registry.scope import Scope, moment, writing
from tidewheel.registry.strategy import AnyStrategy, BlueGreen, Cascade, Experiments, Fallback, Shadow
from tidewheel.registry.traffic import Traffic, rollback_traffic, set_traffic, traffic_history


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


def set_strategy(
    scope: Scope,
    name: str,
    strategy: AnyStrategy,
    *,
    champion: int | None = None,
    by: str,
    reason: str,
    at: datetime | None = None,
    expected_seq: int | None = None,
) -> Traffic:
    """Let several versions answer as a strategy says; alias and traffic move together.

    `champion` answers wherever the strategy leaves a request to nobody else; by default the present champion where it
    takes part, otherwise the version that the strategy's own order puts there.
    Raises NotFound for an unknown model or version, InvalidInput for a strategy that cannot work, Conflict when the
    traffic has moved since.
    """
    when = moment(scope, at)
    with writing(scope) as tx:
        chosen = champion if champion is not None else _champion(tx, name, strategy)
        moved = set_traffic(
            tx, name, champion=chosen, strategy=strategy, by=by, reason=reason, at=when, expected_seq=expected_seq
        )
        if current_aliases(tx, name).get(CHAMPION) != chosen:
            set_alias(tx, name, CHAMPION, chosen, by=by, reason=reason, at=when)
        set_alias(tx, name, CHALLENGER, None, by=by, reason=reason, at=when)
        return moved


def _champion(tx: Transaction, name: str, strategy: AnyStrategy) -> int:
    members = strategy.members()
    if isinstance(strategy, Cascade) and members:
        return members[-1]
    if isinstance(strategy, Fallback) and members:
        return members[0]
    history = traffic_history(tx, name, limit=1)
    beside = isinstance(strategy, BlueGreen | Shadow | Experiments)
    if history and (beside or history[0].champion in members):
        return history[0].champion
    if beside or not members:
        raise InvalidInput(f"Nothing of {name!r} is deployed yet.", "Name the champion, or promote a version first.")
    return members[0]


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
