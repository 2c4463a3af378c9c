"""Traffic: which version answers which share of requests; a new row for every change, a rollback too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from tidewheel.clock import from_micros, micros
from tidewheel.database.transaction import Transaction
from tidewheel.errors import Conflict, InvalidInput, NotFound
from tidewheel.lineage.read import find_entity, resolve
from tidewheel.lineage.write import append_event, ensure_entity, link
from tidewheel.registry.freeze import freeze, strategy_salt
from tidewheel.registry.scope import Scope, moment, reading, writing
from tidewheel.registry.strategy import AnyStrategy, outlined, read, stored
from tidewheel.registry.versions import KIND, LIVE, live_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How requests to a model are answered, from a moment on."""

    model: str  # name of the model, which is also its endpoint
    seq: int  # 1, 2, 3 ... of the model's traffic rows; the highest holds
    champion: int  # number of the version that answers
    challenger: int | None = None  # number of the version on trial, if any
    share: float = 0.0  # share of units that the challenger answers, 0 to 1
    salt: str = ""  # what unit names are hashed with: the same salt keeps a unit on its arm
    paired: bool = False  # whether both arms score every request, so that each label counts for both
    fault: float = 0.0  # game day: share of the challenger's requests that are made to fail, 0 to 1
    undo: bool = False  # whether this row takes back an earlier one
    at: datetime  # since when
    by: str  # who or what decided
    reason: str  # why
    strategy: AnyStrategy | None = None  # how more versions take part; None: champion, and challenger if any

    def shares(self) -> dict[int, float]:
        """Return the share of the units that is led to each version first, the champion's first of all."""
        if self.strategy is not None:
            found = self.strategy.shares(self.champion)
            return dict.fromkeys((self.champion, *self.strategy.members()), 0.0) | dict(found)
        if self.challenger is None:
            return {self.champion: 1.0}
        return {self.champion: 1.0 - self.share, self.challenger: self.share}


def set_traffic(
    scope: Scope,
    model: str,
    *,
    champion: int,
    challenger: int | None = None,
    share: float = 0.0,
    salt: str | None = None,
    paired: bool = False,
    fault: float = 0.0,
    strategy: AnyStrategy | None = None,
    by: str = "",
    reason: str = "",
    at: datetime | None = None,
    expected_seq: int | None = None,
) -> Traffic:
    """Append the split that holds from now on, with a governing event; servers follow it.

    Without `salt` a challenger keeps its own over all its shares, so that a growing canary only adds units.
    A `strategy` says how more versions take part; it stands in the place of challenger, share, paired and fault.
    With `expected_seq` (0: none yet) nothing is written unless that row is still the newest.
    Inside the caller's transaction (`scope` is a connection) `at` must be given.

    Raises NotFound for an unknown model or version, InvalidInput for shares outside 0 to 1, a challenger that is
    the champion or a strategy that cannot work, Conflict when somebody else has moved the traffic since.
    """
    wanted = Traffic(
        model=model,
        seq=1,
        champion=champion,
        challenger=challenger,
        share=float(share),
        salt=salt or "",
        paired=paired,
        fault=float(fault),
        at=moment(scope, at),
        by=by,
        reason=reason,
        strategy=strategy,
    )
    _check(wanted)
    with writing(scope) as tx:
        before = _locked(tx, model)
        _check_expected(model, before, expected_seq)
        return _append(
            tx, _frozen(replace(wanted, salt=salt if salt is not None else _salt(wanted, before)), before), before
        )


def current_traffic(scope: Scope, model: str) -> Traffic:
    """Return the split that holds; NotFound, with near names, for a model that is not deployed."""
    with reading(scope) as tx:
        found = _history(tx, model, 1)
        if not found:
            known = [row["model"] for row in tx.rows("SELECT DISTINCT model FROM deployment")]
            mend = f"Deploy one with: tidewheel models promote {model} VERSION"
            raise NotFound("deployed model", model, known, mend)
    return found[0]


def traffic_history(scope: Scope, model: str, *, limit: int | None = None) -> list[Traffic]:
    """Return every split there was, newest first; none for a model that was never deployed."""
    with reading(scope) as tx:
        return _history(tx, model, limit)


def rollback_traffic(scope: Scope, model: str, *, by: str, reason: str, at: datetime | None = None) -> Traffic:
    """Take back the newest decision: a canary under way ends, otherwise the champion before this one returns.

    A strategy returns as it was frozen, with its champion. Rolling back twice goes back two champions.
    Raises Conflict when there is nothing to go back to.
    """
    when = moment(scope, at)
    with writing(scope) as tx:
        newest = _locked(tx, model)
        stack = _settled(list(reversed(_history(tx, model))))
        on_trial = newest is not None and newest.challenger is not None
        back = [row for row in (stack if on_trial else stack[:-1]) if _lives(tx, row)]
        if newest is None or not back:
            raise Conflict(
                f"There is no earlier traffic of {model} to go back to.",
                f"Name a version: tidewheel models promote {model} VERSION",
            )
        last = back[-1]
        salt = newest.salt if last.strategy is None else last.salt
        wanted = Traffic(
            model=model,
            seq=1,
            champion=last.champion,
            salt=salt,
            undo=True,
            at=when,
            by=by,
            reason=reason,
            strategy=last.strategy,
        )
        return _append(tx, wanted, newest)


def _lives(tx: Transaction, row: Traffic) -> bool:
    """Whether a row can be gone back to: one with a version that was deleted cannot."""
    return all(resolve(tx, KIND, f"{row.model}:{seq}").state == LIVE for seq in row.shares())


def _check(wanted: Traffic) -> None:
    for name, value in (("share", wanted.share), ("fault", wanted.fault)):
        if not 0.0 <= value <= 1.0:
            raise InvalidInput(f"{name} = {value!r} is not a share.", "Give a number from 0 to 1.")
    if wanted.challenger == wanted.champion:
        raise InvalidInput(
            f"Version {wanted.champion} cannot be champion and challenger at once.", "Give two different versions."
        )
    if wanted.challenger is None and (wanted.share or wanted.fault):
        raise InvalidInput(
            f"There is no challenger for a share of {wanted.share} or faults of {wanted.fault}.",
            "Name the challenger's version.",
        )
    if wanted.strategy is not None:
        if wanted.challenger is not None or wanted.paired:
            raise InvalidInput(
                f"The {wanted.strategy.kind} strategy says who takes part; challenger and paired are not its own.",
                "Name every version in the strategy.",
            )
        wanted.strategy.check(wanted.champion)


def _check_expected(model: str, before: Traffic | None, expected: int | None) -> None:
    found = before.seq if before else 0
    if expected is not None and expected != found:
        raise Conflict(
            f"The traffic of {model} was moved meanwhile: expected row {expected}, found {found}.",
            "Look again and decide anew.",
        )


def _salt(wanted: Traffic, before: Traffic | None) -> str:
    if wanted.strategy is not None:
        held = (before.strategy, before.salt) if before else (None, "")
        return strategy_salt(wanted.strategy, wanted.model, before.seq + 1 if before else 1, held)
    if before is not None and wanted.challenger in (None, before.challenger):
        return before.salt
    return f"{wanted.model}:{wanted.challenger or 0}:{before.seq + 1 if before else 1}"


def _frozen(wanted: Traffic, before: Traffic | None) -> Traffic:
    if wanted.strategy is None:
        return wanted
    held = before.strategy if before is not None and before.salt == wanted.salt else None
    return replace(wanted, strategy=freeze(wanted.strategy, wanted.champion, held, at=micros(wanted.at)))


def _append(tx: Transaction, wanted: Traffic, before: Traffic | None) -> Traffic:
    traffic = replace(wanted, seq=before.seq + 1 if before else 1)
    entity = find_entity(tx, KIND, traffic.model)
    arms = {"champion": traffic.champion, "challenger": traffic.challenger}
    if traffic.strategy is not None:
        arms |= {f"arm {seq}": seq for seq in traffic.strategy.members() if seq != traffic.champion}
    versions = {arm: live_version(tx, traffic.model, seq) for arm, seq in arms.items() if seq is not None}
    row = {key: value for key, value in asdict(traffic).items() if key != "by"}
    row |= {"actor": traffic.by, "at": micros(traffic.at), "strategy": stored(traffic.strategy)}
    places = ", ".join(f":{name}" for name in row)
    tx.run(f"INSERT INTO deployment ({', '.join(row)}) VALUES ({places})", **row)  # noqa: S608 - names of fields
    endpoint = ensure_entity(tx, "endpoint", traffic.model, at=traffic.at)
    for arm, version in versions.items():
        link(tx, endpoint.id, "served_by", version.id, role=arm)
    body = {
        **_said(traffic),
        "model": traffic.model,
        "before": _said(before) if before else None,
        "text": _text(traffic),
    }
    append_event(tx, "traffic.moved", body, at=traffic.at, subject_id=entity.id, by=traffic.by, governs=True)
    return traffic


def _said(traffic: Traffic) -> dict[str, Any]:
    said = {key: value for key, value in asdict(traffic).items() if key not in ("model", "at", "by", "strategy")}
    if traffic.strategy is not None:
        said["strategy"] = outlined(traffic.strategy, traffic.champion)
    return said


def _text(traffic: Traffic) -> str:
    if traffic.strategy is not None:
        shares = ", ".join(f"version {version} gets {share:.0%}" for version, share in traffic.shares().items())
        return f"{traffic.strategy.kind}{' again' if traffic.undo else ''}: {shares}: {traffic.reason}"
    trial = f", version {traffic.challenger} gets {traffic.share:.0%}" if traffic.challenger else ""
    again = " again" if traffic.undo else ""
    return f"version {traffic.champion} answers{again}{trial}: {traffic.reason}"


def _locked(tx: Transaction, model: str) -> Traffic | None:
    """Return the newest row; two writers wait for each other, so that they get two numbers."""
    entity = find_entity(tx, KIND, model)
    tx.row(f"SELECT id FROM entity WHERE id = :id{tx.locking}", id=entity.id)  # noqa: S608 - a fixed word
    found = _history(tx, model, 1)
    return found[0] if found else None


def _history(tx: Transaction, model: str, limit: int | None = None) -> list[Traffic]:
    sql = "SELECT * FROM deployment WHERE model = :model ORDER BY seq DESC"
    rows = tx.rows(sql, model=model) if limit is None else tx.rows(f"{sql} LIMIT :most", model=model, most=limit)
    return [_traffic(row) for row in rows]


def _traffic(row: Mapping[str, Any]) -> Traffic:
    values = dict(row)
    flags: dict[str, Any] = {name: bool(values.pop(name)) for name in ("paired", "undo")}  # SQLite has none
    told = {"by": values.pop("actor"), "at": from_micros(values.pop("at")), "strategy": read(values.pop("strategy"))}
    return Traffic(**told, **flags, **values)


def _settled(rows: Sequence[Traffic]) -> list[Traffic]:
    """Replay the rows, oldest first, and return those that were settled on and not rolled back since."""
    stack: list[Traffic] = []
    for row in rows:
        if row.challenger is not None:
            continue
        same = [place for place, each in enumerate(stack) if _alike(each, row)]
        if row.undo and same:
            del stack[same[-1] + 1 :]
        elif not stack or not _alike(stack[-1], row):
            stack.append(row)
    return stack


def _alike(one: Traffic, other: Traffic) -> bool:
    return one.champion == other.champion and one.strategy == other.strategy
