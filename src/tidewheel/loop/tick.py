"""One look of the conductor: take in labels, watch, move the rollout, and retrain when a trigger is due.

Any number of processes may tick: a file lock keeps those of one machine apart, and the state is
written by compare and swap, so that one cause starts one retraining whoever sees it first.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import msgspec
from filelock import FileLock, Timeout

from tidewheel.clock import from_micros, micros
from tidewheel.data import datasets
from tidewheel.errors import Conflict, NotFound, StorageUnavailable
from tidewheel.lineage.store import Store
from tidewheel.loop.collect import Collector
from tidewheel.loop.decisions import decide
from tidewheel.loop.loop import Loop
from tidewheel.loop.policy import Refusal, refusal
from tidewheel.loop.requests import take_requests, waiting_requests
from tidewheel.loop.state import Held, Ladder, LoopState, Running, change, load_state, remembered, save_state
from tidewheel.loop.train import Trained, train
from tidewheel.loop.triggers import Cause, Context, Manual, ladder_due
from tidewheel.monitoring.observe import observe
from tidewheel.monitoring.read import open_alerts
from tidewheel.monitoring.records import Window
from tidewheel.predictions.join import Joiner
from tidewheel.registry.versions import get_model
from tidewheel.rollout.advance import Decision, advance

STALE = timedelta(minutes=30)  # after that another machine finishes a retraining that one machine began


@dataclass(frozen=True, slots=True, kw_only=True)
class TickReport:
    """What one look found and did."""

    model: str  # the loop's model
    labelled: int = 0  # labelled rows so far
    windows: tuple[Window, ...] = ()  # monitor windows that became full
    rollout: Decision | None = None  # what the rollout decided, if anything
    cause: Cause | None = None  # why a retraining was started, if one was
    trained: Trained | None = None  # how it ended
    refusal: Refusal | None = None  # why a due retraining has to wait
    busy: bool = False  # another process was ticking

    def lines(self) -> list[str]:
        """Return the report as text."""
        if self.busy:
            return [f"{self.model}: another process is ticking this loop"]
        found = [f"{self.model}: {self.labelled:,} labelled rows, {len(self.windows)} new windows"]
        if self.rollout:
            found.append(f"  rollout: {self.rollout.text}")
        if self.refusal:
            found.append(f"  waits: {self.refusal.text}")
        if self.cause and self.trained:
            found.append(f"  {self.cause.trigger}: {self.cause.reason}")
            found.append(f"  {self.trained.ending}: {self.trained.reason}")
        return found


@dataclass(slots=True)
class Ticker:
    """Ticks one loop again and again; keeps what is dear to read twice, and nothing that is not stored."""

    store: Store  # where everything is kept
    loop: Loop  # what is ticked
    executor: str = "inline"  # where steps run
    _collector: Collector = field(init=False)
    _joiner: Joiner = field(init=False)

    def __post_init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._collector = Collector(self.store, self.loop)
        self._joiner = Joiner(self.store.home / "log" / self.loop.model)

    def tick(self) -> TickReport:
        """Look once and act. Raises NotFound when the loop's dataset is not registered."""
        with _lock(self.store, self.loop.model) as mine:
            if not mine:
                return TickReport(model=self.loop.model, busy=True)
            try:
                return self._tick()
            except Conflict:
                self._forget()  # another machine moved on; the next tick starts from what it wrote
                return TickReport(model=self.loop.model, busy=True)

    def _tick(self) -> TickReport:
        store, loop = self.store, self.loop
        with store.database.reading() as tx:
            held = load_state(tx, loop.model)
        if not held.revision:
            datasets.get(store, loop.data)
            held = change(store, loop.model, held, lambda state: _replace(state, started=micros(store.clock.now())))
        if held.state.running is not None:
            return self._finish(held, held.state.running)
        held, windows, decision = self._watch(held)
        context = self._context(held)
        report = TickReport(model=loop.model, labelled=context.labelled, windows=tuple(windows), rollout=decision)
        cause = self._due(context)
        if cause is None:
            return report
        stopped = refusal(loop, context, cause, self._rolling())
        if stopped is not None:
            self._note_refusal(held, cause, stopped)
            return _replace_report(report, refusal=stopped)
        held, running = self._begin(self._collector.keep(held), context, cause)
        trained = self._train(held, cause, running)
        return _replace_report(report, cause=cause, trained=trained)

    def _watch(self, held: Held) -> tuple[Held, list[Window], Decision | None]:
        store, loop = self.store, self.loop
        if not _deployed(store, loop.model):
            return held, [], None
        windows = observe(store, loop.model, policy=loop.policy, joiner=self._joiner)
        decision = advance(store, loop.model)
        if loop.collect:
            self._collector.look(held)
            if self._collector.waiting >= loop.collect_rows:
                held = self._collector.keep(held)
            seen = held.state.labelled + self._collector.waiting
            held = change(store, loop.model, held, lambda state: _replace(state, seen=seen))
        return held, windows, decision

    def _context(self, held: Held) -> Context:
        store, loop = self.store, self.loop
        with store.database.reading() as tx:
            requests = waiting_requests(tx, loop.model)
        deployed = _deployed(store, loop.model)
        return Context(
            now=store.clock.now(),
            state=held.state,
            rows=datasets.get(store, loop.data).rows,
            labelled=held.state.labelled + self._collector.waiting,
            alerts=open_alerts(store, loop.model) if deployed else (),
            requests=requests,
        )

    def _due(self, context: Context) -> Cause | None:
        if not context.state.last_run:
            return Cause(trigger="first", key="first", reason="no model has been trained yet")
        triggers = [Manual(), *(trigger for trigger in self.loop.on if not isinstance(trigger, Manual))]
        causes = (trigger.due(context) for trigger in triggers)
        return next((cause for cause in causes if cause), None) or ladder_due(context, self.loop.ladder)

    def _rolling(self) -> bool:
        if not _deployed(self.store, self.loop.model):
            return False
        from tidewheel.registry.traffic import current_traffic

        return current_traffic(self.store, self.loop.model).challenger is not None

    def _note_refusal(self, held: Held, cause: Cause, stopped: Refusal) -> None:
        key = f"{cause.key}|{stopped.rule}"
        if key in held.state.suppressed:
            return
        state = _replace(held.state, suppressed=remembered(held.state.suppressed, key))
        with self.store.database.transaction() as tx:
            save_state(tx, self.loop.model, held, state, store=self.store)
            text = f"{cause.trigger} waits: {stopped.text}"
            numbers = {"rule": stopped.rule, "key": cause.key, "reason": cause.reason}
            decide(tx, self.store, self.loop.model, "trigger.suppressed", text, numbers=numbers)

    def _begin(self, held: Held, context: Context, cause: Cause) -> tuple[Held, Running]:
        """Write down that the retraining begins: state, cause, request and event in one transaction."""
        store, loop = self.store, self.loop
        dataset = datasets.get(store, loop.data)
        now = micros(context.now)
        running = Running(
            trigger=cause.trigger,
            key=cause.key,
            reason=cause.reason,
            host=socket.gethostname(),
            since=now,
            dataset=f"{dataset.name}:{dataset.seq}",
        )
        state = _begun(held.state, context, cause, running, rows=dataset.rows)
        with store.database.transaction() as tx:
            held = save_state(tx, loop.model, held, state, store=store)
            if cause.trigger == "manual":
                take_requests(tx, list(context.requests))
            text = f"{cause.trigger} fired: {cause.reason}"
            numbers = {"trigger": cause.trigger, "key": cause.key, "evidence": dict(cause.numbers)}
            decide(tx, store, loop.model, "trigger.fired", text, numbers=numbers)
        return held, running

    def _train(self, held: Held, cause: Cause, running: Running) -> Trained:
        trained = train(self.store, self.loop, cause, running.dataset, executor=self.executor)
        refused = held.state.refused_in_row + 1 if trained.ending == "refused" else 0
        state = _replace(held.state, running=None, refused_in_row=refused)
        with self.store.database.transaction() as tx:
            save_state(tx, self.loop.model, held, state, store=self.store)
        return trained

    def _finish(self, held: Held, running: Running) -> TickReport:
        """Finish a retraining whose process died; this process holds the machine's lock, so nobody else is at it."""
        elsewhere = running.host != socket.gethostname()
        if elsewhere and self.store.clock.now() - from_micros(running.since) < STALE:
            return TickReport(model=self.loop.model, busy=True)
        cause = Cause(trigger=running.trigger, key=running.key, reason=running.reason)
        trained = self._train(held, cause, running)
        return TickReport(model=self.loop.model, labelled=held.state.labelled, cause=cause, trained=trained)


def tick(store: Store, loop: Loop, *, executor: str = "inline") -> TickReport:
    """Let a loop look once and act; safe from several processes."""
    return Ticker(store, loop, executor).tick()


def _begun(state: LoopState, context: Context, cause: Cause, running: Running, *, rows: int) -> LoopState:
    today = context.now.date().isoformat()
    ladder = state.ladder
    if cause.trigger in ("drift", "decay"):
        if cause.key.startswith("ladder:") and ladder is not None:
            ladder = msgspec.structs.replace(ladder, rung=ladder.rung + 1)
        else:
            ladder = Ladder(trigger=cause.trigger, alert=cause.key, began=context.labelled)
    cron = dict(state.cron)
    if cause.trigger == "cron":
        cron[cause.key.rpartition(":cron")[0] or cause.key.split("):")[0] + ")"] = int(cause.numbers["due"])
    return _replace(
        state,
        running=running,
        last_run=running.since,
        rows_at_last_run=rows,
        labelled_at_last_run=context.labelled,
        causes=remembered(state.causes, cause.key),
        cron=cron,
        day=today,
        today=state.today + 1 if state.day == today else 1,
        ladder=ladder,
    )


def _replace(state: LoopState, **changes: object) -> LoopState:
    return msgspec.structs.replace(state, **changes)


def _replace_report(report: TickReport, **changes: object) -> TickReport:
    from dataclasses import replace

    return replace(report, **changes)  # type: ignore[arg-type]


def _deployed(store: Store, model: str) -> bool:
    try:
        get_model(store, f"{model}@champion")
    except NotFound:
        return False
    return True


@contextmanager
def _lock(store: Store, model: str) -> Iterator[bool]:
    folder = store.home / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"loop-{model.replace('/', '_')}.lock")
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise StorageUnavailable(
            f"{folder} cannot be written: {error.strerror}.", "Make the home folder writable."
        ) from error
    try:
        yield True
    finally:
        lock.release()
