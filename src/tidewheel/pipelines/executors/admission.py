"""Share out this machine: what the running steps asked for together stays within what it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tidewheel.errors import InvalidInput
from tidewheel.pipelines.executors.machine import Machine
from tidewheel.pipelines.step import Step

_DUST = 1e-9  # shares such as 0.1 do not add up exactly
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What one call of a step asks for."""

    cpus: float  # processors
    memory: int  # bytes; 0 where nothing is said
    gpus: float  # graphics processors


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grant:
    """What a running task holds."""

    needs: Needs  # what it asked for
    shares: Mapping[str, float]  # of which devices it has which share


def needs_of(step: Step[..., Any]) -> Needs:
    """Return what one call of a step asks for."""
    options = step.options
    return Needs(cpus=options.cpus, memory=options.memory or 0, gpus=options.gpus)


class Ledger:
    """Who holds what of one machine."""

    def __init__(self, has: Machine) -> None:
        self._has = has
        self._held: dict[str, _Grant] = {}

    def check(self, name: str, needs: Needs) -> None:
        """Raise InvalidInput when a step asks for more than the machine has at all."""
        has = self._has
        mend = "Ask for less, or run it elsewhere: @step(on=...)."
        if needs.cpus > has.cpus + _DUST:
            raise InvalidInput(f"The step {name} asks for {needs.cpus:g} cpus; this machine has {has.cpus:g}.", mend)
        if has.memory and needs.memory > has.memory:
            asked, there = shown_size(needs.memory), shown_size(has.memory)
            raise InvalidInput(f"The step {name} asks for {asked} of memory; this machine has {there}.", mend)
        if needs.gpus > len(has.gpus):
            raise InvalidInput(
                f"The step {name} asks for {needs.gpus:g} gpus; this machine has {len(has.gpus)}.",
                f"{mend} Devices count as CUDA_VISIBLE_DEVICES or the NVIDIA driver shows them.",
            )
        if needs.gpus > 1 and needs.gpus != int(needs.gpus):
            raise InvalidInput(
                f"The step {name} asks for {needs.gpus:g} gpus: only a single one can be shared.",
                "Give a whole number, or a part of one such as gpus=0.5.",
            )

    def admits(self, needs: Needs, places: float = 0.0) -> bool:
        """Say whether a task can begin now; `places` that somebody asked for count as processors."""
        held = [grant.needs for grant in self._held.values()]
        if not held:
            return True
        cpus = sum(other.cpus for other in held) + needs.cpus <= max(self._has.cpus, places) + _DUST
        unbounded = not needs.memory or not self._has.memory
        memory = unbounded or sum(other.memory for other in held) + needs.memory <= self._has.memory
        return cpus and memory and (not needs.gpus or bool(self._free(needs.gpus)))

    def take(self, task_id: str, needs: Needs) -> tuple[str, ...]:
        """Note that a task begins; return the graphics processors that it may use."""
        devices = self._free(needs.gpus) if needs.gpus else ()
        share = min(1.0, needs.gpus)
        self._held[task_id] = _Grant(needs=needs, shares=MappingProxyType(dict.fromkeys(devices, share)))
        return devices

    def give_back(self, task_id: str) -> None:
        """Note that a task has ended."""
        self._held.pop(task_id, None)

    def _free(self, gpus: float) -> tuple[str, ...]:
        """Return enough devices with room, the fullest first so that whole ones stay free; () without."""
        used = dict.fromkeys(self._has.gpus, 0.0)
        for grant in self._held.values():
            for device, share in grant.shares.items():
                used[device] += share
        share, count = min(1.0, gpus), max(1, int(gpus))
        fitting = [device for device in used if used[device] + share <= 1 + _DUST]
        fitting.sort(key=lambda device: -used[device])
        return tuple(fitting[:count]) if len(fitting) >= count else ()


def shown_size(size: float) -> str:
    """Return a size in bytes as people read it.

    >>> shown_size(3_328_599_654), shown_size(2**31), shown_size(512)
    ('3.1 GiB', '2 GiB', '512 B')
    """
    unit = 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    text = f"{size:.1f}".removesuffix(".0")
    return f"{text} {_UNITS[unit]}"
