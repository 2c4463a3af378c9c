"""The server without sockets: a method, a path, headers and a body in, an answer out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from time import perf_counter_ns

import msgspec

from tidewheel.clock import Clock, SystemClock, micros
from tidewheel.errors import NotFound, TidewheelError, TooLarge
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import Bundle, load_bundle
from tidewheel.predictions.rules import rules_for, salt_of
from tidewheel.predictions.segments import log_folder
from tidewheel.registry.versions import list_models
from tidewheel.serving.access import TRACEPARENT, Visit
from tidewheel.serving.admission import Admission
from tidewheel.serving.endpoint import Endpoint, Ticket
from tidewheel.serving.exposition import model_families, server_families
from tidewheel.serving.follow import Follower, Peers, Repeater, wanted_traffic
from tidewheel.serving.gate import MODELLESS, OPEN, Gate, verb_of
from tidewheel.serving.journal import Journal
from tidewheel.serving.languages import ROWS, TENSORS, Language
from tidewheel.serving.limits import DEFAULTS, Limits
from tidewheel.serving.lookup import Lookups
from tidewheel.serving.metadata import server_metadata
from tidewheel.serving.metrics import Counters, Family, render
from tidewheel.serving.mlflow import INVOCATIONS, choose
from tidewheel.serving.openapi import describe
from tidewheel.serving.outcomes import check_labels, choose_model, decode_outcomes
from tidewheel.serving.pages import documentation, metadata_of, readiness
from tidewheel.serving.repository import Repository, index, wants_ready
from tidewheel.serving.response import HTML, PLAIN, TEXT, Header, Response, error_response, json_response
from tidewheel.serving.routes import Match, match
from tidewheel.serving.shelf import Shelf
from tidewheel.serving.tallies import Tallies, states_of
from tidewheel.serving.terms import Terms, watch_of

BODY_LIMIT = 8 << 20  # bytes
SYNC_SECONDS = 1.0

DEFAULT_TERMS = Terms()

logger = logging.getLogger("tidewheel.serving")

Deliver = Callable[[Response], None]


class Engine:
    """Answers for some models, or for every deployed one.

    `models` names them (None: all that have traffic, also those deployed later); `home` is the folder above `log/`
    (default: the store's); `writer` names this process's log segments; `strict` forces each record onto the disk
    before its answer leaves; `trust` allows bundles that hold a pickle.
    `handle`, `submit` and `flush` are for one thread. `refresh` and `sync` may run in others; `start` runs them by
    itself.
    """

    def __init__(
        self,
        store: Store,
        models: Sequence[str] | None = None,
        *,
        home: Path | None = None,
        writer: str = "w0",
        strict: bool = False,
        trust: bool = False,
        body_limit: int = BODY_LIMIT,
        limits: Limits = DEFAULTS,
        terms: Terms = DEFAULT_TERMS,
        peers: Peers | None = None,
        tallies: Tallies | None = None,
    ) -> None:
        self.body_limit = body_limit
        self.admission = Admission(limits)
        self._poll_seconds = limits.poll_seconds
        self._peers = peers
        self._tallies = tallies
        self._shelf = Shelf(store, limits.spare_bytes, trust=trust) if limits.spare_bytes else None
        self._store = store
        self._models = tuple(models) if models is not None else None
        self._home = home or store.home
        self._writer = writer
        self._strict = strict
        self._trust = trust
        self._now_us = _clock_us(store.clock)
        self.gate = Gate(store, self._now_us, secret=terms.secret, anonymous=terms.anonymous)
        self._terms = terms
        self._watch = watch_of(terms, self.gate)
        self._lookups = Lookups(store, self._now_us)
        self._repository = Repository(self._home / "repository" if terms.repository else None)
        self._endpoints: dict[str, Endpoint] = {}
        self._parked: dict[str, Endpoint] = {}  # unloaded by a caller
        self._followers: dict[str, Follower] = {}
        self._hot: dict[str, tuple[Endpoint, Language]] = {}  # POST path -> what answers it, and in which language
        self._waiting: dict[Endpoint, list[tuple[Ticket, Deliver]]] = {}  # submitted and not flushed yet
        self._refreshing = Lock()
        self._repeaters: list[Repeater] = []
        self._poll_failures = 0
        self._actions: Mapping[str, Callable[[Match, Sequence[Header], bytes], Response]] = {
            "predict": self._unknown,
            "explain": self._unknown,  # answered by what is around the engine
            "infer": self._infer,
            "outcomes": self._outcomes,
            "server": lambda *_: json_response(200, server_metadata()),
            "live": lambda *_: json_response(200, {"live": True}),
            "ready": self._ready,
            "model": self._model,
            "model_ready": self._model_ready,
            "metrics": lambda *_: Response(200, (TEXT,), render(self._all_families())),
            "docs": lambda *_: Response(200, (HTML,), documentation(self._endpoints)),
            "openapi": lambda *_: json_response(200, describe(self._endpoints, keyed=self.gate.closed)),
            "ping": lambda *_: Response(200 if self.ready else 503, (PLAIN,), b"\n"),
            "version": lambda *_: Response(200, (PLAIN,), server_metadata()["version"].encode()),
            "invocations": self._invocations,
            "index": self._index,
            "load": self._load,
            "lookup": lambda found, *_: self._lookups.answer(found),
            "unload": self._unload,
        }

    @property
    def ready(self) -> bool:
        """Whether every named model answers; without names, whether any does."""
        live = [endpoint.deployed is not None for endpoint in self._endpoints.values()]
        return any(live) and (self._models is None or all(live))

    def handle(self, method: str, path: str, headers: Sequence[Header], body: bytes) -> Response:
        """Answer one request. Header names are in lower case; the path is without query and percent signs."""
        if not self._watch.on and TRACEPARENT not in dict(headers):
            return self._respond(method, path, headers, body)
        visit = self._watch.begin(method, path, dict(headers), len(body))
        return self._watch.end(visit, self._respond(method, path, headers, body, visit))

    def _respond(
        self, method: str, path: str, headers: Sequence[Header], body: bytes, visit: Visit | None = None
    ) -> Response:
        if method == "POST" and len(body) <= self.body_limit:
            hot = self._hot.get(path)
            if hot is not None:
                taken = self._take(*hot, headers, body)
                if visit is not None:
                    _note(visit, hot[0], taken)
                return taken if isinstance(taken, Response) else self._answer(hot[0], taken)
        if visit is not None:
            with suppress(NotFound):
                visit.model, visit.version = match(method, path).about
        return self._handle(method, path, headers, body)

    def submit(self, method: str, path: str, headers: Sequence[Header], body: bytes, deliver: Deliver) -> bool:
        """Take one request; what needs a model waits for the `flush` that ends this turn, the rest is answered now.

        Returns whether a flush is needed.
        """
        hot = self._hot.get(path) if method == "POST" and len(body) <= self.body_limit else None
        if hot is None:
            deliver(self.handle(method, path, headers, body))
            return False
        endpoint, language = hot
        visit = None
        if self._watch.on or TRACEPARENT in dict(headers):
            visit = self._watch.begin(method, path, dict(headers), len(body))
            deliver = self._watch.delivering(visit, deliver)
        taken = self._take(endpoint, language, headers, body, queued=True)
        if visit is not None:
            _note(visit, endpoint, taken)
        if isinstance(taken, Response):
            deliver(taken)
            return False
        self.admission.enter(len(taken.ask.rows))
        self._waiting.setdefault(endpoint, []).append((taken, deliver))
        return True

    def flush(self) -> None:
        """Score together what was submitted since the last flush, and deliver the answers."""
        waiting, self._waiting = self._waiting, {}
        for endpoint, submitted in waiting.items():
            started = perf_counter_ns()
            try:
                answers = endpoint.answer([ticket for ticket, _ in submitted])
            finally:
                rows = sum([len(ticket.ask.rows) for ticket, _ in submitted])
                self.admission.done(len(submitted), rows, (perf_counter_ns() - started) / 1_000)
            for (_, deliver), response in zip(submitted, answers, strict=True):
                deliver(response)

    def take(self, path: str, headers: Sequence[Header], body: bytes) -> tuple[Endpoint, Ticket] | Response:
        """Let in, decode and route a prediction that something around the engine answers; a refusal is the answer."""
        found = match("POST", path)
        version = found.values.get("version", "")
        hot = self._hot.get(path.replace(f"/versions/{version}/", "/", 1) if version else path)
        if hot is None:
            return self.handle("POST", path, headers, body)
        if self.gate.closed and (refusal := self.gate.refusal(dict(headers), "predict", hot[0].model)):
            return error_response(refusal)
        taken = hot[0].take(hot[1], headers, body, version)
        return taken if isinstance(taken, Response) else (hot[0], taken)

    def bundle(self, digest: str) -> Bundle:
        """Return the bundle of a version that is served."""
        return load_bundle(self._store, digest, trust=self._trust)

    def _answer(self, endpoint: Endpoint, ticket: Ticket) -> Response:
        started = perf_counter_ns()
        response = endpoint.answer((ticket,))[0]
        self.admission.learn(1, len(ticket.ask.rows), (perf_counter_ns() - started) / 1_000)
        return response

    def _take(
        self, endpoint: Endpoint, language: Language, headers: Sequence[Header], body: bytes, *, queued: bool = False
    ) -> Ticket | Response:
        """Let a prediction in, if its key opens the model and there is time for it, and decode it."""
        if self.gate.closed:
            refusal = self.gate.refusal(dict(headers), "predict", endpoint.model)
            if refusal is not None:
                return error_response(refusal)
        if queued and (busy := self.admission.refusal()):
            return endpoint.refuse(headers, busy)
        return endpoint.take(language, headers, body)

    def _handle(self, method: str, path: str, headers: Sequence[Header], body: bytes) -> Response:
        try:
            found = match(method, path)
            if not found.allowed:
                return _wrong_method(found)
            if refusal := self._refusal(found, headers):
                return error_response(refusal)
            if len(body) > self.body_limit:
                return self.oversized(method, path, headers)
            response = self._actions[found.route.action](found, headers, body)
        except TidewheelError as error:
            return error_response(error)
        return response if method != "HEAD" else Response(response.status, response.headers, b"")

    def oversized(self, method: str, path: str, headers: Sequence[Header]) -> Response:
        """Refuse a request whose body is larger than one may be; for fronts that stopped reading it."""
        error = TooLarge(
            f"The body is larger than {self.body_limit:,} bytes.", "Send fewer rows per request, in several requests."
        )
        with suppress(NotFound):
            found = match(method, path)
            endpoint = self._endpoints.get(found.values.get("model", ""))
            if refusal := self._refusal(found, headers):
                return error_response(refusal)
            if endpoint is not None and found.allowed:
                return endpoint.refuse(headers, error)
        return error_response(error)

    def refresh(self) -> list[str]:
        """Look once at the keys and the traffic table, swap in what changed; return the models that did."""
        with self._refreshing:
            self.gate.refresh()
            models, unloaded = self._repository.served(self._models), self._repository.unloaded()
            wanted = wanted_traffic(self._store, models)
            for name in unloaded:
                wanted.pop(name, None)
            self._dismiss(unloaded)
            self._admit([name for name in (*(models or ()), *wanted) if name not in unloaded])
            return [name for name, traffic in wanted.items() if self._followers[name].follow(traffic)]

    def sync(self) -> None:
        """Force the logs onto the disk."""
        self._watch.write()
        for endpoint in list(self._endpoints.values()):
            endpoint.journal.sync()

    def start(self) -> None:
        """Deploy what is wanted now, then follow the traffic table and sync the logs in threads."""
        self._poll()
        self._warn_of_unknown()
        self._repeaters = [
            Repeater(self._poll, self._poll_seconds, "tidewheel-follow"),
            Repeater(self.sync, SYNC_SECONDS, "tidewheel-sync"),
        ]
        if self._tallies is not None:
            self._repeaters.append(Repeater(self._keep_tallies, SYNC_SECONDS, "tidewheel-tallies"))
        for repeater in self._repeaters:
            repeater.start()

    def close(self) -> None:
        """Stop the threads, sync and let go of the logs."""
        for repeater in self._repeaters:
            repeater.stop()
        for endpoint in (*self._endpoints.values(), *self._parked.values()):
            endpoint.close()
        self._watch.close()
        if self._shelf is not None:
            self._shelf.close()
        if self._tallies is not None:
            self._keep_tallies()

    def flip(self, model: str, seq: int) -> None:
        """Let a deployment of a model go live that waits for the other workers; for any thread."""
        follower = self._followers.get(model)
        if follower is not None:
            follower.flip(seq)

    def _poll(self) -> None:
        try:
            self.refresh()
        except Exception:
            self._poll_failures += 1
            raise

    def _warn_of_unknown(self) -> None:
        """Say it when a model was named that nobody has registered: a slip of the pen would wait for ever."""
        known = list_models(self._store) if self._models is not None else []
        for name in self._models or ():
            if name not in known:
                error = NotFound("model", name, known)
                logger.warning("%s %s It is served as soon as it is deployed.", error.what, error.mend)

    def _admit(self, names: Sequence[str]) -> None:
        fresh = [name for name in dict.fromkeys(names) if name not in self._endpoints]
        if not fresh:
            return
        endpoints = dict(self._endpoints)
        for name in fresh:
            if name in self._parked:
                endpoints[name] = self._parked.pop(name)
                continue
            counters = Counters()
            journal = self._journal(name, counters)
            endpoint = Endpoint(name, journal, counters, self._now_us, shelf=self._shelf)
            endpoints[name] = endpoint
            self._followers[name] = Follower(self._store, endpoint, trust=self._trust, peers=self._peers)
        self._replace(endpoints)

    def _journal(self, model: str, counters: Counters) -> Journal:
        rules = rules_for(self._terms.log, model)
        salt = salt_of(self._home) if rules.hash else b""
        folder = log_folder(self._home, model)
        return Journal(folder, self._writer, counters, strict=self._strict, rules=rules, salt=salt)

    def _dismiss(self, names: frozenset[str]) -> None:
        """Answer for some models no more; requests under way keep what they began with."""
        gone = names & self._endpoints.keys()
        if not gone:
            return
        for name in gone:
            self._parked[name] = self._endpoints[name]
            self._parked[name].deployed = None
        self._replace({name: endpoint for name, endpoint in self._endpoints.items() if name not in gone})

    def _replace(self, endpoints: dict[str, Endpoint]) -> None:
        self._endpoints, self._hot = endpoints, _hot_paths(endpoints)

    def _unknown(self, found: Match, headers: Sequence[Header], body: bytes) -> Response:
        del headers, body
        raise self._no_model(found.values["model"])

    def _infer(self, found: Match, headers: Sequence[Header], body: bytes) -> Response:
        endpoint = self._endpoint(found)
        taken = endpoint.take(TENSORS, headers, body, found.values.get("version", ""))
        return taken if isinstance(taken, Response) else endpoint.answer((taken,))[0]

    def _invocations(self, found: Match, headers: Sequence[Header], body: bytes) -> Response:
        del headers, body
        raise self._no_model(found.values["model"]) if "model" in found.values else choose(list(self._endpoints))

    def _index(self, found: Match, headers: Sequence[Header], body: bytes) -> Response:
        del found, headers
        return json_response(200, index(self._endpoints, sorted(self._parked), ready=wants_ready(body)))

    def _load(self, found: Match, *_: object) -> Response:
        name = found.values["model"]
        known = list_models(self._store)
        if name not in known:
            raise NotFound("model", name, known)
        self._repository.load(name)
        self.refresh()
        endpoint = self._endpoint(found)
        return endpoint.absent() if endpoint.deployed is None else json_response(200, {})

    def _unload(self, found: Match, *_: object) -> Response:
        self._repository.unload(self._endpoint(found).model)
        self.refresh()
        return json_response(200, {})

    def _outcomes(self, found: Match, headers: Sequence[Header], body: bytes) -> Response:
        del found
        brought = decode_outcomes(body)
        endpoint = self._endpoints[choose_model(brought.model, list(self._endpoints))]
        refusal = self.gate.refusal(dict(headers), "outcomes", endpoint.model)
        if refusal is not None:
            raise refusal
        signature = endpoint.deployed.champion.signature if endpoint.deployed is not None else None
        outcomes = check_labels(brought.outcomes, signature)
        now = self._now_us()
        endpoint.journal.write_outcomes([msgspec.structs.replace(outcome, at=now) for outcome in outcomes])
        return json_response(202, {"accepted": len(outcomes)})

    def _ready(self, found: Match, headers: Sequence[Header], body: bytes) -> Response:
        del found, body
        ready = self.ready
        if self.gate.closed and not self.gate.caller(dict(headers)):  # a probe without a key learns no names
            return json_response(200 if ready else 503, {"ready": ready})
        content = readiness(self._endpoints, ready=ready)
        if self._tallies is not None:
            content["workers"] = states_of(self._tallies.folder)
        return json_response(200 if ready else 503, content)

    def _model(self, found: Match, *_: object) -> Response:
        endpoint = self._endpoint(found)
        if endpoint.deployed is None:
            return endpoint.absent()
        return json_response(200, metadata_of(endpoint, endpoint.deployed, found.values.get("version", "")))

    def _model_ready(self, found: Match, *_: object) -> Response:
        endpoint, version = self._endpoint(found), found.values.get("version", "")
        if endpoint.deployed is not None and version:
            endpoint.version(endpoint.deployed, version)
        ready = endpoint.deployed is not None
        return json_response(200 if ready else 503, {"name": endpoint.model, "ready": ready})

    def _refusal(self, found: Match, headers: Sequence[Header]) -> TidewheelError | None:
        """Return why a request is not let in; the model judged is the one that answers: both come from one match."""
        action = found.route.action
        if not self.gate.closed or action in OPEN:
            return None
        model = None if action in MODELLESS else found.values.get("model", "")
        return self.gate.refusal(dict(headers), verb_of(action), model)

    def _endpoint(self, found: Match) -> Endpoint:
        endpoint = self._endpoints.get(found.values["model"])
        if endpoint is None:
            raise self._no_model(found.values["model"])
        return endpoint

    def _no_model(self, name: str) -> NotFound:
        return NotFound("model on this server", name, self._endpoints, "A model is served once it is deployed.")

    def _all_families(self) -> Iterable[Family]:
        if self._tallies is None:
            return self._families()
        self._keep_tallies()
        return self._tallies.all()

    def _families(self) -> Iterator[Family]:
        yield from model_families(self._endpoints)
        yield from server_families(self.admission, self.gate, self._shelf, self._poll_failures)

    def _keep_tallies(self) -> None:
        if self._tallies is not None:
            self._tallies.keep(self._families())


def _note(visit: Visit, endpoint: Endpoint, taken: Ticket | Response) -> None:
    visit.model = endpoint.model
    if isinstance(taken, Ticket):
        visit.version = str(taken.arm.version)


def _wrong_method(found: Match) -> Response:
    allowed = "GET, HEAD" if found.route.method == "GET" else "POST"
    content = {"error": f"{found.route.path} takes {allowed}.", "mend": "Use that method."}
    return json_response(405, content, (b"allow", allowed.encode()))


def _clock_us(clock: Clock) -> Callable[[], int]:
    """Return a cheap way to read a clock in microseconds since 1970."""
    if isinstance(clock, SystemClock):
        return lambda: time.time_ns() // 1_000
    return lambda: micros(clock.now())


def _hot_paths(endpoints: Mapping[str, Endpoint]) -> dict[str, tuple[Endpoint, Language]]:
    """Return what answers each path that takes rows."""
    languages = (("/predict/{}", ROWS), ("/v2/models/{}/infer", TENSORS), ("/invocations/{}", INVOCATIONS))
    hot = {path.format(name): (each, language) for name, each in endpoints.items() for path, language in languages}
    if len(endpoints) == 1:
        hot["/invocations"] = next(iter(endpoints.values())), INVOCATIONS
    return hot
