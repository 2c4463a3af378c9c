"""A database that goes away while a run goes on: the run waits, says so, and nothing is lost or done twice."""

from __future__ import annotations

import itertools
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.crash.proxy import Loss, Proxy

from tidewheel.app import import_tables
from tidewheel.blobs.folder import FolderBlobs
from tidewheel.clock import SystemClock
from tidewheel.database import database as databases
from tidewheel.database.database import open_database
from tidewheel.database.migrate import prepare
from tidewheel.errors import StorageUnavailable
from tidewheel.lineage.store import Store
from tidewheel.pipelines.records import RunEvent
from tidewheel.pipelines.runs import get_run, list_runs, resume_run, start_run
from tidewheel.pipelines.target import load_target

STEPS = Path(__file__).with_name("crash_steps.py")
TIDE = load_target(f"{STEPS}:tide")
EXPECTED = load_target(f"{STEPS}:expected")


@dataclass
class Shore:
    """A store behind a proxy, and runs on it whose steps note what they do."""

    store: Store
    proxy: Proxy
    folder: Path

    def book(self, start: int) -> Path:
        """Return the file in which the steps of a run note that they were executed."""
        book = self.folder / f"book-{start}"
        book.touch()
        return book

    def run(self, start: int, tell: Callable[[RunEvent], None], *, executor: str = "inline") -> None:
        """Run to the end, and check that everything is there once."""
        book = self.book(start)
        parameters = {"start": start, "blob": b"blob" * 750, "book": str(book)}
        run = start_run(self.store, TIDE, parameters, on_event=tell, executor=executor)
        self.proxy.lose(0, "order")
        self.check(run.id, start)

    def check(self, run_id: str, start: int) -> None:
        """Check that each step was executed once (the one that stumbles, twice) and recorded once."""
        run = get_run(self.store, run_id)
        assert (run.state, run.output) == ("SUCCEEDED", EXPECTED(start))
        names = Counter(line.split()[0] for line in self.book(start).read_text().splitlines())
        assert names == {"add": 3, "payload": 1, "pair": 1, "announce": 1, "stumbles": 2}
        with self.store.database.reading() as tx:
            events = tx.rows("SELECT type, subject_id FROM event WHERE execution_id = :run", run=run_id)
            rows = tx.rows("SELECT id FROM execution WHERE parent_id = :run", run=run_id)
        told = Counter((row["type"], row["subject_id"]) for row in events)
        assert set(told.values()) == {1}
        assert len([kind for kind, _ in told if kind == "step.committed"]) == len(rows) == 7
        assert ("run.succeeded", run_id) in told


@pytest.fixture
def shore(postgres_url: str, tmp_path: Path) -> Iterator[Shore]:
    import_tables()
    server = urlsplit(postgres_url)
    proxy = Proxy(server.hostname or "127.0.0.1", server.port or 5432)
    url = f"postgresql://{server.username}@127.0.0.1:{proxy.port}{server.path}?sslmode=disable&gssencmode=disable"
    store = Store(
        database=open_database(url),
        blobs=FolderBlobs(tmp_path / "blobs"),
        clock=SystemClock(),
        home=tmp_path,
        storage_patience=60.0,
    )
    prepare(store.database, import_tables)
    yield Shore(store, proxy, tmp_path)
    store.close()
    proxy.down()


def commits(shore: Shore, loss: Loss, places: Iterator[int]) -> int:
    """Lose one commit of each run, until a run has no such commit; return how many were lost."""
    lost = 0
    for place in places:
        told: list[str] = []

        def tell(event: RunEvent, told: list[str] = told) -> None:
            if event.state == "WAITING":
                told.append(event.detail)
                shore.proxy.up()

        cuts = shore.proxy.cuts
        shore.proxy.lose(place, loss)
        shore.run(place, tell)
        if shore.proxy.cuts == cuts:
            return lost
        lost += 1
        assert len(told) == 2
        assert "does not answer" in told[0]
        assert "Waiting for up to 60 s." in told[0]
        assert told[1].startswith("The storage answers again after")
    return lost


@pytest.mark.services
@pytest.mark.parametrize("loss", ["order", "answer"])
def test_a_commit_that_is_lost_is_made_again_and_one_whose_answer_is_lost_is_not(shore: Shore, loss: Loss) -> None:
    assert commits(shore, loss, iter((3, 5, 8, 13))) == 4


@pytest.mark.slow
@pytest.mark.services
@pytest.mark.parametrize("loss", ["order", "answer"])
def test_every_commit_of_a_run_may_be_lost(shore: Shore, loss: Loss) -> None:
    assert commits(shore, loss, itertools.count(1)) > 15


@pytest.mark.services
@pytest.mark.parametrize("executor", ["inline", "process"])
def test_a_run_outlasts_a_database_that_is_gone_between_two_writes(shore: Shore, executor: str) -> None:
    told: list[str] = []

    def tell(event: RunEvent) -> None:
        if event.step == "payload" and event.state == "RUNNING":
            shore.proxy.down()
        if event.state == "WAITING":
            told.append(event.detail)
            if len(told) == 1:
                shore.proxy.up()

    shore.run(1, tell, executor=executor)
    assert len(told) == 2


@pytest.mark.services
def test_a_run_that_waits_in_vain_ends_clearly_and_can_be_resumed(shore: Shore) -> None:
    shore.store = replace(shore.store, storage_patience=0.3)
    told: list[str] = []

    def tell(event: RunEvent) -> None:
        if event.step == "payload" and event.state == "RUNNING":
            shore.proxy.down()
        if event.state == "WAITING":
            told.append(event.detail)

    with pytest.raises(StorageUnavailable, match=r"waited for 0\.3 s \(storage_patience\).*\n.*tidewheel resume"):
        shore.run(1, tell)
    assert len(told) == 1
    shore.proxy.up()
    (found,) = list_runs(shore.store)
    assert found.state == "LOST"
    before = shore.book(1).read_text().count("add ")
    run = resume_run(shore.store, found.id, TIDE)
    assert run.output == EXPECTED(1)
    assert before == 1
    assert shore.book(1).read_text().count("add ") == 3


def test_a_run_waits_while_another_process_holds_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "BUSY_SECONDS", 0.05)
    file = tmp_path / "tidewheel.db"
    store = Store(
        database=open_database(f"sqlite:///{file}"),
        blobs=FolderBlobs(tmp_path / "blobs"),
        clock=SystemClock(),
        home=tmp_path,
        storage_patience=60.0,
    )
    prepare(store.database, import_tables)
    other = sqlite3.connect(file, isolation_level=None)
    told: list[str] = []

    def tell(event: RunEvent) -> None:
        if event.step == "payload" and event.state == "RUNNING":
            other.execute("BEGIN EXCLUSIVE")
        if event.state == "WAITING":
            told.append(event.detail)
            if len(told) == 1:
                other.execute("COMMIT")

    Shore(store, Proxy("127.0.0.1", 1), tmp_path).run(1, tell)  # which nobody goes through
    assert len(told) == 2
    assert "Another process holds the database for long" in told[0]
    other.close()
    store.close()
