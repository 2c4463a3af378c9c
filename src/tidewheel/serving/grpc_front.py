"""gRPC in front of the engine: the Open Inference Protocol's calls, turned into the requests that HTTP brings.

One event loop answers both, so that keys, admission, routing, log and counters are the same, and calls of one turn are
scored together. A call costs several times what a request over HTTP costs: this is for callers who speak gRPC already.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tidewheel.errors import Conflict, InvalidInput, MissingExtra
from tidewheel.serving.manner import Manner
from tidewheel.serving.messages import PROTOBUF
from tidewheel.serving.origins import Served
from tidewheel.serving.proto import SERVICE, message, methods
from tidewheel.serving.response import Header, Response, json_response

HEAD_ROOM = 64 << 10  # bytes that a message may be larger than a body: names and parameters
# gRPC's codes by name, because the package is loaded on use.
_CODES: Mapping[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    409: "FAILED_PRECONDITION",
    413: "RESOURCE_EXHAUSTED",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    507: "UNAVAILABLE",
}
_FAILED = json_response(500, {"error": "The server failed.", "mend": "The cause stands in its own log."})
_OWN = frozenset({"content-type", "user-agent", "te", "grpc-timeout", "grpc-accept-encoding"})

logger = logging.getLogger("tidewheel.serving")


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcAddress:
    """Where gRPC is spoken."""

    host: str = "127.0.0.1"  # name or number
    port: int = 0  # TCP port; 0 takes a free one
    tls_cert: str = ""  # file with the certificate chain, PEM; empty: no TLS
    tls_key: str = ""  # file with its private key, PEM


class GrpcFront:
    """Answers calls on the running event loop for an engine that somebody else starts and closes."""

    def __init__(self, engine: Served) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._waiting: list[asyncio.Future[Response]] = []  # what the flush that ends this turn answers
        self._server: Any = None
        self._calls: Mapping[str, Callable[[Any, Sequence[Header]], Awaitable[Response]]] = {
            "ServerLive": self._ask_of("GET", lambda _: "/v2/health/live"),
            "ServerReady": self._ask_of("GET", lambda _: "/v2/health/ready"),
            "ServerMetadata": self._ask_of("GET", lambda _: "/v2"),
            "ModelReady": self._ask_of("GET", lambda asked: _model_path(asked.name, asked.version) + "/ready"),
            "ModelMetadata": self._ask_of("GET", lambda asked: _model_path(asked.name, asked.version)),
            "RepositoryIndex": self._ask_of("POST", lambda _: "/v2/repository/index"),
            "RepositoryModelLoad": self._ask_of("POST", lambda asked: f"/v2/repository/models/{asked.model_name}/load"),
            "RepositoryModelUnload": self._ask_of(
                "POST", lambda asked: f"/v2/repository/models/{asked.model_name}/unload"
            ),
        }

    async def start(self, address: GrpcAddress) -> int:
        """Accept calls; return the port.

        Raises MissingExtra without grpcio, Conflict when the port is taken, InvalidInput for certificate files that
        cannot be read.
        """
        grpc = check_grpc()
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", self._engine.body_limit + HEAD_ROOM),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", 16 << 10),
            ]
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, self._handlers(grpc)),))
        shown = f"[{address.host}]" if ":" in address.host else address.host
        where = f"{shown}:{address.port}"
        credentials = _credentials(address, grpc)
        try:
            port: int = server.add_secure_port(where, credentials) if credentials else server.add_insecure_port(where)
        except RuntimeError as error:
            raise Conflict(f"gRPC cannot listen on {where}.", "Choose another port with --grpc-port.") from error
        await server.start()
        self._server = server
        return port

    async def stop(self, seconds: float = 10.0) -> None:
        """Accept no more calls; those under way have some seconds."""
        if self._server is not None:
            await self._server.stop(seconds)

    def _handlers(self, grpc: Any) -> dict[str, Any]:
        handlers = {}
        for method in methods():
            answer = self._infer if method.name == "ModelInfer" else self._plain(method.name)
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(
                _behaviour(answer, grpc),
                request_deserializer=None if method.name == "ModelInfer" else method.request.FromString,
                response_serializer=None,
            )
        return handlers

    async def _infer(self, body: bytes, headers: Sequence[Header]) -> Response:
        from google.protobuf.message import DecodeError

        try:
            asked = message("ModelInferRequest").FromString(body)
        except DecodeError:
            return Response(400, (), b'{"error": "The message is not a ModelInferRequest.", "mend": "Send one."}')
        if not asked.model_name:
            return Response(400, (), b'{"error": "The message names no model.", "mend": "Give model_name."}')
        path = _model_path(asked.model_name, asked.model_version) + "/infer"
        return await self._submit("POST", path, [*headers, PROTOBUF], body)

    def _plain(self, name: str) -> Callable[[Any, Sequence[Header]], Awaitable[Response]]:
        """Return a call whose answer is a message made of the JSON that HTTP gets."""
        ask, build = self._calls[name], _BUILDERS.get(name, _same)
        kind = message(f"{name}Response")

        async def answer(asked: Any, headers: Sequence[Header]) -> Response:
            response = await ask(asked, headers)
            # What is not ready says so with 503 over HTTP, and with ready = false here.
            if response.status == 200 or (name.endswith("Ready") and response.status == 503):
                content = build(msgspec.json.decode(response.body), asked)
                return Response(200, response.headers, _message(kind, content))
            return response

        return answer

    def _ask_of(self, verb: str, path: Callable[[Any], str]) -> Callable[[Any, Sequence[Header]], Awaitable[Response]]:
        return lambda asked, headers: self._submit(verb, path(asked), headers, b"")

    def _submit(self, verb: str, path: str, headers: Sequence[Header], body: bytes) -> asyncio.Future[Response]:
        """Hand a request to the engine; what waits is flushed once all calls of this turn are in."""
        future: asyncio.Future[Response] = self._loop.create_future()

        def deliver(response: Response) -> None:
            if not future.done():  # the caller may have gone, or its deadline passed
                future.set_result(response)

        try:
            waits = self._engine.submit(verb, path, headers, body, deliver)
        except Exception:
            logger.exception("%s %s failed", verb, path[:200])
            deliver(_FAILED)
            return future
        if waits:
            if not self._waiting:
                self._loop.call_soon(self._flush)
            self._waiting.append(future)
        return future

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            self._engine.flush()
        except Exception:
            logger.exception("a batch failed")
            for future in waiting:
                if not future.done():
                    future.set_result(_FAILED)


def check_grpc() -> Any:
    """Return the package gRPC; raises MissingExtra without it."""
    try:
        import grpc.aio
    except ImportError as error:
        raise MissingExtra("grpcio", "grpc") from error
    return grpc


async def beside(main: Coroutine[Any, Any, None], engine: Served, manner: Manner, host: str) -> None:
    """Speak gRPC for as long as another front answers."""
    front = GrpcFront(engine)
    address = GrpcAddress(host=host, port=manner.grpc_port, tls_cert=manner.tls_cert, tls_key=manner.tls_key)
    try:
        await front.start(address)
    except BaseException:
        main.close()
        raise
    try:
        await main
    finally:
        await front.stop(manner.limits.drain_seconds)


def _behaviour(answer: Callable[[Any, Sequence[Header]], Awaitable[Response]], grpc: Any) -> Any:
    """Return what gRPC calls: metadata to headers, and a status that is none of success to a code."""

    async def behave(request: Any, context: Any) -> bytes:
        headers = [
            (name.encode(), value if isinstance(value, bytes) else value.encode("latin-1", "replace"))
            for name, value in context.invocation_metadata() or ()
            if name not in _OWN
        ]
        response = await answer(request, headers)
        shown = tuple(
            (name.decode(), value.decode("latin-1"))
            for name, value in response.headers
            if name in (b"x-request-id", b"retry-after")
        )
        if response.status == 200:
            await context.send_initial_metadata(shown)
            return response.body
        code = getattr(grpc.StatusCode, _CODES.get(response.status, "INTERNAL"))
        await context.abort(code, _told(response.body), shown)
        raise InvalidInput("A call went on after it was aborted.", "Report this.")

    return behave


def _told(body: bytes) -> str:
    """Return an error's words on one line, the mend behind them."""
    content = msgspec.json.decode(body)
    return f"{content.get('error', '')} {content.get('mend', '')}".strip()


def _model_path(name: str, version: str) -> str:
    return f"/v2/models/{name}/versions/{version}" if version else f"/v2/models/{name}"


def _message(kind: Any, content: Any) -> bytes:
    from google.protobuf.json_format import ParseDict

    written: bytes = ParseDict(content, kind(), ignore_unknown_fields=True).SerializeToString()
    return written


def _same(content: Any, _: Any) -> Any:
    return content


def _index(content: Any, asked: Any) -> Any:
    return {"models": [entry for entry in content if entry["state"] == "READY" or not asked.ready]}


_BUILDERS: Mapping[str, Callable[[Any, Any], Any]] = {"RepositoryIndex": _index}


def _credentials(address: GrpcAddress, grpc: Any) -> Any:
    if not address.tls_cert:
        return None
    try:
        pair = Path(address.tls_key).read_bytes(), Path(address.tls_cert).read_bytes()
    except OSError as error:
        raise InvalidInput(
            f"{error.filename} cannot be read: {error.strerror}.", "Give two files in PEM form."
        ) from error
    return grpc.ssl_server_credentials([pair])
