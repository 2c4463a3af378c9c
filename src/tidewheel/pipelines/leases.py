"""Leases in the database: who holds what until when, judged by one clock, the database's.

A lease says who is probably alive; it never decides who may write. That is the fencing token's part, and the holder's
name in the lease, which every write of a run checks in its own transaction.
"""

from __future__ import annotations

from dataclasses import dataclass

from tidewheel.clock import Clock, micros, new_id
from tidewheel.database.transaction import Transaction

_SECOND = 1_000_000  # microseconds
_FIND = "SELECT subject, holder, until, written FROM lease WHERE subject = :subject"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A lease as it stands."""

    subject: str  # what is held: a run's id, or loop:<model>
    holder: str  # id of the claim that holds it; "" when nobody does
    until: int  # end, microseconds since 1970 on the database's clock
    written: int  # how many writes the holder has made under it


@dataclass(slots=True, kw_only=True)
class Hold:
    """A claim, as the process has it that made it."""

    subject: str  # what is held
    seconds: float  # length of the lease, from each renewal
    holder: str  # id of this claim
    written: int = 0  # writes that are known to be kept


def new_hold(subject: str, seconds: float) -> Hold:
    """Return a claim that has yet to be granted."""
    return Hold(subject=subject, seconds=seconds, holder=new_id())


def database_micros(tx: Transaction, clock: Clock) -> int:
    """Return the time that leases are judged by, the same for all who share the database.

    PostgreSQL has a clock of its own. A SQLite file is used by processes of one machine, whose clock is handed in.
    """
    if tx.dialect != "postgresql":
        return micros(clock.now())
    row = tx.row("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT) AS now")
    return int(row["now"]) if row else 0


def find_lease(tx: Transaction, subject: str) -> Lease | None:
    """Return a lease without locking it; None where none was ever granted."""
    row = tx.row(_FIND, subject=subject)
    return None if row is None else Lease(**row)


def locked_lease(tx: Transaction, subject: str) -> Lease:
    """Return a lease and lock it until the transaction ends, so that one claim is made after the other.

    It is locked before the execution that it belongs to, by everyone: so nobody waits in a circle.
    """
    tx.run(
        "INSERT INTO lease (subject, holder, until, written) VALUES (:subject, '', 0, 0) "
        "ON CONFLICT (subject) DO NOTHING",
        subject=subject,
    )
    row = tx.row(_FIND + tx.locking, subject=subject)
    return Lease(**row) if row else Lease(subject=subject, holder="", until=0, written=0)


def grant(tx: Transaction, hold: Hold, clock: Clock) -> None:
    """Give a lease to a claim, whoever had it."""
    tx.run(
        "INSERT INTO lease (subject, holder, until, written) VALUES (:subject, :holder, :until, 0) "
        "ON CONFLICT (subject) DO UPDATE SET holder = excluded.holder, until = excluded.until, written = 0",
        subject=hold.subject,
        holder=hold.holder,
        until=_end(tx, hold, clock),
    )


def renew(tx: Transaction, hold: Hold, clock: Clock) -> bool:
    """Move the end of a lease; False when somebody else has it by now."""
    return (
        tx.run(
            "UPDATE lease SET until = :until WHERE subject = :subject AND holder = :holder",
            subject=hold.subject,
            holder=hold.holder,
            until=_end(tx, hold, clock),
        )
        == 1
    )


def revoke(tx: Transaction, subject: str) -> None:
    """Take a lease away from whoever has it; its holder notices when it looks next, and cannot write any more."""
    tx.run("UPDATE lease SET holder = '', until = 0 WHERE subject = :subject", subject=subject)


def give_back(tx: Transaction, hold: Hold) -> None:
    """End a lease that is no longer needed, unless somebody else has it by now."""
    tx.run(
        "UPDATE lease SET holder = '', until = 0 WHERE subject = :subject AND holder = :holder",
        subject=hold.subject,
        holder=hold.holder,
    )


def count_write(tx: Transaction, hold: Hold) -> bool:
    """Number the next write of a claim in the write's own transaction; False when it is not the next one any more."""
    return (
        tx.run(
            "UPDATE lease SET written = :next WHERE subject = :subject AND holder = :holder AND written = :before",
            next=hold.written + 1,
            before=hold.written,
            subject=hold.subject,
            holder=hold.holder,
        )
        == 1
    )


def stands(tx: Transaction, hold: Hold) -> bool:
    """Say whether the next write of a claim is there already: its commit was kept and only the answer was lost."""
    lease = find_lease(tx, hold.subject)
    return lease is not None and lease.holder == hold.holder and lease.written == hold.written + 1


def _end(tx: Transaction, hold: Hold, clock: Clock) -> int:
    return database_micros(tx, clock) + int(hold.seconds * _SECOND)
