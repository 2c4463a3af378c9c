"""What it costs to read, answer and log requests in each protocol: JSON rows, JSON tensors, raw tensors, protobuf.

In one process and one thread, CPU µs per request of the whole path, for 1, 64 and 1,000 rows of 20 columns of the model
of benchmarks.serving, beside the decoding alone. Run as `python -m benchmarks.protocols`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.measure import show
from benchmarks.serving import COLUMNS, MODEL, each, prepare
from tidewheel.app import open_store
from tidewheel.registry.traffic import current_traffic
from tidewheel.serving.arms import Deployed
from tidewheel.serving.ask import NOBODY
from tidewheel.serving.deploy import deploy
from tidewheel.serving.engine import Engine
from tidewheel.serving.languages import ROWS as AS_ROWS
from tidewheel.serving.languages import TENSORS
from tidewheel.serving.proto import message
from tidewheel.settings import Settings

ROWS = (1, 64, 1_000)


def bodies(count: int, names: list[str]) -> dict[str, tuple[str, list[tuple[bytes, bytes]], bytes]]:
    """Return path, headers and body of a request by protocol."""
    matrix = np.random.default_rng(0).normal(size=(count, COLUMNS)).astype(np.float32)
    rows = [dict(zip(names, row, strict=True)) for row in matrix.astype(float).round(6).tolist()]
    tensor = {"name": "x", "datatype": "FP32", "shape": list(matrix.shape)}
    infer = f"/v2/models/{MODEL}/infer"
    raw = {"inputs": [tensor | {"parameters": {"binary_data_size": matrix.nbytes}}]}
    text = json.dumps(raw | {"parameters": {"binary_data_output": True}}).encode()
    asked = message("ModelInferRequest")(model_name=MODEL, raw_input_contents=[matrix.tobytes()])
    asked.inputs.add(name="x", datatype="FP32", shape=list(matrix.shape))
    length = (b"inference-header-content-length", b"%d" % len(text))
    flat = json.dumps({"inputs": [tensor | {"data": matrix.astype(float).round(6).ravel().tolist()}]}).encode()
    return {
        "JSON rows": (f"/predict/{MODEL}", [], json.dumps({"rows": rows}).encode()),
        "JSON tensors": (infer, [], flat),
        "raw tensors": (infer, [length], text + matrix.tobytes()),
        "protobuf": (infer, [(b"content-type", b"application/x-protobuf")], asked.SerializeToString()),
    }


def lines(engine: Engine, deployed: Deployed, count: int, names: list[str]) -> Iterator[tuple[str, str, str]]:
    """Measure requests of one size."""
    champion, repeats = deployed.champion, max(2_000 // count, 3)
    matrix = np.random.default_rng(0).normal(size=(count, COLUMNS)).astype(np.float32)
    if champion.scorer is not None:
        alone = each(partial(champion.scorer.score, matrix), repeats, 5)
        yield f"{count:,} rows, the model alone", f"{alone:,.0f}", ""
    for name, (path, headers, body) in bodies(count, names).items():
        language = AS_ROWS if path.startswith("/predict") else TENSORS
        if engine.handle("POST", path, headers, body).status != 200:
            raise RuntimeError(f"{name} is not answered")
        decoding = each(partial(language.decode, deployed, champion, headers, body, NOBODY), repeats, 5)
        handling = each(partial(engine.handle, "POST", path, headers, body), repeats, 5)
        yield f"{count:,} rows, {name}", f"{decoding:,.1f}", f"{handling:,.0f} in all, {len(body):,} bytes"


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        names = list(json.loads(prepare(home))["rows"][0])
        store = open_store(Settings(home=home))
        engine = Engine(store, [MODEL])
        engine.refresh()
        deployed = deploy(store, current_traffic(store, MODEL))
        table = [line for count in ROWS for line in lines(engine, deployed, count, names)]
        engine.close()
        store.close()
    show("Protocols: CPU µs per request; decoding, and the whole of Engine.handle", table)


if __name__ == "__main__":
    main()
