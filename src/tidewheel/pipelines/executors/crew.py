"""The executors of one run, found by name and made when the first step asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.pipelines.executors.admission import Ledger, Needs, needs_of
from tidewheel.pipelines.executors.machine import machine
from tidewheel.pipelines.executors.seam import Beat, Executor, Outcome, Site, Task
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Shelf

INLINE, THREADS, PROCESS, ISOLATED, GIVEN = "inline", "threads", "process", "isolated", "given"
BUILT_IN: Mapping[str, str] = {
    INLINE: "tidewheel.pipelines.executors.inline:InlineExecutor",
    THREADS: "tidewheel.pipelines.executors.threads:ThreadsExecutor",
    PROCESS: "tidewheel.pipelines.executors.process:ProcessExecutor",
    ISOLATED: "tidewheel.pipelines.executors.isolated:IsolatedExecutor",
    "ray": "tidewheel.pipelines.executors.ray:RayExecutor",
    "kubernetes": "tidewheel.pipelines.executors.kubernetes:KubernetesExecutor",
}
PLACES = (*BUILT_IN, GIVEN)
ENTRY_POINTS = "tidewheel.executors"  # group under which other packages offer executors


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flight:
    """A task that is being executed."""

    place: str  # by which executor
    needs: Needs  # what it holds of this machine


def known_executors() -> list[str]:
    """Return the names of all executors: the built-in ones and those of installed packages.

    >>> known_executors()[:4]
    ['inline', 'threads', 'process', 'isolated']
    """
    return [*BUILT_IN, *sorted(_offered())]


def check_executor(name: str) -> str:
    """Return the name of an executor; raises NotFound, with the known ones, for another name."""
    if name not in BUILT_IN and name not in _offered():
        raise NotFound("executor", name, known_executors())
    return name


def make_executor(name: str, site: Site) -> Executor:
    """Make an executor at a site.

    Raises NotFound for an unknown name, MissingExtra where its package is not installed, InvalidInput for options
    that it does not know.
    """
    if name in BUILT_IN:
        module, _, kind = BUILT_IN[name].partition(":")
        make: Callable[[Site], Executor] = getattr(import_module(module), kind)
        return make(site)
    check_executor(name)
    make = _offered()[name].load()
    return make(site)


def _offered() -> Mapping[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=ENTRY_POINTS) if point.name not in BUILT_IN}


class Crew:
    """Hands tasks to the executor that a step asks for, else to the run's; shares out this machine among them.

    `default` is the name of an executor, or one that the caller keeps (and closes) itself; `options` holds a
    table per executor, as tidewheel.toml has them; `on_beat` is told that a task lives and what it uses.
    """

    def __init__(
        self,
        default: str | Executor,
        shelf: Shelf,
        attempts: Path,
        *,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        on_beat: Callable[[Beat], None] | None = None,
    ) -> None:
        self._default = check_executor(default) if isinstance(default, str) else GIVEN
        self._made: dict[str, Executor] = {} if isinstance(default, str) else {GIVEN: default}
        self._shelf = shelf
        self._attempts = attempts
        self._options = dict(options or {})
        self._on_beat = on_beat
        self._flying: dict[str, _Flight] = {}
        self._ledger = Ledger(machine())

    def place(self, step: Step[..., Any]) -> str:
        """Say where a step is executed; one that needs a process of its own is not left in this one.

        Raises NotFound for an unknown executor, InvalidInput when the step asks for more than this machine has.
        """
        options = step.options
        place = check_executor(options.on) if options.on is not None else self._default
        wishes = _needs_a_process(step)
        if options.isolate is not None:
            wishes.append("isolate")
        if wishes and options.on in (INLINE, THREADS) and (options.on == THREADS or "isolate" in wishes):
            raise InvalidInput(
                f"The step {step.name} is pinned to {options.on!r}, where {wishes[0]}= cannot be kept.",
                f"Leave one of the two out; a step with {wishes[0]}= goes to a process of its own.",
            )
        if options.isolate is not None and place in (INLINE, THREADS, PROCESS):
            place = ISOLATED
        elif options.on is None and wishes and (place == THREADS or (place == INLINE and wishes != ["variables"])):
            place = PROCESS
        if place in (INLINE, THREADS, PROCESS, ISOLATED):
            self._ledger.check(step.name, needs_of(step))
        return place

    def has_room(self, place: str, step: Step[..., Any] | None = None) -> bool:
        """Say whether an executor takes one more task, and this machine has what the step asks for."""
        executor = self._executor(place)
        at = [flight for flight in self._flying.values() if flight.place == place]
        if not at:
            return step is None or not executor.here or self._ledger.admits(needs_of(step), executor.places)
        if step is None or not executor.here:
            return len(at) < executor.places
        needs = needs_of(step)
        taken = sum(min(flight.needs.cpus, executor.places) for flight in at)
        return taken + min(needs.cpus, executor.places) <= executor.places and self._ledger.admits(
            needs, executor.places
        )

    def submit(self, place: str, task: Task) -> None:
        """Hand over a task."""
        executor = self._executor(place)
        needs = needs_of(task.step)
        if executor.here:
            devices = self._ledger.take(task.id, needs)
            task = replace(task, devices=devices) if devices else task
        self._flying[task.id] = _Flight(place=place, needs=needs)
        executor.submit(task)

    def poll(self, timeout: float) -> list[Outcome]:
        """Return what has become of tasks; waits only for those that run elsewhere."""
        done: list[Outcome] = []
        places = dict.fromkeys(flight.place for flight in self._flying.values())
        share = timeout if len(places) == 1 else min(timeout, 0.02)  # two executors are looked at in turn
        for place in places:
            for message in self._executor(place).poll(0.0 if done or place == INLINE else share):
                if isinstance(message, Beat):
                    self._tell(message)
                else:
                    done.append(message)
        for outcome in done:
            self._forget(outcome.id)
        return done

    def adopt(self, place: str, task_id: str) -> Outcome | None:
        """Return what a task of a dead process left behind finished."""
        return self._executor(place).adopt(task_id)

    def cancel(self, task_id: str) -> None:
        """End a task."""
        flight = self._forget(task_id)
        if flight is not None:
            self._executor(flight.place).cancel(task_id)

    def close(self) -> None:
        """Give back the executors that were made here."""
        for place, executor in self._made.items():
            if place != GIVEN:
                executor.close()

    def _tell(self, beat: Beat) -> None:
        if self._on_beat is not None and beat.id in self._flying:
            self._on_beat(beat)

    def _forget(self, task_id: str) -> _Flight | None:
        self._ledger.give_back(task_id)
        return self._flying.pop(task_id, None)

    def _executor(self, place: str) -> Executor:
        if place not in self._made:
            site = Site(shelf=self._shelf, attempts=self._attempts, options=self._options.get(place, {}))
            self._made[place] = make_executor(place, site)
        return self._made[place]


def _needs_a_process(step: Step[..., Any]) -> list[str]:
    """Return which of its options want a process of its own: one that can be ended, or whose environment is its own."""
    options = step.options
    wishes = [name for name in ("timeout", "memory") if getattr(options, name) is not None]
    return wishes + (["gpus"] if options.gpus else []) + (["variables"] if options.variables or options.secrets else [])
