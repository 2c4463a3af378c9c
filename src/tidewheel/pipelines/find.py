"""Find runs by what they were: pipeline, state, time, parameters, cause."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tidewheel.clock import micros
from tidewheel.database.transaction import Transaction, among
from tidewheel.errors import InvalidInput
from tidewheel.lineage.records import Execution
from tidewheel.lineage.rows import execution_of
from tidewheel.lineage.store import Store
from tidewheel.pipelines.durations import seconds
from tidewheel.pipelines.liveness import mark_lost
from tidewheel.pipelines.records import Run
from tidewheel.pipelines.telling import run_of
from tidewheel.pipelines.transitions import RunState

_PAGE = 200  # rows read at a time; parameters and causes are looked at here, because they are JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which runs are wanted; what is empty does not count."""

    pipeline: str = ""  # name of the pipeline
    states: tuple[str, ...] = ()  # one of these states
    since: datetime | None = None  # begun at that moment or later
    parameters: Mapping[str, Any] = field(default_factory=dict)  # each of these values, as given or as text
    cause: str = ""  # the kind of its cause, or a part of the reason
    limit: int = 50  # how many, newest first


def find_runs(store: Store, wanted: Wanted) -> list[Run]:
    """Return runs without their steps, newest first; those whose process died are marked LOST on the way.

    Raises InvalidInput for a state that does not exist, a limit below 1 or a moment without time zone.
    """
    _check(wanted)
    mark_lost(store)
    found: list[Run] = []
    with store.database.reading() as tx:
        for execution in _executions(tx, wanted):
            run = run_of(execution, ())
            if _fits(run, wanted):
                found.append(run)
            if len(found) == wanted.limit:
                break
    return found


def moment_since(text: str, now: datetime) -> datetime:
    """Return the moment that a text means: so long ago ("90m", "2h", "3d"), or a date or time in ISO 8601 (UTC).

    >>> moment_since("2h", datetime(2026, 3, 2, 12, tzinfo=UTC)).isoformat()
    '2026-03-02T10:00:00+00:00'

    Raises InvalidInput for anything else.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            return now - timedelta(seconds=seconds(text, "since"))
        except InvalidInput as error:
            raise InvalidInput(
                f"since={text!r} is no moment.", "Write 2h, 3d, 2026-03-02 or 2026-03-02T10:00."
            ) from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _check(wanted: Wanted) -> None:
    for state in wanted.states:
        if state not in set(RunState):
            raise InvalidInput(f"{state!r} is not the state of a run.", f"Use one of {', '.join(RunState)}.")
    if wanted.limit < 1:
        raise InvalidInput(f"limit={wanted.limit} lists nothing.", "Give at least 1.")
    if wanted.since is not None and wanted.since.tzinfo is None:
        raise InvalidInput(
            f"The moment {wanted.since.isoformat()} has no time zone.", "Give datetime(..., tzinfo=UTC)."
        )


def _executions(tx: Transaction, wanted: Wanted) -> Iterator[Execution]:
    """Read the rows that may fit, newest first, a page at a time."""
    tests: list[str] = ["kind = 'run'"]
    values: dict[str, Any] = {}
    if wanted.pipeline:
        tests.append("job = :job")
        values["job"] = wanted.pipeline
    if wanted.since is not None:
        tests.append("started >= :since")
        values["since"] = micros(wanted.since)
    if wanted.states:
        states = among("state", wanted.states)
        tests.append(f"state IN ({states.sql})")
        values |= states.values
    after = ""
    while True:
        where = " AND ".join(tests) + after
        sql = f"SELECT * FROM execution WHERE {where} ORDER BY started DESC, id DESC LIMIT {_PAGE}"  # noqa: S608 - columns
        rows = tx.rows(sql, **values)
        yield from (execution for execution in map(execution_of, rows) if "host" in execution.facets)
        if len(rows) < _PAGE:
            return
        after = " AND (started < :last OR (started = :last AND id < :id))"
        values |= {"last": rows[-1]["started"], "id": rows[-1]["id"]}


def _fits(run: Run, wanted: Wanted) -> bool:
    if wanted.cause and not _caused(run.cause, wanted.cause.lower()):
        return False
    return all(
        name in run.parameters and _same(run.parameters[name], given) for name, given in wanted.parameters.items()
    )


def _caused(cause: Mapping[str, Any], text: str) -> bool:
    return text == str(cause.get("kind", "")).lower() or text in str(cause.get("reason", "")).lower()


def _same(value: Any, given: Any) -> bool:
    """Compare a parameter with what was asked for: the value itself, or its text as people and JSON write it."""
    if type(value) is type(given) and value == given:
        return True
    return isinstance(given, str) and given in (str(value), json.dumps(value, default=str))


def pipeline_names(store: Store) -> list[str]:
    """Return the names of all pipelines that have been run."""
    with store.database.reading() as tx:
        return [row["job"] for row in tx.rows("SELECT DISTINCT job FROM execution WHERE kind = 'run' ORDER BY job")]
