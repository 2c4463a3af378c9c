"""A task made ready for another process: the step by its place or by value, the arguments as one stored tree."""

from __future__ import annotations

import hashlib
import linecache
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tidewheel.errors import InvalidInput
from tidewheel.fingerprint.code import code_digest
from tidewheel.pipelines.executors.loaded import project_digest
from tidewheel.pipelines.executors.orders import Order, Parcel
from tidewheel.pipelines.executors.seam import Held, Site, Task
from tidewheel.pipelines.executors.untouched import untouched_files
from tidewheel.pipelines.nested import mapped, path_to
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Shelf, Stored
from tidewheel.pipelines.tree import Marked, encode


class Parcels:
    """The steps of the tasks of an executor, each packed once in a run: one run means one code."""

    def __init__(self) -> None:
        self._packed: dict[tuple[Step[..., Any], bool], Parcel] = {}
        self._run_id = ""

    def of(self, task: Task, *, project_only: bool) -> Parcel:
        """Return the step of a task for workers; with `project_only` their packages may differ from those here.

        Raises InvalidInput for a step that cannot go to another process.
        """
        if task.context.run_id != self._run_id:
            self._packed.clear()
            self._run_id = task.context.run_id
        found = self._packed.get((task.step, project_only))
        if found is None:
            found = self._packed[task.step, project_only] = _packed(task.step, project_only=project_only)
        return found


def _packed(step: Step[..., Any], *, project_only: bool) -> Parcel:
    data, by_value = shipped(step)
    closure = code_digest(step) if project_only else None
    return Parcel(
        data=data,
        by_value=by_value,
        digest=hashlib.sha256(data).hexdigest(),
        project=project_digest(closure) if closure else "",
        files=untouched_files(closure) if closure else {},
        sources=_sources_without_files() if by_value else {},
    )


def _sources_without_files() -> dict[str, str]:
    """Return the sources that Python remembers and no file holds: a worker digests and shows them as this process."""
    return {
        name: "".join(entry[2])
        for name, entry in list(linecache.cache.items())
        if len(entry) > 1 and entry[1] is None and not Path(name).exists()
    }


def order_of(task: Task, site: Site, parcel: Parcel, *, strict: bool = True) -> Order:
    """Return a task as an order, given its step.

    Raises InvalidInput for an argument that cannot go to another process.
    """
    return Order(
        id=task.id,
        parcel=parcel,
        arguments=stored_arguments(task, site.shelf),
        context=task.context,
        code=task.code,
        strict=strict,
        log=task.log.absolute(),
        manifest=manifest_path(site, task.id),
        timeout=task.timeout,
        memory=task.step.options.memory,
        secrets=task.secrets.revealed(),
    )


def manifest_path(site: Site, task_id: str) -> Path:
    """Return where the worker of a task leaves what it gave."""
    return (site.attempts / f"{task_id}.json").absolute()


def shipped(step: Step[..., Any]) -> tuple[bytes, bool]:
    """Return a step for another process: by its place where it can be imported, else by value, and which of them.

    Raises InvalidInput when it refers to something that cannot be pickled.
    """
    function: Callable[..., Any] = step.__wrapped__
    module, name = function.__module__, function.__qualname__
    loaded: Any = sys.modules.get(module)
    found = loaded
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is step and module != "__main__":
        return pickle.dumps((module, name, getattr(loaded, "__file__", None))), False
    import cloudpickle

    try:
        return cloudpickle.dumps(step), True
    except Exception as error:  # any object that the function refers to may refuse in its own way
        raise InvalidInput(
            f"The step {step.name} cannot go to another process: {error}.",
            "Define it in a module, and open locks, files and connections inside it.",
        ) from error


def stored_arguments(task: Task, shelf: Shelf) -> Stored:
    """Return the arguments of a task by name as one stored tree, what is stored already by its digest.

    Raises InvalidInput that names the argument which cannot go to another process.
    """
    try:
        return encode(_marked(dict(task.arguments)), shelf, content="")
    except InvalidInput as error:
        raise InvalidInput(
            f"The argument {_culprit(task, shelf)!r} of {task.step.name} cannot go to another process: {error.what}",
            f'{error.mend} Or pin the step to this process: @step(on="inline").',
        ) from error


def _culprit(task: Task, shelf: Shelf) -> str:
    def refused(item: Any) -> bool:
        try:
            encode(_marked(item), shelf, content="")
        except InvalidInput:
            return True
        return False

    for name, item in task.arguments.items():
        if refused(item):
            return name + path_to(item, refused)
    return ", ".join(task.arguments)


def _marked(item: Any) -> Any:
    """Return an argument with stored parts marked as such, so that they are not stored again."""
    return mapped(item, (Held,), lambda held: Marked(held.given.stored))
