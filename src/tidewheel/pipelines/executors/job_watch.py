"""A thread that knows what becomes of Jobs: lists them, then watches, and lists again when it has lost the thread."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from typing import Any

from tidewheel.errors import InvalidInput, StorageUnavailable
from tidewheel.pipelines.executors.cluster_api import ClusterApi, Gone
from tidewheel.pipelines.executors.jobs import OURS

_SECONDS = 240  # that one watch lasts; proxies between here and the cluster cut longer ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What became of a Job."""

    name: str  # of the Job
    job: dict[str, Any] | None  # as it is now; None when it is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """All Jobs that there are at one moment: others are gone."""

    names: frozenset[str]  # of Jobs


News = Seen | Known | InvalidInput | StorageUnavailable


class JobWatch:
    """Tells of the Jobs of every run in a namespace through `news`; ends by itself after an error."""

    def __init__(self, api: ClusterApi) -> None:
        self.news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._api = api
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="tidewheel-jobs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        self._api.close()
        self._thread.join(timeout=5)

    @property
    def alive(self) -> bool:
        """Whether news may still come."""
        return self._thread.is_alive()

    def _go_on(self) -> None:
        try:
            while not self._ended.is_set():
                listing = self._api.jobs(OURS)
                for job in listing.jobs:
                    self.news.put(Seen(name=job["metadata"]["name"], job=job))
                self.news.put(Known(names=frozenset(job["metadata"]["name"] for job in listing.jobs)))
                self._follow(listing.version)
        except (InvalidInput, StorageUnavailable) as error:
            if not self._ended.is_set():
                self.news.put(error)

    def _follow(self, version: str) -> None:
        """Watch from a version on until the cluster no longer remembers where that was."""
        while not self._ended.is_set():
            before = version
            try:
                for event in self._api.watch(OURS, version, _SECONDS):
                    version = self._told(event)
            except Gone:
                return
            if version == before and not self._ended.wait(0.5):
                return  # a broken or silent watch: a list tells whether the cluster is there

    def _told(self, event: dict[str, Any]) -> str:
        """Pass an event on and return the version that it brings."""
        metadata = event["object"]["metadata"]
        if event["type"] != "BOOKMARK":
            gone = event["type"] == "DELETED"
            self.news.put(Seen(name=metadata["name"], job=None if gone else event["object"]))
        return str(metadata["resourceVersion"])
