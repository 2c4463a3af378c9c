"""CPU per request of the whole serving path beside the bare ONNX Runtime call and FastAPI with scikit-learn.

One run, one machine, one body: a row of 20 columns for a boosting model of 100 trees. Servers are child processes with
one worker on uvicorn (httptools, uvloop, no access log); their CPU time is read from the kernel, so that a busy machine
and the load client, which has a process of its own, do not count. Each server is measured in short turns that
alternate.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
import polars as pl

from benchmarks.measure import ONE_THREAD, show

COLUMNS = 20
TREES = 100
SECONDS = 1.5  # of one turn
SECRET = "the-api-key-of-the-benchmark"
TURNS = 3
CLIENTS = 16
MODEL = "bench"
MANY = 64
PATHS = {"tidewheel": f"/predict/{MODEL}", "fast": f"/predict/{MODEL}", "bare": "/", "fastapi": "/predict"}
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one turn of load on one server showed."""

    requests: int  # answered with 200
    wall: float  # seconds
    cpu: float  # CPU seconds of the server

    @property
    def each(self) -> float:
        """CPU microseconds per request."""
        return self.cpu / max(self.requests, 1) * 1e6


def training() -> tuple[pl.DataFrame, np.ndarray[Any, Any]]:
    """Return rows and labels."""
    random = np.random.default_rng(0)
    x = random.normal(size=(2_000, COLUMNS))
    frame = pl.DataFrame({f"feature_{place}": x[:, place] for place in range(COLUMNS)})
    return frame, (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(int)


def estimator() -> Any:
    """Return the fitted model, on arrays: no peer pays for frames."""
    from sklearn.ensemble import GradientBoostingClassifier

    frame, labels = training()
    return GradientBoostingClassifier(n_estimators=TREES, max_depth=4, random_state=0).fit(frame.to_numpy(), labels)


def prepare(home: Path) -> bytes:
    """Fill a store with the model, deploy it with a challenger, and return the body of a request."""
    from tidewheel.app import open_store
    from tidewheel.models.bundle import save_bundle
    from tidewheel.models.model import Model
    from tidewheel.registry.promotion import promote
    from tidewheel.registry.traffic import set_traffic
    from tidewheel.registry.versions import register_model
    from tidewheel.settings import Settings

    frame, _ = training()
    store = open_store(Settings(home=home))
    model = Model(estimator(), example=frame.to_numpy())
    for copy in range(2):  # two versions, so that the split is a part of the path
        register_model(store, MODEL, save_bundle(store, model, rows=frame.to_numpy(), facets={"copy": copy}))
    promote(store, MODEL, 1, by="bench", reason="bench")
    set_traffic(store, MODEL, champion=1, challenger=2, share=0.5, by="bench", reason="bench")
    names = [field.name for field in model.signature.fields]
    store.close()
    return json.dumps({"rows": [dict(zip(names, frame.row(0), strict=True))]}).encode()


def serve_tidewheel(home: Path) -> None:
    """Run the server as users run it."""
    from tidewheel.app import open_store
    from tidewheel.serving.front import serve
    from tidewheel.settings import Settings

    serve(open_store(Settings(home=home)), port=0, on_ready=lambda url: print(url, flush=True))


def serve_fast(home: Path) -> None:
    """Run the server on its own front."""
    from tidewheel.app import open_store
    from tidewheel.serving.front import serve
    from tidewheel.serving.manner import Manner
    from tidewheel.settings import Settings

    manner = Manner(front="fast")
    serve(open_store(Settings(home=home)), port=0, manner=manner, on_ready=lambda url: print(url, flush=True))


def serve_bare(home: Path) -> None:
    """Run uvicorn around the bare ONNX Runtime call: no validation, no log, no routing, no metrics."""
    import msgspec

    session = bare_session(home)
    decode = msgspec.json.Decoder(dict[str, list[dict[str, float]]]).decode
    encode = msgspec.json.Encoder().encode

    async def app(_: Any, receive: Any, send: Any) -> None:
        message = await receive()
        rows = [list(row.values()) for row in decode(message["body"])["rows"]]
        label, probability = session.run(None, {"rows": np.array(rows, dtype=np.float32)})
        body = encode({"predictions": label.tolist(), "probabilities": probability.tolist()})
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})

    run_uvicorn(app)


def serve_fastapi(home: Path) -> None:
    """Run what most people write: FastAPI, a pydantic model, scikit-learn."""
    from fastapi import FastAPI
    from pydantic import BaseModel, create_model

    del home
    model = estimator()
    row: Any = create_model("Row", **{f"x{place}": (float, ...) for place in range(COLUMNS)})  # type: ignore[call-overload]

    class Body(BaseModel):
        rows: list[row]

    app = FastAPI()

    async def predict(body: Any) -> dict[str, Any]:
        x = np.array([list(each.model_dump().values()) for each in body.rows])
        probabilities = model.predict_proba(x)
        predictions = model.classes_[probabilities.argmax(axis=1)]
        return {"predictions": predictions.tolist(), "probabilities": probabilities.tolist()}

    # FastAPI cannot look up a class of this function by the text that annotations are in this file.
    predict.__annotations__["body"] = Body
    app.post("/predict")(predict)
    run_uvicorn(app)


def run_uvicorn(app: Any) -> None:
    """Run an ASGI application like tidewheel's server does, and print its address."""
    import socket

    import uvicorn

    config = uvicorn.Config(
        app, http="httptools", loop="uvloop", lifespan="off", access_log=False, log_config=None, date_header=False,
        server_header=False,
    )  # fmt: skip
    listening = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run(sockets=[listening])


def bare_session(home: Path) -> Any:
    """Return ONNX Runtime on the store's model: one thread, nothing of tidewheel around it."""
    import onnxruntime

    from tidewheel.app import open_store
    from tidewheel.models.bundle import load_bundle
    from tidewheel.registry.versions import get_model
    from tidewheel.settings import Settings

    store = open_store(Settings(home=home))
    bundle = load_bundle(store, get_model(store, f"{MODEL}:1").bundle_digest)
    data = store.blobs.get(bundle.manifest.formats[0].digest)
    store.close()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@contextmanager
def child(kind: str, home: Path) -> Iterator[tuple[int, int]]:
    """Run one server; yield its process id and port."""
    command = [sys.executable, "-m", "benchmarks.serving", kind, str(home)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD)
    assert process.stdout is not None
    try:
        yield process.pid, int(process.stdout.readline().strip().rsplit(":", 1)[1])
    finally:
        process.terminate()
        process.communicate(timeout=30)


def cpu_of(pid: int) -> float:
    """Return user plus system CPU seconds of a process with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Client(asyncio.Protocol):
    """One keep-alive connection that sends its request again as soon as the answer is whole."""

    def __init__(self, request: bytes, latencies: list[float], until: float) -> None:
        self._request, self._latencies, self._until = request, latencies, until
        self._buffer = b""
        self._sent = 0.0
        self._transport: Any = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found or len(rest) < int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._transport.close()
            self.done.set_exception(RuntimeError(f"A server failed: {self._buffer[:500]!r}"))
            return
        now = time.perf_counter()
        self._latencies.append(now - self._sent)
        self._buffer = b""
        if now >= self._until:
            self._transport.close()
            self.done.set_result(None)
        else:
            self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)


def load(port: int, path: str, body: bytes, *, clients: int, seconds: float) -> list[float]:
    """Send requests for some seconds and return the latency of each, in seconds."""
    import uvloop

    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    latencies: list[float] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        until = time.perf_counter() + seconds
        made = [
            await loop.create_connection(lambda: Client(head.encode() + body, latencies, until), "127.0.0.1", port)
            for _ in range(clients)
        ]
        await asyncio.wait_for(asyncio.gather(*(client.done for _, client in made)), seconds + 30)

    uvloop.run(run())
    return latencies


def turn(pid: int, port: int, path: str, body: bytes, clients: int = CLIENTS) -> Turn:
    """Load one server for a while."""
    cpu, wall = cpu_of(pid), time.perf_counter()
    requests = len(load(port, path, body, clients=clients, seconds=SECONDS))
    return Turn(requests=requests, wall=time.perf_counter() - wall, cpu=cpu_of(pid) - cpu)


def each(action: Callable[[], object], count: int = 3_000, rounds: int = 7) -> float:
    """Return the CPU microseconds of one call: the best of several rounds, in this thread."""
    best = float("inf")
    for _ in range(rounds):
        start = time.thread_time()
        for _ in range(count):
            action()
        best = min(best, time.thread_time() - start)
    return best / count * 1e6


def parts(home: Path, body: bytes) -> dict[str, float]:
    """Return what the parts of the path cost in this process, CPU microseconds."""
    from tidewheel.app import open_store
    from tidewheel.predictions.log import read_log
    from tidewheel.predictions.segments import log_folder
    from tidewheel.registry.traffic import current_traffic
    from tidewheel.serving.deploy import deploy
    from tidewheel.serving.engine import Engine
    from tidewheel.serving.gate import Gate
    from tidewheel.serving.journal import Journal
    from tidewheel.serving.metrics import Counters
    from tidewheel.settings import Settings

    store = open_store(Settings(home=home))
    engine = Engine(store, [MODEL], writer="parts")
    engine.refresh()
    deployed = deploy(store, current_traffic(store, MODEL))
    counters = Counters()
    journal = Journal(home / "parts", "parts", counters, strict=False)
    headers = [(b"host", b"x"), (b"content-type", b"application/json"), (b"content-length", b"500")]
    path = PATHS["tidewheel"]
    engine.handle("POST", path, headers, body)
    record = read_log(log_folder(home, MODEL)).records[-1]
    gate = Gate(store, time.time_ns, secret=SECRET)
    gate.refresh()
    shown = [*headers, (b"authorization", b"Bearer " + SECRET.encode())]
    session = bare_session(home)
    matrix = np.array(record.features, dtype=np.float32)
    figures = {
        "onnx": each(lambda: session.run(None, {"rows": matrix})),
        "handle": each(lambda: engine.handle("POST", path, headers, body)),
        "log": each(lambda: journal.write(record)),
        "routing": each(lambda: deployed.route(record.id)),
        "key": each(lambda: gate.refusal(dict(shown), "predict", MODEL)),
        "metrics": each(lambda: counters.count(1, "champion", 200, 120)),
    }
    engine.close()
    journal.close()
    store.close()
    return figures


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder)
        body = prepare(home)
        row = json.loads(body)["rows"][0]
        bodies = {
            "tidewheel": body,
            "fast": body,
            "bare": body,
            "fastapi": json.dumps(
                {"rows": [{f"x{place}": value for place, value in enumerate(row.values())}]}
            ).encode(),
        }
        figures = parts(home, body)
        servers = {kind: stack.enter_context(child(kind, home)) for kind in PATHS}
        turns: dict[str, list[Turn]] = {kind: [] for kind in PATHS}
        many: list[Turn] = []
        for kind, (_, port) in servers.items():
            load(port, PATHS[kind], bodies[kind], clients=2, seconds=0.3)
        for _ in range(TURNS):
            for kind, (pid, port) in servers.items():
                turns[kind].append(turn(pid, port, PATHS[kind], bodies[kind]))
            many.append(turn(*servers["fast"], PATHS["fast"], body, MANY))
        alone = {
            kind: load(servers[kind][1], PATHS[kind], body, clients=1, seconds=SECONDS)
            for kind in ("tidewheel", "fast", "bare")
        }
    turns["many"] = many
    report(figures, turns, alone, len(body))


def report(figures: dict[str, float], turns: dict[str, list[Turn]], alone: dict[str, list[float]], size: int) -> None:
    """Print the tables."""
    cpu = {kind: median(each.each for each in found) for kind, found in turns.items()}
    rate = {kind: median(each.requests / each.wall for each in found) for kind, found in turns.items()}
    onnx = figures["onnx"]
    names = {
        "tidewheel": "tidewheel, full path on uvicorn",
        "fast": "tidewheel, full path on the fast front",
        "many": f"the same, batched at {MANY} clients",
        "bare": "uvicorn around the bare ONNX call",
        "fastapi": "FastAPI + scikit-learn",
    }
    show(
        f"Serving, {TREES} trees, {COLUMNS} columns, {size} bytes, {CLIENTS} clients: CPU µs per request of the server",
        [
            ("bare ONNX Runtime call, in process", f"{onnx:.1f}", "1.0 x"),
            *(
                (name, f"{cpu[kind]:.1f}", f"{cpu[kind] / onnx:.1f} x, {rate[kind]:,.0f} requests/s")
                for kind, name in names.items()
            ),
            ("targets", "75, 40, 20", "uvicorn, fast front, batched"),
            ("FastAPI + scikit-learn / tidewheel", f"{cpu['fastapi'] / cpu['tidewheel']:.1f} x", ""),
        ],
    )
    added = figures["log"] + figures["routing"] + figures["key"] + figures["metrics"]
    shown = {
        kind: f"{median(found) * 1e6:.0f} / {quantiles(found, n=100)[98] * 1e6:.0f}" for kind, found in alone.items()
    }
    show(
        "Parts, in process, CPU µs",
        [
            ("Engine.handle (decode, route, score, log, count)", f"{figures['handle']:.1f}", f"{onnx:.1f} of it ONNX"),
            ("log + routing + key + metrics", f"{added:.1f}", "target 12"),
            ("  log, one write per request", f"{figures['log']:.1f}", ""),
            ("  routing", f"{figures['routing']:.2f}", ""),
            ("  key, digested and looked up", f"{figures['key']:.2f}", ""),
            ("  metrics", f"{figures['metrics']:.2f}", ""),
            ("latency at one client, p50 / p99, µs", shown["tidewheel"], "target p99 2,000"),
            ("  of uvicorn around the bare ONNX call", shown["bare"], "same machine, same moment"),
        ],
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        kinds = {"tidewheel": serve_tidewheel, "fast": serve_fast, "bare": serve_bare, "fastapi": serve_fastapi}
        kinds[sys.argv[1]](Path(sys.argv[2]))
    else:
        main()
