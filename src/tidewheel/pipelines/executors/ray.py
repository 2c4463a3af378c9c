"""Steps as tasks of a Ray cluster. Tries, retries and the journal stay with the run; Ray places and isolates."""

from __future__ import annotations

import importlib.util
import logging
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.errors import InvalidInput, MissingExtra, StorageUnavailable
from tidewheel.fingerprint.besides import matching
from tidewheel.pipelines.executors.dispatch import Dispatch, Sent, refused
from tidewheel.pipelines.executors.remote_child import execute
from tidewheel.pipelines.executors.seam import Beat, Failure, Outcome, Site, Task
from tidewheel.pipelines.sizes import size_in_bytes
from tidewheel.pipelines.step import Step

OPTIONS = ("address", "resources", "objects", "resubmit", "elastic", "installer")
_PLACES = 64  # tasks that Ray is given at once: it queues what has no room yet
_RESUBMIT = 3  # times that a task whose node died is handed over again within one try
_KNOCK_SECONDS = 10.0  # within which a cluster has to take a connection
_OBJECTS = 256 * 1024 * 1024  # bytes of outputs that are kept in Ray's object store for the steps after


@dataclass(slots=True)
class _Flight:
    """A task at Ray."""

    sent: Sent  # the order
    answer: Any  # reference of the manifest that will come
    outputs: Any  # reference of the blobs that will come along
    lost: int = 0  # how often its node has died


@dataclass(slots=True)
class _Objects:
    """Outputs in Ray's object store, the oldest first; letting go of a reference frees the memory."""

    limit: int  # bytes that may be kept
    places: dict[str, Any] = field(default_factory=dict)  # reference of the object that holds a digest
    sizes: dict[Any, int] = field(default_factory=dict)  # bytes of each object

    def keep(self, reference: Any, outcome: Outcome) -> None:
        """Remember where the outputs of a task are."""
        size = sum(stored.size for stored in outcome.outputs if stored.blobs)
        if not size or size > self.limit:
            return
        self.sizes[reference] = size
        self.places |= {digest: reference for stored in outcome.outputs for digest in stored.blobs}
        while sum(self.sizes.values()) > self.limit:
            oldest = next(iter(self.sizes))
            del self.sizes[oldest]
            self.places = {digest: at for digest, at in self.places.items() if at is not oldest}

    def holding(self, digests: tuple[str, ...]) -> list[Any]:
        """Return the objects in which some of the digests are."""
        return list(dict.fromkeys(self.places[digest] for digest in digests if digest in self.places))

    def forget(self) -> None:
        """Let go of all of them."""
        self.places.clear()
        self.sizes.clear()


class RayExecutor:
    """Executes each task as one Ray task; its workers need nothing but tidewheel and the blob store.

    Options: `address` ("auto", "local", "host:port" or "ray://host:port"), `places`, `resources` (custom ones that
    every task asks for), `objects` (bytes of outputs that stay in Ray's object store, where the blobs are in no
    folder), `resubmit` (times that a task whose node died is handed over again before the try counts as failed),
    `elastic` (the cluster grows on demand, so that no step is too large), `installer` ("uv" or "pip", for `isolate=`).

    Raises MissingExtra without Ray, InvalidInput for blobs in memory and for odd options.
    """

    here = False

    def __init__(self, site: Site) -> None:
        if importlib.util.find_spec("ray") is None:
            raise MissingExtra("ray", "ray")
        options = site.options
        self._dispatch = Dispatch(site, "ray", OPTIONS)
        self.places = int(options.get("places", 0)) or _PLACES
        self._address = str(options.get("address", "auto"))
        self._resources = _amounts(options.get("resources", {}))
        self._resubmit = int(options.get("resubmit", _RESUBMIT))
        self._elastic = bool(options.get("elastic", False))
        self._installer = _installer(str(options.get("installer", "uv")))
        # A shared folder is read as fast as Ray's object store; a bucket is not.
        kept = options.get("objects", 0 if isinstance(site.shelf.blobs, FolderBlobs) else _OBJECTS)
        self._objects = _Objects(limit=size_in_bytes(kept, "objects") if kept else 0)
        self._flying: dict[str, _Flight] = {}
        self._early: list[Outcome] = []
        self._ray: Any = None
        self._ours = False

    def submit(self, task: Task) -> None:
        """Hand the task to Ray."""
        try:
            self._connect()
            self._check_room(task.step)
            sent = self._dispatch.send(task)
            self._hand_over(sent, lost=0)
        except (InvalidInput, StorageUnavailable) as error:
            self._early.append(refused(task, error))

    def poll(self, timeout: float) -> list[Outcome | Beat]:
        """Return the answers that came; Ray tells of dead workers and nodes."""
        early: list[Outcome | Beat] = [*self._early]
        self._early.clear()
        if early or not self._flying:
            return early
        waiting = {flight.answer: key for key, flight in self._flying.items()}
        ready, _ = self._ray.wait(list(waiting), num_returns=1, timeout=timeout)
        if len(waiting) > 1 and ready:
            ready, _ = self._ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        found = [self._received(self._flying.pop(waiting[reference])) for reference in ready]
        return [outcome for outcome in found if outcome is not None]

    def cancel(self, task_id: str) -> None:
        """Have Ray end the task and its process."""
        flight = self._flying.pop(task_id, None)
        if flight is not None:
            self._ray.cancel(flight.answer, force=True)

    def adopt(self, task_id: str) -> Outcome | None:
        """Return what a worker finished, whoever had asked for it."""
        return self._dispatch.adopt(task_id)

    def close(self) -> None:
        """End what runs; leave the cluster if this executor joined it."""
        for task_id in tuple(self._flying):
            self.cancel(task_id)
        self._objects.forget()
        if self._ours:
            self._ray.shutdown()
            self._ours = False
        self._ray = None

    def _connect(self) -> None:
        if self._ray is not None:
            return
        import ray

        if not ray.is_initialized():
            wishes: dict[str, Any] = {"include_dashboard": False} if self._address == "local" else {}
            try:
                _knock(self._address)
                ray.init(address=self._address, log_to_driver=False, logging_level=logging.ERROR, **wishes)
            except (ConnectionError, ValueError, RuntimeError, OSError, ImportError) as error:
                raise InvalidInput(
                    f"No Ray cluster answers at address = {self._address!r}: {_line(error)}.",
                    'Start one (ray start --head), correct address in the executor\'s table, or use address = "local".',
                ) from error
            self._ours = True
        self._ray = ray

    def _check_room(self, step: Step[..., Any]) -> None:
        """Refuse what would wait for ever; a cluster that grows may get a larger node."""
        if self._elastic:
            return
        wanted = _needs(step, self._resources)
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
            return
        told = ", ".join(f"{name} {amount:g}" for name, amount in wanted.items())
        raise InvalidInput(
            f"The step {step.name} needs {told}, and no node of the Ray cluster has all of that.",
            "Ask for less, add a node, or set elastic = true in the executor's table when the cluster grows by itself.",
        )

    def _hand_over(self, sent: Sent, *, lost: int) -> None:
        held = self._objects.holding(sent.inputs)
        options = sent.task.step.options
        try:
            asked = self._ray.remote(work).options(
                name=title(sent.task),
                num_returns=2,
                max_retries=0,
                num_cpus=options.cpus,
                num_gpus=options.gpus,
                memory=options.memory,
                resources=self._resources or None,
                runtime_env=self._surroundings(sent),
            )
            answer, outputs = asked.remote(sent.arguments, self._objects.limit, *held)
        except (ValueError, TypeError) as error:
            raise InvalidInput(
                f"Ray refuses the step {sent.task.step.name}: {_line(error)}.", "Correct what the step asks for."
            ) from error
        self._flying[sent.task.id] = _Flight(sent=sent, answer=answer, outputs=outputs, lost=lost)

    def _surroundings(self, sent: Sent) -> dict[str, Any]:
        step, secrets = sent.task.step, sent.task.secrets.revealed()
        # Ray keeps processes of different surroundings apart, so that a warm one never has another version of the code.
        variables = {**self._dispatch.variables, **secrets, "TIDEWHEEL_BUNDLE": sent.bundle}
        return {"env_vars": variables, **packages_of(step, self._installer)}

    def _received(self, flight: _Flight) -> Outcome | None:
        errors, sent = self._ray.exceptions, flight.sent
        try:
            manifest, death = self._ray.get(flight.answer)
        except (errors.NodeDiedError, errors.LocalRayletDiedError) as error:
            return self._lost(flight, error)
        except errors.ObjectLostError:
            self._objects.forget()  # it went with its node; the store has everything
            return self._again(flight, lost=flight.lost)
        except errors.RayError as error:
            return self._dispatch.settle(sent, _failure(error, errors))
        if not manifest:
            mend = "Out of memory ends a process so: give it less data or more room." if "SIGKILL" in death else ""
            return self._dispatch.settle(sent, Failure(kind="killed", message=f"its process {death}", mend=mend))
        outcome = self._dispatch.taken(sent, manifest)
        self._objects.keep(flight.outputs, outcome)
        return outcome

    def _lost(self, flight: _Flight, error: Exception) -> Outcome | None:
        """Hand a task over again whose node died: no fault of the step, so no try of its own."""
        found = self._dispatch.answer(flight.sent)
        if found is not None:
            return found
        if flight.lost < self._resubmit and not flight.sent.task.step.options.side_effect:
            return self._again(flight, lost=flight.lost + 1)
        failure = Failure(kind="killed", message=f"its Ray node died: {_line(error)}", mend="Look at the node.")
        return self._dispatch.settle(flight.sent, failure)

    def _again(self, flight: _Flight, *, lost: int) -> Outcome | None:
        try:
            self._hand_over(flight.sent, lost=lost)
        except InvalidInput as error:
            return refused(flight.sent.task, error)
        return None


def work(order: list[str], limit: int, *held: Mapping[str, bytes]) -> tuple[tuple[bytes, str], Mapping[str, bytes]]:
    """Execute an order in a Ray worker; returns manifest, death of its process, and blobs for the steps after."""
    done = execute(order, limit, held)
    return (done.manifest, done.death), done.written


def title(task: Task) -> str:
    """Return what Ray's own tools call a task."""
    return f"{task.step.name} {task.id} try {task.context.attempt}"


def packages_of(step: Step[..., Any], installer: str) -> dict[str, Any]:
    """Return the part of a runtime environment that installs what `isolate=` names.

    Raises InvalidInput for `isolate="script"` and for a file that is not there.
    """
    wanted = step.options.isolate
    if wanted is None:
        return {}
    if wanted == "script":
        raise InvalidInput(
            f'The step {step.name} has isolate="script", which Ray cannot install from.',
            'Write its packages into a requirements file and name that: isolate="requirements.txt".',
        )
    files = list(matching(step.__wrapped__, wanted).values())
    if not files:
        raise InvalidInput(
            f"isolate={wanted!r} of the step {step.name} names no file beside the step or in {Path.cwd()}.",
            "Write the file, or correct its path.",
        )
    return {installer: str(files[0])}


def _needs(step: Step[..., Any], resources: Mapping[str, float]) -> dict[str, float]:
    options = step.options
    found = {"CPU": options.cpus, "GPU": options.gpus, "memory": float(options.memory or 0), **resources}
    return {name: amount for name, amount in found.items() if amount}


def _failure(error: Exception, errors: Any) -> Failure:
    if isinstance(error, errors.OutOfMemoryError):
        mend = "Ask for the memory that it needs (@step(memory=...)), or give it less data."
        return Failure(kind="killed", message="Ray ended its process for want of memory (SIGKILL)", mend=mend)
    if isinstance(error, errors.WorkerCrashedError):
        mend = "Out of memory ends a process so: give it less data or more room."
        return Failure(kind="killed", message="its Ray worker process died, most likely by SIGKILL", mend=mend)
    if isinstance(error, errors.RuntimeEnvSetupError):
        mend = "Correct isolate= and installer, or install the packages on the nodes."
        return Failure(kind="unusable", message=f"Ray cannot set up its environment: {_line(error)}", mend=mend)
    cause = getattr(error, "cause", None)
    if isinstance(cause, StorageUnavailable):
        return Failure(kind="storage", message=cause.what, mend=cause.mend)
    mend = "The nodes need the same Ray and tidewheel as this machine, and a way to the blobs (blob_url, variables)."
    return Failure(kind="unusable", message=f"Ray could not execute it: {_line(cause or error)}", mend=mend)


def _knock(address: str) -> None:
    """Raise OSError when nobody listens at a cluster's address: Ray itself would ask for minutes."""
    host, _, port = address.removeprefix("ray://").partition("/")[0].rpartition(":")
    if host and port.isdigit():
        with socket.create_connection((host, int(port)), _KNOCK_SECONDS):
            pass


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}{': ' + lines[-1][:300] if lines else ''}".rstrip(".")


def _amounts(table: Any) -> dict[str, float]:
    if not isinstance(table, Mapping) or not all(isinstance(amount, int | float) for amount in table.values()):
        raise InvalidInput(f"resources = {table!r} of the executor ray cannot be.", "Write resources = { name = 1 }.")
    return {name: float(amount) for name, amount in table.items()}


def _installer(name: str) -> str:
    if name not in ("uv", "pip"):
        raise InvalidInput(f"installer = {name!r} of the executor ray is not known.", 'Use "uv" or "pip".')
    return name
