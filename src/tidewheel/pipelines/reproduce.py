"""Run an old run again from what it recorded, and say of each output whether it is the same.

Three things are made anew: the environment from the recorded lock, the sources from commit, patch and kept files, the
inputs from their pins. The steps then run in a process of that environment, none of them answered by the cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tidewheel.clock import new_id
from tidewheel.database.values import from_json, to_json
from tidewheel.errors import Conflict, InvalidInput, MissingBlob, RunFailed
from tidewheel.fingerprint.environment import capture_environment
from tidewheel.fingerprint.machine import VARIABLES, this_machine
from tidewheel.fingerprint.place import metadata_folder
from tidewheel.lineage.read import get_version, list_used
from tidewheel.lineage.records import Execution
from tidewheel.lineage.store import Store
from tidewheel.pipelines.capture import Sources, read_sources
from tidewheel.pipelines.likeness import Tolerance, Verdict
from tidewheel.pipelines.payload import MEND
from tidewheel.pipelines.rebuild import build_environment, compare_distributions
from tidewheel.pipelines.runs import known_run
from tidewheel.pipelines.transitions import ALIVE_RUN
from tidewheel.pipelines.unpack import Workspace, unpack

_PACKAGE = Path(__file__).resolve().parents[1]  # tidewheel itself
_SAID = 15  # last lines of what the process said that are shown when it breaks


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How a run is to be reproduced."""

    here: bool = False  # whether in the present environment, instead of one built from the lock
    tolerance: Tolerance = field(default_factory=Tolerance)  # how far numbers may be apart
    executor: str = "inline"  # where the steps run
    side_effects: bool = False  # whether steps that change the world outside may do so once more
    keep: bool = False  # whether the laid out sources stay for a look


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One output beside the same output of the old run."""

    name: str  # label of the step, with the place where it gives several; "output" for what the pipeline returned
    verdict: Verdict  # identical, within tolerance or different
    detail: str  # the largest deviation and where; "" for identical ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """What came of running an old run again."""

    run_id: str  # the old run
    new_id: str  # the new one, linked to it
    verdict: Verdict  # of the worst output
    outputs: tuple[Compared, ...]  # each output, in the order of the calls
    error: str  # what went wrong in the new run, "" when nothing did
    notes: tuple[str, ...]  # what was not as it had been: distributions, machine, files
    folder: str  # where the sources were laid out, "" when they were cleared away

    @property
    def exit_code(self) -> int:
        """0 for identical, 3 within tolerance, 4 different."""
        return {Verdict.IDENTICAL: 0, Verdict.WITHIN: 3, Verdict.DIFFERENT: 4}[self.verdict]


def reproduce_run(store: Store, run_id: str, wish: Wish, variables: Mapping[str, str]) -> Reproduction:
    """Rebuild what a run happened in, run it again in a process of its own, and compare the outputs.

    `variables` are the environment variables by which that process finds the same store.

    Raises NotFound for an unknown run, Conflict for one that goes on, InvalidInput for one whose sources or lock were
    not kept, MissingBlob when they or an input were collected, EnvironmentUnavailable when the lock or its Python
    cannot be installed any more, RunFailed when the process breaks.
    """
    old = known_run(store, run_id)
    sources = _sources(store, old)
    packages = _packages(store, old)
    folder = store.home / "reproduce" / f"{old.id[-12:]}-{new_id()[-12:]}"
    try:
        interpreter = Path(sys.executable)
        if not wish.here:
            interpreter = build_environment(
                store.home / "environments", str(old.facets["python"]), packages, sources.local
            )
        workspace = _unpacked(store, old, sources, folder)
        notes = _notes(old, sources, workspace, packages if wish.here else {})
        answer = _in_process(_Order(old, sources, workspace, wish, folder), interpreter, variables)
    finally:
        if not wish.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return replace(answer, notes=(*notes, *answer.notes), folder=str(folder) if wish.keep else "")


def as_json(found: Reproduction) -> dict[str, Any]:
    """Return the record as a JSON object."""
    outputs = [{"name": item.name, "verdict": item.verdict.value, "detail": item.detail} for item in found.outputs]
    return {
        "run": found.run_id,
        "new": found.new_id,
        "verdict": found.verdict.value,
        "outputs": outputs,
        "error": found.error,
        "notes": list(found.notes),
        "folder": found.folder,
    }


def from_object(found: Mapping[str, Any]) -> Reproduction:
    """Return the record that a JSON object describes."""
    outputs = [
        Compared(name=item["name"], verdict=Verdict(item["verdict"]), detail=item["detail"])
        for item in found["outputs"]
    ]
    return Reproduction(
        run_id=found["run"],
        new_id=found["new"],
        verdict=Verdict(found["verdict"]),
        outputs=tuple(outputs),
        error=found["error"],
        notes=tuple(found["notes"]),
        folder=found["folder"],
    )


@dataclass(frozen=True, slots=True)
class _Order:
    old: Execution
    sources: Sources
    workspace: Workspace
    wish: Wish
    folder: Path


def _sources(store: Store, old: Execution) -> Sources:
    if old.state in ALIVE_RUN:
        raise Conflict(f"The run {old.id} is {old.state}.", "Wait for its end: tidewheel runs")
    digest = old.facets.get("captured")
    if not digest:
        raise InvalidInput(
            f"The sources of the run {old.id} were not kept.",
            "It was made by an older tidewheel. Run its pipeline once more; that run can be reproduced.",
        )
    try:
        sources = read_sources(store.blobs, digest)
    except MissingBlob as error:
        raise _collected(old, "sources") or error from error
    if not sources.target["module"] or "<" in sources.target["name"]:
        raise InvalidInput(
            f"The pipeline {old.job} was defined in a prompt, a notebook or inside a function.",
            "Only what another process can import can be reproduced: put it into a file.",
        )
    return sources


def _unpacked(store: Store, old: Execution, sources: Sources, folder: Path) -> Workspace:
    """Lay out the sources, once it is sure that the inputs are still there."""
    inputs = {digest for stored in old.facets["arguments"].values() for digest in stored["blobs"]}
    gone = sorted(digest for digest in inputs if not store.blobs.exists(digest))
    try:
        if gone:
            store.blobs.get(gone[0])
        return unpack(store.blobs, sources, folder)
    except MissingBlob as error:
        raise _collected(old, "inputs" if gone else "sources") or error from error


def _collected(old: Execution, what: str) -> MissingBlob | None:
    day = str(old.facets.get("collected", ""))[:10]
    return MissingBlob(f"The {what} of the run {old.id} were collected on {day}.", MEND) if day else None


def _packages(store: Store, old: Execution) -> dict[str, str]:
    with store.database.reading() as tx:
        used = list_used(tx, old.id)
        if "environment" not in used:
            raise InvalidInput(f"The lock of the run {old.id} was not kept.", "Use the present packages with --here.")
        return dict(get_version(tx, used["environment"]).facets["packages"])


def _notes(old: Execution, sources: Sources, workspace: Workspace, packages: Mapping[str, str]) -> list[str]:
    notes = [f"not kept, though it was imported: {path}" for path in workspace.missing]
    if sources.repository and not workspace.from_commit:
        notes.append(f"{sources.root} has lost the commit {sources.commit[:12]}; the files that were imported are used")
    present = this_machine().as_json()
    notes += [
        f"another machine: {name} was {was!r}, is {present[name]!r}"
        for name, was in sorted(sources.machine.items())
        if name in present and present[name] != was
    ]
    if "seed" not in " ".join(old.facets.get("seeds", {})):
        notes += [] if "PYTHONHASHSEED" in old.facets.get("variables", {}) else [_UNSEEDED]
    return notes + (_differences(old, packages) if packages else [])


_UNSEEDED = "the order of sets was not fixed: PYTHONHASHSEED was not set, and the pipeline has no seed"


def _differences(old: Execution, packages: Mapping[str, str]) -> list[str]:
    """Say how the present environment differs from the recorded one."""
    here = capture_environment()
    found = compare_distributions(packages, here.packages)
    notes = [f"distribution {line}" for line in found.changed]
    notes += [f"distribution {line} is not installed" for line in found.missing]
    notes += [f"distribution {line} was not installed" for line in found.added]
    if here.python != old.facets["python"]:
        notes.insert(0, f"Python was {old.facets['python']}, is {here.python}")
    return notes


def _in_process(order: _Order, interpreter: Path, variables: Mapping[str, str]) -> Reproduction:
    """Let the rebuilt environment run the pipeline and compare; take in what it reports."""
    wish, report = order.wish, order.folder / "report.json"
    words = ["reproduce", order.old.id, "--inside", str(report), "--executor", wish.executor]
    words += ["--rtol", repr(wish.tolerance.relative), "--atol", repr(wish.tolerance.absolute)]
    words += ["--side-effects"] if wish.side_effects else []
    done = subprocess.run(  # noqa: S603
        [str(interpreter), "-m", "tidewheel", *words],
        cwd=order.workspace.project,
        env=_environment(order, variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    said = done.stdout.decode("utf-8", "replace").strip().splitlines()[-_SAID:]
    if not report.is_file():
        raise RunFailed(
            f"The process that was to run {order.old.job} again ended with {done.returncode}: " + "\n  ".join(said),
            "Look at what it says; --keep leaves the laid out sources for a look, --here uses the present packages.",
            run_id=order.old.id,
        )
    found = from_json(report.read_text("utf-8"))
    if "mend" in found:
        raise RunFailed(found["error"], found["mend"], run_id=order.old.id)
    return from_object(found)


def _environment(order: _Order, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the process: the recorded ones that change numbers, the store's, and the import path."""
    engine = order.folder / "engine"
    engine.mkdir()
    (engine / "tidewheel").symlink_to(_PACKAGE)  # alone: not all that is installed beside
    metadata = metadata_folder("tidewheel")
    if metadata is not None:  # its version is a part of every code digest
        (engine / metadata.name).symlink_to(metadata.resolve())
    found = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    found |= {name: str(value) for name, value in order.old.facets.get("variables", {}).items()}
    path = [*map(str, order.workspace.import_path), str(engine)]
    if os.environ.get("PYTHONPATH") and order.wish.here:
        path.append(os.environ["PYTHONPATH"])
    return {**found, **variables, "PYTHONPATH": os.pathsep.join(path)}


def write_report(path: Path, found: Mapping[str, Any]) -> None:
    """Write what the process found; the one that waits for it reads the whole file or none."""
    partial = path.with_suffix(".partial")
    partial.write_text(to_json(found), "utf-8")
    partial.replace(path)
