"""One model's way from a body to an answer: decode, route, score, log, count."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from tidewheel.clock import new_id
from tidewheel.errors import ModelFailed, NotFound, NotReady, TidewheelError, ValidationFailed
from tidewheel.predictions.records import ANSWERED, Other, Prediction
from tidewheel.serving.arms import Answer, Arm, Deployed, said
from tidewheel.serving.ask import Ask, Caller, Row, caller_of
from tidewheel.serving.journal import Journal
from tidewheel.serving.metrics import Counters
from tidewheel.serving.response import JSON, Header, Response, error_response, status_of
from tidewheel.serving.tensors import answer_tensors, check_outputs

logger = logging.getLogger("tidewheel.serving")

_encode = msgspec.json.Encoder().encode


class Predicted(msgspec.Struct, gc=False, kw_only=True):
    """The answer of /predict."""

    id: str  # request id; outcomes name rows by it
    model: str  # model name
    version: str | int  # model version that answered
    arm: str  # champion or challenger; fallback: the champion, because the challenger failed
    predictions: list[Any]  # one per row
    probabilities: list[list[float]] | UnsetType = UNSET  # [row][class]
    classes: list[Any] | UnsetType = UNSET  # in the order of the probabilities
    notes: list[str] | UnsetType = UNSET  # what was odd but allowed


class Inferred(msgspec.Struct, gc=False, kw_only=True):
    """The answer of /v2/.../infer."""

    model_name: str  # model name
    model_version: str  # model version that answered
    id: str  # the caller's, else a new one
    parameters: dict[str, Any]  # the caller's, with arm and notes
    outputs: list[dict[str, Any]]  # tensors


class Served(msgspec.Struct, gc=False):
    """Who answered, and what. Positional, because one is built per request."""

    arm: Arm  # the version that answered
    label: str  # what the caller is told: champion, challenger or fallback
    answer: Answer  # what it said


class Endpoint:
    """Answers for one model. A swap is one assignment to `deployed`; requests under way keep what they began with."""

    def __init__(self, model: str, journal: Journal, counters: Counters, now_us: Callable[[], int]) -> None:
        self.model = model
        self.deployed: Deployed | None = None
        self.trouble = ""  # why the deployment that is wanted is not live
        self.journal = journal
        self.counters = counters
        self._now_us = now_us
        self._complained: dict[int, str] = {}  # version -> its last failure in the server's own log

    def predict(self, headers: Sequence[Header], body: bytes) -> Response:
        """Answer POST /predict/{model}."""
        started = perf_counter_ns()
        deployed = self.deployed
        if deployed is None:
            return self.refuse(headers, self._absent())
        caller = caller_of(headers)
        try:
            ask = deployed.rows.decode(body, caller)
        except TidewheelError as error:
            return self._refuse(caller, error, started)
        try:
            served = self._serve(deployed, ask, started)
        except TidewheelError as error:
            return error_response(error, (b"x-request-id", ask.echo), request_id=ask.id)
        arm, answer = served.arm, served.answer
        content = Predicted(
            id=ask.id, model=self.model, version=arm.version, arm=served.label, predictions=answer.output
        )
        if answer.probability is not None:
            content.probabilities = answer.probability
            content.classes = arm.signature.classes or []
        if ask.notes:
            content.notes = ask.notes
        return Response(ANSWERED, (JSON, (b"x-request-id", ask.echo)), _encode(content))

    def infer(self, headers: Sequence[Header], body: bytes, version: str = "") -> Response:
        """Answer POST /v2/models/{model}[/versions/{version}]/infer."""
        started = perf_counter_ns()
        deployed = self.deployed
        if deployed is None:
            return self.refuse(headers, self._absent())
        caller = caller_of(headers)
        try:
            pinned = self.version(deployed, version) if version else None
            ask = deployed.tensors.decode(body, caller)
            check_outputs(ask.wanted, (pinned or deployed.champion).signature)
        except TidewheelError as error:
            return self._refuse(caller, error, started)
        try:
            served = self._serve(deployed, ask, started, pinned)
        except TidewheelError as error:
            return error_response(error, (b"x-request-id", ask.echo), request_id=ask.id)
        arm, answer = served.arm, served.answer
        parameters = {**(ask.parameters or {}), "arm": served.label}
        if ask.notes:
            parameters["notes"] = ask.notes
        content = Inferred(
            model_name=self.model,
            model_version=str(arm.version),
            id=ask.id,
            parameters=parameters,
            outputs=answer_tensors(ask.wanted, arm.signature, answer.output, answer.probability),
        )
        return Response(ANSWERED, (JSON, (b"x-request-id", ask.echo)), _encode(content))

    def refuse(self, headers: Sequence[Header], error: TidewheelError) -> Response:
        """Answer a request that is not even decoded: too large, or nothing is deployed."""
        return self._refuse(caller_of(headers), error, perf_counter_ns())

    def absent(self) -> Response:
        """Answer a question about a model of which nothing is deployed."""
        return error_response(self._absent())

    def version(self, deployed: Deployed, version: str) -> Arm:
        """Return the arm of a version that a caller names; NotFound lists those that are live."""
        arm = deployed.named(version)
        if arm is None:
            live = [str(each.version) for each in deployed.arms()]
            raise NotFound(f"live version of {self.model}", version, live)
        return arm

    def _serve(self, deployed: Deployed, ask: Ask, started: int, pinned: Arm | None = None) -> Served:
        arm, other, propensity = deployed.route(ask.unit or ask.id) if pinned is None else (pinned, None, 1.0)
        rows = arm.select(ask.rows)
        try:
            answer = arm.score(rows, ask.id)
        except Exception as error:  # noqa: BLE001 - a model may raise anything; it is logged against its version
            failure = self._failed(ask, arm, rows, error, started=started, propensity=propensity)
            if pinned is not None:
                failure = msgspec.structs.replace(failure, route="pinned")
            return self._fall_back(deployed, ask, arm, failure, started)
        latency = (perf_counter_ns() - started) // 1_000
        self.journal.write(
            Prediction(
                id=ask.id,
                at=self._now_us(),
                model=self.model,
                version=arm.version,
                arm=arm.name,
                propensity=propensity,
                unit=ask.unit,
                status=ANSWERED,
                features=rows,
                output=answer.output,
                probability=answer.probability,
                latency_us=latency,
                other=self._pair(other, ask) if deployed.traffic.paired and other is not None else None,
                route="split" if pinned is None else "pinned",
            )
        )
        self.counters.count(arm.version, arm.name, ANSWERED, latency)
        if ask.notes:
            self.counters.unseen += 1
        return Served(arm, arm.name, answer)

    def _fall_back(self, deployed: Deployed, ask: Ask, failed: Arm, failure: Prediction, started: int) -> Served:
        """Let the champion answer for a challenger that failed by the split; anybody else's failure is raised."""
        champion = deployed.champion
        if failed is champion or failure.route == "pinned":
            raise self._give_up(deployed, ask, failure)
        rows = champion.select(ask.rows)
        try:
            answer = champion.score(rows, ask.id)
        except Exception as error:
            second = self._failed(ask, champion, rows, error, started=started, propensity=1.0)
            raise self._give_up(deployed, ask, failure, msgspec.structs.replace(second, route="fallback")) from error
        latency = (perf_counter_ns() - started) // 1_000
        answered = msgspec.structs.replace(
            failure,
            at=self._now_us(),
            version=champion.version,
            arm=champion.name,
            propensity=1.0,
            status=ANSWERED,
            features=rows,
            output=answer.output,
            probability=answer.probability,
            latency_us=latency,
            error="",
            route="fallback",
        )
        self.journal.write(failure, answered)
        self.counters.count(failed.version, failed.name, failure.status, failure.latency_us)
        self.counters.count(champion.version, "fallback", ANSWERED, latency)
        self.counters.fallbacks += 1
        return Served(champion, "fallback", answer)

    def _failed(
        self, ask: Ask, arm: Arm, rows: list[Row], error: Exception, *, started: int, propensity: float
    ) -> Prediction:
        """Return the record of a failure, and say it once in the server's own log."""
        reason = said(error)
        if self._complained.get(arm.version) != reason:
            self._complained[arm.version] = reason
            logger.warning("%s:%d failed on request %s: %s", self.model, arm.version, ask.id, reason)
        return Prediction(
            id=ask.id,
            at=self._now_us(),
            model=self.model,
            version=arm.version,
            arm=arm.name,
            propensity=propensity,
            unit=ask.unit,
            status=500,
            features=[]
            if arm.scorer is None
            else [[None if value is UNSET else value for value in row] for row in rows],
            output=[],
            latency_us=(perf_counter_ns() - started) // 1_000,
            error=reason,
        )

    def _give_up(self, deployed: Deployed, ask: Ask, *failures: Prediction) -> TidewheelError:
        """Log failures that nobody answered, and return what the caller is told."""
        last = failures[-1]
        error: TidewheelError
        odd = deployed.rows.oddities(ask.rows)
        if odd:  # the request is unlike anything the model has seen: its fault, not the model's
            error = ValidationFailed(
                f"The model {self.model}:{last.version} cannot score this request: {'; '.join(odd)}.",
                "Send values like those seen in training, or train a model that copes with others.",
            )
        else:
            error = ModelFailed(
                f"The model {self.model}:{last.version} failed on this request.",
                f"The cause stands in the prediction log under the id {ask.id}.",
            )
        status = status_of(error)
        records = [msgspec.structs.replace(failure, status=status) for failure in failures]
        self.journal.write(*records)
        for record in records:
            self.counters.count(record.version, record.arm, record.status, record.latency_us)
        return error

    def _pair(self, arm: Arm, ask: Ask) -> Other:
        """Score the arm that does not answer; whatever happens to it, the answer stands."""
        started = perf_counter_ns()
        try:
            answer = arm.score(arm.select(ask.rows), ask.id)
        except Exception as error:  # noqa: BLE001 - as above
            self.counters.paired_failures += 1
            return Other(version=arm.version, error=said(error), latency_us=(perf_counter_ns() - started) // 1_000)
        return Other(
            version=arm.version,
            output=answer.output,
            probability=answer.probability,
            latency_us=(perf_counter_ns() - started) // 1_000,
        )

    def _absent(self) -> NotReady:
        reason = f" Its deployment was refused: {self.trouble}" if self.trouble else ""
        return NotReady(
            f"The model {self.model!r} is not deployed yet.{reason}",
            f"Deploy one with: tidewheel models promote {self.model} VERSION. This server takes it up by itself.",
        )

    def _refuse(self, caller: Caller, error: TidewheelError, started: int) -> Response:
        request_id = caller.request_id or new_id()
        status, latency = status_of(error), (perf_counter_ns() - started) // 1_000
        champion = self.deployed.champion if self.deployed is not None else None
        if champion is not None:
            self.journal.write(
                Prediction(
                    id=request_id,
                    at=self._now_us(),
                    model=self.model,
                    version=champion.version,
                    arm=champion.name,
                    propensity=1.0,
                    unit=caller.unit,
                    status=status,
                    features=[],
                    output=[],
                    latency_us=latency,
                    error=said(error),
                    route="refused",
                )
            )
        self.counters.count(champion.version if champion else 0, "refused", status, latency)
        return error_response(error, (b"x-request-id", caller.echo or request_id.encode()), request_id=request_id)
