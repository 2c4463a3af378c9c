"""Steps in warm worker processes: side by side, ended when overdue, and their death survived."""

from __future__ import annotations

from collections.abc import Iterable

from tidewheel.blobs.store import MemoryBlobs
from tidewheel.errors import InvalidInput, NotFound, StorageUnavailable
from tidewheel.pipelines.executors.fleet import Fleet
from tidewheel.pipelines.executors.machine import machine, whole
from tidewheel.pipelines.executors.orders import read_manifest
from tidewheel.pipelines.executors.pool import Pool, own_interpreter, own_setup
from tidewheel.pipelines.executors.seam import Beat, Failure, Outcome, Site, Task
from tidewheel.pipelines.executors.shipping import Parcels, manifest_path, order_of

BEAT_SECONDS = 10.0  # between two signs of life of a task
_OPTIONS = ("places", "beat_seconds")


class ProcessExecutor:
    """Executes each task in a child process; as many at once as there are cores, unless `places` says otherwise."""

    here = True

    def __init__(self, site: Site) -> None:
        refuse_memory_blobs(site)
        check_options("process", site, _OPTIONS)
        self.places = places_of(site)
        self._site = site
        self._fleet = Fleet()
        self._parcels = Parcels()
        self._pool = Pool(
            interpreter=own_interpreter(own_setup(site.shelf)),
            beat_seconds=beat_seconds(site),
        )
        self._early: list[Outcome] = []

    def submit(self, task: Task) -> None:
        """Hand the task to a warm or new child."""
        try:
            parcel = self._parcels.of(task, project_only=False)
            self._fleet.submit(task, self._pool, lambda strict: order_of(task, self._site, parcel, strict=strict))
        except (InvalidInput, StorageUnavailable) as error:
            self._early.append(Outcome(id=task.id, failure=unstarted(error)))

    def poll(self, timeout: float) -> list[Outcome | Beat]:
        """Wait for children."""
        early: list[Outcome | Beat] = [*self._early]
        self._early.clear()
        return early + self._fleet.poll(0.0 if early else timeout)

    def cancel(self, task_id: str) -> None:
        """Kill the child that executes the task, with everything that it started."""
        self._fleet.cancel(task_id)

    def adopt(self, task_id: str) -> Outcome | None:
        """Return what a child finished after its parent had died."""
        return read_manifest(manifest_path(self._site, task_id))

    def close(self) -> None:
        """Kill every child."""
        self._fleet.clear()
        self._pool.close()


def unstarted(error: InvalidInput | StorageUnavailable) -> Failure:
    """Return the failure of a task that could not be handed to a process."""
    kind = "unusable" if isinstance(error, InvalidInput) else "storage"
    return Failure(kind=kind, message=error.what, mend=error.mend, cause=error)  # type: ignore[arg-type] # one of both


def refuse_memory_blobs(site: Site) -> None:
    """Raise InvalidInput for blobs that another process cannot see."""
    if isinstance(site.shelf.blobs, MemoryBlobs):
        raise InvalidInput(
            "Blobs in memory cannot be seen by child processes.", "Keep them in a folder or run steps inline."
        )


def check_options(executor: str, site: Site, known: Iterable[str]) -> None:
    """Raise NotFound for an option of tidewheel.toml that an executor does not have."""
    for name in site.options:
        if name not in known:
            raise NotFound(f"option of the executor {executor}", name, known)


def places_of(site: Site) -> int:
    """Return how many tasks of one cpu go side by side: as the options say, else one per processor.

    Raises InvalidInput unless it is a whole number of at least 1.
    """
    wished = site.options.get("places")
    if wished is None:
        return whole(machine().cpus)
    if isinstance(wished, bool) or not isinstance(wished, int) or wished < 1:
        raise InvalidInput(f"places = {wished!r} is not a number of places.", "Give 1, 2, 3 ...")
    return wished


def beat_seconds(site: Site) -> float:
    """Return the seconds between two signs of life; raises InvalidInput unless they are more than nothing."""
    wished = site.options.get("beat_seconds", BEAT_SECONDS)
    if isinstance(wished, bool) or not isinstance(wished, int | float) or not wished > 0:
        raise InvalidInput(f"beat_seconds = {wished!r} is not a time.", "Give seconds, such as 10.")
    return float(wished)
