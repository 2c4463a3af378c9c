"""From the verdict that a champion has decayed to the first answer of its successor, over real HTTP.

One run of a real `tidewheel up` at its default settings, two loops over one tiny learner: one hands over at once
(rollout=None), one through a canary that needs its least exposure and its proof under steady traffic. Labels follow
each answer; then the labels turn round, so that decay is found. The time is counted from the alert's own opening to
the moment when the caller holds an answer of the new champion; the time in which the two runs of the retraining (the
candidate, and the refit on all rows) were under way is taken off.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.cases.handover_loop import FEATURES, NEEDED
from benchmarks.measure import ONE_THREAD, python, show

if TYPE_CHECKING:
    from tidewheel.lineage.store import Store

CASES = Path(__file__).with_name("cases") / "handover_loop.py"
PACE = 0.01  # seconds between two requests
PARCEL = 10  # labels that travel together
CALM = 120  # labelled requests before the world turns
PATIENCE = 40.0  # seconds that one handover may take
HISTORY = 200


@dataclass(frozen=True, kw_only=True)
class Handover:
    """What one handover took, in seconds."""

    total: float  # from the alert's opening to the first answer of the new champion
    training: float  # the runs of the retraining
    evidence: float  # from the rollout's begin to its promotion; 0 without one
    followed: float  # from the promotion to the first answer


@dataclass
class Caller:
    """Asks one model at a steady pace and brings the truth, which can turn round."""

    model: str
    port: int
    turned: bool = False
    sent: int = 0
    _random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))
    _labels: list[dict[str, Any]] = field(default_factory=list)
    _connection: http.client.HTTPConnection | None = None

    def ask(self) -> dict[str, Any]:
        """Send one row; return the answer."""
        row = dict(zip(FEATURES, self._random.normal(size=len(FEATURES)).tolist(), strict=True))
        self.sent += 1
        name = f"{self.model}-{self.sent}"
        answer = self._post(f"/predict/{self.model}", {"id": name, "rows": [row]})
        self._labels.append({"id": name, "label": int((row["a"] + row["b"] > 0) != self.turned)})
        if len(self._labels) == PARCEL:
            self._post("/outcomes", {"model": self.model, "outcomes": self._labels})
            self._labels = []
        time.sleep(PACE)
        return answer

    def ready(self) -> bool:
        """Say whether the model answers yet."""
        try:
            return self._send("GET", f"/v2/models/{self.model}/ready", None)[0] == 200
        except OSError:
            self._connection = None
            return False

    def _post(self, path: str, content: Any) -> dict[str, Any]:
        status, body = self._send("POST", path, json.dumps(content))
        if status >= 300:
            raise SystemExit(f"{path} was answered with {status}: {body!r}")
        answer: dict[str, Any] = json.loads(body)
        return answer

    def _send(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self._connection.request(method, path, body, {"content-type": "application/json"})
        response = self._connection.getresponse()
        return response.status, response.read()


@contextmanager
def up(home: Path, port: int) -> Iterator[None]:
    """Run both loops as a user would, at the default settings."""
    targets = [f"{CASES}:{name}" for name in ("direct", "guarded")]
    words = ("up", *targets, "--home", str(home), "--port", str(port), "--web-port", "0")
    with (home / "up.log").open("wb") as log:
        process = subprocess.Popen(
            python("-m", "tidewheel", *words), stdout=log, stderr=log, env=os.environ | ONE_THREAD
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def wait(done: Callable[[], bool], what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not happen within {PATIENCE:.0f} s")
        time.sleep(0.02)


def hand_over(store: Store, caller: Caller) -> Handover:
    """Let a champion decay under traffic and measure until its successor answers."""
    while caller.sent < CALM:
        caller.ask()
    caller.turned = True
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = caller.ask()
        if answer["arm"] == "champion" and int(answer["version"]) > 1:
            return read(store, caller, time.time())
        if time.monotonic() > deadline:
            raise SystemExit(f"{caller.model} did not hand over within {PATIENCE:.0f} s")


def read(store: Store, caller: Caller, answered: float) -> Handover:
    """Read from the store when what happened."""
    from tidewheel.lineage.read import find_entity, list_events
    from tidewheel.monitoring.alerts import list_alerts
    from tidewheel.pipelines.runs import list_runs

    opened = min(alert.opened.timestamp() for alert in list_alerts(store, caller.model) if alert.kind == "decay")
    runs = [run for run in list_runs(store) if run.cause["model"] == caller.model and run.cause["kind"] == "decay"]
    with store.database.reading() as tx:
        subject = find_entity(tx, "model", caller.model).id
        events = list_events(tx, subject_id=subject, limit=1_000)
    at = {event.type: event.at.timestamp() for event in events}
    promoted = at.get("rollout.promoted", at["model.deployed"])
    return Handover(
        total=answered - opened,
        training=sum((run.ended - run.started).total_seconds() for run in runs if run.ended),
        evidence=promoted - at["rollout.started"] if "rollout.started" in at else 0.0,
        followed=answered - promoted,
    )


def measure(home: Path) -> dict[str, Handover]:
    """Let both loops hand over, one after the other."""
    from tidewheel.app import open_store
    from tidewheel.data.datasets import register
    from tidewheel.servers import listen_address
    from tidewheel.settings import load_settings

    store = open_store(replace(load_settings(home), home=home, database_url="", blob_url=""))
    port = listen_address("127.0.0.1", 0).port
    callers = [Caller(model=name, port=port) for name in ("direct", "guarded")]
    for caller in callers:
        register(store, caller.model, history(), label="y")
    try:
        with up(home, port):
            for caller in callers:
                wait(caller.ready, f"the first deployment of {caller.model}")
            return {caller.model: hand_over(store, caller) for caller in callers}
    finally:
        store.close()


def history() -> Any:
    """Return the rows that the first models learn from."""
    import polars as pl

    values = np.random.default_rng(0).normal(size=(HISTORY, len(FEATURES)))
    frame = pl.DataFrame(values, schema=list(FEATURES))
    return frame.with_columns(y=(frame["a"] + frame["b"] > 0).cast(pl.Int64))


def main() -> None:
    """Print both handovers."""
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    rows = []
    for name, title in (("direct", "at once"), ("guarded", f"canary, {NEEDED} requests a step")):
        one = found[name]
        rows.append((f"{title}: verdict to first answer", f"{one.total:.2f} s", f"{one.training:.2f} s training"))
        rows.append(("    less training", f"{one.total - one.training:.2f} s", "target: 2 s at most"))
        if one.evidence:
            pace = f"two steps at {1 / PACE:.0f} requests/s at most; the proof takes about 200"
            rows.append(("    of which the canary's evidence", f"{one.evidence:.2f} s", pace))
        rows.append(
            ("    of which promotion to first answer", f"{one.followed:.2f} s", "the server looks every 0.25 s")
        )
    show("handover: from the decay verdict to the new champion's first answer over HTTP", rows)


if __name__ == "__main__":
    main()
