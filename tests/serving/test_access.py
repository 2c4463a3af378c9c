"""A line per request, without what was asked; a trace that goes on."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewheel.errors import InvalidInput
from tidewheel.serving.access import AccessLog, parse_trace
from tidewheel.serving.engine import Engine
from tidewheel.serving.keys import create_key
from tidewheel.serving.terms import Terms

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

ROW = {"a": 2.0, "b": 0.5, "n": 3}
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01".encode()


def test_a_line_names_the_request_and_nothing_of_its_content(shop: Shop, tmp_path: Path) -> None:
    secret = create_key(shop.store, "shop").secret.encode()
    file = tmp_path / "access.jsonl"
    engine = Engine(shop.store, writer="w1", terms=Terms(access_log=str(file)))
    engine.refresh()
    body = json.dumps({"rows": [ROW], "id": "r7"}).encode()
    engine.handle("POST", "/predict/bikes", [(b"x-api-key", secret), (b"traceparent", PARENT)], body)
    engine.submit("POST", "/predict/bikes", [(b"x-api-key", secret)], body, lambda _: None)
    engine.flush()
    engine.handle("POST", "/predict/bikes", [(b"x-api-key", b"wrong-secret")], body)
    assert file.read_text() == ""  # nothing is written while anybody waits
    engine.sync()
    file.rename(tmp_path / "moved")
    engine.handle("GET", "/v2/models/bikes/versions/1", [(b"authorization", b"Bearer " + secret)], b"")
    engine.close()
    text = (tmp_path / "moved").read_text() + file.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["status"], line.get("key", ""), line.get("version", "")) for line in lines] == [
        (200, "shop", "1"), (200, "shop", "1"), (401, "", ""), (403, "shop", "1"),
    ]  # fmt: skip
    assert (lines[0]["id"], lines[0]["model"], lines[0]["received"]) == ("r7", "bikes", len(body))
    assert (lines[0]["trace"], lines[0]["ms"] > 0, lines[0]["sent"] > 0) == (TRACE, True, True)
    assert secret.decode() not in text
    assert "wrong-secret" not in text
    assert "rows" not in text


def test_a_trace_goes_on_without_any_setting(shop: Shop) -> None:
    response = shop.post("/predict/bikes", ROW, traceparent=PARENT.decode())
    value = dict(response.headers)[b"traceparent"].decode()
    trace = parse_trace(value.encode())
    assert trace is not None
    assert (trace.trace_id, trace.span_id != "b7ad6b7169203331", trace.flags) == (TRACE, True, "01")
    assert b"traceparent" not in dict(shop.post("/predict/bikes", ROW, traceparent="00-xyz").headers)


@given(st.binary(max_size=70) | st.text(alphabet="0123456789abcdef-f", max_size=60).map(str.encode))
def test_any_bytes_are_a_trace_or_none(value: bytes) -> None:
    found = parse_trace(value)
    assert found is None or parse_trace(found.header) == found


@pytest.mark.parametrize(
    "value",
    [
        b"",
        PARENT.upper(),
        PARENT + b"-x",
        b"ff" + PARENT[2:],
        PARENT[:-2],
        PARENT.replace(b"b7ad6b7169203331", b"0" * 16),
    ],
)
def test_a_wrong_traceparent_starts_no_trace(value: bytes) -> None:
    assert parse_trace(value) is None
    assert parse_trace(b"01" + PARENT[2:] + b"-later") is not None


def test_a_log_that_cannot_be_written_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="Name another file"):
        AccessLog(str(tmp_path))


def test_spans_reach_a_collector_below_the_callers(shop: Shop) -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    bodies: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            del format, args

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        engine = Engine(shop.store, writer="w1", terms=Terms(otel=f"http://127.0.0.1:{server.server_address[1]}"))
        engine.refresh()
        answer = engine.handle("POST", "/predict/bikes", [(b"traceparent", PARENT)], json.dumps(ROW).encode())
        engine.close()
        server.shutdown()
    (body,) = bodies
    (span,) = ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("POST bikes", TRACE, "b7ad6b7169203331")
    assert dict(answer.headers)[b"traceparent"] == f"00-{TRACE}-{span.span_id.hex()}-01".encode()
    assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 10**9
