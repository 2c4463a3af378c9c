"""Fifty SIGKILLs of a real server under load: every request that was answered stands in the log, once."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tidewheel.app import open_store
from tidewheel.models.bundle import save_bundle
from tidewheel.models.model import Model
from tidewheel.predictions.compact import compact
from tidewheel.predictions.join import Joiner
from tidewheel.predictions.reader import LogReader
from tidewheel.predictions.records import Prediction
from tidewheel.predictions.segments import log_folder
from tidewheel.registry.traffic import set_traffic
from tidewheel.registry.versions import register_model
from tidewheel.settings import Settings

pytestmark = pytest.mark.slow

KILLS = 50
CLIENTS = 3
# The template has imported everything; each server is a fork of it, so that fifty starts cost a few seconds.
TEMPLATE = """
import os, sys
from pathlib import Path
import onnxruntime
from tidewheel.app import open_store
from tidewheel.settings import Settings
from tidewheel.serving.front import serve

for _ in sys.stdin:
    if not os.fork():
        store = open_store(Settings(home=Path(sys.argv[1])))
        serve(store, port=0, on_ready=lambda url: print(os.getpid(), url, flush=True))
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A store that serves a small model."""
    from sklearn.linear_model import LogisticRegression

    store = open_store(Settings(home=tmp_path))
    rows = pl.DataFrame({"a": np.linspace(-1, 1, 50), "b": np.ones(50)})
    model = Model(LogisticRegression().fit(rows, (rows["a"].to_numpy() > 0).astype(int)), example=rows)
    register_model(store, "m", save_bundle(store, model, rows=rows))
    set_traffic(store, "m", champion=1, by="test", reason="a test")
    store.close()
    return tmp_path


@pytest.fixture
def template(home: Path) -> Iterator[subprocess.Popen[str]]:
    """The process that servers are forked from."""
    command = [sys.executable, "-c", TEMPLATE, str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def client(port: int, life: int, number: int, answered: list[str]) -> None:
    """Ask until the server is gone; note what was answered, and bring the truth of it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    count = 0
    try:
        while True:
            count += 1
            name = f"{life}-{number}-{count}"
            connection.request("POST", "/predict/m", json.dumps({"rows": [{"a": 0.5, "b": 1.0}], "id": name}))
            response = connection.getresponse()
            response.read()
            if response.status == 200:
                answered.append(name)
            if count % 4 == 0:
                connection.request("POST", "/outcomes", json.dumps({"outcomes": [{"id": name, "label": 1}]}))
                connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        connection.close()


def test_fifty_kills_lose_and_double_nothing_that_was_answered(home: Path, template: subprocess.Popen[str]) -> None:
    assert template.stdin is not None
    assert template.stdout is not None
    dice = random.Random(7)
    answered: list[str] = []
    for life in range(KILLS):
        template.stdin.write("\n")
        template.stdin.flush()
        pid, url = template.stdout.readline().split()
        port = int(url.rsplit(":", 1)[1])
        clients = [threading.Thread(target=client, args=(port, life, each, answered)) for each in range(CLIENTS)]
        begun = len(answered)
        for each in clients:
            each.start()
        enough = begun + dice.randrange(1, 120)
        while len(answered) < enough and any(each.is_alive() for each in clients):
            clients[0].join(0.002)
        os.kill(int(pid), signal.SIGKILL)
        for each in clients:
            each.join(30)
        if life % 10 == 9:
            compact(log_folder(home, "m"), now=datetime.now(UTC))
    batch = LogReader(log_folder(home, "m"), Prediction).read()
    logged = Counter(record.id for record in batch.records)
    assert len(answered) > KILLS * 20
    assert [name for name in answered if not logged[name]] == []
    assert max(logged.values()) == 1
    assert len(logged) <= len(answered) + KILLS * CLIENTS  # at most what was under way
    assert batch.damaged == 0
    joined = Joiner(log_folder(home, "m")).labelled()
    assert (joined.orphans, joined.duplicates, joined.damaged) == (0, 0, 0)
    assert len(joined.rows) > len(answered) // 8
