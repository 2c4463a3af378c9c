"""Which call of a run was given what another one gave, or what the run was given."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tidewheel.database.transaction import Transaction, among
from tidewheel.database.values import from_json
from tidewheel.lineage.read import get_execution
from tidewheel.lineage.store import Store
from tidewheel.pipelines.records import Run, StepRecord
from tidewheel.pipelines.stored import Stored, stored_from
from tidewheel.pipelines.transitions import StepState

_CHUNK = 500  # ids in one query
_EXECUTION = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SHOWN = 16  # hexadecimal digits of a content digest that a cache key shows of an input


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """A value on its way."""

    src: str  # the call that gave it, or the name of a parameter of the run
    dst: str  # the call that was given it
    role: str  # as which argument
    given: bool  # whether the run was given it, so that `src` is a parameter
    stored: Stored  # the value


def wiring(store: Store, run: Run) -> tuple[Arrow, ...]:
    """Return the arrows between the calls of a run, in the order of the calls.

    They are told by the content of what went in, which is known before a call is executed, and by the graph for values
    inside lists. Values that the body touched and passed on as plain numbers or texts leave no arrow.
    """
    origins = _Origins(run.steps, arguments_of(store, run.id))
    executed = {step.id: _executed(step) for step in run.steps}
    with store.database.reading() as tx:
        used = _used(tx, list(executed.values()))
        inputs = _inputs(tx, [executed[step.id] for step in run.steps if not step.inputs])
    found: list[Arrow] = []
    for step in run.steps:
        shown = step.inputs or inputs.get(executed[step.id], {})
        told = [origins.by_content(content, step, role) for role, content in shown.items()]
        arrows = {arrow.role: arrow for arrow in told if arrow is not None}
        found += arrows.values()
        for role, version_id in used.get(executed[step.id], ()):
            arrow = origins.by_version(version_id, step, role) if role not in arrows else None
            found += [arrow] if arrow is not None else []
    return tuple(found)


def _executed(step: StepRecord) -> str:
    """Return the execution that took the inputs in: the call's own, or that which answered it."""
    named = _EXECUTION.search(step.reason) if step.state == StepState.CACHED else None
    return named[0] if named else step.id


def arguments_of(store: Store, run_id: str) -> dict[str, Stored]:
    """Return the parameters of a run as they are kept, without those that the store picked."""
    with store.database.reading() as tx:
        facets = get_execution(tx, run_id).facets
    return {name: stored_from(record) for name, record in facets.get("arguments", {}).items()}


class _Origins:
    """Where each value of a run came from."""

    def __init__(self, steps: Sequence[StepRecord], arguments: Mapping[str, Stored]) -> None:
        self._contents: dict[str, tuple[str, bool, Stored]] = {}
        self._versions: dict[str, tuple[str, bool, Stored]] = {}
        for name, stored, given in _values(steps, arguments):
            self._contents.setdefault(stored.content[:SHOWN], (name, given, stored))
            if stored.version_id:
                self._versions.setdefault(stored.version_id, (name, given, stored))

    def by_content(self, shown: str, step: StepRecord, role: str) -> Arrow | None:
        """Return the arrow to an input whose content the cache key shows."""
        return _arrow(self._contents.get(shown), step, role) if len(shown) == SHOWN else None

    def by_version(self, version_id: str, step: StepRecord, role: str) -> Arrow | None:
        """Return the arrow to an input that is this version."""
        return _arrow(self._versions.get(version_id), step, role)


def _values(steps: Sequence[StepRecord], arguments: Mapping[str, Stored]) -> Iterator[tuple[str, Stored, bool]]:
    for name, stored in arguments.items():
        if stored.blobs:  # small ones are plain to the body, and equal ones would stand for each other
            yield name, stored, True
    for step in steps:
        for stored in step.outputs:
            yield step.name, stored, False


def _arrow(origin: tuple[str, bool, Stored] | None, step: StepRecord, role: str) -> Arrow | None:
    if origin is None or (origin[0] == step.name and not origin[1]):
        return None
    return Arrow(src=origin[0], dst=step.name, role=role, given=origin[1], stored=origin[2])


def _inputs(tx: Transaction, ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return by execution what it was given, as its cache key shows it."""
    found: dict[str, dict[str, str]] = {}
    for start in range(0, len(ids), _CHUNK):
        some = among("id", ids[start : start + _CHUNK])
        sql = f"SELECT id, parameters FROM execution WHERE id IN ({some.sql})"  # noqa: S608 - names of parameters
        found |= {row["id"]: from_json(row["parameters"]) for row in tx.rows(sql, **some.values)}
    return found


def _used(tx: Transaction, ids: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Return by execution what it used: role and version; what answered a call is no input of it."""
    found: dict[str, list[tuple[str, str]]] = {}
    for start in range(0, len(ids), _CHUNK):
        some = among("src", ids[start : start + _CHUNK])
        sql = f"SELECT src, dst, role FROM edge WHERE relation = 'used' AND src IN ({some.sql}) ORDER BY src, role, idx"  # noqa: S608 - names of parameters
        for row in tx.rows(sql, **some.values):
            if row["role"] != "answer":
                found.setdefault(row["src"], []).append((row["role"], row["dst"]))
    return found
