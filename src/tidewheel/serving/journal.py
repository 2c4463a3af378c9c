"""The logs of one endpoint: what was answered, and the outcomes that came."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

from msgspec.structs import replace

from tidewheel.errors import StorageUnavailable
from tidewheel.predictions.log import LogWriter
from tidewheel.predictions.records import ANSWERED, Other, Outcome, Prediction, Shadowed, Value
from tidewheel.predictions.rules import LogRules, Redaction, hashed, keeps_payload, masked
from tidewheel.serving.metrics import Counters

SLOW_SECONDS = 0.05  # a write that took longer says that the disk is slow
MOST_WAITING = 20_000  # records that wait for a slow disk; further ones are given up
LEAN_FROM = 2_000  # of them waiting, further ones go without features
AT_ONCE = 500  # records of one write behind a slow disk
IDLE_SECONDS = 1.0  # without a request after which a slow disk is tried again
DRAIN_SECONDS = 5.0  # for which `close` waits for a slow disk

logger = logging.getLogger("tidewheel.serving")

PLAIN = LogRules()

FieldsOf = Callable[[int], Sequence[str] | None]


class Journal:
    """Writes records before their answers leave.

    `rules` say what of a request is kept; `salt` keys the hashes.

    A disk that does not take a prediction costs its features, then the record, each counted, never the answer. A disk
    that is slow is written to by a thread while answers go on, until it has caught up; with `strict` they wait. A disk
    that does not take outcomes is the caller's to know: StorageUnavailable.
    """

    def __init__(
        self,
        folder: Path,
        writer: str,
        counters: Counters,
        *,
        strict: bool,
        rules: LogRules = PLAIN,
        salt: bytes = b"",
        seconds: Callable[[], float] = monotonic,
    ) -> None:
        self.folder = folder
        self.trouble = ""  # why the last record was given up; "" when the last one was written
        self._counters = counters
        self._predictions = LogWriter(folder, writer, strict=strict)
        self._outcomes = LogWriter(folder, writer, kind=Outcome, strict=strict)
        self._shadows = LogWriter(folder, writer, kind=Shadowed)
        self._discretion = None if rules.plain else Discretion(rules, salt)
        self._patient = strict
        self._seconds = seconds
        self._backlog = _Backlog(self._store, counters, seconds)

    def ask(self, fields: FieldsOf) -> None:
        """Take in who knows what the columns of a version are called."""
        if self._discretion is not None:
            self._discretion.fields = fields

    def said(self, error: str) -> str:
        """Return what may be told of an error where columns are redacted: its kind, without values."""
        return error if self._discretion is None else self._discretion.said(error)

    def write(self, *records: Prediction) -> None:
        """Write the records of some requests with one write."""
        kept: Sequence[Prediction] = records
        if self._discretion is not None:
            kept = [self._discretion.kept(record) for record in records]
        if self._backlog.busy and self._backlog.takes(kept):
            return
        started = self._seconds()
        self._store(kept)
        if not self._patient and self._seconds() - started > SLOW_SECONDS:
            self._backlog.begin()

    def write_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Write outcomes, all or none. Raises StorageUnavailable when the disk does not take them."""
        for outcome in outcomes:
            self._outcomes.append(outcome)
        try:
            self._outcomes.flush()
        except StorageUnavailable:
            self._counters.outcomes_refused += len(outcomes)
            raise
        self._counters.outcomes += len(outcomes)

    def write_shadow(self, record: Shadowed) -> None:
        """Write what a challenger in the shadow said; for the one thread that scores them.

        A disk that does not take it costs the record, which is counted.
        """
        self._shadows.append(replace(record, error=self.said(record.error)) if record.error else record)
        try:
            self._shadows.flush()
        except StorageUnavailable:
            self._counters.shadow_lost += 1

    def sync(self) -> None:
        """Force the logs onto the disk; a disk that fails is reported, not raised: the next sync tries again."""
        for log in (self._predictions, self._outcomes, self._shadows):
            try:
                log.sync()
            except StorageUnavailable as error:
                logger.warning("the log could not be synced: %s", error.what)

    def close(self) -> None:
        """Write what waits, sync and let go of the logs."""
        self._backlog.end()
        for log in (self._predictions, self._outcomes, self._shadows):
            try:
                log.close()
            except StorageUnavailable as error:
                logger.warning("the log could not be closed: %s", error.what)

    def _store(self, records: Sequence[Prediction]) -> None:
        try:
            self._flush(records)
        except StorageUnavailable as error:
            self._spare(records, error)
        else:
            self.trouble = ""

    def _spare(self, records: Sequence[Prediction], error: StorageUnavailable) -> None:
        """Write records without what takes most room; give them up where even that does not fit."""
        if error.what != self.trouble:
            logger.warning("predictions go out without being fully logged: %s", error.what)
        self.trouble = error.what
        try:
            self._flush([lean(record) for record in records])
        except StorageUnavailable:
            self._counters.dropped += len(records)
        else:
            self._counters.payloads_dropped += len(records)

    def _flush(self, records: Sequence[Prediction]) -> None:
        for record in records:
            self._predictions.append(record)
        self._predictions.flush()


class Discretion:
    """Applies the rules of one model to its records."""

    def __init__(self, rules: LogRules, salt: bytes) -> None:
        self._rules = rules
        self._salt = salt
        self._silent = bool(rules.drop or rules.hash or rules.mask)
        self._redactions: dict[int, Redaction] = {}  # by version
        self.fields: FieldsOf = lambda _: None  # names of the columns of a version; None: not known

    def said(self, error: str) -> str:
        """Return an error up to its first colon: what follows quotes values."""
        return error.partition(":")[0] if self._silent else error

    def kept(self, record: Prediction) -> Prediction:
        """Return what of a record may be written."""
        redaction = self._redactions.get(record.version) or self._learned(record.version)
        sampled = record.status != ANSWERED or keeps_payload(record.id, self._rules.share)
        if not self._silent:
            return record if sampled else lean(record)
        features: Sequence[Sequence[Value]] = []  # without names nobody knows what to leave out
        if sampled and redaction is not None:
            features = redaction.rows(record.features)
        return replace(
            record,
            features=features,
            unit=self._unit(record.unit),
            error=self.said(record.error),
            other=None if record.other is None else self._quiet(record.other),
            parts=[self._quiet(part) for part in record.parts],
            redacted=redaction.places if redaction is not None else (),
        )

    def _quiet(self, other: Other) -> Other:
        return replace(other, error=self.said(other.error)) if other.error else other

    def _learned(self, version: int) -> Redaction | None:
        fields = self.fields(version)
        if fields is None:
            return None
        return self._redactions.setdefault(version, Redaction(self._rules, fields, self._salt))

    def _unit(self, unit: str) -> str:
        rules = self._rules
        if not unit or "unit" in rules.drop:
            return ""
        if "unit" in rules.hash:
            return str(hashed(unit, self._salt))
        return str(masked(unit)) if "unit" in rules.mask else unit


def lean(record: Prediction) -> Prediction:
    """Return a record without its features; outcomes still join it."""
    return replace(record, features=[])


class _Backlog:
    """Records behind a slow disk, in order; while it is busy, its thread alone writes."""

    def __init__(
        self, store: Callable[[Sequence[Prediction]], None], counters: Counters, seconds: Callable[[], float]
    ) -> None:
        self._store = store
        self._seconds = seconds
        self._ending = False
        self._counters = counters
        self.busy = False  # whether its thread writes
        self._waiting: deque[Prediction] = deque()
        self._lock = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="tidewheel-log", daemon=True)

    def takes(self, records: Sequence[Prediction]) -> bool:
        """Take records if the disk is behind; say whether it was."""
        with self._lock:
            if not self.busy:
                return False
            room = MOST_WAITING - len(self._waiting)
            if len(records) > room:
                self._counters.dropped += len(records)
                return True
            if len(self._waiting) >= LEAN_FROM:
                records = [lean(record) for record in records]
                self._counters.payloads_dropped += len(records)
            self._waiting.extend(records)
            self._counters.deferred += len(records)
            self._lock.notify()
        return True

    def begin(self) -> None:
        """Let a thread write from now on, until nothing waits any more."""
        self.busy = True
        self._thread = threading.Thread(target=self._run, name="tidewheel-log", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Wait for what waits, as long as that is reasonable."""
        with self._lock:
            self._ending = True
            self._lock.notify()
        if self.busy:
            self._thread.join(DRAIN_SECONDS)

    def _run(self) -> None:
        slow = True
        while True:
            part = self._part(patient=slow)
            if not part:
                return
            started = self._seconds()
            self._store(part)
            slow = self._seconds() - started > SLOW_SECONDS

    def _part(self, *, patient: bool) -> list[Prediction]:
        """Return what is to be written next; none ends the backlog: the disk was fast again, or nobody asks."""
        with self._lock:
            if patient and not self._waiting and not self._ending:
                self._lock.wait(IDLE_SECONDS)
            part = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            self.busy = bool(part)
        return part
