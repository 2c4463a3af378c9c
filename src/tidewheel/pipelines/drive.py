"""Execute the body of a run to its end, and record that end, however it comes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidewheel.errors import RunFailed, StaleOwner, StepFailed, StorageUnavailable, TidewheelError
from tidewheel.fingerprint.value import Digested, value_digest
from tidewheel.lineage.records import Execution
from tidewheel.pipelines import picks
from tidewheel.pipelines.active import recording
from tidewheel.pipelines.approving import RunLeft
from tidewheel.pipelines.calls import Output
from tidewheel.pipelines.executors.crew import Crew
from tidewheel.pipelines.executors.seam import Executor
from tidewheel.pipelines.handle import Handle, replaced, source_of, sources_in, value
from tidewheel.pipelines.journal import Journal
from tidewheel.pipelines.logs import StepLog, headline, log_file, trace
from tidewheel.pipelines.parameters import call
from tidewheel.pipelines.pipeline import Pipeline
from tidewheel.pipelines.prior import Again, Prior
from tidewheel.pipelines.records import RunEvent
from tidewheel.pipelines.session import Session
from tidewheel.pipelines.stored import Shelf, Stored, stored_from
from tidewheel.pipelines.transitions import RunState
from tidewheel.pipelines.tree import NAME as TREE
from tidewheel.pipelines.tree import Marked, decode, encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """What is to be executed."""

    pipeline: Pipeline[..., Any]  # whose body
    journal: Journal  # of which run
    executor: str | Executor  # where its steps go
    run: Execution  # the run's record, with its arguments
    calls: Sequence[Execution]  # its calls so far, when it is resumed
    live: Mapping[str, Any]  # arguments that are at hand as objects
    tell: Callable[[RunEvent], None]  # who is told what happens
    again: Again | None = None  # what another run answers, when this one runs it again
    leaves: bool = False  # whether its process leaves a run that waits for nothing but an approval


def drive(wanted: Drive, shelf: Shelf) -> Callable[[], Any] | None:
    """Execute the body and all its steps; return the way to the output, None for a run that was left waiting.

    Raises what `start_run` says; the end is recorded in every case but the loss of the claim.
    """
    journal, store = wanted.journal, wanted.journal.store
    attempts = store.home / "runs" / journal.run_id / "attempts"
    tables = store.executors
    crew = Crew(wanted.executor, shelf, attempts, options=tables, on_beat=lambda beat: session.beat(beat))  # noqa: PLW0108 - made below
    prior = Prior(wanted.calls, store.blobs, wanted.again)
    session = Session(journal, crew, shelf, prior=prior, tell=wanted.tell, leaves=wanted.leaves)
    session.knows(wanted.run.facets["pins"])
    _say(wanted, RunState.RUNNING, "resumed" if wanted.calls else "")
    try:
        with recording(session):
            result = call(wanted.pipeline, _arguments(wanted, shelf))
        session.settle()
        journal.finish(RunState.SUCCEEDED, output=_kept(result, shelf))
    except RunLeft:
        _say(wanted, RunState.WAITING, "left; go on with: tidewheel resume")
        return None
    except BaseException as error:
        _record_failure(wanted, session, error)
        if isinstance(error, Exception) and not isinstance(error, TidewheelError):
            raise _run_failed(wanted, error) from error
        raise
    finally:
        crew.close()
    _say(wanted, RunState.SUCCEEDED, "")
    return lambda: value(result)


def _arguments(wanted: Drive, shelf: Shelf) -> dict[str, Any]:
    """Return the parameters for the body: plain values as they are, larger ones and picked ones as handles."""
    facets = wanted.run.facets
    arguments: dict[str, Any] = {}
    for name, record in facets["arguments"].items():
        stored = stored_from(record)
        if stored.codec == TREE and not stored.blobs:
            arguments[name] = decode(stored, shelf)
            continue
        output = Output(shelf)
        output.settle(stored, *([wanted.live[name]] if name in wanted.live else []))
        arguments[name] = Handle(output)
    for name in wanted.pipeline.signature.parameters:
        if name in facets["pins"]:
            arguments[name] = picks.handle(wanted.journal.store, shelf, picks.Pin(**facets["pins"][name]))
    return arguments


def _kept(result: Any, shelf: Shelf) -> Stored | None:
    """Keep what the body returned; what its steps gave is kept already."""
    if result is None:
        return None
    single = source_of(result)
    if isinstance(single, Output):
        return single.stored
    if not sources_in(result):
        return encode(result, shelf, paths=True)
    content = value_digest(replaced(result, lambda source: Digested(_output(source).content)))
    return encode(replaced(result, lambda source: Marked(_output(source).stored)), shelf, content=content, paths=True)


def _output(source: Any) -> Output:
    if not isinstance(source, Output):
        raise TypeError(f"a handle of another kind stands in the output: {source!r}")
    return source


def _record_failure(wanted: Drive, session: Session, error: BaseException) -> None:
    """Record a bad end. Where even that cannot be written, the run stays as it is and is found LOST later."""
    if isinstance(error, StaleOwner):
        return
    state = RunState.FAILED if isinstance(error, Exception) else RunState.CANCELLED
    said = str(error) if isinstance(error, TidewheelError) else headline(error)
    with contextlib.suppress(StorageUnavailable, StaleOwner):
        if isinstance(error, Exception) and not isinstance(error, StepFailed):
            with StepLog(log_file(wanted.journal.store.home, wanted.journal.run_id, "run")) as log:
                log.write(trace(error))
    with contextlib.suppress(StorageUnavailable, StaleOwner):
        session.abandon()
        wanted.journal.finish(state, error=said)
        _say(wanted, state, said)


def _run_failed(wanted: Drive, error: Exception) -> RunFailed:
    name, run_id = wanted.pipeline.name, wanted.journal.run_id
    return RunFailed(
        f"The body of {name} raised {headline(error)}.",
        f"Mend it and go on with: tidewheel resume FILE.py:{name} {run_id}",
        run_id=run_id,
    )


def _say(wanted: Drive, state: RunState, detail: str) -> None:
    journal = wanted.journal
    wanted.tell(
        RunEvent(
            run_id=journal.run_id,
            pipeline=journal.pipeline,
            step="",
            execution_id="",
            state=state,
            detail=detail,
            at=journal.store.clock.now(),
        )
    )
