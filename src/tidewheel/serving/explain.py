"""Explanations beside predictions: found in a thread of their own, delivered when their time budget ends.

`POST /explain/{model}` takes what `/predict/{model}` takes and answers with contributions alone; nothing of it is
logged. `"explain": true` beside the rows of `/predict`, or in the parameters of an inference request, adds them to the
answer. The event loop decodes and scores such a request like any other; what takes longer happens in one thread, where
few may wait: others are refused with 429 instead of being kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import msgspec

from tidewheel.errors import InvalidInput, ModelFailed, Overloaded, TidewheelError, ValidationFailed
from tidewheel.serving.admission import Admission
from tidewheel.serving.arms import Arm
from tidewheel.serving.endpoint import Ticket
from tidewheel.serving.engine import Engine
from tidewheel.serving.later import LATER, Deliver, Later, threadsafe
from tidewheel.serving.response import JSON, Header, Problem, Response, error_response, json_response

BUDGET_MS = 200.0  # for one request, unless it says otherwise
MOST_MS = 10_000.0
WAITING = 16  # requests that may wait for the thread
_PREPARED = 8  # models that are kept ready to be explained
_WORD = b'"explain"'

logger = logging.getLogger("tidewheel.serving")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What is to be explained."""

    arm: Arm  # the version that answered
    rows: Sequence[Sequence[Any]]  # in the order of its fields
    answer: dict[str, Any]  # what the caller gets besides
    headers: tuple[Header, ...]  # of the answer
    tensors: bool  # whether it is added as output tensors
    budget: float  # seconds


class Explaining:
    """An engine that explains its answers when it is asked to."""

    def __init__(self, inner: Engine, *, waiting: int = WAITING) -> None:
        self._inner = inner
        self._most = waiting
        self._busy = 0
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(1, "tidewheel-explain")
        self._prepared: OrderedDict[str, Any] = OrderedDict()

    @property
    def body_limit(self) -> int:
        """Bytes that a body may have."""
        return self._inner.body_limit

    @property
    def admission(self) -> Admission:
        """What is let in."""
        return self._inner.admission

    def handle(self, method: str, path: str, headers: Sequence[Header], body: bytes) -> Response:
        """Answer one request; one that is to be explained is a `Later`."""
        if method == "POST" and len(body) <= self.body_limit and _concerns(path, body):
            try:
                found = self._explained(path, headers, body)
            except TidewheelError as error:
                return error_response(error)
            if found is not None:
                return found
        return self._inner.handle(method, path, headers, body)

    def submit(self, method: str, path: str, headers: Sequence[Header], body: bytes, deliver: Deliver) -> bool:
        """Take one request; return whether it waits for a flush."""
        if method != "POST" or not _concerns(path, body):
            return self._inner.submit(method, path, headers, body, deliver)
        response = self.handle(method, path, headers, body)
        if isinstance(response, Later):
            loop = asyncio.get_running_loop()
            response.subscribe(lambda found: threadsafe(loop, deliver, found))
        else:
            deliver(response)
        return False

    def flush(self) -> None:
        """Answer what waits for a flush."""
        self._inner.flush()

    def oversized(self, method: str, path: str, headers: Sequence[Header]) -> Response:
        """Refuse a body that was not read to its end."""
        return self._inner.oversized(method, path, headers)

    def close(self) -> None:
        """Explain what is begun, and nothing more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _explained(self, path: str, headers: Sequence[Header], body: bytes) -> Response | None:
        """Return the answer to a request that is to be explained, None for one that is not."""
        alone = path.startswith("/explain/")
        tensors = path.endswith("/infer")
        content = _content(body)
        if content is None:
            return (
                self._inner.handle("POST", f"/predict/{path.removeprefix('/explain/')}", headers, body)
                if alone
                else None
            )
        wanted, budget = _wish(content, tensors=tensors)
        if not (wanted or alone):
            return None
        if self._busy >= self._most:
            raise Overloaded(f"{self._busy} explanations wait.", "Ask again in a second, or for fewer.")
        asked = path.replace("/explain/", "/predict/", 1) if alone else path
        taken = self._inner.take(asked, headers, msgspec.json.encode(content))
        if isinstance(taken, Response):
            return taken
        endpoint, ticket = taken
        if alone:
            answer = {"id": ticket.ask.id, "model": endpoint.model, "version": ticket.arm.version}
            return self._begin(_wish_for(ticket, ticket.arm, answer, tensors=False, budget=budget))
        response = endpoint.answer((ticket,))[0]
        if response.status != 200:
            return response
        answer = msgspec.json.decode(response.body)
        arm = ticket.deployed.named(str(answer.get("version", answer.get("model_version"))))
        if arm is None:
            raise ModelFailed("The answer was put together by several versions.", "Ask one of them to explain itself.")
        wish = _wish_for(ticket, arm, answer, tensors=tensors, budget=budget)
        return self._begin(wish)

    def _begin(self, wish: _Wish) -> Later:
        with self._lock:
            self._busy += 1
        future = self._pool.submit(self._work, wish)

        def subscribe(deliver: Deliver) -> None:
            def done(ended: Any) -> None:
                with self._lock:
                    self._busy -= 1
                if ended.cancelled():
                    deliver(error_response(Overloaded("The server is stopping.", "Ask again.")))
                else:
                    deliver(ended.result())

            future.add_done_callback(done)

        return Later(LATER, (), b"", subscribe)

    def _work(self, wish: _Wish) -> Response:
        try:
            return _said(wish, self._found(wish))
        except TidewheelError as error:
            return error_response(error, *wish.headers)
        except Exception:
            logger.exception("an explanation failed")
            return error_response(
                ModelFailed("The model could not be explained.", "The cause stands in the server's log.")
            )

    def _found(self, wish: _Wish) -> Any:
        from tidewheel.explaining.explain import explain_rows, explainer_of

        explainer = self._prepared.get(wish.arm.digest)
        if explainer is None:
            explainer = self._prepared[wish.arm.digest] = explainer_of(self._inner.bundle(wish.arm.digest))
            while len(self._prepared) > _PREPARED:
                self._prepared.popitem(last=False)
        deadline = time.perf_counter() + wish.budget
        return explain_rows(explainer, wish.arm.signature, wish.rows, deadline)


def _concerns(path: str, body: bytes) -> bool:
    if path.startswith("/explain/"):
        return True
    return _WORD in body and (path.startswith("/predict/") or path.endswith("/infer"))


def _content(body: bytes) -> dict[str, Any] | None:
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # refused with its place by what reads every body
    return content if isinstance(content, dict) else None


def _wish(content: dict[str, Any], *, tensors: bool) -> tuple[bool, float]:
    """Take `explain` and `explain_ms` out of a request; raises ValidationFailed for other than true, false, a time."""
    if not tensors and not isinstance(content.get("rows"), list):
        return False, BUDGET_MS / 1_000  # one bare row, whose fields may be called anything
    holder = content.get("parameters") if tensors else content
    if not isinstance(holder, dict):
        return False, BUDGET_MS / 1_000
    wanted, budget = holder.pop("explain", False), holder.pop("explain_ms", BUDGET_MS)
    at = "$.parameters." if tensors else "$."
    if not isinstance(wanted, bool):
        raise _refused(f"{at}explain", f"true or false is needed, not {str(wanted)[:60]!r}")
    if isinstance(budget, bool) or not isinstance(budget, int | float) or not 1 <= budget <= MOST_MS:
        raise _refused(f"{at}explain_ms", f"milliseconds from 1 to {MOST_MS:,.0f} are needed, not {str(budget)[:60]!r}")
    return wanted, budget / 1_000


def _refused(where: str, what: str) -> ValidationFailed:
    return ValidationFailed(
        f"The request cannot be explained: {where}: {what}.",
        "Correct it there and send again.",
        findings=[Problem(where=where, what=what)],
    )


def _wish_for(ticket: Ticket, arm: Arm, answer: dict[str, Any], *, tensors: bool, budget: float) -> _Wish:
    rows = [[None if value is msgspec.UNSET else value for value in row] for row in arm.select(ticket.ask.rows)]
    if len(rows) > 1_000:
        raise InvalidInput(f"{len(rows):,} rows are to be explained.", "Give at most 1,000 at once.")
    headers = ((b"x-request-id", ticket.ask.echo),)
    return _Wish(arm=arm, rows=rows, answer=answer, headers=headers, tensors=tensors, budget=budget)


def _said(wish: _Wish, found: Any) -> Response:
    single = len(found.outputs) == 1
    values = found.values[:, :, 0] if single else found.values
    bases = [float(row.base[0]) if single else row.base.tolist() for row in found.rows]
    errors = [(row.errors[:, 0] if single else row.errors).tolist() for row in found.rows]
    sampled = any(row.errors.any() for row in found.rows)
    answer = wish.answer
    if not wish.tensors:
        answer["explanation"] = {
            "method": found.method,
            "output": found.output,
            "of": list(found.outputs),
            "complete": found.complete,
            "fields": list(found.fields),
            "base": bases,
            "values": values.tolist(),
            **({"errors": errors} if sampled else {}),
        }
        return json_response(200, answer, *wish.headers)
    facts = {"explanation_method": found.method, "explanation_output": found.output}
    answer["parameters"] = {**answer.get("parameters", {}), **facts, "explanation_complete": found.complete}
    answer["outputs"] = [
        *answer["outputs"],
        _tensor("explanation", values.tolist()),
        _tensor("explanation_base", bases),
    ]
    if sampled:
        answer["outputs"].append(_tensor("explanation_error", errors))
    return Response(200, (JSON, *wish.headers), msgspec.json.encode(answer))


def _tensor(name: str, content: list[Any]) -> dict[str, Any]:
    shape: list[int] = []
    flat: list[Any] = content
    inner: Any = content
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    for _ in shape[1:]:
        flat = [value for part in flat for value in part]
    return {"name": name, "datatype": "FP64", "shape": shape, "data": flat}
