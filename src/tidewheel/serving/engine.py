"""The server without sockets: a method, a path, headers and a body in, an answer out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

import msgspec

from tidewheel.clock import Clock, SystemClock, micros
from tidewheel.errors import NotFound, TidewheelError, TooLarge
from tidewheel.lineage.store import Store
from tidewheel.predictions.segments import log_folder
from tidewheel.registry.versions import list_models
from tidewheel.serving.endpoint import Endpoint, Ticket
from tidewheel.serving.follow import POLL_SECONDS, Follower, Repeater, wanted_traffic
from tidewheel.serving.journal import Journal
from tidewheel.serving.languages import ROWS, TENSORS, Language
from tidewheel.serving.metrics import Counters, Family, families, render
from tidewheel.serving.outcomes import check_labels, choose_model, decode_outcomes
from tidewheel.serving.pages import documentation, metadata_of, readiness, server_metadata
from tidewheel.serving.response import HTML, TEXT, Header, Response, error_response, json_response
from tidewheel.serving.routes import Match, match

BODY_LIMIT = 8 << 20  # bytes
SYNC_SECONDS = 1.0

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
    ) -> None:
        self.body_limit = body_limit
        self._store = store
        self._models = tuple(models) if models is not None else None
        self._home = home or store.home
        self._writer = writer
        self._strict = strict
        self._trust = trust
        self._now_us = _clock_us(store.clock)
        self._endpoints: dict[str, Endpoint] = {}
        self._followers: dict[str, Follower] = {}
        self._hot: dict[str, tuple[Endpoint, Language]] = {}  # POST path -> what answers it, and in which language
        self._waiting: dict[Endpoint, list[tuple[Ticket, Deliver]]] = {}  # submitted and not flushed yet
        self._refreshing = Lock()
        self._repeaters: list[Repeater] = []
        self._poll_failures = 0
        self._actions: Mapping[str, Callable[[Match, Sequence[Header], bytes], Response]] = {
            "predict": self._unknown,
            "infer": self._infer,
            "outcomes": self._outcomes,
            "server": lambda *_: json_response(200, server_metadata()),
            "live": lambda *_: json_response(200, {"live": True}),
            "ready": self._ready,
            "model": self._model,
            "model_ready": self._model_ready,
            "metrics": lambda *_: Response(200, (TEXT,), render(self._families())),
            "docs": lambda *_: Response(200, (HTML,), documentation(self._endpoints)),
        }

    @property
    def ready(self) -> bool:
        """Whether every named model answers; without names, whether any does."""
        live = [endpoint.deployed is not None for endpoint in self._endpoints.values()]
        return any(live) and (self._models is None or all(live))

    def handle(self, method: str, path: str, headers: Sequence[Header], body: bytes) -> Response:
        """Answer one request. Header names are in lower case; the path is without query and percent signs."""
        if method == "POST" and len(body) <= self.body_limit:
            hot = self._hot.get(path)
            if hot is not None:
                taken = hot[0].take(hot[1], headers, body)
                return taken if isinstance(taken, Response) else hot[0].answer((taken,))[0]
        return self._handle(method, path, headers, body)

    def submit(self, method: str, path: str, headers: Sequence[Header], body: bytes, deliver: Deliver) -> None:
        """Take one request; what needs a model waits for the `flush` that ends this turn, the rest is answered now."""
        hot = self._hot.get(path) if method == "POST" and len(body) <= self.body_limit else None
        if hot is None:
            deliver(self.handle(method, path, headers, body))
            return
        endpoint, language = hot
        taken = endpoint.take(language, headers, body)
        if isinstance(taken, Response):
            deliver(taken)
        else:
            self._waiting.setdefault(endpoint, []).append((taken, deliver))

    def flush(self) -> None:
        """Score together what was submitted since the last flush, and deliver the answers."""
        waiting, self._waiting = self._waiting, {}
        for endpoint, submitted in waiting.items():
            answers = endpoint.answer([ticket for ticket, _ in submitted])
            for (_, deliver), response in zip(submitted, answers, strict=True):
                deliver(response)

    def _handle(self, method: str, path: str, headers: Sequence[Header], body: bytes) -> Response:
        try:
            found = match(method, path)
            if not found.allowed:
                return _wrong_method(found)
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
            if endpoint is not None and found.allowed:
                return endpoint.refuse(headers, error)
        return error_response(error)

    def refresh(self) -> list[str]:
        """Look once at the traffic table and swap in what changed; return the models that did."""
        with self._refreshing:
            wanted = wanted_traffic(self._store, self._models)
            self._admit([*(self._models or ()), *wanted])
            return [name for name, traffic in wanted.items() if self._followers[name].follow(traffic)]

    def sync(self) -> None:
        """Force the logs onto the disk."""
        for endpoint in list(self._endpoints.values()):
            endpoint.journal.sync()

    def start(self) -> None:
        """Deploy what is wanted now, then follow the traffic table and sync the logs in threads."""
        self._poll()
        self._warn_of_unknown()
        self._repeaters = [
            Repeater(self._poll, POLL_SECONDS, "tidewheel-follow"),
            Repeater(self.sync, SYNC_SECONDS, "tidewheel-sync"),
        ]
        for repeater in self._repeaters:
            repeater.start()

    def close(self) -> None:
        """Stop the threads, sync and let go of the logs."""
        for repeater in self._repeaters:
            repeater.stop()
        for endpoint in self._endpoints.values():
            endpoint.journal.close()

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
        endpoints, hot = dict(self._endpoints), dict(self._hot)
        for name in fresh:
            counters = Counters()
            journal = Journal(log_folder(self._home, name), self._writer, counters, strict=self._strict)
            endpoint = Endpoint(name, journal, counters, self._now_us)
            endpoints[name] = endpoint
            self._followers[name] = Follower(self._store, endpoint, trust=self._trust)
            hot[f"/predict/{name}"] = endpoint, ROWS
            hot[f"/v2/models/{name}/infer"] = endpoint, TENSORS
        self._endpoints, self._hot = endpoints, hot  # requests in another thread see all or nothing

    def _unknown(self, found: Match, headers: Sequence[Header], body: bytes) -> Response:
        del headers, body
        raise self._no_model(found.values["model"])

    def _infer(self, found: Match, headers: Sequence[Header], body: bytes) -> Response:
        endpoint = self._endpoint(found)
        taken = endpoint.take(TENSORS, headers, body, found.values.get("version", ""))
        return taken if isinstance(taken, Response) else endpoint.answer((taken,))[0]

    def _outcomes(self, found: Match, headers: Sequence[Header], body: bytes) -> Response:
        del found, headers
        brought = decode_outcomes(body)
        endpoint = self._endpoints[choose_model(brought.model, list(self._endpoints))]
        signature = endpoint.deployed.champion.signature if endpoint.deployed is not None else None
        outcomes = check_labels(brought.outcomes, signature)
        now = self._now_us()
        endpoint.journal.write_outcomes([msgspec.structs.replace(outcome, at=now) for outcome in outcomes])
        return json_response(202, {"accepted": len(outcomes)})

    def _ready(self, *_: object) -> Response:
        ready = self.ready
        return json_response(200 if ready else 503, readiness(self._endpoints, ready=ready))

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

    def _endpoint(self, found: Match) -> Endpoint:
        endpoint = self._endpoints.get(found.values["model"])
        if endpoint is None:
            raise self._no_model(found.values["model"])
        return endpoint

    def _no_model(self, name: str) -> NotFound:
        return NotFound("model on this server", name, self._endpoints, "A model is served once it is deployed.")

    def _families(self) -> Iterator[Family]:
        yield from families({name: endpoint.counters for name, endpoint in self._endpoints.items()})
        yield Family(
            name="tidewheel_model_info",
            kind="gauge",
            help="Versions that are live, with the share of the units that each gets.",
            samples=[
                ("", (("model", name), ("version", arm.version), ("arm", arm.name), ("bundle", arm.digest)), share)
                for name, endpoint in self._endpoints.items()
                if endpoint.deployed is not None
                for arm, share in endpoint.deployed.shares()
            ],
        )
        yield Family(
            name="tidewheel_deployment_refused",
            kind="gauge",
            help="1 while the deployment that is wanted could not be loaded.",
            samples=[("", (("model", name),), int(bool(e.trouble))) for name, e in self._endpoints.items()],
        )
        yield Family(
            name="tidewheel_poll_failures_total",
            kind="counter",
            help="Looks at the traffic table that failed.",
            samples=[("", (), self._poll_failures)],
        )
        yield Family(
            name="process_cpu_seconds_total",
            kind="counter",
            help="CPU seconds of this process.",
            samples=[("", (), time.process_time())],
        )


def _wrong_method(found: Match) -> Response:
    allowed = "GET, HEAD" if found.route.method == "GET" else "POST"
    content = {"error": f"{found.route.path} takes {allowed}.", "mend": "Use that method."}
    return json_response(405, content, (b"allow", allowed.encode()))


def _clock_us(clock: Clock) -> Callable[[], int]:
    """Return a cheap way to read a clock in microseconds since 1970."""
    if isinstance(clock, SystemClock):
        return lambda: time.time_ns() // 1_000
    return lambda: micros(clock.now())
