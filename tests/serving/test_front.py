"""The ASGI callable: bodies in pieces, limits while reading, callers that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from tidewheel.errors import Conflict, InvalidInput
from tidewheel.serving.asgi import Draining, application
from tidewheel.serving.engine import Engine
from tidewheel.serving.front import serve
from tidewheel.serving.limits import Limits

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

ROW = {"a": 2.0, "b": 0.5, "n": 3}
BODY = json.dumps(ROW).encode()


class Exchange:
    """One request played to the callable, piece by piece."""

    def __init__(self, engine: Engine, pieces: Sequence[bytes | None], **options: Any) -> None:
        self.sent: list[MutableMapping[str, Any]] = []
        self.read = 0
        self._pieces = pieces
        scope = {
            "type": "http",
            "method": options.get("method", "POST"),
            "path": options.get("path", "/predict/bikes"),
            "headers": options.get("headers", []),
        }
        app = application(engine, options.get("draining"), options.get("limits", Limits()))
        asyncio.run(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self.read >= len(self._pieces):
            await asyncio.Event().wait()  # a caller that sends no more
        piece = self._pieces[self.read]
        self.read += 1
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": self.read < len(self._pieces)}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def content(self) -> Any:
        body = b"".join(message.get("body", b"") for message in self.sent[1:])
        assert int(self.headers[b"content-length"]) == len(body)
        return json.loads(body)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_body_may_come_in_pieces(shop: Shop, size: int) -> None:
    pieces = [BODY[at : at + size] for at in range(0, len(BODY), size)]
    assert Exchange(shop.engine, pieces).content["predictions"] == [1]
    assert Exchange(shop.engine, [*pieces[:-1], pieces[-1], b""]).content["predictions"] == [1]


def test_a_get_reads_no_body(shop: Shop) -> None:
    found = Exchange(shop.engine, [], method="GET", path="/v2/health/live")
    assert (found.status, found.content) == (200, {"live": True})


def test_a_caller_who_leaves_is_not_answered(shop: Shop) -> None:
    assert Exchange(shop.engine, [None]).sent == []
    assert Exchange(shop.engine, [BODY[:5], None]).sent == []
    assert shop.log() == []


def test_a_body_over_the_limit_is_refused_while_it_is_read(shop: Shop) -> None:
    engine = Engine(shop.store, ["bikes"], writer="w1", body_limit=100)
    engine.refresh()
    found = Exchange(engine, [b"x" * 60] * 3)
    assert (found.status, found.headers[b"connection"]) == (413, b"close")
    assert "100 bytes" in found.content["error"]
    endless = Exchange(engine, [b"x" * 60] * 1_000)
    assert endless.status == 413
    assert endless.read < 10  # neither kept nor read to its end
    announced = Exchange(engine, [b"x" * 60] * 1_000, headers=[(b"content-length", b"60000")])
    assert (announced.status, announced.read) == (413, 2)
    assert Exchange(engine, [b"x" * 300]).status == 413
    assert [record.status for record in shop.log()] == [413, 413, 413, 413]
    engine.close()


def test_a_body_that_does_not_come_is_given_up(shop: Shop) -> None:
    class Stalling(Exchange):
        async def _receive(self) -> dict[str, Any]:
            if self.read:
                await asyncio.Event().wait()
            self.read += 1
            return {"type": "http.request", "body": b"{", "more_body": True}

    found = Stalling(shop.engine, [], limits=Limits(body_seconds=0.01))
    assert (found.status, found.headers[b"connection"]) == (408, b"close")


def test_a_draining_server_asks_for_another_connection(shop: Shop) -> None:
    draining = Draining()
    assert b"connection" not in Exchange(shop.engine, [BODY], draining=draining).headers
    draining.on = True
    found = Exchange(shop.engine, [BODY], draining=draining)
    assert (found.status, found.headers[b"connection"]) == (200, b"close")


def test_other_connections_are_refused(shop: Shop) -> None:
    async def nothing(*_: Any) -> Any:
        return None

    with pytest.raises(InvalidInput, match="Speak HTTP"):
        asyncio.run(application(shop.engine)({"type": "websocket"}, nothing, nothing))


def test_a_mistake_of_the_server_itself_is_answered_without_its_traceback(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    class Mistaken(Engine):
        def handle(self, *_: Any) -> Any:
            raise ZeroDivisionError("secret")

    found = Exchange(Mistaken(shop.store, writer="w1"), [BODY])
    assert found.status == 500
    assert "secret" not in str(found.content)
    assert "ZeroDivisionError" in caplog.text


def test_a_taken_port_is_named(shop: Shop) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=f"Port {port} on 127.0.0.1 is taken"):
            serve(shop.store, port=port)


@pytest.mark.parametrize("host", ["203.0.113.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_refused(shop: Shop, host: str) -> None:
    with pytest.raises(InvalidInput, match="no address of this machine"):
        serve(shop.store, host=host, port=0)
