"""Aliases: names like champion and challenger that point to a version, with everything they ever pointed to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tidewheel.errors import Conflict
from tidewheel.lineage.read import alias_history as all_pointings
from tidewheel.lineage.read import current_alias, find_entity, get_version, list_aliases
from tidewheel.lineage.records import Alias
from tidewheel.lineage.write import move_alias
from tidewheel.registry.scope import Scope, moment, reading, writing
from tidewheel.registry.versions import KIND, LIVE, live_version, lock_model

CHAMPION = "champion"
CHALLENGER = "challenger"
_ROLLBACK = "rollback: "  # how a reason begins that undoes a promotion instead of making one


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A version held an alias for a time."""

    name: str  # the alias
    seq: int | None  # number of the version; None while the alias pointed nowhere
    valid_from: datetime  # begin
    valid_to: datetime | None  # end; None while it holds
    by: str  # who or what moved it there
    reason: str  # why


def set_alias(
    scope: Scope, name: str, alias: str, seq: int | None, *, by: str, reason: str, at: datetime | None = None
) -> Holding:
    """Point an alias of a model to a version from now on; None takes the alias away.

    Nothing happens when it points there already. The move is a governing event. Inside the caller's transaction
    `at` must be given. Raises NotFound for an unknown model or version, Conflict for a deleted one, InvalidInput for a
    name that cannot be kept.
    """
    when = moment(scope, at)
    with writing(scope) as tx:
        entity_id = find_entity(tx, KIND, name).id
        lock_model(tx, entity_id)
        version_id = live_version(tx, name, seq).id if seq is not None else None
        held = current_alias(tx, entity_id, alias)
        if held is None and version_id is None:
            return Holding(name=alias, seq=None, valid_from=when, valid_to=None, by=by, reason=reason)
        if held is None or held.version_id != version_id:
            held = move_alias(tx, entity_id, alias, version_id, at=when, by=by, reason=reason)
        return _holding(held, seq)


def rollback(
    scope: Scope, name: str, *, alias: str = CHAMPION, by: str, reason: str, at: datetime | None = None
) -> Holding:
    """Point an alias back to the version that held it before the present one.

    Rolling back twice goes back two versions: a rollback undoes a promotion, it is not one.
    Raises Conflict when no other version held the alias before.
    """
    when = moment(scope, at)
    with writing(scope) as tx:
        entity_id = find_entity(tx, KIND, name).id
        lock_model(tx, entity_id)
        held = _promotions(list(reversed(all_pointings(tx, entity_id, alias))))
        stack = [each for each in held[:-1] if get_version(tx, each).state == LIVE] + held[-1:]
        if len(stack) < 2:
            raise Conflict(
                f"No other version was {alias} of {name} before.", f"Name one: tidewheel models promote {name} VERSION"
            )
        seq = get_version(tx, stack[-2]).seq
        return set_alias(tx, name, alias, seq, by=by, reason=undoing(reason), at=when)


def current_aliases(scope: Scope, name: str) -> dict[str, int]:
    """Return the aliases of a model that point somewhere, with the numbers of their versions."""
    with reading(scope) as tx:
        held = list_aliases(tx, find_entity(tx, KIND, name).id)
        return {alias: get_version(tx, version_id).seq for alias, version_id in sorted(held.items())}


def alias_history(scope: Scope, name: str, alias: str | None = None) -> list[Holding]:
    """Return which version held which alias (or the one named), from when to when, newest first."""
    with reading(scope) as tx:
        pointings = all_pointings(tx, find_entity(tx, KIND, name).id, alias)
        ids = {item.version_id for item in pointings if item.version_id is not None}
        numbers = {version_id: get_version(tx, version_id).seq for version_id in ids}
    return [_holding(item, numbers.get(item.version_id or "")) for item in pointings]


def undoing(reason: str) -> str:
    """Return a reason marked as that of a rollback.

    >>> undoing("complaints since noon")
    'rollback: complaints since noon'
    """
    return reason if reason.startswith(_ROLLBACK) else f"{_ROLLBACK}{reason}"


def _promotions(pointings: Sequence[Alias]) -> list[str]:
    """Replay the history, oldest first, and return the versions promoted and not rolled back since."""
    stack: list[str] = []
    for item in pointings:
        if item.version_id is None:
            continue
        if item.reason.startswith(_ROLLBACK) and item.version_id in stack:
            del stack[stack.index(item.version_id) + 1 :]
        elif not stack or stack[-1] != item.version_id:
            stack.append(item.version_id)
    return stack


def _holding(item: Alias, seq: int | None) -> Holding:
    return Holding(
        name=item.name, seq=seq, valid_from=item.valid_from, valid_to=item.valid_to, by=item.by, reason=item.reason
    )
