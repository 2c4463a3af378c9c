"""A consumer answers what has arrived together, buries what cannot be answered, and lets nothing go before that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest
from tests.scoring.conftest import numbers

from tidewheel.errors import InvalidInput, ModelFailed, NotReady
from tidewheel.lineage.store import Store
from tidewheel.predictions.log import read_log
from tidewheel.predictions.segments import log_folder
from tidewheel.serving.brokers.consume import Consumer
from tidewheel.serving.brokers.memory import MemoryBroker
from tidewheel.serving.brokers.seam import Message, Places, open_broker
from tidewheel.serving.engine import Deliver, Engine
from tidewheel.serving.response import Header, error_response

PLACES = Places(url="memory://", inlet="in", outlet="out", dead="dead")
GOOD = json.dumps({"a": 1.0, "b": 2.0, "n": 3}).encode()
INFER = json.dumps(
    {"inputs": [{"name": name, "shape": [1], "datatype": "FP64", "data": [1]} for name in ("a", "b")]
     + [{"name": "n", "shape": [1], "datatype": "INT64", "data": [1]}]}
).encode()  # fmt: skip


def consumed(
    store: Store,
    broker: MemoryBroker,
    *,
    until: Callable[[], bool],
    model: str = "trees",
    places: Places = PLACES,
    kind: type[Engine] = Engine,
) -> Consumer:
    """Let a consumer work until something holds."""
    engine = kind(store, [model])
    engine.refresh()
    consumer = Consumer(engine, model, broker, places, attempts=3)

    async def run() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(consumer.run(stop, lambda _: None))
        while not until() and not running.done():  # noqa: ASYNC110 - what is waited for is told by no event
            await asyncio.sleep(0.001)
        stop.set()
        await running

    try:
        asyncio.run(asyncio.wait_for(run(), 20))
    finally:
        engine.close()
    return consumer


def said(messages: list[Message]) -> dict[str, Any]:
    return {message.headers["x-request-id"]: json.loads(message.body) for message in messages}


def test_what_has_arrived_is_scored_together_and_logged_under_its_id(yard: Store) -> None:
    broker = MemoryBroker()
    rows = numbers(40).drop("id").to_dicts()
    for number, row in enumerate(rows):
        broker.put(json.dumps(row).encode(), f"r{number}")
    consumer = consumed(yard, broker, until=lambda: len(broker.sent.get("out", [])) == 40)
    answers = said(broker.sent["out"])
    assert consumer.counts.turns == 1
    assert broker.unsettled == 0
    engine = Engine(yard, ["trees"])
    engine.refresh()
    expected = json.loads(engine.handle("POST", "/predict/trees", [], json.dumps({"rows": rows}).encode()).body)
    engine.close()
    assert [answers[f"r{number}"]["predictions"][0] for number in range(40)] == expected["predictions"]
    logged = {record.id for record in read_log(log_folder(yard.home, "trees"), None).records}
    assert {f"r{number}" for number in range(40)} <= logged


def test_tensors_and_rows_are_told_apart(yard: Store) -> None:
    broker = MemoryBroker()
    broker.put(INFER, "tensors")
    broker.put(json.dumps({"rows": [json.loads(GOOD)]}).encode(), "rows")
    consumed(yard, broker, until=lambda: len(broker.sent.get("out", [])) == 2)
    answers = said(broker.sent["out"])
    assert answers["tensors"]["model_name"] == "trees"
    assert answers["rows"]["model"] == "trees"


@pytest.mark.parametrize("body", [b"", b"\xff\x00", b"{", b'{"a": 1}', b'{"inputs": [{"name": "x"}]}', b"[]"])
def test_what_cannot_be_answered_is_buried_and_blocks_nobody(yard: Store, body: bytes) -> None:
    broker = MemoryBroker()
    broker.put(GOOD, "before")
    broker.put(body, "bad", reply="asker")
    broker.put(GOOD, "after")
    consumed(yard, broker, until=lambda: not broker.unsettled)
    assert set(said(broker.sent["out"])) == {"before", "after"}
    (letter,) = broker.sent["dead"]
    assert letter.body == body
    assert letter.headers["x-status"] in ("400", "422")
    assert letter.headers["x-error"]
    assert "error" in said(broker.sent["asker"])["bad"]


def test_without_outlet_only_the_asker_is_told(yard: Store) -> None:
    broker = MemoryBroker()
    broker.put(GOOD, "one", reply="asker")
    places = Places(url="memory://", inlet="in", outlet="", dead="dead")
    consumed(yard, broker, until=lambda: not broker.unsettled, places=places)
    assert list(broker.sent) == ["asker"]


class Failing(Engine):
    """An engine whose model fails on everything."""

    tried: ClassVar[list[bytes]] = []

    def submit(self, method: str, path: str, headers: Sequence[Header], body: bytes, deliver: Deliver) -> bool:
        self.tried.append(body)
        error = ModelFailed("The model failed.", "Look at it.")
        deliver(error_response(error))
        return False


def test_a_request_that_fails_again_and_again_is_buried(yard: Store) -> None:
    broker = MemoryBroker()
    broker.put(GOOD, "fails")
    Failing.tried.clear()
    consumer = consumed(yard, broker, until=lambda: not broker.unsettled, kind=Failing)
    (letter,) = broker.sent["dead"]
    assert (len(Failing.tried), letter.headers["x-attempts"], letter.headers["x-status"]) == (3, "3", "500")
    assert (consumer.counts.again, consumer.counts.dead) == (2, 1)


def test_a_request_that_was_out_too_often_is_buried_unscored(yard: Store) -> None:
    broker = MemoryBroker()
    broker.put(GOOD, "deadly")

    async def die() -> None:
        for _ in range(3):
            assert await broker.take(10, 0.0)
            await broker.close()

    asyncio.run(die())
    consumed(yard, broker, until=lambda: not broker.unsettled)
    assert broker.sent["dead"][0].headers["x-attempts"] == "4"
    assert "out" not in broker.sent


def test_requests_wait_while_nothing_is_deployed(yard: Store) -> None:
    broker = MemoryBroker()
    broker.put(GOOD, "early")
    looks = iter(range(1_000))
    consumed(yard, broker, model="unheard", until=lambda: next(looks) > 50)
    assert (broker.sent, broker.unsettled) == ({}, 1)


class Flaky(MemoryBroker):
    """Is away at first, and once when an answer is to be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble = ["open", "send"]

    def _stumble(self, at: str) -> None:
        if self.trouble and self.trouble[0] == at:
            self.trouble.pop(0)
            raise NotReady("The broker is away.", "Start it.")

    async def open(self) -> None:
        self._stumble("open")

    async def send(self, place: str, message: Message) -> None:
        self._stumble("send")
        await super().send(place, message)


def test_a_broker_that_is_away_is_waited_for_and_nothing_is_lost(yard: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidewheel.serving.brokers.consume.FIRST_PAUSE", 0.01)
    broker = Flaky()
    for number in range(5):
        broker.put(GOOD, f"r{number}")
    consumed(yard, broker, until=lambda: not broker.unsettled)
    assert broker.trouble == []
    assert set(said(broker.sent["out"])) == {f"r{number}" for number in range(5)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"url": "mqtt://x"}, "names no broker"), ({"dead": "out"}, "a place of its own"), ({"dead": ""}, "of its own")],
)
def test_places_that_cannot_be_are_refused(changes: dict[str, str], said: str) -> None:
    fields: dict[str, Any] = {"url": "nats://127.0.0.1:4222", "inlet": "in", "outlet": "out", "dead": "dead"} | changes
    with pytest.raises(InvalidInput, match=said):
        open_broker(Places(**fields))
