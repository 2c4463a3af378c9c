"""A keep-alive HTTP client that sends rows and labels, and counts every request that fails."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from tidewheel.errors import StorageUnavailable

TRIES = 3
IDLE_SECONDS = 2.0  # a connection that rested longer is opened anew: servers close idle ones, which is no failure


class Client:
    """One connection to the prediction server; a failed request is counted and tried again."""

    def __init__(self, host: str, port: int, model: str) -> None:
        self._host, self._port, self._model = host, port, model
        self._connection: http.client.HTTPConnection | None = None
        self._used = 0.0  # monotonic second of the last answer
        self.failed = 0  # requests that got no answer, or a 5xx
        self.sent = 0  # requests in all

    def predict(self, request_id: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """Send one row; return the answer: prediction, version, arm."""
        body = orjson.dumps({"id": request_id, "unit": request_id, "rows": [row]})
        answer: dict[str, Any] = self._ask("POST", f"/predict/{self._model}", body)
        return answer

    def outcomes(self, pairs: Sequence[tuple[str, Any]]) -> None:
        """Send labels that have arrived, each with the id of its row."""
        if pairs:
            body = orjson.dumps({"outcomes": [{"id": key, "label": label} for key, label in pairs]})
            self._ask("POST", "/outcomes", body)

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def wait_until_ready(self, seconds: float, alive: Any) -> None:
        """Wait until the model answers; `alive()` raises when the processes behind it have died."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            alive()
            try:
                status, _ = self._once("GET", f"/v2/models/{self._model}/ready", b"")
            except OSError:
                status = 0
            if status == 200:
                return
            time.sleep(0.1)
        raise StorageUnavailable(
            f"The model {self._model} did not go live within {seconds:.0f} s.", "Look into the logs in the home folder."
        )

    def wait_for_deployment(self, seq: int, seconds: float = 10.0) -> bool:
        """Wait until the server answers by a traffic row or a newer one; says whether it does."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._deployment() >= seq:
                return True
            time.sleep(0.01)
        return False

    def _deployment(self) -> int:
        try:
            try:
                status, body = self._once("GET", "/v2/health/ready", b"")
            except (OSError, http.client.HTTPException):  # the server closed an idle connection
                status, body = 0, b""
        except (OSError, http.client.HTTPException):
            return 0
        models = orjson.loads(body).get("models", []) if status == 200 else []
        return max((int(item.get("deployment", 0)) for item in models if item["name"] == self._model), default=0)

    def _ask(self, method: str, path: str, body: bytes) -> Any:
        for attempt in range(TRIES):
            self.sent += 1
            try:
                status, answer = self._once(method, path, body)
            except (OSError, http.client.HTTPException):
                self.failed += 1
                self._connection = None
                time.sleep(0.05 * 2**attempt)
                continue
            if status < 400:
                return orjson.loads(answer)
            self.failed += 1
            if status < 500:
                raise StorageUnavailable(
                    f"{method} {path} was answered with {status}: {answer[:300].decode(errors='replace')}.",
                    "The row does not fit the model's signature.",
                )
            time.sleep(0.05 * 2**attempt)
        raise StorageUnavailable(f"{method} {path} failed {TRIES} times.", "Look into serving.log in the home folder.")

    def _once(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if self._connection is not None and time.monotonic() - self._used > IDLE_SECONDS:
            self._connection.close()
            self._connection = None
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._host, self._port, timeout=30)
        headers = {"content-type": "application/json"} if body else {}
        if key := os.environ.get("TIDEWHEEL_API_KEY", ""):
            headers["x-api-key"] = key
        try:
            self._connection.request(method, path, body or None, headers)
            response = self._connection.getresponse()
            answer = response.status, response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            self._connection = None
            raise
        self._used = time.monotonic()
        return answer
