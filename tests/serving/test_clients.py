"""The unmodified tritonclient against our server: HTTP with JSON and raw tensors, gRPC, model repository, errors."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from tidewheel.predictions.block import Block
from tidewheel.serving.engine import Engine
from tidewheel.serving.fast import FastFront
from tidewheel.serving.grpc_front import GrpcAddress, GrpcFront
from tidewheel.serving.response import Response
from tidewheel.serving.terms import Terms

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

Array = np.ndarray[Any, Any]

COLUMNS: dict[str, Array] = {
    "a": np.array([0.5, -0.5], np.float32),
    "b": np.array([1, 2], np.float32),
    "n": np.array([3, 4]),
}


class Running:
    """Both fronts on one loop in a thread."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.http_port = self.grpc_port = 0
        self._loop = asyncio.new_event_loop()
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True)

    async def _run(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        http, grpc = FastFront(self.engine), GrpcFront(self.engine)
        await http.start(listening)
        self.grpc_port = await grpc.start(GrpcAddress())
        self.http_port = listening.getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        await grpc.stop(1.0)
        await http.stop()

    def call_soon(self, action: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(action)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        self._loop.close()


@pytest.fixture
def running(shop: Shop) -> Iterator[Running]:
    shop.register("colors", "paint")
    shop.deploy(1, "paint")
    shop.engine = Engine(shop.store, terms=Terms(repository=True), writer="w1")
    shop.engine.refresh()
    with Running(shop.engine) as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def triton(request: pytest.FixtureRequest, running: Running) -> Iterator[tuple[Any, Any]]:
    """A client, and its module."""
    module: Any = triton_http if request.param == "http" else triton_grpc
    port = running.http_port if request.param == "http" else running.grpc_port
    client = module.InferenceServerClient(f"127.0.0.1:{port}")
    yield module, client
    client.close()


def columns(module: Any, given: dict[str, Any], **more: Any) -> list[Any]:
    inputs = []
    for name, values in given.items():
        kind = {"f": f"FP{8 * values.itemsize}", "i": "INT64", "b": "BOOL", "O": "BYTES"}[values.dtype.kind]
        each = module.InferInput(name, list(values.shape), kind)
        each.set_data_from_numpy(values, **more)
        inputs.append(each)
    return inputs


def test_server_and_model_say_what_they_are(triton: tuple[Any, Any]) -> None:
    module, client = triton
    as_json = {} if module is triton_http else {"as_json": True}
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("bikes")
    assert client.is_model_ready("bikes", "1")
    metadata = client.get_server_metadata(**as_json)
    assert metadata["name"] == "tidewheel"
    assert set(metadata["extensions"]) == {"binary_tensor_data", "model_repository"}
    model = client.get_model_metadata("bikes", "1", **as_json)
    assert [each["name"] for each in model["inputs"]] == ["a", "b", "n"]
    assert model["versions"] == ["1"]
    assert model["outputs"][1]["datatype"] == "FP64"


@pytest.mark.parametrize("version", ["", "1"])
def test_columns_are_scored(triton: tuple[Any, Any], version: str) -> None:
    module, client = triton
    result = client.infer("bikes", columns(module, COLUMNS), model_version=version, request_id="r7")
    assert result.as_numpy("predict").tolist() == [1, 0]
    assert result.as_numpy("predict_proba").shape == (2, 2)
    response = result.get_response()
    assert (response["id"] if module is triton_http else response.id) == "r7"


def test_one_matrix_is_scored(triton: tuple[Any, Any]) -> None:
    module, client = triton
    matrix = np.stack([COLUMNS["a"], COLUMNS["b"], COLUMNS["n"]], axis=1).astype(np.float64)
    result = client.infer("bikes", columns(module, {"input": matrix}))
    assert result.as_numpy("predict").tolist() == [1, 0]


def test_text_goes_in_and_comes_out(triton: tuple[Any, Any]) -> None:
    module, client = triton
    given = {
        "color": np.array(["red", "green"], object),
        "size": np.array([0.5, np.nan]),  # NaN is a missing value where the field may be null
        "new": np.array([True, False]),
    }
    result = client.infer("paint", columns(module, given))
    assert [value.decode() for value in result.as_numpy("predict")] == ["yes", "no"]


def test_requested_outputs_alone_come(triton: tuple[Any, Any]) -> None:
    module, client = triton
    outputs = [module.InferRequestedOutput("predict_proba")]
    result = client.infer("bikes", columns(module, COLUMNS), outputs=outputs)
    assert result.as_numpy("predict") is None
    assert result.as_numpy("predict_proba").sum(axis=1) == pytest.approx([1, 1])


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_http_takes_and_gives_json_and_raw_tensors_in_any_mixture(
    running: Running, binary_in: bool, binary_out: bool | None
) -> None:
    with triton_http.InferenceServerClient(f"127.0.0.1:{running.http_port}") as client:
        inputs = columns(triton_http, COLUMNS, binary_data=binary_in)
        inputs[1].set_data_from_numpy(COLUMNS["b"], binary_data=not binary_in)
        names = ("predict", "predict_proba")
        outputs = (
            None
            if binary_out is None
            else [triton_http.InferRequestedOutput(name, binary_data=binary_out) for name in names]
        )
        result = client.infer("bikes", inputs, outputs=outputs)
        assert result.as_numpy("predict").tolist() == [1, 0]
        raw = result.get_output("predict").get("parameters", {}).get("binary_data_size")
        assert raw == (None if binary_out is False else 16)


def test_many_rows_are_scored_and_logged_as_one_matrix(
    triton: tuple[Any, Any], shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, client = triton
    random = np.random.default_rng(0)
    given: dict[str, Array] = {name: random.normal(size=500).astype(np.float32) for name in ("a", "b")}
    given["n"] = random.integers(0, 9, 500)
    built: list[int] = []
    seen = Block.__dict__["rows"].func

    def counted(block: Block) -> list[Any]:
        built.append(len(block))
        rows: list[Any] = seen(block)
        return rows

    monkeypatch.setattr(Block.__dict__["rows"], "func", counted)
    result = client.infer("bikes", columns(module, given))
    assert built == []  # no Python rows on the way
    alone = [client.infer("bikes", columns(module, {k: v[i : i + 1] for k, v in given.items()})) for i in range(20)]
    assert result.as_numpy("predict")[:20].tolist() == [each.as_numpy("predict")[0] for each in alone]
    logged = shop.log()[0].features
    assert len(logged) == 500
    assert list(logged[7]) == [float(given["a"][7]), float(given["b"][7]), int(given["n"][7])]
    assert type(logged[7][2]) is int


def _unknown_model(module: Any, client: Any) -> None:
    client.infer("bikse", columns(module, COLUMNS))


def _unknown_version(module: Any, client: Any) -> None:
    client.infer("bikes", columns(module, COLUMNS), model_version="9")


def _missing_column(module: Any, client: Any) -> None:
    client.infer("bikes", columns(module, {"a": COLUMNS["a"], "b": COLUMNS["b"]}))


def _unknown_output(module: Any, client: Any) -> None:
    client.infer("bikes", columns(module, COLUMNS), outputs=[module.InferRequestedOutput("proba")])


def _infinity(module: Any, client: Any) -> None:
    client.infer("bikes", columns(module, COLUMNS | {"a": np.array([np.inf, 0])}))


def _nan_where_nothing_may_be_missing(module: Any, client: Any) -> None:
    client.infer("bikes", columns(module, COLUMNS | {"a": np.array([np.nan, 0])}))


def _classification(module: Any, client: Any) -> None:
    client.infer("bikes", columns(module, COLUMNS), outputs=[module.InferRequestedOutput("predict", class_count=2)])


@pytest.mark.parametrize(
    ("ask", "code", "status", "what"),
    [
        (_unknown_model, "NOT_FOUND", "404", "bikse"),
        (_unknown_version, "NOT_FOUND", "404", "9"),
        (_missing_column, "INVALID_ARGUMENT", "422", "inputs.n"),
        (_unknown_output, "NOT_FOUND", "404", "proba"),
        (_infinity, "INVALID_ARGUMENT", "422", "finite"),
        (_nan_where_nothing_may_be_missing, "INVALID_ARGUMENT", "422", "finite"),
        (_classification, "INVALID_ARGUMENT", "400", "classification"),
    ],
)
def test_mistakes_come_back_as_the_clients_own_exception(
    triton: tuple[Any, Any], ask: Callable[[Any, Any], None], code: str, status: str, what: str
) -> None:
    module, client = triton
    with pytest.raises(InferenceServerException) as caught:
        ask(module, client)
    assert what in caught.value.message()
    assert code in caught.value.status() or caught.value.status() == status


def test_models_are_listed_unloaded_and_loaded(triton: tuple[Any, Any], running: Running) -> None:
    module, client = triton

    def states() -> dict[str, str]:
        found = client.get_model_repository_index(**({} if module is triton_http else {"as_json": True}))
        return {each["name"]: each["state"] for each in (found if module is triton_http else found["models"])}

    assert states() == {"bikes": "READY", "paint": "READY"}
    client.unload_model("paint")
    assert states() == {"bikes": "READY", "paint": "UNAVAILABLE"}
    with pytest.raises(InferenceServerException, match="paint"):
        client.infer("paint", columns(module, COLUMNS))
    second = Engine(running.engine._store, terms=Terms(repository=True), writer="w2")
    second.refresh()
    assert [name for name in ("bikes", "paint") if name in second.fleet.endpoints] == ["bikes"]  # all processes follow
    second.close()
    client.load_model("paint")
    assert states() == {"bikes": "READY", "paint": "READY"}
    assert client.is_model_ready("paint")
    with pytest.raises(InferenceServerException, match="nobody"):
        client.load_model("nobody")


def test_loading_is_refused_unless_the_server_allows_it(shop: Shop) -> None:
    with (
        Running(shop.engine) as running,
        triton_grpc.InferenceServerClient(f"127.0.0.1:{running.grpc_port}") as client,
    ):
        with pytest.raises(InferenceServerException, match="does not let callers") as caught:
            client.unload_model("bikes")
        assert "PERMISSION_DENIED" in caught.value.status()
    assert shop.post("/v2/repository/models/bikes/load", {}).status == 403
    assert shop.ask({"a": 1, "b": 2, "n": 3})["version"] == 1


def test_grpc_takes_typed_contents_and_answers_alike(running: Running) -> None:
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    request = service_pb2.ModelInferRequest(model_name="paint", id="t1")
    request.parameters["unit"].string_param = "u1"
    request.inputs.add(name="color", datatype="BYTES", shape=[2]).contents.bytes_contents.extend([b"red", b"green"])
    request.inputs.add(name="size", datatype="FP64", shape=[2, 1]).contents.fp64_contents.extend([0.5, 1.5])
    request.inputs.add(name="new", datatype="BOOL", shape=[2]).contents.bool_contents.extend([True, False])
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(request, timeout=20, metadata=[("x-request-id", "h1")])
        assert answer.id == "t1"
        assert list(answer.outputs[0].contents.bytes_contents) == [b"yes", b"no"]
        assert not answer.raw_output_contents
        assert len(answer.outputs[1].contents.fp64_contents) == 4
        assert answer.parameters["unit"].string_param == "u1"
        request.raw_input_contents.append(b"\0")
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(request, timeout=20)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_grpc_bounds_messages(running: Running) -> None:
    import grpc

    path = "/inference.GRPCInferenceService/ModelInfer"
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:
        call = channel.unary_unary(path)
        for body, code in (
            (b"\0" * (running.engine.body_limit + (1 << 20)), grpc.StatusCode.RESOURCE_EXHAUSTED),
            (b"\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
            (b"", grpc.StatusCode.INVALID_ARGUMENT),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call(body, timeout=20)
            assert caught.value.code() is code


class Silent(Engine):
    """An engine that is slow to say anything."""

    held: Callable[[], object] | None = None

    def submit(self, method: str, path: str, headers: Any, body: bytes, deliver: Callable[[Response], None]) -> bool:
        """Keep the first answer back."""
        if self.held is None:
            self.held = lambda: deliver(self.handle(method, path, headers, body))
            return False
        return super().submit(method, path, headers, body, deliver)


def test_an_answer_after_the_deadline_harms_nobody(shop: Shop) -> None:
    import grpc

    engine = Silent(shop.store, writer="w1")
    engine.refresh()
    with Running(engine) as running, grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        held = engine.held
        assert held is not None
        running.call_soon(held)
        assert call(b"", timeout=20) == b"\x08\x01"
    engine.close()


@pytest.mark.slow
@pytest.mark.parametrize("front", ["uvicorn", "fast"])
def test_the_command_speaks_both_at_once(shop: Shop, front: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        grpc_port = probe.getsockname()[1]
    words = ["bikes", "--port", "0", "--grpc-port", str(grpc_port), "--front", front, "--home", str(shop.store.home)]
    child = subprocess.Popen(
        [sys.executable, "-m", "tidewheel", "serve", *words],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        assert "predictions:" in line, line
        http_port = int(line.rsplit(":", 1)[1].partition("/")[0])
        for module, port in ((triton_http, http_port), (triton_grpc, grpc_port)):
            with module.InferenceServerClient(f"127.0.0.1:{port}") as client:
                assert client.infer("bikes", columns(module, COLUMNS)).as_numpy("predict").tolist() == [1, 0]
    finally:
        child.terminate()
        child.communicate(timeout=30)
    assert child.returncode == 0
