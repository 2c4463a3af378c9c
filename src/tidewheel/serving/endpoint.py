"""One model's way from a body to an answer: decode, route, score, log, count."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import perf_counter_ns

import msgspec
from msgspec import UNSET

from tidewheel.clock import new_id
from tidewheel.errors import ModelFailed, NotFound, NotReady, TidewheelError, ValidationFailed
from tidewheel.predictions.records import ANSWERED, Other, Prediction, Route
from tidewheel.serving.arms import Answer, Arm, Deployed, Way, said
from tidewheel.serving.ask import Ask, Caller, caller_of
from tidewheel.serving.batching import Scored, score_all
from tidewheel.serving.journal import Journal
from tidewheel.serving.languages import Language, Served
from tidewheel.serving.metrics import Counters
from tidewheel.serving.response import Header, Response, error_response, status_of
from tidewheel.serving.shelf import Shelf
from tidewheel.serving.strategies.shadow import Shadows

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
    way: Way | None = None  # the strategy that led it there; None: champion and challenger
    experiment: str = ""  # that its unit takes part in
    parts: Sequence[Other] = ()  # what other versions said that had a part in the answer
    failures: Sequence[tuple[Arm, Exception]] = ()  # versions that failed before somebody answered


class Endpoint:
    """Answers for one model. A swap is one assignment to `deployed`; requests under way keep what they began with."""

    def __init__(
        self,
        model: str,
        journal: Journal,
        counters: Counters,
        now_us: Callable[[], int],
        *,
        shelf: Shelf | None = None,
    ) -> None:
        self.model = model
        self.deployed: Deployed | None = None
        self.trouble = ""  # why the deployment that is wanted is not live
        self.shelf = shelf  # versions that are not deployed; None: callers may not ask for them
        self.fallback = ""  # which earlier version answers instead, because the wanted one could not be loaded
        self.journal = journal
        self.counters = counters
        self.shadows = Shadows(model, journal, counters, now_us)
        self._now_us = now_us
        journal.ask(self._fields_of)
        self._complained: dict[int, str] = {}  # version -> its last failure in the server's own log

    def take(self, language: Language, headers: Sequence[Header], body: bytes, version: str = "") -> Ticket | Response:
        """Decode and route a request; a refusal is logged and is the answer already."""
        started = perf_counter_ns()
        deployed = self.deployed
        if deployed is None:
            return self.refuse(headers, self._absent())
        caller = caller_of(headers)
        try:
            pinned = None
            if version:
                deployed = self._holding(deployed, version)
                pinned = self.version(deployed, version)
            ask = language.decode(deployed, pinned or deployed.champion, headers, body, caller)
        except TidewheelError as error:
            return self._refuse(caller, error, started)
        if pinned is not None:
            return Ticket(language, deployed, ask, started, pinned, None, 1.0, pinned=True)
        way = deployed.way
        if way is not None:
            choice = way.choose(ask.unit or ask.id, ask)
            arm, propensity, experiment = choice.arm, choice.propensity, choice.experiment
            return Ticket(
                language, deployed, ask, started, arm, None, propensity, pinned=False, way=way, experiment=experiment
            )
        arm, other, propensity = deployed.route(ask.unit or ask.id)
        paired = other if deployed.traffic.paired else None
        return Ticket(language, deployed, ask, started, arm, paired, propensity, pinned=False)

    def answer(self, tickets: Sequence[Ticket]) -> list[Response]:
        """Score requests, those of one version in one call, log them with one write, and return their answers.

        A request whose part of a call fails is scored again alone, so that nobody pays for another's rows.
        """
        scored: Sequence[Scored] = score_all([(ticket.arm, ticket.ask) for ticket in tickets])
        special = [ticket for ticket in tickets if ticket.other is not None or ticket.way is not None]
        if special:
            scored = _settled(tickets, scored)
        others = iter(_others(special, self.counters) if special else ())
        records: list[Prediction] = []
        answers: list[Response] = []
        for ticket, found in zip(tickets, scored, strict=True):
            other = next(others) if ticket.other is not None else None
            if isinstance(found, Answer):
                if ticket.failures:
                    failures = self._failures(ticket)
                    self._count(failures)
                    records += failures
                records.append(self._record(ticket, found, other))
                label = "fallback" if ticket.failures else ticket.arm.name
                answers.append(self._say(ticket, Served(ticket.arm, label, found)))
            else:
                answers.append(self._recovered(ticket, found))
        if records:
            self.journal.write(*records)
        for ticket, found in zip(tickets, scored, strict=True) if special else ():
            if ticket.way is not None and ticket.way.shadows and isinstance(found, Answer):
                self.shadows.offer(ticket.deployed, ticket.ask, found)
        return answers

    def close(self) -> None:
        """Score the shadows that wait, and let go of the logs."""
        self.shadows.close()
        self.journal.close()

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

    def _holding(self, deployed: Deployed, version: str) -> Deployed:
        """Return the picture in which a version is found that a caller names."""
        if self.shelf is None or deployed.named(version) is not None:
            return deployed
        return self.shelf.take(self.model, version)

    def _fields_of(self, version: int) -> Sequence[str] | None:
        deployed = self.shelf.peek(self.model, version) if self.shelf is not None else None
        deployed = deployed or self.deployed
        if deployed is None:
            return None
        return next((arm.signature.names for arm in deployed.arms() if arm.version == version), None)

    def _record(self, ticket: Ticket, answer: Answer, other: Other | None) -> Prediction:
        ask, arm = ticket.ask, ticket.arm
        latency = (perf_counter_ns() - ticket.started) // 1_000
        fallen = bool(ticket.failures)
        self.counters.count(arm.version, "fallback" if fallen else arm.name, ANSWERED, latency)
        self.counters.fallbacks += fallen
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
            route="pinned" if ticket.pinned else "fallback" if fallen else "split",
            deployment=ticket.deployed.traffic.seq,
            strategy="" if ticket.way is None else ticket.way.kind,
            experiment=ticket.experiment,
            parts=ticket.parts,
        )

    def _say(self, ticket: Ticket, served: Served) -> Response:
        return ticket.language.encode(self.model, ticket.ask, served)

    def _recovered(self, ticket: Ticket, error: Exception) -> Response:
        """Answer a request whose version failed: by the champion for another one of the split, else by the error."""
        ticket.failures = [*ticket.failures, (ticket.arm, error)]
        try:
            return self._say(ticket, self._fall_back(ticket, self._failures(ticket)))
        except TidewheelError as refusal:
            return error_response(refusal, (b"x-request-id", ticket.ask.echo), request_id=ticket.ask.id)

    def _fall_back(self, ticket: Ticket, failures: Sequence[Prediction]) -> Served:
        """Let the champion answer where it has not failed itself; a failure of a version that was named is raised."""
        champion, ask = ticket.deployed.champion, ticket.ask
        if ticket.pinned or any(failure.version == champion.version for failure in failures):
            raise self._give_up(ticket, failures)
        rows = champion.select(ask.rows)
        try:
            answer = champion.score(rows, ask.id)
        except Exception as error:
            ticket.propensity, ticket.failures = 1.0, [*ticket.failures, (champion, error)]
            raise self._give_up(ticket, [*failures, self._failures(ticket)[-1]]) from error
        latency = (perf_counter_ns() - ticket.started) // 1_000
        answered = msgspec.structs.replace(
            failures[-1],
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
        self.journal.write(*failures, answered)
        self._count(failures)
        self.counters.count(champion.version, "fallback", ANSWERED, latency)
        self.counters.fallbacks += 1
        return Served(champion, "fallback", answer)

    def _failures(self, ticket: Ticket) -> list[Prediction]:
        """Return the records of what failed, the first one as led there by the split, and say each reason once."""
        records = []
        for place, (arm, error) in enumerate(ticket.failures):
            record = self._failed(ticket, arm, error)
            route: Route = "pinned" if ticket.pinned else "fallback" if place else "split"
            records.append(msgspec.structs.replace(record, route=route))
        return records

    def _count(self, records: Sequence[Prediction]) -> None:
        for record in records:
            self.counters.count(record.version, record.arm, record.status, record.latency_us)

    def _failed(self, ticket: Ticket, arm: Arm, error: Exception) -> Prediction:
        ask, reason = ticket.ask, self.journal.said(said(error))
        if self._complained.get(arm.version) != reason:
            self._complained[arm.version] = reason
            logger.warning("%s:%d failed on request %s: %s", self.model, arm.version, ask.id, reason)
        rows = arm.select(ask.rows) if arm.scorer is not None else ()
        return Prediction(
            id=ask.id,
            at=self._now_us(),
            model=self.model,
            version=arm.version,
            arm=arm.name,
            propensity=ticket.propensity,
            unit=ask.unit,
            status=500,
            features=[[None if value is UNSET else value for value in row] for row in rows],
            output=[],
            latency_us=(perf_counter_ns() - ticket.started) // 1_000,
            error=reason,
            deployment=ticket.deployed.traffic.seq,
            strategy="" if ticket.way is None else ticket.way.kind,
            experiment=ticket.experiment,
        )

    def _give_up(self, ticket: Ticket, failures: Sequence[Prediction]) -> TidewheelError:
        """Log failures that nobody answered, and return what the caller is told."""
        error = _verdict(failures[-1], ticket.deployed.rows.oddities(ticket.ask.rows))
        records = [msgspec.structs.replace(failure, status=status_of(error)) for failure in failures]
        self.journal.write(*records)
        self._count(records)
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
            record = _refusal(self.model, champion, caller, error, latency)
            self.journal.write(msgspec.structs.replace(record, id=request_id, at=self._now_us()))
        self.counters.count(champion.version if champion else 0, "refused", status, latency)
        return error_response(error, (b"x-request-id", caller.echo or request_id.encode()), request_id=request_id)


def _refusal(model: str, champion: Arm, caller: Caller, error: TidewheelError, latency: int) -> Prediction:
    """Return the record of a request that was refused unscored, without id and moment yet."""
    return Prediction(
        id="",
        at=0,
        model=model,
        version=champion.version,
        arm=champion.name,
        propensity=1.0,
        unit=caller.unit,
        status=status_of(error),
        features=[],
        output=[],
        latency_us=latency,
        error=said(error),
        route="refused",
    )


def _others(tickets: Sequence[Ticket], counters: Counters) -> list[Other]:
    """Score the arms that do not answer; whatever happens to them, the answers stand."""
    started = perf_counter_ns()
    pairs = [(ticket.other, ticket.ask) for ticket in tickets if ticket.other is not None]
    scored = score_all(pairs)
    each = (perf_counter_ns() - started) // 1_000 // max(len(pairs), 1)
    counters.paired_failures += sum(not isinstance(found, Answer) for found in scored)
    return [_other(arm, found, each) for (arm, _), found in zip(pairs, scored, strict=True)]


def _other(arm: Arm, found: Scored, latency: int) -> Other:
    if isinstance(found, Answer):
        return Other(version=arm.version, output=found.output, probability=found.probability, latency_us=latency)
    return Other(version=arm.version, error=said(found), latency_us=latency)


def _verdict(failure: Prediction, odd: Sequence[str]) -> TidewheelError:
    name = f"{failure.model}:{failure.version}"
    if odd:  # the request is unlike anything the model has seen: its fault, not the model's
        return ValidationFailed(
            f"The model {name} cannot score this request: {'; '.join(odd)}.",
            "Send values like those seen in training, or train a model that copes with others.",
        )
    return ModelFailed(
        f"The model {name} failed on this request.",
        f"The cause stands in the prediction log under the id {failure.id}.",
    )


def _settled(tickets: Sequence[Ticket], scored: Sequence[Scored]) -> Sequence[Scored]:
    """Let each strategy do with its first answers what it does; they are of one strategy but for a swap."""
    ways: dict[int, list[int]] = {}
    for place, ticket in enumerate(tickets):
        if ticket.way is not None:
            ways.setdefault(id(ticket.way), []).append(place)
    found = list(scored)
    for places in ways.values():
        way = tickets[places[0]].way
        if way is not None:
            last = way.settle([tickets[place] for place in places], [scored[place] for place in places])
            for place, each in zip(places, last, strict=True):
                found[place] = each
    return found
