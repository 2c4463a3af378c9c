"""What becomes of calls that have ended: their outputs are handed on, or what depends on them is let go."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from tidewheel.errors import StepFailed
from tidewheel.pipelines.answers import Answers
from tidewheel.pipelines.calls import Call
from tidewheel.pipelines.entries import Done
from tidewheel.pipelines.executors.seam import Failure
from tidewheel.pipelines.failures import many_failed, step_error
from tidewheel.pipelines.frontier import Frontier
from tidewheel.pipelines.journal import Journal
from tidewheel.pipelines.logs import log_file
from tidewheel.pipelines.records import RunEvent
from tidewheel.pipelines.retrying import pause_before, worth_retrying
from tidewheel.pipelines.stored import Stored
from tidewheel.pipelines.transitions import StepState


class Ending:
    """Ends the calls of one run: in the journal first, then in memory, then for whoever watches."""

    def __init__(
        self, journal: Journal, frontier: Frontier, answers: Answers, tell: Callable[[RunEvent], None]
    ) -> None:
        self.unfinished: set[Call] = set()
        self.failed: list[Call] = []
        self._journal = journal
        self._frontier = frontier
        self._answers = answers
        self._tell = tell

    def commit(self, done: Sequence[Done]) -> None:
        """Take in what steps gave, all in one transaction."""
        recorded = self._journal.commit(done)
        for each, outputs in zip(done, recorded, strict=True):
            differs = each.call.verifying is not None and [stored.content for stored in outputs] != [
                stored.content for stored in each.call.verifying.outputs
            ]
            detail = f"{each.detail}; its answer in the cache was another one" if differs else each.detail
            self.succeed(each.call, StepState.COMMITTED, outputs, detail, live=each.live)

    def succeed(
        self, call: Call, state: StepState, outputs: Sequence[Stored], detail: str, *, live: Sequence[Any] | None = None
    ) -> None:
        """Hand the outputs of a call on; nothing else of it is kept."""
        for place, (output, stored) in enumerate(zip(call.outputs, outputs, strict=True)):
            if live is None:
                output.settle(stored)
            else:
                output.settle(stored, live[place])
        call.state = state
        self._forget(call)
        self._frontier.release(call)
        self.say(call, state, detail)
        if call.recorded:  # an answer is recorded with the next write, which needs the key
            call.release()

    def fail(self, call: Call, failure: Failure) -> None:
        """Take in a try that gave nothing: there is another one, or the call has failed."""
        call.failures += 1
        options = call.step.options
        if call.failures <= options.retries and worth_retrying(options, failure.kind, failure.types):
            pause = pause_before(options, call.failures, call.execution_id)
            self._journal.conclude(call, StepState.RETRY_AT, failure.message)
            call.state, call.retry_at = StepState.RETRY_AT, time.monotonic() + pause
            self.say(call, StepState.RETRY_AT, f"again in {pause:g} s: {failure.message}")
            self._frontier.again_at(call)
            return
        self._journal.conclude(call, StepState.FAILED, failure.message)
        call.state = StepState.FAILED
        call.said = failure.message
        log = log_file(self._journal.store.home, self._journal.run_id, call.label)
        self._give_up(call, step_error(call, failure, self._journal.pipeline, self._journal.run_id, log))
        self.say(call, StepState.FAILED, failure.message)

    def skip(self, call: Call, failed: Call) -> None:
        """Take in that a call can never begin, and with it all that need its outputs."""
        self._skip_all([(call, failed)])

    def first_error(self) -> StepFailed | None:
        """Return what the body has not met itself: the one failure, or all in one."""
        unseen = [call for call in self.failed if not call.seen and call.state is StepState.FAILED]
        if len(unseen) > 1:
            return many_failed(unseen, self._journal.pipeline, self._journal.run_id)
        left = unseen or [call for call in self.failed if not call.seen]
        return left[0].error if left else None

    def say(self, call: Call, state: str, detail: str) -> None:
        """Tell whoever watches."""
        self._tell(
            RunEvent(
                run_id=self._journal.run_id,
                pipeline=self._journal.pipeline,
                step=call.label,
                execution_id=call.execution_id,
                state=state,
                detail=detail,
                at=self._journal.store.clock.now(),
            )
        )

    def _give_up(self, call: Call, error: StepFailed) -> None:
        self._lose(call, error)
        waiting = [(dependent, call) for dependent in call.dependents if dependent.error is None]
        call.dependents.clear()
        self._skip_all(waiting)

    def _skip_all(self, waiting: list[tuple[Call, Call]]) -> None:
        """Skip calls and what depends on them, a level at a time: a chain may be longer than Python's stack."""
        while waiting:
            level = {id(call): (call, failed) for call, failed in waiting if call.error is None}
            for call, failed in level.values():
                self._answers.adopt(call, None)
                call.reason = f"its input from {failed.label} failed"
            self._journal.skip([call for call, _ in level.values()])
            waiting = []
            for call, failed in level.values():
                call.state = StepState.SKIPPED
                self.say(call, StepState.SKIPPED, call.reason)
                if failed.error is not None:
                    self._lose(call, failed.error)
                waiting += [(dependent, call) for dependent in call.dependents]
                call.dependents.clear()

    def _lose(self, call: Call, error: StepFailed) -> None:
        call.error = error
        self._forget(call)
        self.failed.append(call)

    def _forget(self, call: Call) -> None:
        self.unfinished.discard(call)
        self._answers.forget(call)
