"""Labels are sent after their delay and never before; a failed request is counted and tried again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import polars as pl
import pytest

from tidewheel.demo.client import Client
from tidewheel.demo.feeder import WAVE_ROWS, Feeder, Scores
from tidewheel.demo.score import RunningScore
from tidewheel.demo.stream import Stream
from tidewheel.errors import StorageUnavailable

ROWS, HISTORY, DELAY = 200, 50, 30


class Recorder(BaseHTTPRequestHandler):
    """A server that answers with the feature itself, and keeps what it was asked, in order."""

    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, Any]] = []  # noqa: RUF012 - emptied by the fixture
    failures = 0

    def do_POST(self) -> None:
        body = orjson.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).asked.append((self.path, body))
        if type(self).failures:
            type(self).failures -= 1
            self.answer(503, {"error": "busy"})
        elif self.path.startswith("/predict/"):
            self.answer(200, {"predictions": [body["rows"][0]["x"]]})
        else:
            self.answer(202, {"accepted": len(body["outcomes"])})

    def answer(self, status: int, body: Any) -> None:
        data = orjson.dumps(body)
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the class above
        pass


@pytest.fixture
def client() -> Iterator[Client]:
    Recorder.asked, Recorder.failures = [], 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    client = Client("127.0.0.1", server.server_port, "m")
    yield client
    client.close()
    server.shutdown()
    server.server_close()
    thread.join()


def feeder_of(client: Client) -> Feeder:
    frame = pl.DataFrame({"x": [n % 3 for n in range(ROWS)], "y": [n % 2 for n in range(ROWS)]})
    return Feeder(
        stream=Stream(name="m", frame=frame, label="y", history=HISTORY, task="binary"),
        client=client,
        delay=DELAY,
        frozen=lambda rows: [0] * len(rows),
        scores=Scores(loop=RunningScore("accuracy"), frozen=RunningScore("accuracy")),
    )


def test_every_row_is_asked_once_in_order_and_every_label_sent_once_after_its_delay(client: Client) -> None:
    feeder = feeder_of(client)
    waves: list[int] = []
    feeder.run(waves.append)
    asked: list[int] = []
    labelled: dict[int, int] = {}
    for path, body in Recorder.asked:
        if path == "/outcomes":
            for item in body["outcomes"]:
                number = int(item["id"].split("-")[1])
                assert number not in labelled
                labelled[number] = len(asked)
                assert item["label"] == number % 2
        else:
            asked.append(int(body["id"].split("-")[1]))
            assert "y" not in body["rows"][0]
    assert asked == list(range(HISTORY, ROWS))
    assert sorted(labelled) == asked
    for number, known_after in labelled.items():
        assert known_after >= min(number - HISTORY + DELAY, len(asked))
    assert feeder.sent_labels == ROWS - HISTORY
    assert waves[-1] == ROWS - HISTORY
    assert waves[0] == WAVE_ROWS
    truth = [n % 2 for n in asked]
    assert feeder.scores.loop.value == sum(n % 3 == n % 2 for n in asked) / len(asked)
    assert feeder.scores.frozen.value == truth.count(0) / len(truth)


def test_a_failed_request_is_counted_and_tried_again(client: Client) -> None:
    Recorder.failures = 2
    assert client.predict("m-1", {"x": 1})["predictions"] == [1]
    assert (client.failed, client.sent) == (2, 3)
    Recorder.failures = 9
    with pytest.raises(StorageUnavailable, match="failed 3 times"):
        client.predict("m-2", {"x": 1})


def test_a_server_that_is_gone_is_counted_and_named() -> None:
    client = Client("127.0.0.1", 9, "m")
    with pytest.raises(StorageUnavailable, match=r"serving\.log"):
        client.predict("m-1", {"x": 1})
    assert client.failed == 3
