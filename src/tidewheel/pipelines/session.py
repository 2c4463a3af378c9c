"""A run while it goes on: takes the body's calls, starts what is ready, takes in what is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tidewheel.errors import InvalidInput, NotFound, StepFailed, StorageUnavailable
from tidewheel.pipelines import cache, picks
from tidewheel.pipelines.active import StepContext, within
from tidewheel.pipelines.answers import Answers
from tidewheel.pipelines.approving import Approval, Approving, Asked
from tidewheel.pipelines.at_hand import AtHand
from tidewheel.pipelines.calls import Call, Output, held
from tidewheel.pipelines.collected import Collected
from tidewheel.pipelines.ending import Ending
from tidewheel.pipelines.entries import Done
from tidewheel.pipelines.executors.crew import Crew
from tidewheel.pipelines.executors.seam import Beat, Failure, Outcome, Task
from tidewheel.pipelines.frontier import Frontier
from tidewheel.pipelines.gathering import collected, outputs_of
from tidewheel.pipelines.handle import source_of
from tidewheel.pipelines.journal import Journal
from tidewheel.pipelines.keys import Key
from tidewheel.pipelines.logs import log_file
from tidewheel.pipelines.parts import handles_of, refuse_foreign
from tidewheel.pipelines.prior import Prior
from tidewheel.pipelines.records import RunEvent
from tidewheel.pipelines.secrets import Secrets, find_secrets
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Shelf
from tidewheel.pipelines.transitions import StepState
from tidewheel.pipelines.wish import Input

_PATIENCE = 1.0  # seconds between two looks at children that say nothing, and whether the run is still ours
_LOOKS = (0.02, 2.0)  # seconds before the first look at what another run executes, and between two looks at most


class Session:
    """Executes the calls of one run, all in the thread that executes the body."""

    def __init__(
        self,
        journal: Journal,
        crew: Crew,
        shelf: Shelf,
        *,
        prior: Prior,
        tell: Callable[[RunEvent], None],
        leaves: bool = False,
    ) -> None:
        self._journal = journal
        self._store = journal.store
        self._crew = crew
        self._shelf = shelf
        self._again = prior.again is not None
        self._leaves = leaves
        self._frontier = Frontier()
        self._answers = Answers(journal, prior)
        self._ending = Ending(journal, self._frontier, self._answers, tell)
        self._approving = Approving(journal, self._answers, self._ending.say)
        self._near = AtHand()
        self._labels: dict[str, int] = {}
        self._flying: dict[str, Call] = {}
        self._pins: dict[str, Any] = {}
        self._count = 0

    def call(self, step: Step[..., Any], arguments: Mapping[str, Any], *, item: int | None = None) -> Any:
        """Take a call of the body; return handles for what it will give, at once."""
        given, inputs = held(arguments)
        refuse_foreign(step, inputs, self._near)
        call = self._new(step, given)
        call.item = item
        call.place = self._crew.place(step)
        call.outputs = tuple(Output(self._shelf, wait=self.wait, call=call) for _ in range(step.parts or 1))
        for output in call.outputs:
            output.near = self._near
        handles = handles_of(call, self._shelf)
        self._ending.unfinished.add(call)
        failed = self._frontier.add(call, inputs)
        if failed is not None:
            self._ending.skip(call, failed)
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
        handle = picks.handle(self._store, self._shelf, pin)
        source = source_of(handle)
        if isinstance(source, Output):
            source.near = self._near
        return handle

    def gather(self, handles: Sequence[Any]) -> Collected[Any]:
        """Wait for the items of a map, and part those that succeeded from the others."""
        outputs = outputs_of(handles)
        for output in outputs:
            while output.call is not None and not output.call.done:
                self._turn(_PATIENCE)
        return collected(handles, outputs, self._ending.failed)

    def approve(self, asked: Asked) -> Approval:
        """Wait until somebody has answered a question, or its time is over; other calls go on meanwhile."""
        call = self._new(asked.step, asked.arguments())
        question = self._approving.ask(call, asked)
        pause = _LOOKS[0]
        while (answer := self._approving.look(question)) is None:
            if self._leaves and not self._ending.unfinished:
                self._approving.leave()
            pause = min(2 * pause, _LOOKS[1])
            if self._ending.unfinished:
                self._turn(pause)
            else:
                self._rest(pause)
        return answer

    def knows(self, pins: Mapping[str, Any]) -> None:
        """Take over the pins that the journal has."""
        self._pins = dict(pins)

    def wait(self, call: Call) -> None:
        """Go on until a call has ended; raises StepFailed when it gave nothing."""
        while not call.done:
            self._turn(_PATIENCE)
        if call.error is not None:
            for failed in self._ending.failed:
                failed.seen = failed.seen or failed.error is call.error
            raise call.error

    def settle(self) -> None:
        """Go on until every call has ended; raises the failures that the body has not met itself."""
        while self._ending.unfinished:
            self._turn(_PATIENCE)
        error = self._ending.first_error()
        if error is not None:
            raise error

    def abandon(self) -> None:
        """End what is being executed; the journal records it together with the end of the run."""
        for execution_id, call in self._flying.items():
            self._crew.cancel(execution_id)
            self._ending.say(call, StepState.CANCELLED, "the run ended")
        self._flying.clear()
        for call in self._ending.unfinished:  # whoever touches a handle of it now must not wait for ever
            call.error = call.error or StepFailed(
                f"Step {call.label} was not executed: its run {self._journal.run_id} has ended.",
                "Resume the run, or start it again.",
            )

    def beat(self, beat: Beat) -> None:
        """Take in that a task lives and what it has used."""
        call = self._flying.get(beat.id)
        if call is not None:
            call.usage = beat.usage
            self._journal.describe(call, {"usage": beat.usage.as_json()})

    def _new(self, step: Step[..., Any], arguments: Mapping[str, Any]) -> Call:
        inside = within()
        name = f"{inside.replace('/', '.')}.{step.name}" if inside else step.name
        self._count += 1
        number = self._labels[name] = self._labels.get(name, 0) + 1
        label = name if number == 1 else f"{name}-{number}"
        return Call(step=step, arguments=arguments, ordinal=self._count, label=label, within=inside)

    def _turn(self, patience: float) -> None:
        """Start what can be started and take in what is done; wait for at most `patience` seconds."""
        self._journal.check()
        due = self._frontier.wake(time.monotonic())
        started = [self._start_next(place) for place in self._frontier.places]
        patience = 0.0 if any(started) else min(patience, patience if due is None else due)
        if patience:
            self._journal.flush()
        if self._flying:
            self._take_in(self._crew.poll(patience))
        elif due is not None:
            time.sleep(patience)
        elif patience and self._ending.unfinished:
            waiting = ", ".join(sorted(call.label for call in self._ending.unfinished))
            raise StepFailed(f"Nothing can go on, though these are not done: {waiting}.", "Report this as a defect.")

    def _rest(self, pause: float) -> None:
        self._journal.check()
        self._journal.flush()
        time.sleep(pause)

    def _start_next(self, place: str) -> bool:
        call = self._frontier.take(place)
        if call is None:
            return False
        if self._flying and not self._crew.has_room(place, call.step):  # no executor is made for what is answered
            self._frontier.again(call)
            return False
        key = call.key or self._answers.identify(call)
        found = self._answers.find(call, key)
        if found.kind == "execute":
            self._begin(call, key)
        elif found.kind == "prior":
            self._ending.succeed(call, call.state, found.outputs, "done before the run was resumed")
        elif found.kind == "cached":
            call.reason = f"answered by {found.source}"
            self._journal.answer(Done(call=call, outputs=found.outputs))
            self._ending.succeed(call, StepState.CACHED, found.outputs, call.reason)
        elif found.kind == "wait":
            self._look_again(call, found.source)
        return True

    def _look_again(self, call: Call, run_id: str) -> None:
        """Come back to a call that another run is executing."""
        if not call.looks and run_id:
            self._ending.say(call, StepState.READY, f"waits for the same call in run {run_id}")
        pause = min(_LOOKS[0] * 2**call.looks, _LOOKS[1])
        call.looks += 1
        call.retry_at = time.monotonic() + pause
        self._frontier.again_at(call)

    def _begin(self, call: Call, key: Key) -> None:
        left = self._crew.adopt(call.place, call.execution_id) if call.state is StepState.LOST else None
        if left is not None and cache.readable(left.outputs, self._store.blobs):
            self._ending.commit([self._done(call, left, "finished before the run's process died")])
            return
        call.attempt += 1
        call.reason = call.reason or self._reason(call, key)
        elsewhere = self._journal.start(call)
        if elsewhere is not None:
            call.attempt -= 1
            self._look_again(call, elsewhere.run_id)
            return
        call.state = StepState.RUNNING
        call.begun = time.monotonic()
        self._flying[call.execution_id] = call
        self._ending.say(call, StepState.RUNNING, f"try {call.attempt}" if call.attempt > 1 else "")
        try:
            found = find_secrets(call.step.options.secrets, self._store.secrets, wanted_by=f"The step {call.step.name}")
        except (NotFound, InvalidInput) as error:
            del self._flying[call.execution_id]
            self._ending.fail(call, Failure(kind="unusable", message=error.what, mend=error.mend))
            return
        self._crew.submit(call.place, _task(call, key, self._journal.run_id, self._store.home, found))
        self._journal.reach("step.submitted")

    def _reason(self, call: Call, key: Key) -> str:
        if not key.reusable:
            return key.note or "never cached"
        if call.attempt > 1:
            return f"try {call.attempt}"
        if call.seen_answer:
            return f"the answer of {call.seen_answer} is not kept any more: its bytes are gone"
        return "run again" if self._again else "no answer with this key yet"

    def _take_in(self, outcomes: Sequence[Outcome]) -> None:
        good: list[Done] = []
        bad: list[tuple[Call, Failure]] = []
        for outcome in outcomes:
            call = self._flying.pop(outcome.id)
            call.usage = outcome.usage or call.usage
            if outcome.failure is None:
                self._journal.reach("step.returned")
                good.append(self._done(call, outcome, f"{time.monotonic() - call.begun:.2f} s"))
            else:
                bad.append((call, outcome.failure))
        if good:
            self._ending.commit(good)
        for call, failure in bad:
            if failure.kind == "storage":
                self._journal.conclude(call, StepState.FAILED, failure.message)
                raise StorageUnavailable(failure.message, failure.mend) from failure.cause
            self._ending.fail(call, failure)

    def _done(self, call: Call, outcome: Outcome, detail: str) -> Done:
        reusable = call.key is not None and call.key.reusable and outcome.code == call.key.code.digest
        return Done(call=call, outputs=outcome.outputs, live=outcome.live, reusable=reusable, detail=detail)


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
