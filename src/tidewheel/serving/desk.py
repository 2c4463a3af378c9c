"""What a server answers besides predictions: health, metadata, documentation, outcomes, loading and unloading."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from tidewheel.errors import NotFound
from tidewheel.registry.versions import list_models
from tidewheel.serving.endpoint import Endpoint
from tidewheel.serving.fleet import Fleet
from tidewheel.serving.gate import Gate
from tidewheel.serving.languages import TENSORS
from tidewheel.serving.lookup import Lookups
from tidewheel.serving.metadata import server_metadata
from tidewheel.serving.metrics import Family, render
from tidewheel.serving.mlflow import choose
from tidewheel.serving.openapi import describe
from tidewheel.serving.outcomes import check_labels, choose_model, decode_outcomes
from tidewheel.serving.pages import documentation, metadata_of, readiness
from tidewheel.serving.repository import index, wants_ready
from tidewheel.serving.response import HTML, PLAIN, TEXT, Header, Response, json_response
from tidewheel.serving.routes import Match
from tidewheel.serving.tallies import Tallies, states_of

Action = Callable[[Match, Sequence[Header], bytes], Response]


class Desk:
    """Answers what is not a prediction in its usual way; whoever asks has been let in."""

    def __init__(
        self,
        fleet: Fleet,
        gate: Gate,
        lookups: Lookups,
        *,
        now_us: Callable[[], int],
        families: Callable[[], Iterable[Family]],
        tallies: Tallies | None,
    ) -> None:
        self._fleet = fleet
        self._gate = gate
        self._now_us = now_us
        self._tallies = tallies
        self._actions: Mapping[str, Action] = {
            "predict": self._unknown,
            "explain": self._unknown,  # answered by what is around the engine
            "infer": self._infer,
            "outcomes": self._outcomes,
            "server": lambda *_: json_response(200, server_metadata()),
            "live": lambda *_: json_response(200, {"live": True}),
            "ready": self._ready,
            "model": self._model,
            "model_ready": self._model_ready,
            "metrics": lambda *_: Response(200, (TEXT,), render(families())),
            "docs": lambda *_: Response(200, (HTML,), documentation(fleet.endpoints)),
            "openapi": lambda *_: json_response(200, describe(fleet.endpoints, keyed=gate.closed)),
            "ping": lambda *_: Response(200 if fleet.ready else 503, (PLAIN,), b"\n"),
            "version": lambda *_: Response(200, (PLAIN,), server_metadata()["version"].encode()),
            "invocations": self._invocations,
            "index": self._index,
            "load": self._load,
            "lookup": lambda found, *_: lookups.answer(found),
            "unload": self._unload,
        }

    def answer(self, found: Match, headers: Sequence[Header], body: bytes) -> Response:
        """Answer a request by what its path names; raises a TidewheelError."""
        return self._actions[found.route.action](found, headers, body)

    def _unknown(self, found: Match, headers: Sequence[Header], body: bytes) -> Response:
        del headers, body
        raise self._no_model(found.values["model"])

    def _infer(self, found: Match, headers: Sequence[Header], body: bytes) -> Response:
        endpoint = self._endpoint(found)
        taken = endpoint.take(TENSORS, headers, body, found.values.get("version", ""))
        return taken if isinstance(taken, Response) else endpoint.answer((taken,))[0]

    def _invocations(self, found: Match, headers: Sequence[Header], body: bytes) -> Response:
        del headers, body
        raise self._no_model(found.values["model"]) if "model" in found.values else choose(list(self._fleet.endpoints))

    def _index(self, found: Match, headers: Sequence[Header], body: bytes) -> Response:
        del found, headers
        return json_response(200, index(self._fleet.endpoints, sorted(self._fleet.parked), ready=wants_ready(body)))

    def _load(self, found: Match, *_: object) -> Response:
        name = found.values["model"]
        known = list_models(self._fleet.store)
        if name not in known:
            raise NotFound("model", name, known)
        self._fleet.repository.load(name)
        self._fleet.refresh()
        endpoint = self._endpoint(found)
        return endpoint.absent() if endpoint.deployed is None else json_response(200, {})

    def _unload(self, found: Match, *_: object) -> Response:
        self._fleet.repository.unload(self._endpoint(found).model)
        self._fleet.refresh()
        return json_response(200, {})

    def _outcomes(self, found: Match, headers: Sequence[Header], body: bytes) -> Response:
        del found
        brought = decode_outcomes(body)
        endpoint = self._fleet.endpoints[choose_model(brought.model, list(self._fleet.endpoints))]
        refusal = self._gate.refusal(dict(headers), "outcomes", endpoint.model)
        if refusal is not None:
            raise refusal
        signature = endpoint.deployed.champion.signature if endpoint.deployed is not None else None
        outcomes = check_labels(brought.outcomes, signature)
        now = self._now_us()
        endpoint.journal.write_outcomes([msgspec.structs.replace(outcome, at=now) for outcome in outcomes])
        return json_response(202, {"accepted": len(outcomes)})

    def _ready(self, found: Match, headers: Sequence[Header], body: bytes) -> Response:
        del found, body
        ready = self._fleet.ready
        if self._gate.closed and not self._gate.caller(dict(headers)):  # a probe without a key learns no names
            return json_response(200 if ready else 503, {"ready": ready})
        content = readiness(self._fleet.endpoints, ready=ready)
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

    def _endpoint(self, found: Match) -> Endpoint:
        endpoint = self._fleet.endpoints.get(found.values["model"])
        if endpoint is None:
            raise self._no_model(found.values["model"])
        return endpoint

    def _no_model(self, name: str) -> NotFound:
        return NotFound("model on this server", name, self._fleet.endpoints, "A model is served once it is deployed.")
