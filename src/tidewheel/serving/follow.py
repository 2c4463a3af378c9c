"""Follow the traffic table: load what is wanted in a thread, then replace one reference."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol

from tidewheel.errors import NotFound
from tidewheel.lineage.store import Store
from tidewheel.registry.traffic import Traffic, current_traffic, traffic_history
from tidewheel.registry.versions import list_models
from tidewheel.serving.arms import Deployed, said
from tidewheel.serving.deploy import deploy
from tidewheel.serving.endpoint import Endpoint

EARLIER = 5  # champions that are tried when a server starts and the wanted one cannot be loaded
RETRY = timedelta(seconds=5)  # how long a deployment that was refused is left alone

logger = logging.getLogger("tidewheel.serving")


class Peers(Protocol):
    """Where a server that is one of several says what it could load, and hears when all take it up at once."""

    def prepared(self, model: str, seq: int) -> None:
        """A deployment is loaded, warm and checked."""
        ...

    def refused(self, model: str, seq: int, reason: str) -> None:
        """A deployment could not be loaded."""
        ...


class Follower:
    """Keeps one endpoint on what the traffic table says.

    Without peers a deployment goes live as soon as it is loaded; with them when `flip` says so. The first deployment
    of a process goes live at once in any case: it has nothing older to answer with.
    """

    def __init__(self, store: Store, endpoint: Endpoint, *, trust: bool, peers: Peers | None = None) -> None:
        self._store = store
        self._endpoint = endpoint
        self._trust = trust
        self._peers = peers
        self._open = 0 if peers is not None else sys.maxsize  # newest deployment that may go live
        self._prepared: Deployed | None = None
        self._lock = threading.Lock()  # guards what is prepared against a flip from another thread
        self._refused: Traffic | None = None
        self._again = store.clock.now()

    def follow(self, wanted: Traffic) -> bool:
        """Load what is wanted, if it is not live yet, and swap it in; return whether something changed.

        Whatever goes wrong leaves the old deployment serving and its reason in `endpoint.trouble`. Where there is no
        old one, because the server has just started, the newest earlier champion that can be loaded answers.
        """
        endpoint, now = self._endpoint, self._store.clock.now()
        live = endpoint.deployed
        if live is not None and wanted == live.traffic:
            endpoint.trouble = ""
            return False
        if self._waits(wanted) or (wanted == self._refused and now < self._again):
            return False
        try:
            fresh = deploy(self._store, wanted, live, trust=self._trust)
        except Exception as error:  # noqa: BLE001 - a bundle may fail in any way; the reason is shown and counted
            self._refuse(wanted, error, now)
            return live is None and self._fall_back(wanted)
        self._refused = None
        endpoint.trouble = ""
        with self._lock:
            self._prepared = fresh
        if self._peers is not None:
            self._peers.prepared(endpoint.model, wanted.seq)
        return self.flip(wanted.seq if live is None or endpoint.fallback else self._open)

    def flip(self, seq: int) -> bool:
        """Let what is prepared go live if it is not newer than `seq`; return whether it did."""
        endpoint = self._endpoint
        with self._lock:
            self._open = max(self._open, seq)
            fresh = self._prepared
            if fresh is None or fresh.traffic.seq > self._open:
                return False
            self._prepared = None
            endpoint.deployed, endpoint.fallback = fresh, ""
        endpoint.counters.swaps += 1
        logger.info("%s: version %d answers (deployment %d)", endpoint.model, fresh.champion.version, fresh.traffic.seq)
        return True

    def _waits(self, wanted: Traffic) -> bool:
        """Whether what is wanted is prepared already and waits for the other workers."""
        with self._lock:
            return self._prepared is not None and self._prepared.traffic == wanted

    def _refuse(self, wanted: Traffic, error: Exception, now: datetime) -> None:
        if wanted != self._refused:
            logger.warning("%s: deployment %d is refused: %s", self._endpoint.model, wanted.seq, said(error))
        self._refused, self._again = wanted, now + RETRY
        self._endpoint.trouble = said(error)
        self._endpoint.counters.swaps_refused += 1
        if self._peers is not None:
            self._peers.refused(self._endpoint.model, wanted.seq, said(error))

    def _fall_back(self, wanted: Traffic) -> bool:
        """Let the newest earlier champion that can be loaded answer instead of nobody."""
        endpoint = self._endpoint
        tried = {wanted.champion}
        for earlier in traffic_history(self._store, endpoint.model):
            if earlier.champion in tried:
                continue
            if len(tried) > EARLIER:
                break
            tried.add(earlier.champion)
            alone = replace(earlier, challenger=None, share=0.0, fault=0.0, paired=False, strategy=None)
            try:
                fresh = deploy(self._store, alone, trust=self._trust)
            except Exception as error:  # noqa: BLE001 - as above; the one before may be whole
                logger.warning("%s: version %d cannot answer either: %s", endpoint.model, earlier.champion, said(error))
                continue
            endpoint.fallback = f"version {earlier.champion} answers instead of version {wanted.champion}"
            endpoint.deployed = fresh
            logger.warning("%s: %s", endpoint.model, endpoint.fallback)
            return True
        return False


def wanted_traffic(store: Store, models: Sequence[str] | None) -> dict[str, Traffic]:
    """Return what the traffic table says now, of the named models or of all; a model without traffic is left out."""
    found: dict[str, Traffic] = {}
    with store.database.reading() as tx:
        for model in list_models(tx) if models is None else models:
            with suppress(NotFound):
                found[model] = current_traffic(tx, model)
    return found


class Repeater:
    """Calls an action again and again in a thread of its own until it is stopped."""

    def __init__(self, action: Callable[[], object], seconds: float, name: str) -> None:
        self._action = action
        self._seconds = seconds
        self._stop = threading.Event()
        self._said = ""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; the first call comes after one pause."""
        self._thread.start()

    def stop(self) -> None:
        """End after the call under way, and wait for it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self._action()
                self._said = ""
            except Exception as error:  # noqa: BLE001 - the thread must outlive a database that is away for a while
                if said(error) != self._said:
                    logger.warning("%s: %s", self._thread.name, said(error))
                self._said = said(error)
