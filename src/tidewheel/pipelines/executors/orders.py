"""What goes between a run and its workers on this machine: orders down, words up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tidewheel.pipelines.active import StepContext
from tidewheel.pipelines.executors.seam import Outcome
from tidewheel.pipelines.stored import Shelf, Stored, stored_from


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a worker is told when it starts."""

    sys_path: list[str]  # where modules are found, in full or before what the worker's own Python finds
    whole: bool  # which of the two
    shelf: Shelf  # where values are
    main: str = "__main__"  # what the run's process calls its main module: a part of code digests
    spare_path: list[str] = field(default_factory=list)  # where else, after all that


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A step on its way to a worker, the same for every call of it."""

    data: bytes  # pickled (module, name, file), or the pickled step itself where it has no importable module
    by_value: bool  # which of the two; then a worker gets the data and the sources once
    digest: str  # hexadecimal digest of the data
    project: str = ""  # digest of the project's part of its code, where other packages may differ; "": all of it counts
    files: Mapping[str, int] = field(default_factory=dict)  # the project's, as they were loaded, with their times in ns
    sources: Mapping[str, str] = field(default_factory=dict)  # by name, what no file holds: the cells of a notebook

    def bare(self) -> Parcel:
        """Return what a worker needs that has had this already."""
        return replace(self, data=b"", sources={}) if self.by_value else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A task on its way to a worker: pure data."""

    id: str  # execution of the call
    parcel: Parcel  # the step
    arguments: Stored  # the arguments by name, one tree
    context: StepContext  # what the step may know
    code: str  # digest of the step's code closure that the parent sees
    strict: bool  # refuse to execute when the code here differs
    log: Path  # where its output goes
    manifest: Path  # where the outcome is left, for the case that the parent dies
    timeout: float | None  # seconds after which it is ended
    memory: int | None  # bytes that it may hold
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)  # by name; they travel in this order alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Says that imports are done and the step's own time begins."""

    id: str  # of the task


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """Says that this worker has loaded other code than the parent; nothing was executed."""

    id: str  # of the task


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Brings an outcome."""

    outcome: Outcome  # of the task
    memory: int  # bytes that the worker keeps


def leave_manifest(path: Path, outcome: Outcome) -> None:
    """Write down what a task gave, so that it can be committed even if the parent is dead by now."""
    record = {"id": outcome.id, "code": outcome.code, "outputs": [stored.as_json() for stored in outcome.outputs]}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record))
    partial.replace(path)


def read_manifest(path: Path) -> Outcome | None:
    """Return what a task left behind; None when it did not come so far, or left something that is not whole."""
    try:
        record: Mapping[str, Any] = json.loads(path.read_text())
        outputs = tuple(stored_from(item) for item in record["outputs"])
        found = Outcome(id=record["id"], code=record["code"], outputs=outputs)
    except (OSError, ValueError, TypeError, LookupError):
        return None
    return found if found.id == path.stem and outputs else None
