"""Answer the requests of a broker: score together what has arrived, hand the answers over, then let go of them."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from tidewheel.errors import NotReady
from tidewheel.lineage.store import Store
from tidewheel.serving.brokers.seam import (
    ATTEMPTS,
    ERROR,
    REQUEST_ID,
    STATUS,
    Broker,
    Delivery,
    Message,
    Places,
    open_broker,
)
from tidewheel.serving.engine import Engine
from tidewheel.serving.response import Response
from tidewheel.serving.terms import Terms

MOST = 256  # requests scored together
PATIENCE = 0.5  # seconds of waiting for a request before looking whether to stop
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a broker that is away is tried again
BUSY = 429
FAILED = 500
REFUSED = 400

logger = logging.getLogger("tidewheel.serving")

_keys = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(slots=True)
class Counts:
    """What a consumer has done."""

    answered: int = 0  # requests whose answers were handed over
    dead: int = 0  # requests that became dead letters
    again: int = 0  # requests that were given back after a failure
    turns: int = 0  # times that something was scored


class Consumer:
    """Answers one model's requests; for one event loop.

    A request is let go of after its answer was handed over: at least once. What cannot be decoded, and what fails
    `attempts` times, goes to the dead letters with the reason. A request that was delivered before is scored alone:
    should it end the process, it takes no other with it, and is given up after as many deliveries.
    """

    def __init__(self, engine: Engine, model: str, broker: Broker, places: Places, *, attempts: int = 5) -> None:
        self.counts = Counts()
        self._engine = engine
        self._model = model
        self._broker = broker
        self._places = places
        self._attempts = attempts

    async def run(self, stop: asyncio.Event, say: Callable[[str], None] = logger.info) -> None:
        """Answer until told to stop; then finish what was taken. A broker that is away is waited for."""
        pause = FIRST_PAUSE
        while not stop.is_set():
            try:
                await self._broker.open()
                say(f"answering {self._places.inlet} of {self._address} with {self._model}")
                pause = FIRST_PAUSE
                while not stop.is_set():
                    await self._turn(stop)
            except NotReady as error:
                say(f"{error.what} Trying again in {pause:g} s.")
                await _rest(stop, pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            finally:
                with suppress(NotReady):
                    await self._broker.close()

    @property
    def _address(self) -> str:
        return self._places.url.rpartition("@")[2]

    async def _turn(self, stop: asyncio.Event) -> None:
        if not self._engine.ready:  # requests wait in the broker, where other consumers can have them
            await _rest(stop, PATIENCE)
            return
        deliveries = await self._broker.take(MOST, PATIENCE)
        fresh = [each for each in deliveries if each.attempt == 1]
        for some in (fresh, *([each] for each in deliveries if each.attempt > 1)):
            if some:
                await self._answer(some)

    async def _answer(self, deliveries: Sequence[Delivery]) -> None:
        self.counts.turns += 1
        given_up = [each for each in deliveries if each.attempt > self._attempts]
        responses = self._score([each for each in deliveries if each.attempt <= self._attempts])
        sends = [self._bury(each, "It was delivered too often without an answer.", FAILED) for each in given_up]
        done, again = list(given_up), []
        for delivery, response in responses:
            if response.status >= FAILED and delivery.attempt < self._attempts:
                again.append(delivery)
                continue
            done.append(delivery)
            sends.append(self._deliver(delivery, response))
        await asyncio.gather(*sends)
        await self._broker.settle(done, again)
        self.counts.again += len(again)

    def _score(self, deliveries: Sequence[Delivery]) -> list[tuple[Delivery, Response]]:
        """Score together; what the engine finds too much for one turn is scored in the next."""
        found: list[tuple[Delivery, Response]] = []
        left = list(deliveries)
        while left:
            answers: list[Response | None] = [None] * len(left)
            for place, delivery in enumerate(left):
                self._submit(delivery, answers, place)
            self._engine.flush()
            pairs = [(each, answer) for each, answer in zip(left, answers, strict=True) if answer is not None]
            scored = [(each, answer) for each, answer in pairs if answer.status != BUSY]
            found += scored or pairs
            left = [each for each, answer in pairs if answer.status == BUSY] if scored else []
        return found

    def _submit(self, delivery: Delivery, answers: list[Response | None], place: int) -> None:
        def deliver(response: Response) -> None:
            answers[place] = response

        headers = [(REQUEST_ID.encode(), delivery.id.encode("latin-1", "replace"))]
        if delivery.unit:
            headers.append((b"x-unit-id", delivery.unit.encode("latin-1", "replace")))
        self._engine.submit("POST", self._path(delivery.body), headers, delivery.body, deliver)

    def _path(self, body: bytes) -> str:
        """Tell rows from the tensors of the Open Inference Protocol by their one required key."""
        if b'"inputs"' in body:
            with suppress(msgspec.MsgspecError):
                if bytes(_keys.decode(body).get("inputs", b"")).lstrip()[:1] == b"[":
                    return f"/v2/models/{self._model}/infer"
        return f"/predict/{self._model}"

    async def _deliver(self, delivery: Delivery, response: Response) -> None:
        message = Message(body=response.body, headers={REQUEST_ID: delivery.id, STATUS: str(response.status)})
        if delivery.reply:
            await self._broker.send(delivery.reply, message)
        if response.status >= REFUSED:
            await self._bury(delivery, _reason(response), response.status)
            return
        if self._places.outlet:
            await self._broker.send(self._places.outlet, message)
        self.counts.answered += 1

    async def _bury(self, delivery: Delivery, reason: str, status: int) -> None:
        headers = {
            REQUEST_ID: delivery.id,
            ERROR: reason.replace("\n", " ").encode("ascii", "replace").decode()[:500],
            STATUS: str(status),
            ATTEMPTS: str(delivery.attempt),
        }
        await self._broker.send(self._places.dead, Message(body=delivery.body, headers=headers))
        self.counts.dead += 1


def _reason(response: Response) -> str:
    try:
        return bytes(msgspec.json.decode(response.body)["error"].encode()).decode()
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError):
        return f"status {response.status}"


async def _rest(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


def consume(
    store: Store,
    model: str,
    places: Places,
    *,
    attempts: int = 5,
    trust: bool = False,
    say: Callable[[str], None] = logger.info,
) -> Counts:
    """Answer the requests of a broker until SIGTERM or Ctrl-C, then finish what was taken and return the counts.

    Raises InvalidInput for a broker or places that cannot be, MissingExtra when its client is not installed.
    """
    broker = open_broker(places)
    # Who may ask is the broker's to decide; keys are for HTTP.
    engine = Engine(store, [model], writer="broker", trust=trust, terms=Terms(anonymous=True))
    consumer = Consumer(engine, model, broker, places, attempts=attempts)
    engine.start()
    try:
        asyncio.run(_until_told(consumer, say))
    finally:
        engine.close()
    return consumer.counts


async def _until_told(consumer: Consumer, say: Callable[[str], None]) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await consumer.run(stop, say)
