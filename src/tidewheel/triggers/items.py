"""What counts once: files, objects and deliveries that a run has taken, by name and stamp."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from tidewheel.clock import micros
from tidewheel.database.transaction import Transaction
from tidewheel.triggers.records import Item, Reading

T = TypeVar("T")
MOST = 1_000  # a run takes so many at most; the next one takes more


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a trigger has used up, as an asker's memory tells it."""

    name: str  # of the schedule or loop
    epoch: int  # since it was last re-armed


def use_up(tx: Transaction, used: Used, items: Iterable[Item], at: datetime) -> None:
    """Record that items were taken; one that was taken before with another stamp has the new one."""
    for item in items:
        tx.run(
            "INSERT INTO trigger_item (name, epoch, source, digest, item, stamp, at)"
            " VALUES (:name, :epoch, :source, :digest, :item, :stamp, :at)"
            " ON CONFLICT (name, epoch, source, digest) DO UPDATE SET stamp = excluded.stamp, at = excluded.at",
            name=used.name,
            epoch=used.epoch,
            source=item.source,
            digest=_digest(item.name),
            item=item.name,
            stamp=item.stamp,
            at=micros(at),
        )


def used_up(tx: Transaction, used: Used, source: str) -> dict[str, str]:
    """Return the stamps of what a rule has used up, by name."""
    rows = tx.rows(
        "SELECT item, stamp FROM trigger_item WHERE name = :name AND epoch = :epoch AND source = :source",
        name=used.name,
        epoch=used.epoch,
        source=source,
    )
    return {row["item"]: row["stamp"] for row in rows}


def turn(found: Sequence[T], *, each: bool) -> Sequence[T]:
    """Return what the next run takes of what waits: the first alone, or all that one run may take."""
    return found[: 1 if each else MOST]


def waiting(reading: Reading, kind: str, items: Sequence[Item], numbers: dict[str, object], noun: str) -> Reading:
    """Return a reading that holds for items."""
    names = ", ".join(item.name for item in items[:3]) + (", ..." if len(items) > 3 else "")
    return replace(
        reading,
        kind=kind,
        holds=True,
        reason=f"{len(items)} {noun if len(items) == 1 else _plural(noun)}: {names}",
        mark=_digest("\n".join(f"{item.name}\t{item.stamp}" for item in items)),
        numbers=numbers,
        items=tuple(items),
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _plural(noun: str) -> str:
    return noun.removesuffix("y") + "ies" if noun.endswith("y") else f"{noun}s"
