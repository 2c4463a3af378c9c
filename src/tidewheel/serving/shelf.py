"""Versions that are not deployed, loaded because a caller named them, within a budget of memory."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tidewheel.errors import Conflict, NotFound, NotReady, Overloaded, TidewheelError
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import load_bundle
from tidewheel.registry.traffic import Traffic
from tidewheel.registry.versions import get_model
from tidewheel.serving.arms import Deployed, said
from tidewheel.serving.deploy import deploy

QUEUED = 8  # versions that may wait to be loaded
REMEMBERED = 1_000  # failures that are remembered
RETRY_SECONDS = 5.0  # for which a version that could not be loaded is left alone

Key = tuple[str, int]

logger = logging.getLogger("tidewheel.serving")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    deployed: Deployed  # the version, alone
    size: int  # bytes: its bundle's, or by how much the process grew, whichever is more


@dataclass(frozen=True, slots=True, kw_only=True)
class _Failed:
    error: TidewheelError  # why
    until: float  # monotonic second of the next try


class Shelf:
    """Keeps what was asked for last; what was not asked for longest goes when the budget is used up.

    `take` is for the thread that answers and never waits: loading is another thread's.
    """

    def __init__(self, store: Store, budget: int, *, trust: bool = False) -> None:
        self.budget = budget  # bytes
        self._store = store
        self._trust = trust
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._failed: OrderedDict[Key, _Failed] = OrderedDict()
        self._wanted: queue.Queue[Key | None] = queue.Queue(QUEUED)
        self._loading: set[Key] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def take(self, model: str, version: str) -> Deployed:
        """Return a version that is loaded, and begin to load one that is not.

        Raises NotReady while it is being loaded, NotFound for a version that is not registered, and what kept it from
        being loaded for a while after.
        """
        if not (version.isascii() and version.isdigit() and len(version) < 10):
            raise NotFound(f"version of {model}", version, mend="Versions are numbers.")
        key = model, int(version)
        with self._lock:
            kept, failed = self._kept.get(key), self._failed.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept.deployed
            if failed is not None and time.monotonic() < failed.until:
                raise failed.error
            if key not in self._loading:
                self._ask_for(key)
        raise NotReady(f"Version {version} of {model} is being loaded.", "Ask again in a moment.")

    def peek(self, model: str, version: int) -> Deployed | None:
        """Return a version if it is loaded."""
        kept = self._kept.get((model, version))
        return kept.deployed if kept is not None else None

    @property
    def used(self) -> int:
        """Bytes of what is loaded."""
        return sum(kept.size for kept in list(self._kept.values()))

    def versions(self) -> list[Key]:
        """Return what is loaded, (model, version), asked for last at the end."""
        return list(self._kept)

    def close(self) -> None:
        """Load no more."""
        if self._thread is not None:
            self._wanted.put(None)
            self._thread.join()

    def _ask_for(self, key: Key) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tidewheel-shelf", daemon=True)
            self._thread.start()
        try:
            self._wanted.put_nowait(key)
        except queue.Full:
            raise Overloaded(f"{QUEUED} versions wait to be loaded.", "Ask again in a moment.") from None
        self._loading.add(key)

    def _run(self) -> None:
        while (key := self._wanted.get()) is not None:
            try:
                kept = self._load(*key)
            except Exception as error:  # noqa: BLE001 - a bundle may fail in any way; its callers are told
                logger.warning("%s:%d cannot be loaded: %s", *key, said(error))
                self._fail(key, error)
                continue
            with self._lock:
                self._kept[key] = kept
                self._loading.discard(key)
                self._make_room()

    def _load(self, model: str, version: int) -> _Kept:
        digest = get_model(self._store, f"{model}:{version}").bundle_digest
        size = load_bundle(self._store, digest, trust=self._trust).size
        if size > self.budget:
            raise _too_large(model, version, size, self.budget)
        before = _resident()
        alone = Traffic(model=model, seq=0, champion=version, at=self._store.clock.now(), by="", reason="asked for")
        deployed = deploy(self._store, alone, trust=self._trust)
        size = max(size, _resident() - before)
        if size > self.budget:
            raise _too_large(model, version, size, self.budget)
        # Not the champion of anybody: what it answers is logged under the caller's choice.
        return _Kept(deployed=replace(deployed, champion=replace(deployed.champion, name="challenger")), size=size)

    def _fail(self, key: Key, error: Exception) -> None:
        told = error if isinstance(error, TidewheelError) else NotReady(said(error), "Deploy another version.")
        with self._lock:
            self._failed[key] = _Failed(error=told, until=time.monotonic() + RETRY_SECONDS)
            self._loading.discard(key)
            if len(self._failed) > REMEMBERED:
                self._failed.popitem(last=False)

    def _make_room(self) -> None:
        used = self.used
        while used > self.budget and len(self._kept) > 1:
            _, gone = self._kept.popitem(last=False)
            used -= gone.size


def _too_large(model: str, version: int, size: int, budget: int) -> Conflict:
    return Conflict(
        f"Version {version} of {model} takes {size / 1e6:,.0f} MB; {budget / 1e6:,.0f} MB are set aside for versions "
        "that are not deployed.",
        "Set serve_memory higher in tidewheel.toml, or deploy it.",
    )


def _resident() -> int:
    """Return the bytes of memory that this process has now; 0 where the system does not say."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return 0
