"""A small loop on real parts: apples in a dataset, a logistic regression, requests as serving logs them.

Run as a program it forks processes that tick, kills them, and prints what they left behind, one JSON object a line:
orchard.py kill FOLDER FIRST STEP    a tick is killed right after its FIRST-th commit, the next one STEP commits later
orchard.py crowd FOLDER COUNT        so many processes tick at once
Forked, because a process that imports everything costs seconds; nothing here has started threads before.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tidewheel.app import import_tables
from tidewheel.blobs.folder import FolderBlobs
from tidewheel.clock import SystemClock, micros
from tidewheel.data import datasets
from tidewheel.database.database import open_database
from tidewheel.database.migrate import prepare
from tidewheel.evaluation import gates
from tidewheel.lineage.read import find_entity, list_events
from tidewheel.lineage.store import Store
from tidewheel.loop import triggers
from tidewheel.loop.loop import Loop
from tidewheel.loop.status import status
from tidewheel.loop.tick import Ticker, tick
from tidewheel.models.bundle import load_bundle
from tidewheel.models.model import Model
from tidewheel.models.scorer import Scorer
from tidewheel.pipelines.approving import approve
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.runs import list_runs
from tidewheel.pipelines.step import step
from tidewheel.predictions.log import LogWriter
from tidewheel.predictions.records import Outcome, Prediction
from tidewheel.predictions.segments import log_folder
from tidewheel.registry.traffic import current_traffic
from tidewheel.registry.versions import get_model, list_versions
from tidewheel.rollout import rollouts

MODEL, DATA = "apples", "orchard"
FEATURES = ("weight", "size")
BOOK = "ORCHARD_BOOK"  # variable that names a file in which every execution of a step leaves a line


@step
def grow(rows: pl.DataFrame) -> Model:
    """Fit a model, and note that it was done."""
    from sklearn.linear_model import LogisticRegression

    if BOOK in os.environ:
        with Path(os.environ[BOOK]).open("a") as file:
            file.write(f"{rows.height}\n")
    table = rows.select(*FEATURES)
    fitted = LogisticRegression().fit(table.to_pandas(), rows["good"].to_numpy())
    return Model(fitted, example=table.head(20))


@pipeline
def apples(rows: pl.DataFrame) -> Model:
    """Fit in one step."""
    return grow(rows)


@step
def graft(rows: pl.DataFrame) -> Model:
    """Fit a model that takes missing and infinite values."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    table = rows.select(*FEATURES).to_pandas().astype(float)
    fitted = HistGradientBoostingClassifier(max_iter=5).fit(table, rows["good"].to_numpy())
    return Model(fitted, example=table.head(20))


@pipeline
def cherries(rows: pl.DataFrame) -> Model:
    """Fit whatever comes."""
    return graft(rows)


@pipeline
def pears(rows: pl.DataFrame) -> str:
    """Return something that is no model."""
    return f"{rows.height} pears"


@step
def rot(rows: pl.DataFrame) -> Model:
    """Fail."""
    raise ValueError(f"{rows.height} rows are rotten")


@step(timeout=0.5)
def stall(rows: pl.DataFrame) -> Model:
    """Never end."""
    threading.Event().wait()
    return grow(rows)


@pipeline
def stalled(rows: pl.DataFrame) -> Model:
    """Hang in a step."""
    return stall(rows)


@step(timeout=60)
def fall(rows: pl.DataFrame) -> Model:
    """Be killed, in the process of its own that a step with a timeout has."""
    os.kill(os.getpid(), signal.SIGKILL)
    return grow(rows)


@pipeline
def fallen(rows: pl.DataFrame) -> Model:
    """Be killed in a step."""
    return fall(rows)


@pipeline
def asking(rows: pl.DataFrame) -> Model:
    """Fit once somebody has agreed."""
    if not approve("Train on these?"):
        raise ValueError("nobody wants it")
    return grow(rows)


@pipeline
def rotten(rows: pl.DataFrame) -> Model:
    """Fail in a step."""
    return rot(rows)


def make_loop(**changes: Any) -> Loop:
    """Declare the loop."""
    settings: dict[str, Any] = {"model": MODEL, "data": DATA, "label": "good", "holdout_rows": (20, 200)}
    return Loop(changes.pop("pipeline", apples), **(settings | changes))


def harvest(random: np.random.Generator, rows: int, *, shift: float = 0.0, noise: float = 0.05) -> pl.DataFrame:
    """Draw labelled rows; `shift` moves the weights by so many deviations."""
    weight, size = random.normal(shift, 1.0, rows), random.normal(0.0, 1.0, rows)
    good = (weight + size > 0) ^ (random.random(rows) < noise)
    return pl.DataFrame({"weight": weight, "size": size, "good": good.astype(np.int64)})


def plant(store: Store, rows: int = 200) -> None:
    """Register the dataset."""
    datasets.register(store, DATA, harvest(np.random.default_rng(0), rows), label="good")


@dataclass
class Stand:
    """Asks the champion about apples and logs the answers as serving does; labels come when told."""

    store: Store
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    requests: int = 0
    scorers: dict[int, Scorer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        folder = log_folder(self.store.home, MODEL)
        self.predictions = LogWriter(folder, "w0")
        self.outcomes = LogWriter(folder, "w0", kind=Outcome)

    def serve(self, frame: pl.DataFrame) -> list[str]:
        """Answer rows, one request each; return their ids."""
        version = current_traffic(self.store, MODEL).champion
        if version not in self.scorers:
            digest = get_model(self.store, f"{MODEL}:{version}").bundle_digest
            self.scorers[version] = load_bundle(self.store, digest).scorer()
        table = frame.select(*FEATURES)
        scores = self.scorers[version].score(table)
        at = micros(self.store.clock.now())
        ids = []
        sure = scores.probabilities.tolist() if scores.probabilities is not None else [None] * table.height
        for row, answer, probability in zip(table.iter_rows(), scores.prediction.tolist(), sure, strict=True):
            self.requests += 1
            ids.append(f"r{self.requests}")
            self.predictions.append(
                Prediction(
                    id=ids[-1],
                    at=at + self.requests,
                    model=MODEL,
                    version=version,
                    arm="champion",
                    propensity=1.0,
                    unit="",
                    status=200,
                    features=[list(row)],
                    output=[answer],
                    probability=None if probability is None else [probability],
                    latency_us=500,
                )
            )
        self.predictions.flush()
        return ids

    def label(self, ids: Sequence[str], labels: Sequence[Any]) -> None:
        """Bring the truth."""
        at = micros(self.store.clock.now())
        for one, label in zip(ids, labels, strict=True):
            self.outcomes.append(Outcome(id=one, at=at, label=label))
        self.outcomes.flush()

    def sell(self, rows: int, *, shift: float = 0.0, noise: float = 0.05) -> pl.DataFrame:
        """Answer rows and label them at once."""
        frame = harvest(self.random, rows, shift=shift, noise=noise)
        self.label(self.serve(frame), frame["good"].to_list())
        return frame

    def close(self) -> None:
        """Let go of the segments."""
        self.predictions.close()
        self.outcomes.close()


def open_orchard(home: Path) -> Store:
    """Open a store on SQLite, with the machine's clock, as every process of a test does."""
    database = open_database(f"sqlite:///{home / 'tidewheel.db'}")
    prepare(database, import_tables)
    return Store(database=database, blobs=FolderBlobs(home / "blobs"), clock=SystemClock(), home=home)


def die_after(store: Store, commits: int) -> None:
    """Let this process be killed right after so many commits that wrote something."""
    left = [commits]

    def committed() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    store.database.listen(committed)


def forked(work: Callable[[], None]) -> int:
    """Do something in a process of its own; return how it ended, negative for a signal."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            sys.stdout.flush()
            os._exit(1 if sys.exc_info()[0] else 0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def prepare_retraining(home: Path) -> None:
    """Plant, deploy the first model and sell enough apples for the next one; the labels wait in the log."""
    store = open_orchard(home)
    plant(store)
    tick(store, make_loop())
    Stand(store).sell(60)
    store.close()


def due_loop() -> Loop:
    """Declare the loop whose retraining is due."""
    return make_loop(
        on=[triggers.new_data(rows=60)],
        collect_rows=30,
        rollout=rollouts.canary(),
        gates=[gates.threshold("accuracy", at_least=0.5)],
    )


def tick_and_die(home: Path, commits: int) -> None:
    """Tick once and be killed on the way."""
    store = open_orchard(home)
    die_after(store, commits)
    tick(store, due_loop())


def tick_and_tell(home: Path) -> None:
    """Tick until nothing is left to do and print what there is."""
    store = open_orchard(home)
    ticker = Ticker(store, due_loop())
    for _ in range(3):
        ticker.tick()
    found = status(store, MODEL)[0]
    with store.database.reading() as tx:
        subject = find_entity(tx, "model", MODEL).id
        told = [event.type for event in list_events(tx, subject_id=subject, limit=1000)]
    answer = {
        "busy": found.busy,
        "labelled": found.labelled,
        "challenger": found.challenger,
        "counters": dict(found.counters),
        "rows": datasets.get(store, DATA).rows,
        "versions": len(list_versions(store, MODEL)),
        "runs": sorted(str(run.state) for run in list_runs(store)),
        "rollouts": told.count("rollout.started"),
        "passed": told.count("gate.passed"),
        "failed": told.count("run.failed"),
        "steps": len(Path(os.environ[BOOK]).read_text().split()),
    }
    print(json.dumps(answer))
    store.close()


def kill(folder: Path, first: int, step_by: int) -> None:
    """Kill ticks at one commit after the other, let the next process go on, and tell."""
    os.environ[BOOK] = str(folder / "before.txt")
    base = folder / "base"
    base.mkdir()
    if forked(lambda: prepare_retraining(base)):
        raise SystemExit("the orchard could not be prepared")
    commits = first
    while True:
        home = folder / str(commits)
        shutil.copytree(base, home)
        os.environ[BOOK] = str(home / "book.txt")
        Path(os.environ[BOOK]).touch()
        ended = forked(partial(tick_and_die, home, commits))
        if forked(partial(tick_and_tell, home)):
            raise SystemExit(f"no process could go on after commit {commits}")
        if ended != -signal.SIGKILL:
            return  # it had come to its end before
        commits += step_by


def crowd(folder: Path, count: int) -> None:
    """Let processes tick at once, and tell."""
    os.environ[BOOK] = str(folder / "book.txt")
    if forked(partial(prepare_retraining, folder)):
        raise SystemExit("the orchard could not be prepared")
    Path(os.environ[BOOK]).write_text("")
    children = []
    for _ in range(count):
        child = os.fork()
        if not child:
            store = open_orchard(folder)
            ticker = Ticker(store, due_loop())
            trained = 0
            for _ in range(30):
                trained += ticker.tick().trained is not None
            os._exit(trained)
        children.append(child)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)
    forked(partial(tick_and_tell, folder))


if __name__ == "__main__":
    words = sys.argv[1:]
    if words[0] == "kill":
        kill(Path(words[1]), int(words[2]), int(words[3]))
    else:
        crowd(Path(words[1]), int(words[2]))
