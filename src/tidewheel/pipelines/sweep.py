"""Run a pipeline once for each point of a grid of parameters, side by side, as one execution that can go on later."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import product
from typing import Any

from tidewheel.errors import Conflict, InvalidInput, NotFound, TidewheelError
from tidewheel.fingerprint.code import code_digest
from tidewheel.lineage.store import Store
from tidewheel.pipelines import sweep_journal as journal
from tidewheel.pipelines.locks import run_lock
from tidewheel.pipelines.parameters import bind
from tidewheel.pipelines.pipeline import Pipeline
from tidewheel.pipelines.preview import numbers_in, readable
from tidewheel.pipelines.records import Run, RunEvent, silent
from tidewheel.pipelines.runs import cancel_run, get_run, resume_run, shelf_of, start_run
from tidewheel.pipelines.stored import stored_from
from tidewheel.pipelines.transitions import RunState
from tidewheel.pipelines.wish import Input

MOST = 10_000  # points of one grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One point of a grid and what its run came to."""

    parameters: Mapping[str, Any]  # the values of the grid at this point
    run_id: str  # its run, "" where none was begun
    state: str  # of its run; QUEUED where none was begun
    seconds: float | None  # how long its run took
    numbers: Mapping[str, float]  # every number in its output, by path; "" is the output itself
    error: str  # what went wrong, "" otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What a grid came to, best first where a number was named."""

    id: str  # its execution in the graph
    pipeline: str  # name of the pipeline
    state: str  # SUCCEEDED when every point did, FAILED otherwise
    by: str  # path of the number that ranks, "" for the order of the grid
    points: tuple[Point, ...]  # ranked

    @property
    def best(self) -> Point:
        """The first point that succeeded; raises NotFound where none did."""
        for point in self.points:
            if point.state == RunState.SUCCEEDED:
                return point
        raise NotFound("point that succeeded in sweep", self.id, mend="See each error in its points.")

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        from tidewheel.pipelines.html import sweep_html

        return sweep_html(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """How points are ordered."""

    by: str | None = None  # path of a number in the output ("" for the output itself); None: the order of the grid
    largest: bool = False  # whether more is better


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    store: Store  # where
    pipeline: Pipeline[..., Any]  # what
    sweep: journal.Begun  # the execution that it belongs to
    executor: str  # where steps run
    tell: Callable[[RunEvent], None]  # who is told what happens
    code: str  # digest of the pipeline's code now


def run_sweep(
    store: Store,
    pipeline: Pipeline[..., Any],
    grid: Mapping[str, Sequence[Any]],
    parameters: Mapping[str, Any] | None = None,
    *,
    jobs: int | None = None,
    ranking: Ranking | None = None,
    executor: str = "inline",
    on_event: Callable[[RunEvent], None] | None = None,
) -> Sweep:
    """Run the pipeline for every combination of the values of `grid`, over `parameters` that all points share.

    `jobs` points run side by side (default: as many as there are cores inline, one otherwise, where the steps of a run
    go side by side themselves). Points share the cache. A failed point stops no other. A sweep of the same grid that
    was interrupted, or of which points failed, is gone on with: what is done with the present code is answered.
    Inputs that the store picks are picked as of the sweep's beginning, the same for every point.

    Raises InvalidInput and NotFound for a grid that cannot be, before anything runs; AlreadyRunning when another
    process works on the same sweep; StorageUnavailable without room.
    """
    points = grid_points(grid)
    shared = dict(parameters or {})
    for point in points:
        bind(pipeline, shared | point)
    workers = _workers(jobs, len(points), executor)
    begun = journal.begin(store, pipeline.name, grid, points, bind(pipeline, shared | points[0]))
    wanted = _Wanted(
        store=store,
        pipeline=pipeline,
        sweep=begun,
        executor=executor,
        tell=on_event or silent,
        code=code_digest(pipeline).digest,
    )
    with run_lock(store.home, begun.id):
        known = journal.runs_of(store, begun.id)
        work = [
            lambda index=index, point=point: _run(wanted, shared, index, point, known)
            for index, point in enumerate(points)
        ]
        try:
            outcomes = _side_by_side(work, workers)
        except BaseException:
            _stop(store, begun.id)
            raise
        found = [_told(store, point, outcome) for point, outcome in zip(points, outcomes, strict=True)]
        state = RunState.SUCCEEDED if all(point.state == RunState.SUCCEEDED for point in found) else RunState.FAILED
        journal.finish(store, begun.id, state, failed=sum(point.state != RunState.SUCCEEDED for point in found))
    order = ranking or Ranking()
    return Sweep(
        id=begun.id, pipeline=pipeline.name, state=state, by=order.by or "", points=tuple(ranked(found, order))
    )


def grid_points(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return every combination of the values, the last name changing fastest.

    >>> grid_points({"depth": [4, 6], "lr": [0.1]})
    [{'depth': 4, 'lr': 0.1}, {'depth': 6, 'lr': 0.1}]

    Raises InvalidInput for an empty grid, a name without values, a value that stands twice, and over 10,000 points.
    """
    count = 1 if grid else 0
    for name, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Iterable):
            raise InvalidInput(f"The grid's {name!r} is {values!r}, not a list of values.", f"Give {name!r}: [...].")
        texts = [repr(value) for value in values]
        if len(set(texts)) < len(texts):
            twice = next(text for text in texts if texts.count(text) > 1)
            raise InvalidInput(f"The grid's {name!r} has {twice} twice.", "Name each value once.")
        count *= len(texts)
    if not 0 < count <= MOST:
        raise InvalidInput(f"The grid has {count:,} points.", f"Give each name a value, and at most {MOST:,} points.")
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def ranked(points: Sequence[Point], order: Ranking) -> list[Point]:
    """Return points with the best first and those without the number last.

    Raises NotFound, with the numbers that there are, when no output has it.
    """
    if order.by is None:
        return list(points)
    having = [point for point in points if order.by in point.numbers]
    done = [point for point in points if point.state == RunState.SUCCEEDED]
    if done and not having:
        names = {name or '""' for point in done for name in point.numbers}
        raise NotFound("number in the output", order.by, names, "Their runs are kept; only the order is missing.")
    sign = -1.0 if order.largest else 1.0
    rest = [point for point in points if order.by not in point.numbers]
    return sorted(having, key=lambda point: _key(sign * point.numbers[order.by or ""])) + rest


def _key(number: float) -> tuple[bool, float]:
    return number != number, number  # noqa: PLR0124 - NaN is behind every number


def _workers(jobs: int | None, points: int, executor: str) -> int:
    if jobs is None:
        jobs = len(os.sched_getaffinity(0)) if executor == "inline" else 1
    if isinstance(jobs, bool) or jobs < 1:
        raise InvalidInput(f"jobs={jobs} runs nothing.", "Give at least 1.")
    return min(jobs, points)


def _side_by_side(work: Sequence[Callable[[], Run | TidewheelError]], workers: int) -> list[Run | TidewheelError]:
    """Do all the work, each piece in the thread of a run; the first error that is not a point's own ends it."""
    with ThreadPoolExecutor(workers, thread_name_prefix="sweep") as pool:
        futures = [pool.submit(piece) for piece in work]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _run(
    wanted: _Wanted, shared: Mapping[str, Any], index: int, point: Mapping[str, Any], known: Mapping[int, Run]
) -> Run | TidewheelError:
    """Run one point, go on with its run, or answer it; what the point itself does wrong is its own affair."""
    store, earlier = wanted.store, known.get(index)
    try:
        if earlier is not None and earlier.state == RunState.SUCCEEDED and earlier.code == wanted.code:
            return get_run(store, earlier.id)
        if earlier is not None and earlier.state != RunState.SUCCEEDED:
            return resume_run(store, earlier.id, wanted.pipeline, executor=wanted.executor, on_event=wanted.tell)
        cause = {
            "kind": "sweep",
            "reason": ", ".join(f"{name}={value}" for name, value in point.items()),
            "execution_id": wanted.sweep.id,
            "point": index,
        }
        given = _as_of(bind(wanted.pipeline, {**shared, **point}), wanted.sweep.started)
        return start_run(store, wanted.pipeline, given, cause=cause, executor=wanted.executor, on_event=wanted.tell)
    except TidewheelError as error:
        return error


def _as_of(bound: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
    """Let every point pick the same inputs: what the store knew when the sweep began."""
    return {
        name: replace(item, at=moment)
        if isinstance(item, Input) and item.at is None and not {":", "@"} & set(item.name)
        else item
        for name, item in bound.items()
    }


def _stop(store: Store, sweep_id: str) -> None:
    """Cancel the runs that still go on: whoever interrupted the sweep does not want them."""
    with suppress(TidewheelError):
        for run in journal.runs_of(store, sweep_id).values():
            with suppress(Conflict):
                cancel_run(store, run.id, reason="the sweep was interrupted")


def _told(store: Store, point: Mapping[str, Any], outcome: Run | TidewheelError) -> Point:
    run_id = outcome.id if isinstance(outcome, Run) else str(getattr(outcome, "run_id", ""))
    run = outcome if isinstance(outcome, Run) else _found(store, run_id)
    kept = run.facts.get("output") if run is not None else None
    return Point(
        parameters=dict(point),
        run_id=run_id,
        state=str(run.state) if run is not None else "FAILED",
        seconds=run.seconds if run is not None else None,
        numbers=numbers_in(readable(stored_from(kept), shelf_of(store))) if kept else {},
        error="" if isinstance(outcome, Run) else outcome.what,
    )


def _found(store: Store, run_id: str) -> Run | None:
    with suppress(NotFound):
        return get_run(store, run_id) if run_id else None
    return None
