"""Foretell a run: which steps would be executed and which answered from the cache, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tidewheel.errors import RunFailed, TidewheelError, Unhashable
from tidewheel.fingerprint.value import value_digest
from tidewheel.lineage.store import Store
from tidewheel.pipelines import cache, picks
from tidewheel.pipelines.active import recording, within
from tidewheel.pipelines.approving import Asked
from tidewheel.pipelines.calls import Call, Output, held
from tidewheel.pipelines.codecs import codec_for
from tidewheel.pipelines.collected import Collected
from tidewheel.pipelines.gathering import collected, outputs_of
from tidewheel.pipelines.handle import Handle
from tidewheel.pipelines.keys import Keys
from tidewheel.pipelines.logs import headline
from tidewheel.pipelines.parameters import bind, call
from tidewheel.pipelines.parts import handles_of
from tidewheel.pipelines.pipeline import Pipeline
from tidewheel.pipelines.secrets import find_secrets
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Shelf
from tidewheel.pipelines.transitions import StepState
from tidewheel.pipelines.why import miss_reason
from tidewheel.pipelines.wish import Input

Action = Literal["run", "cached"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStep:
    """What would become of one call."""

    step: str  # its name in the run
    action: Action  # executed, or answered
    reason: str  # why


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run would do, as far as that can be said without executing anything."""

    pipeline: str  # name
    steps: tuple[PlanStep, ...]  # in the order of the calls
    complete: bool  # whether the body came to its end
    stopped_at: str  # the step on whose value the body depends further on, "" when complete

    def _repr_html_(self) -> str:
        """Show it in a notebook."""
        from tidewheel.pipelines.html import plan_html

        return plan_html(self)


class _Undecided(BaseException):
    """The body touched a value that only a run can give; no `except Exception` of the body may stop it."""

    def __init__(self, step: str) -> None:
        super().__init__(step)
        self.step = step


def plan_run(store: Store, pipeline: Pipeline[..., Any], parameters: Mapping[str, Any] | None = None) -> Plan:
    """Trace the body of a pipeline up to the first value that only a run can give.

    Raises NotFound and InvalidInput for wrong parameters, RunFailed when the body itself raises.
    """
    planner = _Planner(store)
    arguments = {name: planner.argument(item) for name, item in bind(pipeline, parameters or {}).items()}
    stopped_at = ""
    try:
        with recording(planner):
            call(pipeline, arguments)
    except _Undecided as stop:
        stopped_at = stop.step
    except TidewheelError:
        raise
    except Exception as error:
        raise RunFailed(f"The body of {pipeline.name} raised {headline(error)}.", "Mend it, and plan again.") from error
    return Plan(pipeline=pipeline.name, steps=tuple(planner.steps), complete=not stopped_at, stopped_at=stopped_at)


class _Planner:
    """Takes the calls of a body and only looks up what would answer them."""

    def __init__(self, store: Store) -> None:
        self.steps: list[PlanStep] = []
        self._store = store
        self._shelf = Shelf(blobs=store.blobs, files=store.home / "files")
        self._keys = Keys("plan")
        self._labels: dict[str, int] = {}
        self._planned: set[str] = set()

    def argument(self, item: Any) -> Any:
        """Return a parameter as the body would be given it."""
        if isinstance(item, Input):
            return self.pick(item)
        if codec_for(item) is None:
            return item
        try:
            content = value_digest(item)
        except Unhashable:
            return item
        output = Output(self._shelf)
        output.settle_lazily(content, "", lambda: item)
        return Handle(output)

    def pick(self, wanted: Input) -> Any:
        """Take an input that the store picks."""
        return picks.handle(self._store, self._shelf, picks.pick(self._store, wanted))

    def call(self, step: Step[..., Any], arguments: Mapping[str, Any], *, item: int | None = None) -> Any:
        """Take a call: look its key up where its inputs are known."""
        name = f"{within().replace('/', '.')}.{step.name}" if within() else step.name
        number = self._labels[name] = self._labels.get(name, 0) + 1
        label = name if number == 1 else f"{name}-{number}"
        given, inputs = held(arguments)
        planned = Call(step=step, arguments=given, ordinal=len(self.steps) + 1, label=label, item=item)
        planned.outputs = tuple(Output(self._shelf, wait=_stop, call=planned) for _ in range(step.parts or 1))
        unknown = [found.call.label for found in inputs if found.call is not None and not found.call.succeeded]
        action, reason = ("run", f"its input from {unknown[0]} will be new") if unknown else self._look_up(planned)
        if action != "cached":
            find_secrets(step.options.secrets, self._store.secrets, wanted_by=f"The step {step.name}")
        self.steps.append(PlanStep(step=label, action="cached" if action == "cached" else "run", reason=reason))
        return handles_of(planned, self._shelf)

    def gather(self, handles: Sequence[Any]) -> Collected[Any]:
        """Take a map: which of its items succeed is known beforehand only where all are in the cache."""
        outputs = outputs_of(handles)
        for output in outputs:
            output.wait()
        return collected(handles, outputs, ())

    def approve(self, asked: Asked) -> Any:
        """Take a question: only people can answer it."""
        raise _Undecided(f"approve({asked.question!r})")

    def _look_up(self, planned: Call) -> tuple[Action, str]:
        key = self._keys.of(planned.step, planned.arguments, planned.ordinal)
        if key.digest in self._planned:
            return "cached", "the same call stands above"
        with self._store.database.reading() as tx:
            hit = cache.entry(tx, key.digest) if key.reusable else None
            if hit is None:
                self._planned.update([key.digest] if key.reusable else [])
                return "run", miss_reason(tx, planned.step.identity, planned.label, key)
        if not cache.readable(hit.outputs, self._store.blobs):
            self._planned.add(key.digest)
            return "run", f"the answer of {hit.execution_id} is not kept any more: its bytes are gone"
        for output, stored in zip(planned.outputs, hit.outputs, strict=True):
            output.settle(stored)
        planned.state = StepState.CACHED
        return "cached", f"answered by {hit.execution_id}"


def _stop(call: Call) -> None:
    raise _Undecided(call.label)
