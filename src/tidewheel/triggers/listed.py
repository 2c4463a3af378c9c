"""Schedules and loops as they are declared, with the newest verdict of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidewheel.lineage.store import Store
from tidewheel.triggers.fire import open_runs
from tidewheel.triggers.state import list_states


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerRow:
    """One schedule, or the declaration of a loop."""

    name: str  # of the schedule, or loop:MODEL
    kind: str  # schedule or loop
    pipeline: str  # what it starts
    on: tuple[str, ...]  # its triggers as declared
    policy: Mapping[str, Any]  # what holds its runs back
    epoch: int  # grows when it is re-armed
    at: datetime  # when it last said something new
    verdict: str  # fired, refused, quiet or trouble; empty before the first look
    reason: str  # in words
    tree: Mapping[str, Any]  # each rule, whether it held, and why
    runs: tuple[str, ...]  # those that have not ended


def listed(store: Store) -> list[TriggerRow]:
    """Return every schedule and loop that was declared in this store and not forgotten, by name."""
    with store.database.reading() as tx:
        return [
            TriggerRow(
                name=state.name,
                kind=state.kind,
                pipeline=str(state.declaration.get("pipeline", "")),
                on=tuple(state.declaration.get("on", ())),
                policy=state.declaration.get("policy", {}),
                epoch=state.epoch,
                at=state.at,
                verdict=state.verdict.get("verdict", ""),
                reason=state.verdict.get("reason", ""),
                tree=state.verdict.get("tree", {}),
                runs=tuple(run_id for run_id, _ in open_runs(tx, state.name)),
            )
            for state in list_states(tx)
            if state.declaration
        ]


def tree_lines(tree: Mapping[str, Any], depth: int = 0) -> list[str]:
    """Return an evaluation as lines: which rule held, and why.

    >>> tree_lines({"rule": "a | b", "holds": True, "reason": "a is on", "parts": [
    ...     {"rule": "a", "holds": True, "reason": "a is on"}, {"rule": "b", "holds": False, "reason": "b is not on"}]})
    ['+ a | b', '  + a: a is on', '  - b: b is not on']
    """
    if not tree:
        return []
    mark = "+" if tree["holds"] else "-"
    parts = tree.get("parts", ())
    line = f"{'  ' * depth}{mark} {tree['rule']}" + ("" if parts else f": {tree['reason']}")
    return [line, *(inner for part in parts for inner in tree_lines(part, depth + 1))]
