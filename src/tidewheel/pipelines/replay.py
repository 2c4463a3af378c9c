"""Inside the rebuilt environment: execute every step of an old run again and compare what comes out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tidewheel.errors import InvalidInput, NotFound, RunFailed, StepFailed, TidewheelError
from tidewheel.lineage.claim import describe_execution
from tidewheel.lineage.read import list_executions, list_used
from tidewheel.lineage.records import Execution
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import link
from tidewheel.pipelines import picks
from tidewheel.pipelines.capture import read_sources
from tidewheel.pipelines.likeness import Likeness, Tolerance, Verdict, likeness
from tidewheel.pipelines.pipeline import Pipeline
from tidewheel.pipelines.records import RunEvent
from tidewheel.pipelines.reproduce import Compared, Reproduction, Wish
from tidewheel.pipelines.rerun import rerun_run
from tidewheel.pipelines.runs import get_run, known_run, shelf_of
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Shelf, Stored, stored_from
from tidewheel.pipelines.target import load_step, load_target
from tidewheel.pipelines.tree import decode

_MANY = 1_000_000  # more calls than a run has
_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}
_TABLES = ("polars.", "pandas.", "pyarrow.")


def replay(store: Store, run_id: str, wish: Wish) -> Reproduction:
    """Execute an old run again as a new one, linked to it, and compare each output with the old one.

    Raises NotFound or InvalidInput when the pipeline cannot be loaded, InvalidInput when it has steps with side effects
    and the wish does not allow them.
    """
    old = known_run(store, run_id)
    target = read_sources(store.blobs, old.facets["captured"]).target
    pipeline = load_target(f"{target['module']}:{target['name']}")
    if not isinstance(pipeline, Pipeline):
        raise InvalidInput(
            f"{target['module']}:{target['name']} is a {type(pipeline).__name__}, not the pipeline that ran.",
            "Another module of that name was imported; look at the laid out sources with --keep.",
        )
    if not wish.side_effects:
        _refuse_side_effects(store, old)
    started: list[str] = []
    error = ""
    try:
        rerun_run(
            store,
            old.id,
            pipeline,
            reason=f"reproduces {old.id}",
            executor=wish.executor,
            on_event=lambda event: _mark(store, old.id, event, started),
        )
    except (StepFailed, RunFailed) as failed:
        error = failed.what
    if not started:
        raise RunFailed(error or "The new run never began.", "Look at the old one: tidewheel runs", run_id=old.id)
    outputs = tuple(compare_runs(store, old.id, started[0], wish.tolerance))
    verdict = max((item.verdict for item in outputs), key=lambda item: _RANK[item], default=Verdict.IDENTICAL)
    notes = () if _code(store, old.id) == _code(store, started[0]) else (_OTHER_CODE,)
    return Reproduction(
        run_id=old.id,
        new_id=started[0],
        verdict=Verdict.DIFFERENT if error and not old.error else verdict,
        outputs=outputs,
        error=error,
        notes=notes,
        folder="",
    )


_OTHER_CODE = "the digest of the code is not the recorded one: a package it uses differs, or files were not kept"


def compare_runs(store: Store, before_id: str, after_id: str, tolerance: Tolerance) -> Iterator[Compared]:
    """Compare what two runs of one pipeline gave, call by call and at last what the pipeline returned."""
    before, after = get_run(store, before_id), get_run(store, after_id)
    comparer = _Comparer(store, after_id, tolerance)
    answers = {step.name: step for step in after.steps if step.outputs}
    for step in before.steps:
        if not step.outputs:
            continue
        again = answers.pop(step.name, None)
        for place, stored in enumerate(step.outputs):
            name = step.name if len(step.outputs) == 1 else f"{step.name}[{place}]"
            other = again.outputs[place] if again and place < len(again.outputs) else None
            yield comparer.compare(name, stored, other, again.id if again else "")
    for name in answers:
        yield Compared(name=name, verdict=Verdict.DIFFERENT, detail="the old run has no such output")
    outputs = [_output(store, run_id) for run_id in (before_id, after_id)]
    if outputs[0] is not None:
        yield comparer.compare("output", outputs[0], outputs[1], after_id)


class _Comparer:
    """Compares stored values; equal content is told without reading it."""

    def __init__(self, store: Store, run_id: str, tolerance: Tolerance) -> None:
        self._store = store
        self._run_id = run_id
        self._tolerance = tolerance
        self._shelf = shelf_of(store)

    def compare(self, name: str, before: Stored, after: Stored | None, execution_id: str) -> Compared:
        """Compare one output of both runs."""
        if after is None:
            return Compared(name=name, verdict=Verdict.DIFFERENT, detail="the new run did not give it")
        if before.content == after.content and before.codec == after.codec:
            return Compared(name=name, verdict=Verdict.IDENTICAL, detail="")
        found = self._values(before, after, execution_id)
        return Compared(name=name, verdict=found.verdict, detail=found.detail)

    def _values(self, before: Stored, after: Stored, execution_id: str) -> Likeness:
        try:
            values = decode(before, self._shelf), decode(after, self._shelf)
        except TidewheelError as error:
            return Likeness(verdict=Verdict.DIFFERENT, detail=f"the values cannot be compared: {error.what}")
        rows = _rows(self._store, self._run_id, execution_id, self._shelf) if before.codec in ("model", "tree") else ()
        return likeness(*values, self._tolerance, rows)


def _rows(store: Store, run_id: str, execution_id: str, shelf: Shelf) -> Sequence[Any]:
    """Return the tables that a step was given: models are compared by their predictions on them."""
    with store.database.reading() as tx:
        used = set(list_used(tx, execution_id).values())
        run = known_run(store, run_id)
        calls = list_executions(tx, "step", parent_id=run_id, limit=_MANY)
    records = [record for call in calls for record in call.facets.get("outputs", ())]
    records += list(run.facets["arguments"].values())
    kept = [stored_from(record) for record in records if record["version"] in used]
    tables = [decode(stored, shelf) for stored in kept if stored.codec.startswith(_TABLES)]
    pins = [picks.Pin(**pin) for pin in run.facets["pins"].values() if pin["version_id"] in used]
    return [*tables, *(picks.read(store, pin) for pin in pins if pin.kind == "dataset")]


def _output(store: Store, run_id: str) -> Stored | None:
    record = known_run(store, run_id).facets.get("output")
    return None if record is None else stored_from(record)


def _code(store: Store, run_id: str) -> str:
    return known_run(store, run_id).code_digest


def _mark(store: Store, old_id: str, event: RunEvent, started: list[str]) -> None:
    """Link the new run to the old one as soon as it has begun."""
    if started:
        return
    started.append(event.run_id)
    with store.database.transaction() as tx:
        describe_execution(tx, event.run_id, {"reproduces": old_id})
        link(tx, event.run_id, "reproduces", old_id)


def _refuse_side_effects(store: Store, old: Execution) -> None:
    with store.database.reading() as tx:
        names = {call.job for call in list_executions(tx, "step", parent_id=old.id, limit=_MANY)}
    found = sorted(name for name in names if (step := _step(name)) is not None and step.options.side_effect)
    if found:
        raise InvalidInput(
            f"The run {old.id} has steps that change the world outside: {', '.join(found)}.",
            "They would do so once more. Allow it with --side-effects.",
        )


def _step(identity: str) -> Step[..., Any] | None:
    """Return the step of a recorded name; None when it is not where it was."""
    module, _, name = identity.rpartition(".")
    try:
        return load_step(module, name, None)
    except (NotFound, ImportError):
        return None  # a step of a class or of a function; it is found when it is called
