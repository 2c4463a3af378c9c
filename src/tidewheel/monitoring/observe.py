"""Observe a model's production: read what is new in its log, close full windows, judge decay, open and close alerts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from tidewheel.clock import from_micros, new_id
from tidewheel.database.transaction import Transaction
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import append_event
from tidewheel.monitoring import tables
from tidewheel.monitoring.champion import Watched, field_names, find_champion
from tidewheel.monitoring.collect import (
    FieldNames,
    OpenLabels,
    OpenTraffic,
    add_losses,
    add_traffic,
    arm_answers,
    holds_answer,
    in_reign,
)
from tidewheel.monitoring.decay import (
    decay_evidence,
    decay_reason,
    follows,
    is_calm,
    losses_to_sum,
    performance_of,
    restarted,
    see_losses,
    watch_decay,
)
from tidewheel.monitoring.drift import compare_columns
from tidewheel.monitoring.losses import row_losses
from tidewheel.monitoring.policy import MonitorPolicy
from tidewheel.monitoring.records import AlertKind, Performance, Traffic, Window, WindowKind
from tidewheel.monitoring.signals import Signal, Transition, follow, traffic_signals
from tidewheel.monitoring.state import MonitorState, Stored, load_state, save_state
from tidewheel.predictions.join import Joiner, LabelledRow
from tidewheel.predictions.reader import LogReader
from tidewheel.predictions.records import ANSWERED, Prediction
from tidewheel.predictions.segments import log_folder as folder_of

RECORDS_AT_ONCE = 20_000  # bounds memory when a long log is read for the first time
BY = "monitor"


def observe(
    store: Store,
    model: str,
    *,
    policy: MonitorPolicy | None = None,
    log_folder: Path | None = None,
    joiner: Joiner | None = None,
) -> list[Window]:
    """Read on in the model's prediction log and return the windows that became full, oldest first.

    Cursors, windows, alerts and events are stored in one transaction: of two processes that observe at once one wins
    and the other returns nothing. Decay is judged at every new label, windows or not; see `open_alerts` for the
    verdicts. Without a champion nothing is read. `log_folder` is the folder of this model's log (default: where the
    store keeps it); a `joiner` kept between calls (of the same folder, for this caller alone) spares reading the log
    again. Raises NotFound for an unknown model.
    """
    champion = find_champion(store, model)
    if champion is None:
        return []
    folder = log_folder or folder_of(store.home, model)
    with store.database.reading() as tx:
        stored = load_state(tx, model)
        open_kinds = _open_kinds(tx, model)
    look = _Look(store, model, champion, policy or MonitorPolicy())
    look.begin(stored, open_kinds)
    reader = LogReader(folder, Prediction)
    while True:
        batch = reader.read(look.state.log, limit=RECORDS_AT_ONCE)
        look.see_traffic(batch.records, batch.cursor)
        if len(batch.records) < RECORDS_AT_ONCE:
            break
    joined = joiner or Joiner(folder)
    while True:
        labelled = joined.labelled(look.state.labels, limit=RECORDS_AT_ONCE)
        look.see_labels(labelled.rows, labelled.cursor)
        if not labelled.more:
            break
    if look.state == stored.state:
        return []
    return look.windows if look.commit(stored.revision) else []


class _Look:
    """One observation on its way from the stored state to the next one; nothing is written before `commit`."""

    state: MonitorState

    def __init__(self, store: Store, model: str, champion: Watched, policy: MonitorPolicy) -> None:
        self.windows: list[Window] = []
        self._store = store
        self._model = model
        self._champion = champion
        self._policy = policy
        self._now = store.clock.now()
        self._names: FieldNames = field_names(store, model, champion)
        self._open: set[AlertKind] = set()
        self._transitions: list[Transition] = []

    def begin(self, stored: Stored, open_kinds: frozenset[AlertKind]) -> None:
        """Take up the stored state; another champion than before begins windows and evidence anew."""
        self._open = set(open_kinds)
        decay = watch_decay(self._policy, self._champion.signature, self._champion.metrics)
        before = stored.state
        if before is None:
            self.state = MonitorState(champion=self._champion.seq, decay=decay)
        elif before.champion != self._champion.seq:
            self.state = MonitorState(
                champion=self._champion.seq,
                decay=decay,
                log=before.log,
                labels=before.labels,
                traffic_windows=before.traffic_windows,
                label_windows=before.label_windows,
            )
            moved = {"from": before.champion, "to": self._champion.seq}
            reason = "champion changed"
            self._turn(
                [Transition(kind=kind, opens=False, reason=reason, evidence=moved) for kind in sorted(open_kinds)]
            )
        elif not follows(before.decay, self._policy, self._champion.signature):
            self.state = msgspec.structs.replace(before, decay=decay)
        else:
            self.state = before

    def see_traffic(self, records: Sequence[Prediction], cursor: dict[str, int]) -> None:
        """Count predictions into the open traffic window and close it whenever it is full."""
        champion = self._champion
        own = [record for record in records if in_reign(record, champion.seq)]
        while own:
            filling = self.state.traffic
            taken = _until_full(own, self._policy.window_rows - filling.rows)
            filling = add_traffic(
                filling,
                own[:taken],
                baseline=champion.baseline,
                signature=champion.signature,
                champion=champion.seq,
                names=self._names,
            )
            own = own[taken:]
            self.state = msgspec.structs.replace(self.state, traffic=filling)
            if filling.rows >= self._policy.window_rows:
                self._close_traffic(filling, requests=sum(arm.requests for arm in filling.arms.values()))
        self.state = msgspec.structs.replace(self.state, log=cursor)

    def see_labels(self, rows: Sequence[LabelledRow], cursor: dict[str, int]) -> None:
        """Judge decay at every new label of the champion, and close the labels window whenever it is full."""
        own = [row for row in rows if holds_answer(row, self._champion.seq)]
        for part in self._label_parts(own):
            losses = {
                loss: row_losses(loss, arm_answers(part, self._champion.seq, self._champion.signature.classes or ()))
                for loss in losses_to_sum(self.state.decay, self._champion.signature)
            }
            watched = self.state.decay.loss
            filling = add_losses(self.state.labelled, part, losses, watched=watched)
            decay = see_losses(self.state.decay, losses[watched])
            self.state = msgspec.structs.replace(self.state, labelled=filling, decay=decay)
            self._judge_decay()
            if filling.rows >= self._policy.label_rows:
                self._close_labels(filling)
        self.state = msgspec.structs.replace(self.state, labels=cursor)

    def commit(self, revision: int) -> bool:
        """Store state, windows, alerts and events together, unless somebody else observed since; say whether."""
        with self._store.database.transaction() as tx:
            if not save_state(tx, self._model, self.state, revision=revision, at=self._now):
                return False
            for window in self.windows:
                tx.execute(sa.insert(tables.window).values(_window_row(window)))
            for transition in self._transitions:
                self._write(tx, transition)
        return True

    def _label_parts(self, rows: Sequence[LabelledRow]) -> Iterator[Sequence[LabelledRow]]:
        at = 0
        while at < len(rows):
            size = max(self._policy.label_rows - self.state.labelled.rows, 1)
            yield rows[at : at + size]
            at += size

    def _judge_decay(self) -> None:
        if not self.state.decay.alarmed or "decay" in self._open:
            return
        recent = self.state.labelled if self.state.labelled.rows else self.state.recent
        evidence = decay_evidence(self.state.decay, recent)
        reason = decay_reason(evidence)
        self._turn([Transition(kind="decay", opens=True, reason=reason, evidence=evidence)])

    def _close_traffic(self, full: OpenTraffic, *, requests: int) -> None:
        seconds = (full.end - full.start) / 1e6
        body = Traffic(
            columns=compare_columns(self._champion.baseline, full.cells, self._policy),
            arms={name: arm.closed() for name, arm in full.arms.items()},
            per_second=round(requests / seconds, 3) if seconds > 0 else None,
        )
        number = self.state.traffic_windows + 1
        self.windows.append(replace(self._window("traffic", number, full), traffic=body))
        streaks = self._follow(traffic_signals(body, self._policy))
        self.state = msgspec.structs.replace(self.state, traffic=OpenTraffic(), traffic_windows=number, streaks=streaks)

    def _close_labels(self, full: OpenLabels) -> None:
        body: Performance = performance_of(full, self.state.decay)
        number = self.state.label_windows + 1
        self.windows.append(replace(self._window("labels", number, full), performance=body))
        calm = is_calm(full, self.state.decay, self._policy.exit_ratio)
        was_open = "decay" in self._open
        evidence = {"metric": body.metric, "value": body.value, "tolerated": body.tolerated}
        signal = Signal(kind="decay", breach=False, calm=calm, reason=f"{body.metric} is back", evidence=evidence)
        streaks = self._follow([signal])
        decay = self.state.decay
        if was_open and "decay" not in self._open:
            decay = restarted(decay)
        self.state = msgspec.structs.replace(
            self.state, labelled=OpenLabels(), recent=full, label_windows=number, streaks=streaks, decay=decay
        )

    def _window(self, kind: WindowKind, number: int, full: OpenTraffic | OpenLabels) -> Window:
        return Window(
            id=new_id(),
            model=self._model,
            kind=kind,
            number=number,
            version=self._champion.seq,
            rows=full.rows,
            start=from_micros(full.start),
            end=from_micros(full.end),
            at=self._now,
        )

    def _follow(self, signals: Sequence[Signal]) -> Any:
        streaks, transitions = follow(self.state.streaks, signals, frozenset(self._open), self._policy)
        self._turn(transitions)
        return streaks

    def _turn(self, transitions: Sequence[Transition]) -> None:
        for transition in transitions:
            self._transitions.append(transition)
            if transition.opens:
                self._open.add(transition.kind)
            else:
                self._open.discard(transition.kind)

    def _write(self, tx: Transaction, transition: Transition) -> None:
        table, evidence = tables.alert, dict(transition.evidence)
        if transition.opens:
            alert_id, name = new_id(), "alert.opened"
            opened = {"state": "open", "opened": self._now, "reason": transition.reason, "evidence": evidence}
            values = {"id": alert_id, "model": self._model, "kind": transition.kind, "version": self._champion.seq}
            tx.execute(sa.insert(table).values(**values, **opened))
        else:
            held = (table.c.model == self._model) & (table.c.kind == transition.kind) & (table.c.state == "open")
            alert_id, name = tx.execute(sa.select(table.c.id).where(held)).scalar_one(), "alert.closed"
            closing = {"state": "closed", "closed": self._now, "ending": {"reason": transition.reason, **evidence}}
            tx.execute(sa.update(table).where(table.c.id == alert_id).values(closing))
        verb = "opened" if transition.opens else "closed"
        body = {
            "alert": alert_id,
            "model": self._model,
            "kind": transition.kind,
            "version": self._champion.seq,
            "text": f"{transition.kind} alert of {self._model} {verb}: {transition.reason}",
            "evidence": evidence,
        }
        append_event(tx, name, body, at=self._now, subject_id=self._champion.entity_id, by=BY)


def _open_kinds(tx: Transaction, model: str) -> frozenset[AlertKind]:
    table = tables.alert
    held = sa.select(table.c.kind).where(table.c.model == model, table.c.state == "open")
    return frozenset(tx.execute(held).scalars())


def _until_full(records: Sequence[Prediction], rows: int) -> int:
    """Return how many records it takes to hold at least so many predicted rows; all of them if they do not."""
    held = 0
    for taken, record in enumerate(records, start=1):
        held += len(record.output) if record.status == ANSWERED else 0
        if held >= rows:
            return taken
    return len(records)


def _window_row(window: Window) -> dict[str, Any]:
    body = window.traffic if window.kind == "traffic" else window.performance
    kept = ("id", "model", "kind", "number", "version", "rows", "start", "end", "at")
    return {name: getattr(window, name) for name in kept} | {"body": msgspec.to_builtins(body, str_keys=True)}
