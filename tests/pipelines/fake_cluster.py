"""A Kubernetes API of the tests' own: real HTTP, and each Job's container is executed as a process of this machine.

It keeps resource versions, answers conflicts and old watches as the real one does, checks what it is given against
the published schemas, and is now and then too busy.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate

from tidewheel.pipelines.executors.family import end_family

TOKEN = "tide-token"
SCHEMA = "1.33"


# What a container's end means: nothing that was started in it goes on.
CONTAINER = """
import os, subprocess, sys
from tidewheel.pipelines.executors.family import adopt_orphans, end_family
adopt_orphans()
code = subprocess.call(sys.argv[1:])
end_family(os.getpid(), spare=os.getpid())
sys.exit(code if code >= 0 else 128 - code)
"""


class FakeCluster:
    """One namespace, "tides"; `busy` answers of each hundred are refused in passing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secrets: dict[str, dict[str, str]] = {}
        self.missing_images: set[str] = set()
        self.forbidden: set[str] = set()  # "GET pods"
        self.busy_every = 0  # each so-many-th request is refused with 429 or 500; 0: none
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.created: list[dict[str, Any]] = []
        self.refusals = 0
        self.lists = 0
        self.changed = threading.Condition()
        self.events: list[tuple[int, str, dict[str, Any]]] = []
        self.version = 100
        self.forgotten = 0  # versions up to this one are no longer remembered
        self._requests = 0
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        cluster = self

        class Handler(_Handler):
            def __init__(self, *args: Any) -> None:
                self.cluster = cluster
                super().__init__(*args)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def kubeconfig(self, *, token: str = TOKEN, namespace: str = "tides") -> Path:
        """Write a file as kubectl has it."""
        import yaml

        path = self.folder / "kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u", "namespace": namespace}}],
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": token}}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def close(self) -> None:
        for name in tuple(self.jobs):
            self.remove(name)
        self._server.shutdown()
        self._server.server_close()

    def busy(self) -> int:
        """Return the status with which a request is refused in passing, 0 for one that is served."""
        with self.changed:
            self._requests += 1
            if self.busy_every and self._requests % self.busy_every == 0:
                self.refusals += 1
                return 429 if self._requests % 2 else 500
        return 0

    def record(self, kind: str, job: dict[str, Any]) -> None:
        """Note that a Job changed; the condition is held."""
        self.version += 1
        job["metadata"]["resourceVersion"] = str(self.version)
        self.events.append((self.version, kind, copy.deepcopy(job)))
        self.changed.notify_all()

    def forget(self) -> None:
        """Drop what was remembered, as etcd's compaction does: watches from before are Gone."""
        with self.changed:
            self.version += 1
            self.forgotten = self.version
            self.events.clear()
            self.changed.notify_all()

    def add(self, job: dict[str, Any]) -> None:
        """Take a Job and execute its container; the condition is held."""
        name = job["metadata"]["name"]
        job["metadata"] |= {"uid": f"uid-{name}", "namespace": "tides"}
        job["status"] = {"active": 1}
        self.created.append(copy.deepcopy(job))
        self.jobs[name] = job
        pod = {
            "metadata": {"name": f"{name}-x7k2p", "labels": dict(job["spec"]["template"]["metadata"]["labels"])},
            "status": {"phase": "Pending", "containerStatuses": [{"name": "step", "state": {}}]},
        }
        self.pods[name] = pod
        self.record("ADDED", job)
        threading.Thread(target=self._execute, args=(name,), daemon=True).start()

    def remove(self, name: str) -> None:
        """Delete a Job; its pod goes with it."""
        with self.changed:
            job = self.jobs.pop(name, None)
            self.pods.pop(name, None)
            process = self._processes.get(name)
            if job is not None:
                self.record("DELETED", job)
        if process is not None and process.poll() is None:
            end_family(process.pid)

    def log(self, name: str) -> bytes:
        path = self.folder / f"{name}.log"
        return path.read_bytes() if path.exists() else b""

    def _execute(self, name: str) -> None:
        with self.changed:
            job = self.jobs[name]
            container = job["spec"]["template"]["spec"]["containers"][0]
            environment, problem = self._environment(container)
            if problem:
                waiting = {"waiting": {"reason": problem[0], "message": problem[1]}}
                self.pods[name]["status"]["containerStatuses"][0]["state"] = waiting
                return
            with (self.folder / f"{name}.log").open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-c", CONTAINER, *container["command"]],
                    env=environment,
                    cwd=self.folder,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._processes[name] = process
            self.pods[name]["status"]["phase"] = "Running"
            self.record("MODIFIED", job)
        overdue = False
        try:
            process.wait(job["spec"].get("activeDeadlineSeconds"))
        except subprocess.TimeoutExpired:
            overdue = True
            end_family(process.pid)
            process.wait()
        self._end(name, process.returncode, overdue=overdue)

    def _environment(self, container: dict[str, Any]) -> tuple[dict[str, str], tuple[str, str] | None]:
        found = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "OMP_NUM_THREADS": "1"}
        if container["image"] in self.missing_images:
            return found, ("ImagePullBackOff", f'Back-off pulling image "{container["image"]}"')
        for item in container.get("env", ()):
            if "value" in item:
                found[item["name"]] = item["value"]
                continue
            place = item["valueFrom"]["secretKeyRef"]
            secret = self.secrets.get(place["name"], {})
            if place["key"] not in secret:
                return found, ("CreateContainerConfigError", f"couldn't find key {place['key']} in {place['name']}")
            found[item["name"]] = secret[place["key"]]
        return found, None

    def _end(self, name: str, code: int, *, overdue: bool) -> None:
        with self.changed:
            job = self.jobs.get(name)
            if job is None:
                return
            shown = code if code >= 0 else 128 - code
            ended = {"terminated": {"exitCode": shown, "reason": "Completed" if code == 0 else "Error"}}
            self.pods[name]["status"]["containerStatuses"][0]["state"] = ended
            reason = "DeadlineExceeded" if overdue else "BackoffLimitExceeded"
            condition = {"type": "Complete"} if code == 0 else {"type": "Failed", "reason": reason}
            job["status"] = {"conditions": [{**condition, "status": "True"}]}
            self.record("MODIFIED", job)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cluster: FakeCluster

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        parts = self._allowed("GET")
        if parts is None:
            return
        kind, name, rest = parts
        with self.cluster.changed:
            if kind == "pods" and rest == "log":
                self._bytes(200, self.cluster.log(name.removesuffix("-x7k2p")))
            elif name:
                job = self.cluster.jobs.get(name)
                self._json(200, job) if job else self._status(404, f'jobs.batch "{name}" not found')
            elif not query.get("watch"):
                held = self.cluster.jobs if kind == "jobs" else self.cluster.pods
                items = [item for item in held.values() if _selected(item, query["labelSelector"])]
                self.cluster.lists += 1
                self._json(200, {"items": items, "metadata": {"resourceVersion": str(self.cluster.version)}})
        if query.get("watch"):
            self._watch(query)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        cluster = self.cluster
        if self._allowed("POST") is None:
            return
        try:
            kubernetes_validate.validate(body, SCHEMA, strict=True)
        except kubernetes_validate.ValidationError as error:
            self._status(422, f"Job is invalid: {error}")
            return
        with cluster.changed:
            name = body["metadata"]["name"]
            if name in cluster.jobs:
                self._status(409, f'jobs.batch "{name}" already exists')
                return
            cluster.add(body)
        self._json(201, body)

    def do_DELETE(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        parts = self._allowed("DELETE")
        if parts is None:
            return
        if body.get("propagationPolicy") != "Background":
            self._status(400, "pods would be orphaned")
            return
        known = parts[1] in self.cluster.jobs
        self.cluster.remove(parts[1])
        self._status(200 if known else 404, "deleted" if known else "not found")

    def _allowed(self, method: str) -> tuple[str, str, str] | None:
        """Return kind, name and the rest of what is asked for, unless it is refused."""
        parts = urlsplit(self.path).path.split("/namespaces/")
        namespace, kind, name, rest = (*parts[1].split("/"), "", "", "")[:4]
        busy = self.cluster.busy()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._status(401, "Unauthorized")
        elif f"{method} {kind}" in self.cluster.forbidden:
            self._status(403, f'{kind} is forbidden: User "u" cannot {method.lower()} resource "{kind}"')
        elif namespace != "tides":
            self._status(404, f'namespaces "{namespace}" not found')
        elif busy:
            self._status(busy, "etcdserver: too many requests")
        else:
            return kind, name, rest
        return None

    def _watch(self, query: dict[str, str]) -> None:
        cluster, version = self.cluster, int(query["resourceVersion"])
        if version < cluster.forgotten:
            self._status(410, "too old resource version")
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        deadline = time.monotonic() + float(query["timeoutSeconds"])
        while time.monotonic() < deadline:
            with cluster.changed:
                if version < cluster.forgotten:
                    self._chunk({"type": "ERROR", "object": {"kind": "Status", "code": 410, "metadata": {}}})
                    break
                fresh = [event for event in cluster.events if event[0] > version]
                if not fresh:
                    cluster.changed.wait(0.5)
            for number, kind, job in fresh:
                version = number
                if _selected(job, query["labelSelector"]):
                    self._chunk({"type": kind, "object": job})
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, event: dict[str, Any]) -> None:
        data = json.dumps(event).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _status(self, code: int, message: str) -> None:
        body = {"kind": "Status", "apiVersion": "v1", "code": code, "message": message}
        self._bytes(code, json.dumps(body).encode())

    def _json(self, code: int, body: dict[str, Any]) -> None:
        self._bytes(code, json.dumps(body).encode())

    def _bytes(self, code: int, data: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _selected(item: dict[str, Any], selector: str) -> bool:
    labels = item["metadata"]["labels"]
    return all(labels.get(pair.partition("=")[0]) == pair.partition("=")[2] for pair in selector.split(","))
