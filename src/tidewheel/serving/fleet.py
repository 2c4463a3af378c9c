"""The models that one server answers for: taken up, followed, and let go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Lock

from tidewheel.errors import NotFound
from tidewheel.lineage.store import Store
from tidewheel.predictions.rules import rules_for, salt_of
from tidewheel.predictions.segments import log_folder
from tidewheel.registry.versions import list_models
from tidewheel.serving.endpoint import Endpoint
from tidewheel.serving.follow import Follower, Peers, wanted_traffic
from tidewheel.serving.journal import Journal
from tidewheel.serving.languages import ROWS, TENSORS, Language
from tidewheel.serving.metrics import Counters
from tidewheel.serving.mlflow import INVOCATIONS
from tidewheel.serving.repository import Repository
from tidewheel.serving.shelf import Shelf
from tidewheel.serving.terms import Terms

logger = logging.getLogger("tidewheel.serving")


class Fleet:
    """The endpoints of some models, or of every deployed one; for the thread that answers, but `refresh` and `flip`."""

    def __init__(
        self,
        store: Store,
        models: Sequence[str] | None,
        terms: Terms,
        *,
        home: Path,
        writer: str,
        strict: bool,
        trust: bool,
        now_us: Callable[[], int],
        peers: Peers | None,
        shelf: Shelf | None,
    ) -> None:
        self.models = tuple(models) if models is not None else None
        self.repository = Repository(home / "repository" if terms.repository else None)
        self.endpoints: dict[str, Endpoint] = {}
        self.parked: dict[str, Endpoint] = {}  # unloaded by a caller
        self.hot: dict[str, tuple[Endpoint, Language]] = {}  # POST path -> what answers it, and in which language
        self.store = store
        self._terms = terms
        self._home = home
        self._writer = writer
        self._strict = strict
        self._trust = trust
        self._now_us = now_us
        self._peers = peers
        self._shelf = shelf
        self._followers: dict[str, Follower] = {}
        self._refreshing = Lock()

    @property
    def ready(self) -> bool:
        """Whether every named model answers; without names, whether any does."""
        live = [endpoint.deployed is not None for endpoint in self.endpoints.values()]
        return any(live) and (self.models is None or all(live))

    def refresh(self) -> list[str]:
        """Look once at the traffic table, swap in what changed; return the models that did."""
        with self._refreshing:
            models, unloaded = self.repository.served(self.models), self.repository.unloaded()
            wanted = wanted_traffic(self.store, models)
            for name in unloaded:
                wanted.pop(name, None)
            self._dismiss(unloaded)
            self._admit([name for name in (*(models or ()), *wanted) if name not in unloaded])
            return [name for name, traffic in wanted.items() if self._followers[name].follow(traffic)]

    def flip(self, model: str, seq: int) -> None:
        """Let a deployment of a model go live that waits for the other workers; for any thread."""
        follower = self._followers.get(model)
        if follower is not None:
            follower.flip(seq)

    def warn_of_unknown(self) -> None:
        """Say it when a model was named that nobody has registered: a slip of the pen would wait for ever."""
        known = list_models(self.store) if self.models is not None else []
        for name in self.models or ():
            if name not in known:
                error = NotFound("model", name, known)
                logger.warning("%s %s It is served as soon as it is deployed.", error.what, error.mend)

    def close(self) -> None:
        """Let go of the logs."""
        for endpoint in (*self.endpoints.values(), *self.parked.values()):
            endpoint.close()

    def _admit(self, names: Sequence[str]) -> None:
        fresh = [name for name in dict.fromkeys(names) if name not in self.endpoints]
        if not fresh:
            return
        endpoints = dict(self.endpoints)
        for name in fresh:
            if name in self.parked:
                endpoints[name] = self.parked.pop(name)
                continue
            counters = Counters()
            journal = self._journal(name, counters)
            endpoint = Endpoint(name, journal, counters, self._now_us, shelf=self._shelf)
            endpoints[name] = endpoint
            self._followers[name] = Follower(self.store, endpoint, trust=self._trust, peers=self._peers)
        self._replace(endpoints)

    def _journal(self, model: str, counters: Counters) -> Journal:
        rules = rules_for(self._terms.log, model)
        salt = salt_of(self._home) if rules.hash else b""
        folder = log_folder(self._home, model)
        return Journal(folder, self._writer, counters, strict=self._strict, rules=rules, salt=salt)

    def _dismiss(self, names: frozenset[str]) -> None:
        """Answer for some models no more; requests under way keep what they began with."""
        gone = names & self.endpoints.keys()
        if not gone:
            return
        for name in gone:
            self.parked[name] = self.endpoints[name]
            self.parked[name].deployed = None
        self._replace({name: endpoint for name, endpoint in self.endpoints.items() if name not in gone})

    def _replace(self, endpoints: dict[str, Endpoint]) -> None:
        self.endpoints, self.hot = endpoints, _hot_paths(endpoints)


def _hot_paths(endpoints: Mapping[str, Endpoint]) -> dict[str, tuple[Endpoint, Language]]:
    """Return what answers each path that takes rows."""
    languages = (("/predict/{}", ROWS), ("/v2/models/{}/infer", TENSORS), ("/invocations/{}", INVOCATIONS))
    hot = {path.format(name): (each, language) for name, each in endpoints.items() for path, language in languages}
    if len(endpoints) == 1:
        hot["/invocations"] = next(iter(endpoints.values())), INVOCATIONS
    return hot
