"""A run while it goes on: takes the body's calls, starts what is ready, commits what is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tidewheel.errors import InvalidInput, NotFound, StepFailed, StorageUnavailable
from tidewheel.pipelines import cache, picks
from tidewheel.pipelines.active import StepContext
from tidewheel.pipelines.calls import Call, Output, held
from tidewheel.pipelines.executors.crew import PLACES, Crew
from tidewheel.pipelines.executors.seam import Failure, Outcome, Task
from tidewheel.pipelines.failures import step_error
from tidewheel.pipelines.frontier import Frontier
from tidewheel.pipelines.journal import Journal
from tidewheel.pipelines.keys import Key, Keys
from tidewheel.pipelines.logs import log_file
from tidewheel.pipelines.parts import handles_of
from tidewheel.pipelines.prior import Prior
from tidewheel.pipelines.records import RunEvent
from tidewheel.pipelines.retrying import pause_before, worth_retrying
from tidewheel.pipelines.secrets import Secrets, find_secrets
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Shelf, Stored
from tidewheel.pipelines.transitions import StepState
from tidewheel.pipelines.wish import Input

_PATIENCE = 1.0  # seconds between two looks at children that say nothing, and whether the run is still ours


class Session:
    """Executes the calls of one run, all in the thread that executes the body."""

    def __init__(
        self, journal: Journal, crew: Crew, shelf: Shelf, *, prior: Prior, tell: Callable[[RunEvent], None]
    ) -> None:
        self._journal = journal
        self._store = journal.store
        self._crew = crew
        self._shelf = shelf
        self._prior = prior
        self._tell = tell
        self._keys = Keys(journal.run_id)
        self._frontier = Frontier(PLACES)
        self._labels: dict[str, int] = {}
        self._occurrences: dict[str, int] = {}
        self._leaders: dict[str, Call] = {}
        self._unfinished: set[Call] = set()
        self._flying: dict[str, Call] = {}
        self._failed: list[Call] = []
        self._pins: dict[str, Any] = {}
        self._count = 0

    def call(self, step: Step[..., Any], arguments: Mapping[str, Any]) -> Any:
        """Take a call of the body; return handles for what it will give, at once."""
        self._count += 1
        self._labels[step.name] = self._labels.get(step.name, 0) + 1
        number = self._labels[step.name]
        given, inputs = held(arguments)
        label = step.name if number == 1 else f"{step.name}-{number}"
        call = Call(step=step, arguments=given, ordinal=self._count, label=label)
        call.outputs = tuple(Output(self._shelf, wait=self.wait, call=call) for _ in range(step.parts or 1))
        handles = handles_of(call, self._shelf)
        self._unfinished.add(call)
        failed = self._frontier.add(call, self._crew.place(step), inputs)
        if failed is not None:
            self._skip(call, failed)
        self._turn(0.0)
        return handles

    def pick(self, wanted: Input) -> Any:
        """Take an input that the body wants from the store; the same wish gives the same version when resumed."""
        role = repr(wanted)
        known = self._pins.get(role)
        pin = (
            picks.Pin(**known) if known else self._journal.fence.patience.keep(lambda: picks.pick(self._store, wanted))
        )
        if not known:
            self._pins[role] = pin.as_json()
            self._journal.pin(role, self._pins, pin.version_id)
        return picks.handle(self._store, self._shelf, pin)

    def knows(self, pins: Mapping[str, Any]) -> None:
        """Take over the pins that the journal has."""
        self._pins = dict(pins)

    def wait(self, call: Call) -> None:
        """Go on until a call has ended; raises StepFailed when it gave nothing."""
        while not call.done:
            self._turn(_PATIENCE)
        if call.error is not None:
            for failed in self._failed:
                failed.seen = failed.seen or failed.error is call.error
            raise call.error

    def settle(self) -> None:
        """Go on until every call has ended; raises the first failure that the body has not met itself."""
        while self._unfinished:
            self._turn(_PATIENCE)
        for call in self._failed:
            if not call.seen and call.error is not None:
                raise call.error

    def abandon(self) -> None:
        """End what is being executed; the journal records it together with the end of the run."""
        for execution_id, call in self._flying.items():
            self._crew.cancel(execution_id)
            self._say(call, StepState.CANCELLED, "the run ended")
        self._flying.clear()

    def _turn(self, patience: float) -> None:
        """Start what can be started and take in what is done; wait for at most `patience` seconds."""
        self._journal.check()
        due = self._frontier.wake(time.monotonic())
        started = [self._start_next(place) for place in PLACES]
        patience = 0.0 if any(started) else min(patience, patience if due is None else due)
        if self._flying:
            for outcome in self._crew.poll(patience):
                self._take_in(self._flying.pop(outcome.id), outcome)
        elif due is not None:
            time.sleep(patience)
        elif patience and self._unfinished:
            waiting = ", ".join(sorted(call.label for call in self._unfinished))
            raise StepFailed(f"Nothing can go on, though these are not done: {waiting}.", "Report this as a defect.")

    def _start_next(self, place: str) -> bool:
        call = self._frontier.take(place)
        if call is None:
            return False
        if not self._crew.has_room(place):
            self._frontier.again(call)
            return False
        key = call.key or self._identify(call)
        if not self._answered(call, key):
            self._begin(call, key, place)
        return True

    def _identify(self, call: Call) -> Key:
        call.key = key = self._keys.of(call.step, call.arguments, call.ordinal)
        call.occurrence = self._occurrences.get(key.digest, 0)
        self._occurrences[key.digest] = call.occurrence + 1
        return key

    def _answered(self, call: Call, key: Key) -> bool:
        """Answer a call from the journal of this run, from a call like it, or from the cache, if that is possible."""
        again = self._prior.again
        forced = again is not None and again.forces(call)
        earlier = self._prior.find(key.digest, call.occurrence) or self._prior.skipped(call.step.identity, call.ordinal)
        if earlier is not None and not call.execution_id:
            if earlier.done:
                call.execution_id, call.attempt = earlier.execution_id, earlier.attempt
                self._succeed(call, earlier.state, earlier.outputs, "done before the run was resumed")
                return True
            if earlier.state not in (StepState.COMMITTED, StepState.CACHED):
                call.execution_id, call.attempt, call.state = earlier.execution_id, earlier.attempt, earlier.state
        if forced or call.failures:
            return False
        old = again.find(key.digest, call.occurrence) if again is not None else None
        if old is not None:
            call.reason = f"answered by {old.execution_id} of the run that is run again"
            self._journal.answer(call, key, old.outputs)
            self._succeed(call, StepState.CACHED, old.outputs, call.reason)
            return True
        if not key.reusable:
            return False
        leader = self._leaders.setdefault(key.digest, call)
        if leader is not call:
            leader.dependents.append(call)  # the same is being executed: wait for its answer
            call.missing += 1
            return True
        hit = self._journal.fence.read(lambda tx: cache.find(tx, key.digest, self._store.blobs))
        if hit is None:
            return False
        call.reason = f"answered by {hit.execution_id}"
        self._journal.answer(call, key, hit.outputs)
        self._succeed(call, StepState.CACHED, hit.outputs, call.reason)
        return True

    def _begin(self, call: Call, key: Key, place: str) -> None:
        left = self._crew.adopt(place, call.execution_id) if call.state is StepState.LOST else None
        if left is not None:
            self._commit(call, key, left, "finished before the run's process died")
            return
        call.attempt += 1
        call.reason = call.reason or self._reason(call, key)
        self._journal.start(call, key)
        call.state = StepState.RUNNING
        call.begun = time.monotonic()
        self._flying[call.execution_id] = call
        self._say(call, StepState.RUNNING, f"try {call.attempt}" if call.attempt > 1 else "")
        try:
            found = find_secrets(call.step.options.secrets, self._store.secrets, wanted_by=f"The step {call.step.name}")
        except (NotFound, InvalidInput) as error:
            del self._flying[call.execution_id]
            self._fail(call, Failure(kind="unusable", message=error.what, mend=error.mend))
            return
        self._crew.submit(place, _task(call, key, self._journal.run_id, self._store.home, found))
        self._journal.reach("step.submitted")

    def _reason(self, call: Call, key: Key) -> str:
        if not key.reusable:
            return key.note or "never cached"
        if call.attempt > 1:
            return f"try {call.attempt}"
        return "run again" if self._prior.again is not None else "no answer with this key yet"

    def _take_in(self, call: Call, outcome: Outcome) -> None:
        key = call.key or self._identify(call)
        if outcome.failure is None:
            self._journal.reach("step.returned")
            self._commit(call, key, outcome, f"{time.monotonic() - call.begun:.2f} s")
        elif outcome.failure.kind == "storage":
            self._journal.conclude(call, StepState.FAILED, outcome.failure.message)
            raise StorageUnavailable(outcome.failure.message, outcome.failure.mend) from outcome.failure.cause
        else:
            self._fail(call, outcome.failure)

    def _commit(self, call: Call, key: Key, outcome: Outcome, detail: str) -> None:
        reusable = key.reusable and outcome.code == key.code.digest
        outputs = self._journal.commit(call, key, outcome.outputs, reusable=reusable)
        self._succeed(call, StepState.COMMITTED, outputs, detail, live=outcome.live)

    def _succeed(
        self, call: Call, state: StepState, outputs: Sequence[Stored], detail: str, *, live: Sequence[Any] | None = None
    ) -> None:
        for place, (output, stored) in enumerate(zip(call.outputs, outputs, strict=True)):
            if live is None:
                output.settle(stored)
            else:
                output.settle(stored, live[place])
        call.state = state
        self._forget(call)
        self._frontier.release(call)
        self._say(call, state, detail)

    def _forget(self, call: Call) -> None:
        """Keep nothing of a call that has ended: its values live as long as the body holds their handles."""
        self._unfinished.discard(call)
        if call.key is not None and self._leaders.get(call.key.digest) is call:
            del self._leaders[call.key.digest]

    def _fail(self, call: Call, failure: Failure) -> None:
        call.failures += 1
        options = call.step.options
        if call.failures <= options.retries and worth_retrying(options, failure.kind, failure.types):
            pause = pause_before(options, call.failures, call.execution_id)
            self._journal.conclude(call, StepState.RETRY_AT, failure.message)
            call.state, call.retry_at = StepState.RETRY_AT, time.monotonic() + pause
            self._say(call, StepState.RETRY_AT, f"again in {pause:g} s: {failure.message}")
            self._frontier.again_at(call)
            return
        self._journal.conclude(call, StepState.FAILED, failure.message)
        call.state = StepState.FAILED
        log = log_file(self._store.home, self._journal.run_id, call.label)
        self._give_up(call, step_error(call, failure, self._journal.pipeline, self._journal.run_id, log))
        self._say(call, StepState.FAILED, failure.message)

    def _give_up(self, call: Call, error: StepFailed) -> None:
        call.error = error
        self._forget(call)
        self._failed.append(call)
        for dependent in call.dependents:
            if dependent.error is None:
                self._skip(dependent, call)
        call.dependents.clear()

    def _skip(self, call: Call, failed: Call) -> None:
        earlier = self._prior.skipped(call.step.identity, call.ordinal)
        if earlier is not None and not call.execution_id:
            call.execution_id, call.state = earlier.execution_id, earlier.state
        call.reason = f"its input from {failed.label} failed"
        self._journal.skip(call)
        call.state = StepState.SKIPPED
        self._say(call, StepState.SKIPPED, call.reason)
        if failed.error is not None:
            self._give_up(call, failed.error)

    def _say(self, call: Call, state: StepState, detail: str) -> None:
        self._tell(
            RunEvent(
                run_id=self._journal.run_id,
                pipeline=self._journal.pipeline,
                step=call.label,
                execution_id=call.execution_id,
                state=state,
                detail=detail,
                at=self._store.clock.now(),
            )
        )


def _task(call: Call, key: Key, run_id: str, home: Path, found: Secrets) -> Task:
    context = StepContext(
        run_id=run_id, step=call.step.identity, attempt=call.attempt, idempotency_key=call.execution_id
    )
    return Task(
        id=call.execution_id,
        step=call.step,
        arguments=call.arguments,
        context=context,
        code=key.code.digest,
        timeout=call.step.options.timeout,
        log=log_file(home, run_id, call.label),
        secrets=found,
    )
