"""The fast front over real sockets: it answers what the default front answers, in order, and never falls over."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidewheel.serving import fast
from tidewheel.serving.asgi import Draining, _Server, application
from tidewheel.serving.fast import FastFront
from tidewheel.serving.limits import Limits

ROW = {"a": 0.5, "b": -0.5, "n": 3}


class Running:
    """A front in a thread."""

    def __init__(self, listening: socket.socket, thread: threading.Thread, stop: Callable[[], None]) -> None:
        self.address = listening.getsockname()
        self.thread = thread
        self.stop = stop

    def talk(self, *pieces: bytes, end: bool = True, seconds: float = 20) -> bytes:
        """Send pieces, one write each, say that nothing more comes, and return all that is answered."""
        with socket.create_connection(self.address, timeout=seconds) as line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                line.sendall(piece)
            if end:
                line.shutdown(socket.SHUT_WR)
            found = b""
            try:
                while piece := line.recv(1 << 16):
                    found += piece
            except (ConnectionResetError, TimeoutError):
                pass
            return found


@pytest.fixture
def limits() -> Limits:
    """The usual ones; a test may ask for others."""
    return Limits()


@pytest.fixture
def front(shop: Any, limits: Limits) -> Iterator[Running]:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0)
    ready = threading.Event()
    holder: dict[str, Any] = {}

    async def main() -> None:
        stop = asyncio.Event()
        holder.update(loop=asyncio.get_running_loop(), stop=stop)
        front = FastFront(shop.engine, limits)
        holder.update(front=front)
        await fast.run_front(front, listening, stop, ready.set)

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(20)
    running = Running(listening, thread, lambda: holder["loop"].call_soon_threadsafe(holder["stop"].set))
    yield running
    running.stop()
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def default(shop: Any) -> Iterator[Running]:
    """The default front on the same engine; the two are never asked at the same time."""
    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0))
    ready = threading.Event()
    config = uvicorn.Config(
        application(shop.engine), http="httptools", loop="asyncio", lifespan="off", log_config=None, access_log=False,
        server_header=False, date_header=False,
    )  # fmt: skip
    server = _Server(config, Draining(), ready.set)
    thread = threading.Thread(target=lambda: server.run(sockets=[listening]), daemon=True)
    thread.start()
    assert ready.wait(20)
    running = Running(listening, thread, lambda: setattr(server, "should_exit", True))
    yield running
    running.stop()
    thread.join(20)


def request(content: Any = None, *, method: str = "POST", path: str = "/predict/bikes", **headers: str) -> bytes:
    body = b"" if content is None else content if isinstance(content, bytes) else json.dumps(content).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: x", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    if body or method == "POST":
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def parsed(data: bytes, *, heads: int = 0) -> list[tuple[int, dict[str, str], bytes]]:
    """Cut answers out of a stream; nothing may be left over. The first `heads` of them have no body."""
    found: list[tuple[int, dict[str, str], bytes]] = []
    while data:
        head, mark, rest = data.partition(b"\r\n\r\n")
        assert mark, data[:200]
        line, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(each.lower().split(": ", 1) for each in lines)
        length = 0 if len(found) < heads else int(headers["content-length"])
        found.append((int(line.split(" ")[1]), headers, rest[:length]))
        data = rest[length:]
    return found


GOOD = {"rows": [ROW], "id": "r1"}
CASES: dict[str, bytes] = {
    "predict": request(GOOD),
    "bare row": request(ROW, x_request_id="r2"),
    "no json": request(b"{"),
    "wrong type": request({"rows": [ROW | {"a": "much"}], "id": "r3"}),
    "no model": request(GOOD, path="/predict/nobody"),
    "no path": request(method="GET", path="/nowhere"),
    "query": request(GOOD, path="/predict/bikes?x=1"),
    "percent": request(GOOD, path="/predict/b%69kes"),
    "live": request(method="GET", path="/v2/health/live"),
    "wrong method": request(method="DELETE", path="/v2/health/live"),
    "absolute": request(GOOD, path="http://x/predict/bikes"),
    "chunked": b"POST /predict/bikes HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in [json.dumps(GOOD).encode()[:9], json.dumps(GOOD).encode()[9:]])
    + b"0\r\n\r\n",
    "close": request(GOOD, connection="close"),
    "two lengths": b"POST /predict/bikes HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "length and chunks": b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "no http": b"\x16\x03\x01\x02\x00 hello\r\n\r\n",
    "bad header": b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
}
STRICTER = {
    "two lengths",
    "length and chunks",
    "no http",
    "bad header",
    "wrong method",
}  # words may differ, not statuses


@pytest.mark.parametrize("case", CASES)
def test_it_answers_like_the_default_front(front: Running, default: Running, case: str) -> None:
    ours, theirs = parsed(front.talk(CASES[case])), default.talk(CASES[case])
    assert ours[0][0] == int(theirs.split(b" ")[1])
    if case not in STRICTER:
        (status, headers, body), other = parsed(theirs)[0], ours[0]
        assert (other[0], other[1]["content-type"]) == (status, headers["content-type"])
        assert _without_ids(other[2]) == _without_ids(body)


def _without_ids(body: bytes) -> Any:
    content = json.loads(body)
    if isinstance(content, dict):
        content.pop("id", None)
    return content


def test_head_has_no_body_and_the_length_of_one(front: Running) -> None:
    ((status, _, body),) = parsed(front.talk(request(method="HEAD", path="/v2/health/live")), heads=1)
    assert (status, body) == (200, b"")


def test_pipelined_requests_are_answered_in_order(front: Running) -> None:
    asked = [request({"rows": [ROW], "id": f"r{place}"}) for place in range(30)]
    asked.insert(11, request(method="GET", path="/v2/health/live"))
    asked.insert(17, request(b"{", x_request_id="odd"))
    found = parsed(front.talk(b"".join(asked)))
    assert len(found) == 32
    ids = [json.loads(body).get("id") for _, _, body in found]
    assert ids[:11] == [f"r{place}" for place in range(11)]
    assert (found[11][2], found[17][0], ids[17]) == (b'{"live":true}', 400, "odd")
    assert ids[18:] == [f"r{place}" for place in range(16, 30)]


def smuggled(*lines: str, body: str = "0\r\n\r\n") -> bytes:
    return (
        "POST /predict/bikes HTTP/1.1\r\nhost: x\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n" + body
    ).encode("latin-1")


SMUGGLED = {  # what a proxy in front may read otherwise than we do: it has to be refused, and the line closed
    "length and chunks": smuggled("content-length: 5", "transfer-encoding: chunked"),
    "chunks and length": smuggled("transfer-encoding: chunked", "content-length: 5"),
    "two lengths": smuggled("content-length: 5", "content-length: 6", body="abcdef"),
    "a list of lengths": smuggled("content-length: 5, 6", body="abcdef"),
    "signed length": smuggled("content-length: +5", body="abcde"),
    "negative length": smuggled("content-length: -5", body="abcde"),
    "length in hex": smuggled("content-length: 0x5", body="abcde"),
    "endless length": smuggled("content-length: 99999999999999999999999", body="abcde"),
    "space before the colon": smuggled("content-length : 5", body="abcde"),
    "folded": smuggled("x-a: b", " content-length: 5", body="abcde"),
    "chunked is not last": smuggled("transfer-encoding: chunked, identity"),
    "unknown coding": smuggled("transfer-encoding: xchunked"),
    "chunk size in words": smuggled("transfer-encoding: chunked", body="zz\r\nabc\r\n0\r\n\r\n"),
    "chunk longer than told": smuggled("transfer-encoding: chunked", body="3\r\nabcdef\r\n0\r\n\r\n"),
    "negative chunk": smuggled("transfer-encoding: chunked", body="-3\r\nabc\r\n0\r\n\r\n"),
    "endless chunk": smuggled("transfer-encoding: chunked", body="fffffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
    "zero byte in a value": smuggled("x-a: b\0c", "content-length: 5", body="abcde"),
    "return in a value": smuggled("x-a: b\rc", "content-length: 5", body="abcde"),
}


@pytest.mark.parametrize("case", SMUGGLED)
@pytest.mark.parametrize("which", ["front", "default"])
def test_what_a_proxy_may_read_otherwise_is_refused_and_what_follows_is_not_read(
    request: pytest.FixtureRequest, which: str, case: str
) -> None:
    running = request.getfixturevalue(which)
    answer = running.talk(SMUGGLED[case] + CASES["live"])
    statuses = [int(each.split(b" ", 1)[0]) for each in answer.split(b"HTTP/1.1 ")[1:]]
    assert len(statuses) <= 1, answer  # the request behind it is never answered
    assert all(400 <= status < 500 for status in statuses), answer
    assert running.talk(CASES["predict"]).startswith(b"HTTP/1.1 200")


def test_a_caller_of_http_1_0_is_told_whether_the_line_goes_on(front: Running) -> None:
    asked = request(GOOD, connection="keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")
    ((status, headers, _),) = parsed(front.talk(asked))
    assert (status, headers["connection"]) == (200, "keep-alive")
    ((_, headers, _),) = parsed(front.talk(request(GOOD).replace(b"HTTP/1.1", b"HTTP/1.0")))
    assert headers["connection"] == "close"


def test_more_work_than_can_be_done_in_time_is_refused_with_429(front: Running, shop: Any) -> None:
    asked = [request({"rows": [ROW] * 100, "id": f"r{place}"}) for place in range(20)]
    shop.engine.admission._budget_us = 50.0
    found = parsed(front.talk(b"".join(asked)))
    statuses = [status for status, _, _ in found]
    assert statuses[0] == 200
    assert set(statuses) == {200, 429}
    refused = next(each for each in found if each[0] == 429)
    assert int(refused[1]["retry-after"]) >= 1
    assert b"rows" in refused[2] or b"requests wait" in refused[2]
    assert shop.metric("tidewheel_overloaded_total") == statuses.count(429)
    assert parsed(front.talk(asked[0]))[0][0] == 200  # nothing is left behind


@pytest.mark.parametrize("limits", [Limits(write_seconds=0.0)])
def test_a_caller_who_never_reads_is_cut_off(front: Running) -> None:
    asked = b"".join(request({"rows": [ROW] * 500, "id": f"r{place}"}) for place in range(400))
    with socket.create_connection(front.address, timeout=20) as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        with pytest.raises(OSError):  # noqa: PT011 - reset or broken pipe, as the kernel has it
            lazy.sendall(asked * 100)
    assert parsed(front.talk(CASES["live"]))[0][0] == 200


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(sorted(set(CASES) - STRICTER - {"close"})), min_size=1, max_size=6), st.data())
def test_how_bytes_are_cut_makes_no_difference(front: Running, names: list[str], data: Any) -> None:
    stream = b"".join(CASES[name] for name in names)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole, cut = parsed(front.talk(stream)), parsed(front.talk(*pieces))
    assert len(whole) == len(names)
    assert [(status, _without_ids(body)) for status, _, body in cut] == [
        (status, _without_ids(body)) for status, _, body in whole
    ]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400), st.sampled_from(sorted(CASES)), st.data())
def test_garbage_never_gets_a_5xx_and_never_stops_the_server(
    front: Running, garbage: bytes, name: str, data: Any
) -> None:
    good = CASES[name]
    place = data.draw(st.integers(0, len(good)))
    stream = good[:place] + garbage + good[place + data.draw(st.integers(0, 20)) :]
    answer = front.talk(stream)
    assert all(status < 500 or status == 501 for status, _, _ in _loosely(answer))
    assert parsed(front.talk(CASES["live"]))[0][0] == 200


def _loosely(data: bytes) -> list[tuple[int, bytes, bytes]]:
    return [(int(line.split(b" ")[0]), b"", b"") for line in data.split(b"HTTP/1.1 ")[1:]]


def test_a_body_that_is_too_large_is_refused_and_the_line_closed(front: Running, shop: Any) -> None:
    shop.engine.body_limit = 2_000
    found = parsed(front.talk(request(b"x" * 3_000), request(GOOD)))
    assert [each[0] for each in found] == [413]
    assert found[0][1]["connection"] == "close"
    announced = b"POST /predict/bikes HTTP/1.1\r\nhost: x\r\ncontent-length: 900000000\r\n\r\n" + b"x" * 20_000
    assert [each[0] for each in parsed(front.talk(announced))] == [413]


def test_heads_that_are_too_large_or_too_many_are_refused(front: Running) -> None:
    assert parsed(front.talk(request(GOOD, x_long="y" * 70_000)))[0][0] == 431
    many = {f"x_{place}": "y" for place in range(150)}
    assert parsed(front.talk(request(GOOD, **many)))[0][0] == 431
    endless = b"GET / HTTP/1.1\r\nhost: x\r\nx-long: " + b"y" * 80_000
    assert parsed(front.talk(endless, b"y" * 1_000, end=False))[0][0] == 431


@pytest.mark.parametrize("limits", [Limits(head_seconds=0, body_seconds=0, idle_seconds=0)])
def test_what_comes_too_slowly_is_refused(front: Running) -> None:
    half = request(GOOD)[:-5]
    assert parsed(front.talk(half, end=False))[0][0] == 408
    assert parsed(front.talk(b"POST /predict", end=False))[0][0] == 408
    assert front.talk(end=False) == b""


def test_expect_continue_is_answered_before_the_body(front: Running) -> None:
    head, body = request(GOOD, expect="100-continue").split(b"\r\n\r\n", 1)
    with socket.create_connection(front.address, timeout=20) as line:
        line.sendall(head + b"\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 100 Continue")
        line.sendall(body)
        assert line.recv(10_000).startswith(b"HTTP/1.1 200")


def test_upgrades_are_refused(front: Running) -> None:
    asked = request(method="GET", path="/v2", connection="upgrade", upgrade="websocket")
    assert parsed(front.talk(asked))[0][0] == 501


@pytest.mark.parametrize("limits", [Limits(waiting=5)])
def test_more_than_may_wait_is_refused_with_429(front: Running) -> None:
    found = parsed(front.talk(b"".join(request({"rows": [ROW], "id": f"r{place}"}) for place in range(20))))
    statuses = [status for status, _, _ in found]
    assert statuses == [200] * 5 + [429] * 15
    assert found[-1][1]["retry-after"] == "1"


def test_a_caller_who_does_not_read_holds_nobody_up(front: Running) -> None:
    asked = b"".join(request({"rows": [ROW] * 50, "id": f"r{place}"}) for place in range(400))
    with socket.create_connection(front.address, timeout=20) as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sender = threading.Thread(target=lambda: lazy.sendall(asked), daemon=True)
        sender.start()
        assert parsed(front.talk(CASES["predict"]))[0][0] == 200
        data = b""
        while data.count(b"HTTP/1.1 200") < 400:
            piece = lazy.recv(1 << 16)
            assert piece
            data += piece
        sender.join(20)
    assert data.count(b"HTTP/1.1 ") == 400


def test_draining_answers_what_is_under_way_and_closes_the_rest(shop: Any) -> None:
    async def main() -> tuple[bytes, bytes]:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.settimeout(0)
        front = FastFront(shop.engine)
        await front.start(listening)
        host, port = listening.getsockname()
        idle, _ = await asyncio.open_connection(host, port)
        reader, writer = await asyncio.open_connection(host, port)
        asked = request(GOOD)
        writer.write(asked[:-3])
        while len(front.connections) < 2 or not any(each._in_body for each in front.connections):  # noqa: ASYNC110
            await asyncio.sleep(0)
        stopping = asyncio.create_task(front.stop())
        rest = await idle.read()
        writer.write(asked[-3:])
        answer = await reader.read()
        await stopping
        return rest, answer

    rest, answer = asyncio.run(main())
    assert rest == b""
    ((status, headers, _),) = parsed(answer)
    assert (status, headers["connection"]) == (200, "close")


def test_answers_of_one_turn_are_scored_in_one_call(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    answer = type(shop.engine.fleet.endpoints["bikes"]).answer

    def counted(self: Any, tickets: Any) -> Any:
        sizes.append(len(tickets))
        return answer(self, tickets)

    monkeypatch.setattr(type(shop.engine.fleet.endpoints["bikes"]), "answer", counted)

    async def main() -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.settimeout(0)
        front = FastFront(shop.engine)
        await front.start(listening)
        lines = [await asyncio.open_connection(*listening.getsockname()) for _ in range(20)]
        time.sleep(0.05)  # noqa: ASYNC251 - the loop stands still, so that all requests arrive in one turn
        for _, writer in lines:
            os.write(writer.transport.get_extra_info("socket").fileno(), request(GOOD))
        for reader, _ in lines:
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
        for _, writer in lines:
            writer.close()
        await front.stop()

    asyncio.run(main())
    assert sum(sizes) == 20
    assert max(sizes) > 1
