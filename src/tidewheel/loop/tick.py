"""One look of the conductor: take in labels, watch, move the rollout, and retrain when a trigger is due.

Any number of processes may tick: a file lock keeps those of one machine apart, and the state is
written by compare and swap, so that one cause starts one retraining whoever sees it first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from urllib.parse import quote

import msgspec
from filelock import FileLock, Timeout

from tidewheel.clock import from_micros, micros
from tidewheel.errors import Conflict, StorageUnavailable, TidewheelError
from tidewheel.lineage.store import Store
from tidewheel.loop.causes import LOOP, Asked, armed, ask, begun, remembering
from tidewheel.loop.decisions import decide
from tidewheel.loop.declared import declare_loop
from tidewheel.loop.facts import Facts, read_facts
from tidewheel.loop.loop import Loop
from tidewheel.loop.material import unseen_rows
from tidewheel.loop.policy import refusal
from tidewheel.loop.requests import take_requests
from tidewheel.loop.state import Claim, Overtaken, Running, Waiting, load_state, owner_of
from tidewheel.loop.train import Trained, train
from tidewheel.loop.triggers import Cause, Context, loop_name
from tidewheel.loop.watch import Watcher
from tidewheel.monitoring.alerts import open_alerts
from tidewheel.monitoring.records import Window
from tidewheel.pipelines.keeper import lease_kept, lease_lasts
from tidewheel.rollout.records import Decision
from tidewheel.triggers.items import Used, use_up
from tidewheel.triggers.policy import Refusal


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
    _watcher: Watcher = field(init=False)
    _declared: bool = False  # whether what the loop declares is kept
    _mine: str = ""  # key of the retraining that this very process works on

    def __post_init__(self) -> None:
        self._watcher = Watcher(self.store, self.loop)

    def tick(self) -> TickReport:
        """Look once and act.

        Raises NotFound when the loop's dataset is not registered, StorageUnavailable and whatever else stops a look;
        the state then says so until a look succeeds again.
        """
        self._declare()
        with _lock(self.store, self.loop.model) as mine:
            if not mine:
                return TickReport(model=self.loop.model, busy=True)
            try:
                return self._tick()
            except Conflict:
                self._watcher = Watcher(self.store, self.loop)  # begin at what the other one wrote
                return TickReport(model=self.loop.model, busy=True)
            except TidewheelError as error:
                self._note_trouble(error.what, error.mend)
                raise
            except Exception as error:
                self._note_trouble(f"{type(error).__name__}: {error}", "Look into the log of the conductor.")
                raise

    def _declare(self) -> None:
        """Keep the declaration where it is new; one that another process has just kept is as good."""
        if not self._declared:
            with suppress(Conflict, StorageUnavailable):
                declare_loop(self.store, self.loop)
                self._declared = True

    def _tick(self) -> TickReport:
        facts = read_facts(self.store, self.loop)
        claim = Claim(self.store, self.loop.model, facts.held)
        if claim.state.running is not None:
            return self._go_on(claim, claim.state.running)
        self._arm(claim, facts)
        windows: Sequence[Window] = ()
        decision = None
        if facts.traffic is not None and self._watcher.stirred(claim, facts.traffic):
            windows, decision = self._watcher.look(claim, facts.traffic)
            facts = read_facts(self.store, self.loop)
        context = self._context(claim, facts)
        report = TickReport(model=self.loop.model, labelled=context.labelled, windows=tuple(windows), rollout=decision)
        return self._decide(claim, context, report)

    def _arm(self, claim: Claim, facts: Facts) -> None:
        """Begin to count for what is seen for the first time: the loop itself, a schedule."""
        acted = armed(self.loop, claim.state, micros(self.store.clock.now()))
        rows = claim.state.rows_at_last_run
        if LOOP not in claim.state.acted and facts.traffic is not None:
            rows = facts.dataset.rows  # a model was deployed by hand before: new data are those after now
        claim.move(acted=acted, rows_at_last_run=rows)

    def _context(self, claim: Claim, facts: Facts) -> Context:
        waiting = self._watcher.collector.waiting
        alerts = []
        if facts.traffic is not None:
            # An alert about a version that was replaced a moment ago asks for nothing.
            alerts = open_alerts(self.store, self.loop.model)
            alerts = [alert for alert in alerts if alert.version == facts.traffic.champion]
        return Context(
            now=self.store.clock.now(),
            state=claim.state,
            version=facts.dataset.version_id,
            rows=facts.dataset.rows + (waiting if self.loop.collect else 0),
            labelled=claim.state.labelled + waiting,
            deployed=facts.traffic is not None,
            rolling=facts.rolling,
            alerts=alerts,
            requests=facts.requests,
            came=facts.dataset.at,
            model=self.loop.model,
            held=self.store,
        )

    def _decide(self, claim: Claim, context: Context, report: TickReport) -> TickReport:
        asked = ask(self.loop, context)
        causes, context = asked.causes, self._remember(claim, context, asked)
        if not causes:
            claim.move(seen=context.labelled, settled=True, waiting=None, trouble="")
            return report
        stopped = refusal(self.loop, context, causes[0])
        if stopped is not None:
            self._wait(claim, context, causes[0], stopped)
            return replace(report, refusal=stopped)
        self._begin(claim, context, causes)
        return replace(report, cause=causes[0], trained=self._train(claim))

    def _remember(self, claim: Claim, context: Context, asked: Asked) -> Context:
        """Keep what the rules remember whether they are due or not."""
        state = remembering(claim.state, asked.keep)
        if state == claim.state and not asked.seen:
            return context
        with claim.moving(acted=state.acted, memory=state.memory) as tx:
            used = Used(name=loop_name(self.loop.model), epoch=1)
            use_up(tx, used, asked.seen, context.now)
        return replace(context, state=claim.state)

    def _wait(self, claim: Claim, context: Context, cause: Cause, stopped: Refusal) -> None:
        """Write down that a rule holds a retraining back, once for each cause and rule."""
        before = claim.state.waiting
        if before is not None and (before.cause, before.rule) == (cause.rule, stopped.rule):
            claim.move(seen=context.labelled, settled=True, trouble="")
            return
        waiting = Waiting(cause=cause.rule, rule=stopped.rule, text=stopped.text)
        with claim.moving(seen=context.labelled, settled=True, waiting=waiting, trouble="") as tx:
            text = f"{cause.trigger} waits: {stopped.text}"
            numbers = {"rule": stopped.rule, "key": cause.key, "reason": cause.reason}
            decide(tx, self.store, self.loop.model, "trigger.suppressed", text, numbers=numbers)

    def _begin(self, claim: Claim, context: Context, causes: Sequence[Cause]) -> None:
        """Write down that a retraining begins: state, causes, requests and event in one transaction."""
        store, loop, cause = self.store, self.loop, causes[0]
        self._watcher.collector.keep(claim)
        dataset = read_facts(store, loop).dataset
        running = Running(
            trigger=cause.trigger,
            key=cause.key,
            reason=cause.reason,
            owner=owner_of(store.home),
            since=micros(context.now),
            dataset=dataset.reference,
            unseen=unseen_rows(store, loop, dataset),
            spoiled=loop.game_day.shuffle_labels and context.deployed and not claim.state.spoiled,
        )
        state = begun(claim.state, context, causes, running, rows=dataset.rows, ladder_on=loop.ladder_on)
        with claim.moving(**{name: getattr(state, name) for name in state.__struct_fields__}) as tx:
            take_requests(tx, context.requests)
            used = Used(name=loop_name(loop.model), epoch=1)
            use_up(tx, used, [item for each in causes for item in each.items], context.now)
            numbers = {
                "trigger": cause.trigger,
                "key": cause.key,
                "evidence": dict(cause.numbers),
                "also": [other.key for other in causes[1:]],
            }
            decide(tx, store, loop.model, "trigger.fired", f"{cause.trigger} fired: {cause.reason}", numbers=numbers)
        self._mine = cause.key

    def _train(self, claim: Claim) -> Trained:
        with lease_kept(self.store, self._lease):
            return train(self.store, self.loop, claim, executor=self.executor)

    def _lives(self, running: Running, now: datetime) -> bool:
        """Say whether a process on another machine may be at it: it has begun just now, or its lease lasts."""
        fresh = now - from_micros(running.since) < timedelta(seconds=self.store.lease_seconds)
        return fresh or lease_lasts(self.store, self._lease)

    @property
    def _lease(self) -> str:
        return f"loop:{self.loop.model}"

    def _go_on(self, claim: Claim, running: Running) -> TickReport:
        """Finish a retraining that is in flight; on this machine its process is dead, for its lock is ours."""
        now, here = self.store.clock.now(), owner_of(self.store.home)
        if running.owner != here and self._lives(running, now):
            return TickReport(model=self.loop.model, busy=True)
        if running.key != self._mine:
            taken = msgspec.structs.replace(running, owner=here, since=micros(now), attempts=running.attempts + 1)
            claim.move(running=taken)
            self._mine = running.key
        trained = self._train(claim)
        rule, _, mark = running.key.partition(":")
        cause = Cause(trigger=running.trigger, rule=rule, mark=mark, reason=running.reason)
        return TickReport(model=self.loop.model, labelled=claim.state.labelled, cause=cause, trained=trained)

    def _note_trouble(self, what: str, mend: str) -> None:
        """Keep in the state why this loop cannot look, for whoever asks; the same reason is written once."""
        with suppress(Overtaken, StorageUnavailable):
            with self.store.database.reading() as tx:
                held = load_state(tx, self.loop.model)
            if held.state.trouble == what:
                return
            claim = Claim(self.store, self.loop.model, held)
            with claim.moving(trouble=what) as tx:
                decide(tx, self.store, self.loop.model, "loop.stuck", f"cannot look: {what}", numbers={"mend": mend})


def tick(store: Store, loop: Loop, *, executor: str = "inline") -> TickReport:
    """Let a loop look once and act; safe from several processes."""
    return Ticker(store, loop, executor).tick()


@contextmanager
def _lock(store: Store, model: str) -> Iterator[bool]:
    folder = store.home / "locks"
    lock = FileLock(folder / f"loop-{quote(model, safe='')}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
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
