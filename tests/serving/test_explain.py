"""Explanations beside predictions, on both fronts, and never in the way of them."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tidewheel.explaining.records import Contributions
from tidewheel.serving.asgi import answer
from tidewheel.serving.explain import Explaining
from tidewheel.serving.fast import FastFront, run_front
from tidewheel.serving.later import Later
from tidewheel.serving.limits import DEFAULTS
from tidewheel.serving.origins import CrossOrigin
from tidewheel.serving.response import Response

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

ROWS = [{"a": 2.0, "b": 0.5, "n": 3}, {"a": -1.0, "b": 0.5, "n": 3}]
INPUTS = [{"name": "rows", "datatype": "FP64", "shape": [2, 3], "data": [2.0, 0.5, 3, -1.0, 0.5, 3]}]


@pytest.fixture
def explaining(shop: Shop) -> Iterator[Explaining]:
    opened = Explaining(shop.engine, waiting=2)
    yield opened
    opened.close()


def _post(explaining: Explaining, path: str, content: Any) -> Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    response = explaining.handle("POST", path, [], body)
    if not isinstance(response, Later):
        return response
    found: Future[Response] = Future()
    response.subscribe(found.set_result)
    return found.result(30)


def test_prediction_is_explained_when_asked(shop: Shop, explaining: Explaining) -> None:
    plain = json.loads(_post(explaining, "/predict/bikes", {"rows": ROWS, "id": "one"}).body)
    response = _post(explaining, "/predict/bikes", {"rows": ROWS, "id": "two", "explain": True})
    assert (response.status, dict(response.headers)[b"x-request-id"]) == (200, b"two")
    found = json.loads(response.body)
    told = found.pop("explanation")
    assert found | {"id": "one"} == plain
    assert (told["method"], told["output"], told["of"], told["complete"]) == ("linear", "margin", [1], True)
    assert told["fields"] == ["a", "b", "n"]
    margins = [base + sum(values) for base, values in zip(told["base"], told["values"], strict=True)]
    wanted = [np.log(second / first) for first, second in plain["probabilities"]]
    assert margins == pytest.approx(wanted, rel=1e-3)
    assert [record.id for record in shop.log()] == ["one", "two"]


def test_explanation_alone_is_not_logged(shop: Shop, explaining: Explaining) -> None:
    found = json.loads(_post(explaining, "/explain/bikes", {"rows": ROWS}).body)
    assert set(found) == {"id", "model", "version", "explanation"}
    assert len(found["explanation"]["values"]) == 2
    assert shop.log() == []
    bare = json.loads(_post(explaining, "/explain/bikes", ROWS[0]).body)
    assert bare["explanation"]["values"] == [pytest.approx(found["explanation"]["values"][0])]


@pytest.mark.parametrize("path", ["/v2/models/bikes/infer", "/v2/models/bikes/versions/1/infer"])
def test_inference_request_gets_tensors(explaining: Explaining, path: str) -> None:
    found = json.loads(_post(explaining, path, {"inputs": INPUTS, "parameters": {"explain": True, "mine": 7}}).body)
    tensors = {tensor["name"]: tensor for tensor in found["outputs"]}
    assert tensors["explanation"]["shape"] == [2, 3]
    assert tensors["explanation_base"]["shape"] == [2]
    assert len(tensors["explanation"]["data"]) == 6
    assert found["parameters"]["mine"] == 7
    assert found["parameters"]["explanation_method"] == "linear"
    assert found["parameters"]["explanation_complete"] is True
    assert found["model_version"] == "1"


@pytest.mark.parametrize(
    ("path", "content", "status", "said"),
    [
        ("/predict/bikes", {"rows": ROWS, "explain": "yes"}, 422, "$.explain: true or false"),
        ("/predict/bikes", {"rows": ROWS, "explain": True, "explain_ms": 0}, 422, "$.explain_ms"),
        ("/predict/bikes", {"rows": ROWS, "explain": True, "explain_ms": 1e9}, 422, "$.explain_ms"),
        ("/v2/models/bikes/infer", {"inputs": INPUTS, "parameters": {"explain": 1}}, 422, "$.parameters.explain"),
        ("/explain/bikes", {"rows": [{"a": 1.0}]}, 422, "missing"),
        ("/explain/bikes", b'{"rows": [', 400, "not valid JSON"),
        ("/explain/bikes", b"[1]", 422, "a row is an object"),
        ("/explain/trains", {"rows": ROWS}, 404, "trains"),
        ("/predict/bikes", {"rows": [{**ROWS[0], "explain": 1}]}, 422, "no such field"),
        ("/predict/bikes", {**ROWS[0], "explain": True}, 422, "no such field"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    explaining: Explaining, path: str, content: Any, status: int, said: str
) -> None:
    response = _post(explaining, path, content)
    assert (response.status, said in response.body.decode()) == (status, True), response.body


class _Held:
    """An explainer that waits until it is let go."""

    method, output = "sampling", "prediction"

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def explain_row(self, row: Sequence[Any], deadline: float) -> Contributions:
        self.begun.set()
        assert self.go.wait(30)
        width = (len(row), 1)
        return Contributions(
            base=np.zeros(1), values=np.zeros(width), errors=np.ones(width), answer=np.zeros(1), complete=False
        )


def test_too_many_explanations_are_refused_and_predictions_go_on(shop: Shop, explaining: Explaining) -> None:
    held = _Held()
    assert shop.engine.ready
    digest = json.loads(_post(explaining, "/explain/bikes", {"rows": ROWS}).body)
    assert digest["version"] == 1
    (key,) = explaining._prepared
    explaining._prepared[key] = held
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(_post, explaining, "/explain/bikes", {"rows": ROWS[:1]}) for _ in range(2)]
        assert held.begun.wait(30)
        while explaining._busy < 2:
            pass
        refused = _post(explaining, "/explain/bikes", {"rows": ROWS})
        assert (refused.status, dict(refused.headers)[b"retry-after"]) == (429, b"1")
        assert _post(explaining, "/predict/bikes", {"rows": ROWS}).status == 200
        held.go.set()
        told = [json.loads(each.result().body)["explanation"] for each in waiting]
    assert [(each["complete"], each["errors"]) for each in told] == [(False, [[1.0, 1.0, 1.0]])] * 2
    assert explaining._busy == 0


Main = Callable[[Any, socket.socket, asyncio.Event, Callable[[], None]], Any]


async def _fast(served: Any, listening: socket.socket, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    await run_front(FastFront(served, DEFAULTS), listening, stop, ready)


async def _uvicorn(served: Any, listening: socket.socket, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    task = asyncio.create_task(
        answer(served, listening, DEFAULTS, tls=None, on_ready=ready, beat=lambda: None)  # ends with the loop
    )
    await stop.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@contextmanager
def _served(served: Any, main: Main) -> Iterator[tuple[str, int]]:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0)
    ready = threading.Event()
    holder: dict[str, Any] = {}

    async def run() -> None:
        stop = asyncio.Event()
        holder.update(loop=asyncio.get_running_loop(), stop=stop)
        await main(served, listening, stop, ready.set)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        assert ready.wait(20)
        yield listening.getsockname()
    finally:
        holder["loop"].call_soon_threadsafe(holder["stop"].set)
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.parametrize("main", [_fast, _uvicorn])
def test_fronts_deliver_what_comes_later(shop: Shop, explaining: Explaining, main: Main) -> None:
    with _served(CrossOrigin(explaining, ["https://shop.example"]), main) as (host, port):
        line = http.client.HTTPConnection(host, port, timeout=20)
        for _ in range(3):
            body = json.dumps({"rows": ROWS, "explain": True})
            line.request("POST", "/predict/bikes", body, {"origin": "https://shop.example"})
            response = line.getresponse()
            assert response.headers["access-control-allow-origin"] == "https://shop.example"
            assert json.loads(response.read())["explanation"]["method"] == "linear"
        line.request("POST", "/predict/bikes", json.dumps({"rows": ROWS}))
        assert "explanation" not in json.loads(line.getresponse().read())
        line.close()
