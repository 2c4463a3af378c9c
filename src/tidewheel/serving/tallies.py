"""The metrics of several workers as one: each keeps its own in a file, whoever is asked adds them up.

A worker's file is replaced as a whole, and before it is asked for its own, so what was shown once never goes down: not
when a worker is killed, and not when its parent adds the file of one that has ended to those of its predecessors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from tidewheel.serving.metrics import Family, Labels

ENDED = "ended"


class Tally(msgspec.Struct, frozen=True):
    """One metric of one process."""

    name: str  # as Prometheus knows it
    kind: str  # counter, gauge or histogram
    help: str  # one line
    samples: dict[str, float]  # value by suffix and labels, as JSON


class _Kept(msgspec.Struct, frozen=True):
    workers: list[int]  # whose figures these are
    tallies: list[Tally]  # the figures


class Tallies:
    """The metrics of the workers of one server, in a folder."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self._number = number  # of this process, never used twice in one folder

    def keep(self, families: Iterable[Family]) -> None:
        """Put this process's metrics where the others find them."""
        _write(self.folder, str(self._number), _Kept([self._number], [_tally(each) for each in families]))

    def all(self) -> list[Family]:
        """Return the metrics of all workers together: counters added up, gauges at their highest."""
        found = [kept for path in self.folder.glob("*.metrics") if (kept := _read(path)) and path.stem != ENDED]
        ended = _read(self.folder / f"{ENDED}.metrics")  # read last: who ends meanwhile is counted here, and only here
        past = set(ended.workers) if ended else set()
        each = [kept.tallies for kept in found if not past.intersection(kept.workers)]
        return [_family(tally) for tally in merged([*([ended.tallies] if ended else []), *each])]


def retire(folder: Path, number: int) -> None:
    """Add what a worker that has ended counted to what its predecessors did."""
    path = folder / f"{number}.metrics"
    kept, ended = _read(path), _read(folder / f"{ENDED}.metrics") or _Kept([], [])
    if kept is None:
        return
    counted = [tally for tally in kept.tallies if tally.kind != "gauge"]
    _write(folder, ENDED, _Kept([*ended.workers, number], merged([ended.tallies, counted])))
    path.unlink(missing_ok=True)


def states_of(folder: Path) -> list[Mapping[str, object]]:
    """Return what the parent says of its workers; nothing when it has not said anything yet."""
    try:
        found: list[Mapping[str, object]] = json.loads((folder / "workers.json").read_text())
    except (OSError, ValueError):
        return []
    return found


def merged(parts: Iterable[Sequence[Tally]]) -> list[Tally]:
    """Add up the metrics of several processes; a gauge, which says how things are, is taken at its highest.

    >>> one = Tally("n_total", "counter", "", {'["",[]]': 1.0})
    >>> merged([[one], [one]])[0].samples
    {'["",[]]': 2.0}
    """
    found: dict[str, Tally] = {}
    for tally in (tally for part in parts for tally in part):
        samples = found.setdefault(tally.name, msgspec.structs.replace(tally, samples={})).samples
        for place, value in tally.samples.items():
            before = samples.get(place)
            if before is None:
                samples[place] = value
            else:
                samples[place] = max(before, value) if tally.kind == "gauge" else before + value
    return list(found.values())


def _tally(family: Family) -> Tally:
    samples = {
        msgspec.json.encode((suffix, [(name, str(value)) for name, value in labels])).decode(): float(value)
        for suffix, labels, value in family.samples
    }
    return Tally(family.name, family.kind, family.help, samples)


def _family(tally: Tally) -> Family:
    samples: list[tuple[str, Labels, float]] = []
    for place, value in tally.samples.items():
        suffix, labels = msgspec.json.decode(place, type=tuple[str, tuple[tuple[str, str], ...]])
        samples.append((suffix, labels, int(value) if value.is_integer() else value))
    return Family(name=tally.name, kind=tally.kind, help=tally.help, samples=samples)


def _read(path: Path) -> _Kept | None:
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.msgpack.decode(path.read_bytes(), type=_Kept)
    return None


def _write(folder: Path, name: str, kept: _Kept) -> None:
    fresh = folder / f"{name}.{os.getpid()}.new"
    fresh.write_bytes(msgspec.msgpack.encode(kept))
    fresh.replace(folder / f"{name}.metrics")
