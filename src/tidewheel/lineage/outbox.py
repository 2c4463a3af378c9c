"""The outbox: what others are to be told is written with the change itself, and sent afterwards, at least once.

What runs and steps do is noted thinly (which execution, which state); the message is made when it is sent, from what
the graph holds then. Messages about one run go out in order, those of different runs independently of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from tidewheel.clock import Clock, from_micros, micros
from tidewheel.database.database import Database
from tidewheel.database.transaction import Transaction
from tidewheel.database.values import from_json
from tidewheel.errors import NotFound

MOST_TRIES = 8  # then a message is parked and those after it go on
_FIRST_PAUSE = 2.0  # seconds before the second try; doubled for each further one
_LONGEST_PAUSE = 900.0  # seconds
_LEASE = 120.0  # seconds for which a sender has a stream to itself
_AT_ONCE = 200  # messages of a stream that are sent under one lease
AGAIN = "CLAIMED"  # noted when somebody takes up an execution that has a row already: queued, lost, to be tried again
_TOLD = frozenset({AGAIN, "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED", "LOST", "COMMITTED", "CACHED", "SKIPPED"})

# The oldest message of a run that is due; what comes after it waits.
_HEAD = """
SELECT o.seq, o.stream FROM outbox o
WHERE o.sink = :sink AND o.sent IS NULL AND o.parked IS NULL AND o.due <= :now AND NOT EXISTS (
  SELECT 1 FROM outbox e
  WHERE e.sink = o.sink AND e.stream = o.stream AND e.seq < o.seq AND e.sent IS NULL AND e.parked IS NULL
)
ORDER BY o.seq LIMIT 1
"""
_SKIPPING = "FOR UPDATE OF o SKIP LOCKED"  # other senders take other runs


class Sink(Protocol):
    """Somebody outside who is told."""

    def send(self, message: Mapping[str, Any], key: str) -> None:
        """Hand over one message; `key` is the same at every try. Raises DeliveryFailed."""
        ...


class DeliveryFailed(Exception):
    """A message was not taken; `poison` says that it never will be."""

    def __init__(self, reason: str, *, poison: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.poison = poison


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One thing to be told, as it was noted."""

    seq: int  # order of the outbox
    execution_id: str  # what it is about
    state: str  # the state that it reached
    at: datetime  # when


Maker = Callable[[Transaction, Note], Mapping[str, Any]]  # makes the message of a note
Sinks = Mapping[str, tuple[Sink, Maker]]  # by the name under which notes are kept for them


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A message that was not delivered yet."""

    seq: int  # order of the outbox
    sink: str  # for whom
    run_id: str  # the run it is about
    at: datetime  # when it happened
    tries: int  # how often it was sent in vain
    parked: bool  # whether nobody tries any more
    error: str  # why the last try failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What one round of sending did."""

    sent: int  # messages that were taken
    failed: int  # tries in vain; they are repeated later
    parked: int  # messages that are not tried again


def note(tx: Transaction, execution_id: str, state: str, at: int) -> None:
    """Note for every sink that a run or step has reached a state; other executions are passed over."""
    if state not in _TOLD:
        return
    for sink in tx.sinks:
        tx.run(
            "INSERT INTO outbox (sink, at, payload, stream) SELECT :sink, :at, :payload, COALESCE(parent_id, id)"
            " FROM execution WHERE id = :id AND kind IN ('run', 'step')",
            sink=sink,
            at=at,
            payload=f'{{"execution":"{execution_id}","state":"{state}"}}',
            id=execution_id,
        )


def deliver(database: Database, clock: Clock, sinks: Sinks) -> Delivery:
    """Send what is due to every sink; any number of senders may do so at once.

    A message that a sink refuses is sent again after a pause that doubles, and the later ones of its run wait for it;
    after `MOST_TRIES` tries, or when the sink says that it never will take it, it is parked.
    """
    sent = failed = parked = 0
    for name, (sink, make) in sinks.items():
        while True:
            notes = _claim(database, clock, name)
            if not notes:
                break
            done = _send(database, clock, sink, make, notes)
            sent, failed, parked = sent + done.sent, failed + done.failed, parked + done.parked
            if done.failed:
                break  # it does not answer, or is busy: the messages of other runs would fare no better
    return Delivery(sent=sent, failed=failed, parked=parked)


def waiting(tx: Transaction, *, limit: int = 1_000) -> list[Waiting]:
    """Return what was not delivered yet, oldest first."""
    rows = tx.rows("SELECT * FROM outbox WHERE sent IS NULL ORDER BY seq LIMIT :limit", limit=limit)
    return [
        Waiting(
            seq=row["seq"],
            sink=row["sink"],
            run_id=row["stream"],
            at=from_micros(row["at"]),
            tries=row["tries"],
            parked=row["parked"] is not None,
            error=row["error"] or "",
        )
        for row in rows
    ]


def retry(tx: Transaction, seq: int | None = None) -> int:
    """Take a parked message (or all of them) up again; return how many. Raises NotFound for one that is not parked."""
    one = "" if seq is None else " AND seq = :seq"
    values = {} if seq is None else {"seq": seq}
    changed = tx.run(f"UPDATE outbox SET parked = NULL, tries = 0, due = 0 WHERE parked IS NOT NULL{one}", **values)  # noqa: S608 - one of two texts
    if seq is not None and not changed:
        raise NotFound("parked message", str(seq), mend="List them with: tidewheel outbox list")
    return changed


def forget_sent(tx: Transaction, before: datetime) -> int:
    """Forget what was delivered before a moment; return how many."""
    return tx.run("DELETE FROM outbox WHERE sent < :before", before=micros(before))


def _claim(database: Database, clock: Clock, sink: str) -> list[Note]:
    """Take the oldest messages of one run whose first one is due; nobody else has that run for a while."""
    now = clock.now()
    with database.transaction() as tx:
        head = tx.row(_HEAD + (_SKIPPING if tx.dialect == "postgresql" else ""), sink=sink, now=micros(now))
        if head is None:
            return []
        lease = micros(now + timedelta(seconds=_LEASE))
        tx.run("UPDATE outbox SET due = :lease WHERE seq = :seq", lease=lease, seq=head["seq"])
        rows = tx.rows(
            "SELECT seq, payload, at FROM outbox WHERE sink = :sink AND stream = :stream AND sent IS NULL"
            " AND parked IS NULL ORDER BY seq LIMIT :most",
            sink=sink,
            stream=head["stream"],
            most=_AT_ONCE,
        )
    return [_note_of(row) for row in rows]


def _note_of(row: Mapping[str, Any]) -> Note:
    said = from_json(row["payload"])
    return Note(seq=row["seq"], execution_id=said["execution"], state=said["state"], at=from_micros(row["at"]))


def _send(database: Database, clock: Clock, sink: Sink, make: Maker, notes: list[Note]) -> Delivery:
    """Send messages of one run in order, up to the first that is refused, and write down how far it went."""
    taken: list[int] = []
    refused: DeliveryFailed | None = None
    for item in notes:
        try:
            with database.reading() as tx:
                message = make(tx, item)
            sink.send(message, str(item.seq))
        except NotFound as gone:
            refused = DeliveryFailed(gone.what, poison=True)
        except DeliveryFailed as error:
            refused = error
        if refused is not None:
            break
        taken.append(item.seq)
    with database.transaction() as tx:
        now = clock.now()
        for seq in taken:
            tx.run("UPDATE outbox SET sent = :now, error = NULL WHERE seq = :seq", now=micros(now), seq=seq)
        parked = _refused(tx, notes[len(taken)].seq, refused, now) if refused is not None else False
    return Delivery(sent=len(taken), failed=int(refused is not None and not parked), parked=int(parked))


def _refused(tx: Transaction, seq: int, error: DeliveryFailed, now: datetime) -> bool:
    row = tx.row("SELECT tries FROM outbox WHERE seq = :seq", seq=seq)
    tries = 1 + (row["tries"] if row else 0)
    parked = error.poison or tries >= MOST_TRIES
    pause = min(_FIRST_PAUSE * 2 ** (tries - 1), _LONGEST_PAUSE)
    tx.run(
        "UPDATE outbox SET tries = :tries, due = :due, error = :error, parked = :parked WHERE seq = :seq",
        tries=tries,
        due=micros(now + timedelta(seconds=pause)),
        error=error.reason[:2_000],
        parked=micros(now) if parked else None,
        seq=seq,
    )
    return parked
