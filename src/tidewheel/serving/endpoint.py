"""One model's way from a body to an answer: decode, route, score, log, count."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import perf_counter_ns

import msgspec
from msgspec import UNSET

from tidewheel.clock import new_id
from tidewheel.errors import ModelFailed, NotFound, NotReady, TidewheelError, ValidationFailed
from tidewheel.predictions.records import ANSWERED, Other, Prediction
from tidewheel.serving.arms import Answer, Arm, Deployed, said
from tidewheel.serving.ask import Ask, Caller, Row, caller_of
from tidewheel.serving.batching import Scored, score_all
from tidewheel.serving.journal import Journal
from tidewheel.serving.languages import Language, Served
from tidewheel.serving.metrics import Counters
from tidewheel.serving.response import Header, Response, error_response, status_of

logger = logging.getLogger("tidewheel.serving")


class Ticket(msgspec.Struct, gc=False):
    """A request that was decoded and routed, and waits to be scored. Positional, because one is built per request."""

    language: Language  # how its answer is written
    deployed: Deployed  # the picture it was routed by
    ask: Ask  # what is to be scored
    started: int  # perf_counter_ns at its last byte
    arm: Arm  # the version that is to answer
    other: Arm | None  # the version that is scored besides, under paired traffic
    propensity: float  # probability with which the split gives this arm
    pinned: bool  # whether the caller named the version


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

    def take(self, language: Language, headers: Sequence[Header], body: bytes, version: str = "") -> Ticket | Response:
        """Decode and route a request; a refusal is logged and is the answer already."""
        started = perf_counter_ns()
        deployed = self.deployed
        if deployed is None:
            return self.refuse(headers, self._absent())
        caller = caller_of(headers)
        try:
            pinned = self.version(deployed, version) if version else None
            ask = language.decode(deployed, pinned or deployed.champion, headers, body, caller)
        except TidewheelError as error:
            return self._refuse(caller, error, started)
        if pinned is not None:
            return Ticket(language, deployed, ask, started, pinned, None, 1.0, pinned=True)
        arm, other, propensity = deployed.route(ask.unit or ask.id)
        paired = other if deployed.traffic.paired else None
        return Ticket(language, deployed, ask, started, arm, paired, propensity, pinned=False)

    def answer(self, tickets: Sequence[Ticket]) -> list[Response]:
        """Score requests, those of one version in one call, log them with one write, and return their answers.

        A request whose part of a call fails is scored again alone, so that nobody pays for another's rows.
        """
        scored = score_all([(ticket.arm, ticket.ask) for ticket in tickets])
        paired = [ticket for ticket in tickets if ticket.other is not None]
        others = iter(self._others(paired) if paired else ())
        records: list[Prediction] = []
        answers: list[Response] = []
        for ticket, found in zip(tickets, scored, strict=True):
            other = next(others) if ticket.other is not None else None
            if isinstance(found, Answer):
                records.append(self._record(ticket, found, other))
                answers.append(self._say(ticket, Served(ticket.arm, ticket.arm.name, found)))
            else:
                answers.append(self._recovered(ticket, found))
        if records:
            self.journal.write(*records)
        return answers

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

    def _record(self, ticket: Ticket, answer: Answer, other: Other | None) -> Prediction:
        ask, arm = ticket.ask, ticket.arm
        latency = (perf_counter_ns() - ticket.started) // 1_000
        self.counters.count(arm.version, arm.name, ANSWERED, latency)
        if ask.notes:
            self.counters.unseen += 1
        return Prediction(
            id=ask.id,
            at=self._now_us(),
            model=self.model,
            version=arm.version,
            arm=arm.name,
            propensity=ticket.propensity,
            unit=ask.unit,
            status=ANSWERED,
            features=arm.select(ask.rows),
            output=answer.output,
            probability=answer.probability,
            latency_us=latency,
            other=other,
            route="pinned" if ticket.pinned else "split",
        )

    def _say(self, ticket: Ticket, served: Served) -> Response:
        return ticket.language.encode(self.model, ticket.ask, served)

    def _recovered(self, ticket: Ticket, error: Exception) -> Response:
        """Answer a request whose version failed: by the champion for a challenger of the split, else by the error."""
        ask, arm = ticket.ask, ticket.arm
        rows = arm.select(ask.rows)
        failure = self._failed(ask, arm, rows, error, started=ticket.started, propensity=ticket.propensity)
        if ticket.pinned:
            failure = msgspec.structs.replace(failure, route="pinned")
        try:
            return self._say(ticket, self._fall_back(ticket.deployed, ask, arm, failure, ticket.started))
        except TidewheelError as refusal:
            return error_response(refusal, (b"x-request-id", ask.echo), request_id=ask.id)

    def _others(self, tickets: Sequence[Ticket]) -> list[Other]:
        """Score the arms that do not answer; whatever happens to them, the answers stand."""
        started = perf_counter_ns()
        pairs = [(ticket.other, ticket.ask) for ticket in tickets if ticket.other is not None]
        scored = score_all(pairs)
        each = (perf_counter_ns() - started) // 1_000 // max(len(pairs), 1)
        return [self._other(arm, found, each) for (arm, _), found in zip(pairs, scored, strict=True)]

    def _other(self, arm: Arm, found: Scored, latency: int) -> Other:
        if isinstance(found, Answer):
            return Other(version=arm.version, output=found.output, probability=found.probability, latency_us=latency)
        self.counters.paired_failures += 1
        return Other(version=arm.version, error=said(found), latency_us=latency)

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
