"""What a user's file declares: loops, and schedules of pipelines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidewheel.errors import InvalidInput
from tidewheel.lineage.store import Store
from tidewheel.loop.loop import Loop
from tidewheel.loop.triggers import loop_name
from tidewheel.pipelines.target import load_target
from tidewheel.triggers.records import leaves
from tidewheel.triggers.schedule import Schedule
from tidewheel.triggers.state import State, declare, load_state
from tidewheel.triggers.webhooks import Webhook


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """The loops and schedules of some targets."""

    loops: tuple[Loop, ...]  # in the order of the files
    schedules: tuple[Schedule, ...]  # likewise


def load_declared(targets: Sequence[str]) -> Declared:
    """Return what `FILE.py`, `FILE.py:NAME` or `module:NAME` declares: a loop, a schedule, or all of a file.

    Raises NotFound for what is not there, InvalidInput for a target that declares neither, and for two schedules or
    loops of one name.
    """
    found = [item for target in targets for item in _declared_by(target)]
    loops = tuple(_single((item for item in found if isinstance(item, Loop)), "loop", "model"))
    schedules = tuple(_single((item for item in found if isinstance(item, Schedule)), "schedule", "name"))
    return Declared(loops=loops, schedules=schedules)


def declare_loop(store: Store, loop: Loop) -> State:
    """Keep what a loop declares, for those who have not its file: the page, the list of triggers, the webhooks."""
    return declare(store, loop_name(loop.model), "loop", describe_loop(loop))


def stored_declaration(store: Store, model: str) -> Mapping[str, Any] | None:
    """Return what the loop of a model declared when it last ticked, None before that."""
    with store.database.reading() as tx:
        state = load_state(tx, loop_name(model))
    return None if state is None else state.declaration


def describe_loop(loop: Loop) -> dict[str, Any]:
    """Return what a loop declares, as JSON."""
    rules = [leaf for trigger in loop.on for leaf in leaves(trigger)]
    return {
        "pipeline": loop.pipeline.name,
        "model": loop.model,
        "data": loop.data,
        "on": [trigger.name for trigger in loop.on],
        "policy": {"cooldown": loop.cooldown.total_seconds(), "max_per_day": loop.budget, "tz": "UTC"},
        "psi": loop.policy.psi,
        "hooks": {leaf.hook: leaf.secret for leaf in rules if isinstance(leaf, Webhook)},
    }


def _declared_by(target: str) -> list[Any]:
    place, _, name = target.partition(":")
    if name:
        found = load_target(target)
        items = list(found) if isinstance(found, list | tuple) else [found]
    else:
        members = load_target(f"{place}:__dict__").values()
        listed = [each for item in members if isinstance(item, list | tuple) for each in item]
        items = list({id(item): item for item in [*members, *listed] if isinstance(item, Loop | Schedule)}.values())
    odd = next((item for item in items if not isinstance(item, Loop | Schedule)), None)
    if odd is not None or not items:
        what = f"is a {type(odd).__name__}, not a loop" if odd is not None else "declares neither a loop nor a schedule"
        raise InvalidInput(f"{target} {what}.", "Name a tidewheel.Loop(...) or a tidewheel.triggers.Schedule(...).")
    return items


def _single(items: Iterable[Any], kind: str, name: str) -> list[Any]:
    found: dict[str, Any] = {}
    for item in items:
        if found.setdefault(getattr(item, name), item) is not item:
            raise InvalidInput(
                f"Two {kind}s are called {getattr(item, name)}.", f"Give one of them another {name}=...: it is its key."
            )
    return list(found.values())
