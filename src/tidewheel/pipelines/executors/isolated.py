"""Steps in environments of their own: other packages, even another Python, in warm child processes."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import site
import sys
import sysconfig
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tidewheel.clock import new_id
from tidewheel.errors import InvalidInput, MissingExtra, StorageUnavailable
from tidewheel.fingerprint.place import module_label
from tidewheel.pipelines.executors.environments import Recipe, existing, make, python_in, recipe_of
from tidewheel.pipelines.executors.fleet import Fleet
from tidewheel.pipelines.executors.frames import Frames, pair
from tidewheel.pipelines.executors.orders import Order, Setup, read_manifest
from tidewheel.pipelines.executors.pool import Interpreter, Pool, absolute_path, own_interpreter, own_setup
from tidewheel.pipelines.executors.process import (
    beat_seconds,
    check_options,
    places_of,
    refuse_memory_blobs,
    unstarted,
)
from tidewheel.pipelines.executors.seam import Beat, Outcome, Site, Task
from tidewheel.pipelines.executors.shipping import Parcels, manifest_path, order_of

_OPTIONS = ("places", "beat_seconds", "environments", "installer")
_OWN = "tidewheel"  # what every environment gets from here, before its own packages: both ends must speak alike
_SPARE = ("cloudpickle", "fsspec")  # pure packages that it gets after its own: for steps of notebooks, for buckets
_HERE = ""  # digest of "no environment of its own"
_INSTALLED = frozenset({"site-packages", "dist-packages"})  # folders that installed packages are in
_UNWANTED = ("PYTHONPATH", "PYTHONHOME", "__PYVENV_LAUNCHER__")


@dataclass(slots=True)
class _Making:
    """An environment that is being made."""

    recipe: Recipe  # of what
    waiting: list[Task] = field(default_factory=list)  # tasks for it
    folder: Path | None = None  # where it is, once made
    error: InvalidInput | StorageUnavailable | None = None  # why it could not be made


class IsolatedExecutor:
    """Executes each task in a child process of the environment that its step names (`isolate=`).

    The environment is made when the first step asks for it, beside the work of others, and kept under the home, or in
    the folder that the option `environments` names; the option `installer` is "uv" or "pip".
    """

    here = True

    def __init__(self, site: Site) -> None:
        refuse_memory_blobs(site)
        check_options("isolated", site, _OPTIONS)
        self.places = places_of(site)
        self._site = site
        self._beat_seconds = beat_seconds(site)
        self._installer = _installer_of(site)
        self._root = Path(site.options.get("environments") or site.shelf.files.parent / "environments").absolute()
        self._fleet = Fleet()
        self._parcels = Parcels()
        self._pools: dict[str, Pool] = {}
        self._making: dict[str, _Making] = {}
        self._early: list[Outcome] = []
        self._woken, self._bell = pair()

    def submit(self, task: Task) -> None:
        """Hand the task to a child in its environment, or have that made first."""
        try:
            recipe = self.recipe(task)
        except InvalidInput as error:
            self._early.append(Outcome(id=task.id, failure=unstarted(error)))
            return
        digest = recipe.digest if recipe else _HERE
        if recipe is not None and digest not in self._pools:
            folder = existing(recipe, self._root)
            if folder is None:
                self._wait_for(recipe, task)
                return
            self._pools[digest] = self._pool(_interpreter_in(folder, self._site, self._root))
        elif digest not in self._pools:
            self._pools[digest] = self._pool(own_interpreter(own_setup(self._site.shelf)))
        self._start(task, digest)

    def recipe(self, task: Task) -> Recipe | None:
        """Return what the environment of a task is made of; None for one that runs in this very Python.

        Raises InvalidInput when there is no such file or header, or it cannot be read.
        """
        return recipe_of(task.step, task.step.options.isolate) if task.step.options.isolate else None

    def poll(self, timeout: float) -> list[Outcome | Beat]:
        """Wait for children, and for environments to be made."""
        others: list[Frames] = [self._woken] if self._making else []
        found: list[Outcome | Beat] = [*self._early]
        self._early.clear()
        found += self._fleet.poll(0.0 if found else timeout, others)
        while others and self._woken.poll():
            self._take_in(self._woken.recv_bytes().decode())
        found += self._early
        self._early.clear()
        return found

    def cancel(self, task_id: str) -> None:
        """Kill the child that executes the task, or forget it if it waits for its environment."""
        self._fleet.cancel(task_id)
        for making in self._making.values():
            making.waiting = [task for task in making.waiting if task.id != task_id]

    def adopt(self, task_id: str) -> Outcome | None:
        """Return what a child finished after its parent had died."""
        return read_manifest(manifest_path(self._site, task_id))

    def close(self) -> None:
        """Kill every child; an environment that is being made is finished for the next who wants it."""
        self._fleet.clear()
        self._making.clear()
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        self._woken.close()
        self._bell.close()

    def _start(self, task: Task, digest: str) -> None:
        try:
            parcel = self._parcels.of(task, project_only=digest != _HERE)

            def order(strict: bool) -> Order:  # noqa: FBT001 - as Fleet calls it
                return order_of(task, self._site, parcel, strict=strict)

            self._fleet.submit(task, self._pools[digest], order)
        except (InvalidInput, StorageUnavailable) as error:
            self._early.append(Outcome(id=task.id, failure=unstarted(error)))

    def _wait_for(self, recipe: Recipe, task: Task) -> None:
        making = self._making.get(recipe.digest)
        if making is None:
            making = self._making[recipe.digest] = _Making(recipe=recipe)
            threading.Thread(target=_make, args=(making, self._root, self._installer, self._ring), daemon=True).start()
        making.waiting.append(task)

    def _ring(self, digest: str) -> None:
        with contextlib.suppress(OSError):  # closed meanwhile
            self._bell.send_bytes(digest.encode())

    def _take_in(self, digest: str) -> None:
        making = self._making.pop(digest, None)
        if making is None:
            return  # closed meanwhile
        if making.folder is not None:
            self._pools[digest] = self._pool(_interpreter_in(making.folder, self._site, self._root))
        for task in making.waiting:
            if making.error is not None:
                self._early.append(Outcome(id=task.id, failure=unstarted(making.error)))
            else:
                self._start(task, digest)

    def _pool(self, interpreter: Interpreter) -> Pool:
        return Pool(interpreter=interpreter, beat_seconds=self._beat_seconds)


def _installer_of(site: Site) -> str:
    wished = str(site.options.get("installer", ""))
    if wished not in ("", "uv", "pip"):
        raise InvalidInput(f"installer = {wished!r} is not known.", "Use uv or pip, or leave it out.")
    return wished


def _make(making: _Making, root: Path, installer: str, ring: Callable[[str], None]) -> None:
    """Make an environment in a thread of its own, and say so."""
    try:
        making.folder = make(making.recipe, root, installer)
    except (InvalidInput, StorageUnavailable) as error:
        making.error = error
    except MissingExtra as error:
        making.error = InvalidInput(error.what, error.mend)
    except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to: it is told as the tasks' outcome
        making.error = InvalidInput(f"The environment cannot be made: {error!r}.", "Report this as a defect.")
    ring(making.recipe.digest)


def _interpreter_in(folder: Path, at: Site, root: Path) -> Interpreter:
    own, spare = _links(root)
    variables = {name: text for name, text in os.environ.items() if name not in _UNWANTED}
    variables |= {"VIRTUAL_ENV": str(folder), "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}
    setup = Setup(
        sys_path=project_path(),
        whole=False,
        shelf=at.shelf,
        main=module_label("__main__"),
        spare_path=[str(spare)],
    )
    return Interpreter(program=str(python_in(folder)), setup=setup, path=(str(own),), variables=variables)


def project_path() -> list[str]:
    """Return where this process finds the project's own modules: not those of Python, nor installed ones."""
    named = [*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()]
    foreign = [Path(each).resolve() for each in named]
    zipped = f"python{sys.version_info[0]}{sys.version_info[1]}.zip"
    return [
        entry
        for entry in absolute_path()
        if not any(Path(entry).resolve().is_relative_to(each) for each in foreign)
        and not _INSTALLED.intersection(Path(entry).parts)
        and Path(entry).name != zipped
    ]


def _links(root: Path) -> tuple[Path, Path]:
    """Return folders through which an environment sees tidewheel and spare packages of ours, and nothing else."""
    place = Path(__file__).resolve().parents[2]  # this package, wherever it is installed
    folder = root / "shared" / place.as_posix().strip("/").replace("/", "-")[-120:]
    own, spare = folder / "own", folder / "spare"
    _link(own / _OWN, place)
    for name in _SPARE:
        found = importlib.util.find_spec(name)
        if found is not None and found.origin:
            _link(spare / name, Path(found.origin).resolve().parent)
    return own, spare


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    partial = link.with_name(f".{new_id()}")
    partial.symlink_to(target, target_is_directory=True)
    partial.replace(link)
