"""The server without sockets: a method, a path, headers and a body in, an answer out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter_ns

from tidewheel.clock import Clock, SystemClock, micros
from tidewheel.errors import NotFound, TidewheelError, TooLarge
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import Bundle, load_bundle
from tidewheel.serving.access import TRACEPARENT, Visit
from tidewheel.serving.admission import Admission
from tidewheel.serving.desk import Desk
from tidewheel.serving.endpoint import Endpoint, Ticket
from tidewheel.serving.exposition import model_families, server_families
from tidewheel.serving.fleet import Fleet
from tidewheel.serving.follow import Peers, Repeater
from tidewheel.serving.gate import MODELLESS, OPEN, Gate, verb_of
from tidewheel.serving.languages import Language
from tidewheel.serving.limits import DEFAULTS, Limits
from tidewheel.serving.lookup import Lookups
from tidewheel.serving.metrics import Family
from tidewheel.serving.response import Header, Response, error_response, json_response
from tidewheel.serving.routes import Match, match
from tidewheel.serving.shelf import Shelf
from tidewheel.serving.tallies import Tallies
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
        self._trust = trust
        self._now_us = _clock_us(store.clock)
        self.gate = Gate(store, self._now_us, secret=terms.secret, anonymous=terms.anonymous)
        self._watch = watch_of(terms, self.gate)
        self.fleet = Fleet(
            store,
            models,
            terms,
            home=home or store.home,
            writer=writer,
            strict=strict,
            trust=trust,
            now_us=self._now_us,
            peers=peers,
            shelf=self._shelf,
        )
        self._waiting: dict[Endpoint, list[tuple[Ticket, Deliver]]] = {}  # submitted and not flushed yet
        self._repeaters: list[Repeater] = []
        self._poll_failures = 0
        self._desk = Desk(
            self.fleet,
            self.gate,
            Lookups(store, self._now_us),
            now_us=self._now_us,
            families=self._all_families,
            tallies=tallies,
        )

    @property
    def ready(self) -> bool:
        """Whether every named model answers; without names, whether any does."""
        return self.fleet.ready

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
            hot = self.fleet.hot.get(path)
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
        hot = self.fleet.hot.get(path) if method == "POST" and len(body) <= self.body_limit else None
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
        hot = self.fleet.hot.get(path.replace(f"/versions/{version}/", "/", 1) if version else path)
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
            response = self._desk.answer(found, headers, body)
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
            endpoint = self.fleet.endpoints.get(found.values.get("model", ""))
            if refusal := self._refusal(found, headers):
                return error_response(refusal)
            if endpoint is not None and found.allowed:
                return endpoint.refuse(headers, error)
        return error_response(error)

    def refresh(self) -> list[str]:
        """Look once at the keys and the traffic table, swap in what changed; return the models that did."""
        self.gate.refresh()
        return self.fleet.refresh()

    def sync(self) -> None:
        """Force the logs onto the disk."""
        self._watch.write()
        for endpoint in list(self.fleet.endpoints.values()):
            endpoint.journal.sync()

    def start(self) -> None:
        """Deploy what is wanted now, then follow the traffic table and sync the logs in threads."""
        self._poll()
        self.fleet.warn_of_unknown()
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
        self.fleet.close()
        self._watch.close()
        if self._shelf is not None:
            self._shelf.close()
        if self._tallies is not None:
            self._keep_tallies()

    def _poll(self) -> None:
        try:
            self.refresh()
        except Exception:
            self._poll_failures += 1
            raise

    def _refusal(self, found: Match, headers: Sequence[Header]) -> TidewheelError | None:
        """Return why a request is not let in; the model judged is the one that answers: both come from one match."""
        action = found.route.action
        if not self.gate.closed or action in OPEN:
            return None
        model = None if action in MODELLESS else found.values.get("model", "")
        return self.gate.refusal(dict(headers), verb_of(action), model)

    def _all_families(self) -> Iterable[Family]:
        if self._tallies is None:
            return self._families()
        self._keep_tallies()
        return self._tallies.all()

    def _families(self) -> Iterator[Family]:
        yield from model_families(self.fleet.endpoints)
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
