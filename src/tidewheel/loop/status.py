"""What a loop does, for people and programs: what runs, what serves, what is being decided."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from tidewheel.clock import from_micros
from tidewheel.errors import NotFound
from tidewheel.lineage.read import count_events, find_entity, list_events
from tidewheel.lineage.store import Store
from tidewheel.loop.requests import waiting_requests
from tidewheel.loop.state import LoopState, load_state
from tidewheel.loop.tables import loop_state
from tidewheel.monitoring.alerts import open_alerts
from tidewheel.monitoring.records import Alert
from tidewheel.registry.traffic import current_traffic

SHOWN = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopStatus:
    """The state of one loop."""

    model: str  # the loop's model
    at: datetime  # last change
    busy: bool  # a retraining is in flight, or triggers have not been asked since the last one
    doing: str  # what it does now, in words
    labelled: int  # labelled rows looked at so far
    last_run: datetime | None  # begin of the last retraining
    champion: int | None  # version that answers
    challenger: int | None  # version on trial
    share: float  # of the traffic that it gets, 0 to 1
    counters: Mapping[str, int]  # triggers, runs, promotions, refusals, rollbacks so far
    alerts: tuple[Alert, ...]  # open ones
    decisions: tuple[tuple[datetime, str], ...]  # newest first

    def lines(self) -> list[str]:
        """Return the status as text."""
        serves = f"version {self.champion} answers" if self.champion else "nothing is deployed yet"
        if self.challenger:
            serves += f", version {self.challenger} is on trial with {self.share:.0%}"
        counted = ", ".join(f"{count} {name}" for name, count in self.counters.items())
        found = [f"{self.model}: {self.doing}", f"  {serves}", f"  {self.labelled:,} labelled rows; {counted}"]
        found += [f"  open alert: {alert.kind} since {alert.opened:%Y-%m-%d %H:%M}" for alert in self.alerts]
        found += [f"  {at:%Y-%m-%d %H:%M:%S}  {text}" for at, text in self.decisions]
        return found


COUNTED = {
    "triggers": "trigger.fired",
    "runs": "run.finished",
    "promotions": "rollout.promoted",
    "refusals": "gate.refused",
    "rollbacks": "rollout.rolled_back",
}


def status(store: Store, model: str | None = None) -> list[LoopStatus]:
    """Return the status of one loop or of all; none before the first tick. Raises NotFound for an unknown one."""
    with store.database.reading() as tx:
        known = list(tx.execute(sa.select(loop_state.c.model).order_by(loop_state.c.model)).scalars())
    if model is not None and model not in known and known:
        raise NotFound("loop", model, known)
    return [_status(store, name) for name in known if model in (None, name)]


def _status(store: Store, model: str) -> LoopStatus:
    with store.database.reading() as tx:
        held = load_state(tx, model)
        at = tx.execute(sa.select(loop_state.c.at).where(loop_state.c.model == model)).scalar_one()
        asked = bool(waiting_requests(tx, model))
        traffic = None
        with suppress(NotFound):
            traffic = current_traffic(tx, model)
        try:
            subject = find_entity(tx, "model", model).id
            counted = count_events(tx, subject_id=subject)
            events = list_events(tx, subject_id=subject, limit=5 * SHOWN, newest_first=True)
        except NotFound:
            counted, events = {}, []
    state = held.state
    decisions = [(event.at, str(event.body["text"])) for event in events if "text" in event.body]
    return LoopStatus(
        model=model,
        at=at,
        busy=_busy(state, asked=asked, rolling=traffic is not None and traffic.challenger is not None),
        doing=_doing(state),
        labelled=state.seen,
        last_run=from_micros(state.last_run) if state.last_run else None,
        champion=traffic.champion if traffic else None,
        challenger=traffic.challenger if traffic else None,
        share=traffic.share if traffic else 0.0,
        counters={name: counted.get(kind, 0) for name, kind in COUNTED.items()},
        alerts=tuple(open_alerts(store, model)) if traffic else (),
        decisions=tuple(decisions[:SHOWN]),
    )


def _busy(state: LoopState, *, asked: bool, rolling: bool) -> bool:
    """Say whether something is being done or about to begin.

    Labels count as looked at only in the transaction that begins what they imply, or says that they imply nothing.
    """
    if state.running is not None:
        return True
    if state.trouble:
        return False
    freed = state.waiting is not None and state.waiting.rule == "one_at_a_time" and not rolling
    return not state.settled or freed or (asked and not rolling)


def _doing(state: LoopState) -> str:
    if state.running is not None:
        return f"retraining because {state.running.trigger}: {state.running.reason}"
    if state.trouble:
        return f"cannot look: {state.trouble}"
    return f"watching; a retraining waits: {state.waiting.text}" if state.waiting else "watching"
