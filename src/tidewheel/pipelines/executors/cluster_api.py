"""The five requests to a Kubernetes API that Jobs need, over plain HTTP."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from tidewheel.errors import InvalidInput, StorageUnavailable
from tidewheel.pipelines.executors.kubeconfig import Access

_TRIES = 6  # of one request, before the cluster counts as out of reach
_PAUSE, _LONGEST_PAUSE = 0.2, 10.0  # seconds before another try: the first, and at most
_SECONDS = 30.0  # within which a request has to be answered
_PASSING = (429, 500, 502, 503, 504)  # answers after which the same request may be answered well
_ROLE = "create, get, list, watch and delete jobs (group batch), list pods and get pods/log"


class Gone(Exception):
    """The cluster no longer remembers the version that a watch was to begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Jobs at one moment."""

    jobs: list[dict[str, Any]]  # as the API has them
    version: str  # where a watch goes on


class ClusterApi:
    """Jobs and pods of one namespace. Requests are repeated when the cluster is busy; each can be.

    Every method raises InvalidInput for what the cluster refuses, StorageUnavailable when it does not answer.
    """

    def __init__(self, access: Access, namespace: str) -> None:
        self._access = access
        self._namespace = namespace or access.namespace
        self._parts = urlsplit(access.server)
        self._stream: http.client.HTTPConnection | None = None
        self._closed = threading.Event()

    def create(self, job: Mapping[str, Any]) -> bool:
        """Make a Job; False when there is one of that name."""
        status, _ = self._asked("POST", self._path("jobs"), body=job, allowed=(409,))
        return status != 409

    def job(self, name: str) -> dict[str, Any] | None:
        """Return a Job, if there is one."""
        status, answer = self._asked("GET", self._path("jobs", name), allowed=(404,))
        return None if status == 404 else json.loads(answer)

    def jobs(self, selector: str) -> Listing:
        """Return the Jobs with some labels."""
        _, answer = self._asked("GET", self._path("jobs"), {"labelSelector": selector})
        found = json.loads(answer)
        return Listing(jobs=found["items"], version=found["metadata"]["resourceVersion"])

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """Return the pods with some labels."""
        _, answer = self._asked("GET", self._path("pods"), {"labelSelector": selector})
        found: list[dict[str, Any]] = json.loads(answer)["items"]
        return found

    def log(self, pod: str) -> bytes:
        """Return what a pod has printed; b"" when nobody knows any more."""
        status, answer = self._asked("GET", self._path("pods", pod) + "/log", allowed=(400, 404))
        return answer if status == 200 else b""

    def delete(self, name: str) -> None:
        """End a Job with its pods; nothing happens when there is none."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        self._asked("DELETE", self._path("jobs", name), body=body, allowed=(404, 409))

    def watch(self, selector: str, version: str, seconds: int) -> Iterator[dict[str, Any]]:
        """Yield what happens to Jobs after a version, for a while; raises Gone when that is too long ago."""
        query = {
            "labelSelector": selector,
            "resourceVersion": version,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        connection = self._connection(seconds + _SECONDS)
        self._stream = connection
        try:
            connection.request("GET", f"{self._path('jobs')}?{urlencode(query)}", headers=self._headers())
            answer = connection.getresponse()
            if answer.status == 410:
                raise Gone
            if answer.status != 200:
                self._refuse("GET", self._path("jobs"), answer.status, answer.read())
                return  # busy: the caller asks again
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise Gone
                yield event
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            return  # the connection broke, or was closed from here: the caller asks again
        finally:
            self._stream = None
            connection.close()

    def close(self) -> None:
        """End a watch, if there is one."""
        self._closed.set()
        stream = self._stream
        sock = stream.sock if stream is not None else None
        if sock is not None:
            try:
                sock.shutdown(2)
            except OSError:
                return  # it has ended by itself

    def _asked(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Mapping[str, Any] | None = None,
        allowed: tuple[int, ...] = (),
    ) -> tuple[int, bytes]:
        target = f"{path}?{urlencode(query)}" if query else path
        told = ""
        for number in range(_TRIES):
            connection = self._connection(_SECONDS)
            pause = min(_PAUSE * 2**number, _LONGEST_PAUSE) * random.uniform(0.5, 1.5)  # noqa: S311 - spreads requests
            try:
                connection.request(method, target, json.dumps(body) if body else None, self._headers())
                answer = connection.getresponse()
                data = answer.read()
                if answer.status < 300 or answer.status in allowed:
                    return answer.status, data
                self._refuse(method, path, answer.status, data)
                told = f"{answer.status} {_message(data)}"
                pause = max(pause, min(float(answer.headers.get("Retry-After") or 0), _LONGEST_PAUSE))
            except (OSError, http.client.HTTPException) as error:
                told = f"{type(error).__name__}: {error}"
            finally:
                connection.close()
            if self._closed.is_set():
                break
            time.sleep(pause)
        raise StorageUnavailable(
            f"The Kubernetes API at {self._access.server} does not answer: {told}.",
            "Look whether kubectl reaches it; the run can be resumed when it does.",
        )

    def _refuse(self, method: str, path: str, status: int, data: bytes) -> None:
        """Raise InvalidInput for an answer that another try would not change."""
        if status in _PASSING:
            return
        said = _message(data)
        if status in (401, 403):
            raise InvalidInput(
                f"The cluster refuses {method} {path} ({status}): {said}.",
                f"Give this account a role in the namespace {self._namespace} that may {_ROLE}.",
            )
        raise InvalidInput(
            f"The cluster cannot do {method} {path} ({status}): {said}.",
            f"Look whether the namespace {self._namespace} exists, and at the executor's table in tidewheel.toml.",
        )

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._access.tls is not None:
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._access.tls)
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def _headers(self) -> dict[str, str]:
        return {"Accept": "application/json", "Content-Type": "application/json", **self._access.headers()}

    def _path(self, kind: str, name: str = "") -> str:
        group = "/apis/batch/v1" if kind == "jobs" else "/api/v1"
        path = f"{self._parts.path}{group}/namespaces/{quote(self._namespace)}/{kind}"
        return f"{path}/{quote(name)}" if name else path


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"]).rstrip(".")
    except (ValueError, KeyError, TypeError):
        return data[:200].decode("utf-8", "replace").strip() or "no message"
