"""Two controllers on one PostgreSQL, each with a home of its own, as on two machines: one run, one owner."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tidewheel.app import import_tables
from tidewheel.blobs.folder import FolderBlobs
from tidewheel.clock import SystemClock
from tidewheel.database.database import open_database
from tidewheel.database.migrate import prepare
from tidewheel.errors import AlreadyRunning
from tidewheel.lineage.store import Store
from tidewheel.pipelines.liveness import mark_lost
from tidewheel.pipelines.records import Run
from tidewheel.pipelines.runs import cancel_run, get_run, list_runs, resume_run
from tidewheel.pipelines.target import load_target

pytestmark = pytest.mark.services
HERE = Path(__file__).parent
TIDE = load_target(f"{HERE / 'crash_steps.py'}:tide")
WAIT = load_target(f"{HERE / 'crash_steps.py'}:wait")
EXPECTED = load_target(f"{HERE / 'crash_steps.py'}:expected")
PATIENCE = 60.0  # seconds within which another process has to do what is waited for


@dataclass
class Controller:
    """A process that runs what it is told in a home of its own."""

    process: subprocess.Popen[str]
    order: dict[str, Any]

    def begin(self, **wanted: Any) -> None:
        """Give an order, without waiting for its end."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(self.order | wanted) + "\n")
        self.process.stdin.flush()

    def end(self) -> dict[str, Any]:
        """Return how the order ended."""
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def do(self, **wanted: Any) -> dict[str, Any]:
        """Give an order and wait for its end."""
        self.begin(**wanted)
        return self.end()


@dataclass
class Field:
    """Two controllers, and what the test itself sees of the database from the second one's home."""

    one: Controller
    two: Controller
    store: Store
    book: Path

    def run(self) -> Run:
        """Return the only run there is."""
        (found,) = self.runs()
        return get_run(self.store, found)

    def runs(self) -> list[str]:
        """Return the runs that were begun, without judging them."""
        with self.store.database.reading() as tx:
            return [row["id"] for row in tx.rows("SELECT id FROM execution WHERE kind = 'run'")]

    def age(self) -> None:
        """Let the lease run out: what would have come to pass, comes now."""
        with self.store.database.transaction() as tx:
            assert tx.run("UPDATE lease SET until = 1 WHERE holder <> ''") == 1

    def lease(self) -> int:
        """Return the end of the lease; 0 before there is one."""
        with self.store.database.reading() as tx:
            row = tx.row("SELECT until FROM lease")
        return row["until"] if row else 0

    def notes(self) -> Counter[str]:
        """Return how often each execution was begun."""
        return Counter(line.split()[1] for line in self.book.read_text().splitlines())

    def check(self) -> None:
        """Check that the run is whole and that nothing of it is there twice."""
        run = self.run()
        assert (run.state, run.output) == ("SUCCEEDED", EXPECTED(1))
        with self.store.database.reading() as tx:
            told = [row["subject_id"] for row in tx.rows("SELECT * FROM event WHERE type = 'step.committed'")]
            ends = tx.rows("SELECT * FROM event WHERE type = 'run.succeeded'")
            doubled = tx.rows("SELECT digest FROM version GROUP BY entity_id, digest HAVING count(*) > 1")
        assert sorted(told) == sorted(step.id for step in run.steps if step.state == "COMMITTED")
        assert (len(ends), doubled) == (1, [])


@pytest.fixture
def field(postgres_url: str, tmp_path: Path) -> Iterator[Field]:
    import_tables()
    database = open_database(postgres_url)
    prepare(database, import_tables)
    blobs = tmp_path / "shared"
    store = Store(
        database=database, blobs=FolderBlobs(blobs / "blobs"), clock=SystemClock(), home=tmp_path / "two" / "home"
    )
    book = tmp_path / "book"
    book.touch()
    controllers = []
    for name in ("one", "two"):
        process = subprocess.Popen(
            [sys.executable, str(HERE / "driver.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        order = {"url": postgres_url, "home": str(tmp_path / name / "home"), "blobs": str(blobs), "start": 1}
        controllers.append(Controller(process, order | {"book": str(book)}))
    yield Field(one=controllers[0], two=controllers[1], store=store, book=book)
    for controller in controllers:
        controller.process.kill()
        controller.process.communicate()
    store.close()


def until(seen: Callable[[], bool], what: str) -> None:
    """Wait for another process."""
    deadline = time.monotonic() + PATIENCE
    while not seen():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def boundary(names: list[str], wanted: str) -> int:
    return names.index(wanted) + 1


@pytest.fixture
def names(field: Field) -> list[str]:
    """The boundaries of a run that nobody disturbs; it leaves nothing."""
    found: list[str] = field.one.do()["boundaries"]
    forget(field)
    return found


def forget(field: Field) -> None:
    """Leave nothing of the runs so far."""
    with field.store.database.transaction() as tx:
        for table in ("execution", "event", "edge", "version", "lease", "step_cache"):
            tx.run(f"DELETE FROM {table}")
    field.book.write_text("")


@pytest.mark.parametrize("where", ["run.open:after", "step.start:after", "step.commit:inside", "step.commit:after"])
def test_a_dead_controllers_run_is_taken_over_once_its_lease_has_run_out(
    field: Field, names: list[str], where: str
) -> None:
    assert field.one.do(kill_at=boundary(names, where))["status"] == -9
    run = field.run()
    assert mark_lost(field.store) == []
    with pytest.raises(AlreadyRunning, match=r"whose lease lasts [1-9]\d* s more.*\n.*runs out by itself"):
        resume_run(field.store, run.id, TIDE)
    done = {step.id for step in run.steps if step.state == "COMMITTED"}
    before = field.notes()
    field.age()
    assert mark_lost(field.store) == [run.id]
    assert field.run().state == "LOST"
    assert field.two.do(run=run.id)["status"] == 0
    field.check()
    assert {name: field.notes()[name] for name in done} == {name: before[name] for name in done}


@pytest.mark.parametrize("executor", ["inline", "process"])
@pytest.mark.parametrize("where", ["step.start:before", "step.submitted", "step.commit:before", "run.finish:before"])
def test_a_controller_that_was_asleep_too_long_cannot_commit_and_ends(
    field: Field, names: list[str], where: str, executor: str
) -> None:
    place = boundary(names, where)
    if executor == "process":
        names = field.one.do(start=2, executor="process")["boundaries"]
        place = boundary(names, where)
        forget(field)
    asleep = field.one.do(stop_at=place, executor=executor)["stopped"]
    field.age()
    assert field.two.do(run=field.run().id)["status"] == 0
    field.check()
    woken = field.one.do(go_on=asleep)
    assert woken["status"] == 1
    assert woken["error"].startswith(f"StaleOwner: The run {field.run().id} was taken from this process")
    field.check()
    until(lambda: not any(map(lives, pids(field.book))), "a child of the woken controller lives on")


def test_a_woken_controller_is_refused_while_the_other_goes_on(field: Field, names: list[str]) -> None:
    asleep = field.one.do(stop_at=boundary(names, "step.commit:before"))["stopped"]
    field.age()
    resting = field.two.do(run=field.run().id, stop_at=4)["stopped"]
    woken = field.one.do(go_on=asleep)
    assert woken["error"].startswith(f"StaleOwner: The run {field.run().id} was taken over by ")
    assert "with token 2" in woken["error"]
    assert field.two.do(go_on=resting)["status"] == 0
    field.check()


def test_of_two_controllers_that_resume_at_once_one_owns_the_run(field: Field, names: list[str]) -> None:
    field.one.do(kill_at=boundary(names, "step.start:after"))
    for _ in range(4):
        run, before = field.run(), field.notes()
        field.age()
        for controller in (field.one, field.two):
            controller.begin(run=run.id, kill_at=12)
        ends = [controller.end() for controller in (field.one, field.two)]
        assert sorted(end["status"] for end in ends) == [-9, 1]
        assert [end["error"].partition(":")[0] for end in ends if end["status"] == 1] == ["AlreadyRunning"]
        assert field.run().resumed == run.resumed + 1
        done = {step.id for step in run.steps if step.state == "COMMITTED"}
        assert {name: field.notes()[name] for name in done} == {name: before[name] for name in done}
    field.age()
    assert field.two.do(run=field.run().id)["status"] == 0
    field.check()


def test_what_a_child_finished_is_taken_over_by_another_controller_that_sees_it(field: Field, tmp_path: Path) -> None:
    attempts = str(tmp_path / "attempts")
    names = field.one.do(start=7, attempts=attempts)["boundaries"]
    forget(field)
    assert field.one.do(kill_at=boundary(names, "step.returned"), attempts=attempts)["status"] == -9
    run = field.run()
    assert [step.state for step in run.steps] == ["RUNNING"]
    field.age()
    assert field.two.do(run=run.id, attempts=attempts)["status"] == 0
    field.check()
    assert field.notes()[run.steps[0].id] == 1


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_a_run_cancelled_from_elsewhere_ends_in_the_middle_of_its_step(field: Field, executor: str) -> None:
    field.one.begin(pipeline="wait", executor=executor)
    until(lambda: bool(pids(field.book)), "the step did not begin")
    cancelled = cancel_run(field.store, field.run().id, reason="wrong month")
    assert (cancelled.state, cancelled.error) == ("CANCELLED", "wrong month")
    end = field.one.end()  # though nobody opens the gate
    assert end["status"] == 1
    assert end["error"].startswith(f"StaleOwner: The run {cancelled.id} was taken from this process: it is CANCELLED")
    assert "wrong month" in end["error"]
    until(lambda: not any(map(lives, pids(field.book))), "the step lives on")
    assert get_run(field.store, cancelled.id).state == "CANCELLED"
    Path(f"{field.book}.gate").touch()
    assert field.two.do(run=cancelled.id, pipeline="wait")["status"] == 0
    assert get_run(field.store, cancelled.id).output == 2


def test_a_lease_is_renewed_while_a_step_lasts(field: Field) -> None:
    field.one.begin(pipeline="wait", lease=1.0)
    until(lambda: field.lease() > 0, "no lease was given")
    for _ in range(3):
        before = field.lease()
        until(lambda: field.lease() > before, "the lease was not renewed")  # noqa: B023 - called before the next turn
        assert mark_lost(replace(field.store, lease_seconds=1.0)) == []
    Path(f"{field.book}.gate").touch()
    assert field.one.end()["status"] == 0
    assert list_runs(field.store)[0].state == "SUCCEEDED"


def pids(book: Path) -> set[int]:
    return {int(line.split()[2]) for line in book.read_text().splitlines()}


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
