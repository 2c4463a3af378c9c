"""SIGKILL at every boundary of the journal and at random moments: nothing stuck, repeated, lost or doubled."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tidewheel.lineage import tables
from tidewheel.lineage.store import Store
from tidewheel.pipelines.runs import get_run, list_runs
from tidewheel.pipelines.target import load_target
from tidewheel.pipelines.transitions import DONE_STEP, RunState

HERE = Path(__file__).parent
EXPECTED = load_target(f"{HERE / 'crash_steps.py'}:expected")
STEPS = {"tide": 7, "surge": 9}
PIPELINES = pytest.mark.parametrize("name", list(STEPS))
KILLED = -9
ALL = 400  # more boundaries than a run has


@dataclass
class Harness:
    """Runs the pipeline in children, kills them, and looks at what is left."""

    store: Store
    driver: subprocess.Popen[str]
    folder: Path
    pipeline: str = "tide"  # which one is run
    starts: Iterator[int] = field(default_factory=itertools.count)

    def order(self, **wanted: Any) -> dict[str, Any]:
        """Let one child do something and return how it ended."""
        url = self.store.database.engine.url.render_as_string(hide_password=False)
        if self.driver.stdin is None or self.driver.stdout is None:
            pytest.fail("the driver has no pipes")
        self.driver.stdin.write(
            json.dumps({"url": url, "home": str(self.store.home), "pipeline": self.pipeline, **wanted}) + "\n"
        )
        self.driver.stdin.flush()
        answer: dict[str, Any] = json.loads(self.driver.stdout.readline())
        self.settle()
        return answer

    def settle(self) -> None:
        """Wait until the server has ended what a killed process had sent it: a COMMIT may still be under way."""
        busy = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        while self.store.database.dialect == "postgresql":
            with self.store.database.reading() as tx:
                if not tx.rows(f"{busy} AND state IN ('active', 'idle in transaction')"):
                    return
            time.sleep(0.005)

    def case(self) -> tuple[int, Path]:
        """Return a start value that was not used before, and an empty book."""
        start = next(self.starts)
        book = self.folder / f"book-{start}"
        book.touch()
        return start, book

    def killed(self, **how: Any) -> tuple[int, Path, dict[str, Any]]:
        """Start a run that is killed."""
        start, book = self.case()
        return start, book, self.order(start=start, book=str(book), **how)

    def recover(self, start: int, book: Path, **how: Any) -> None:
        """Resume (or start again) until the run has succeeded, and check what the books and the journal say."""
        run_id = self.run_of(start)
        before = self.committed(run_id)
        notes = Counter(line.split()[1] for line in book.read_text().splitlines())
        answer = self.order(start=start, book=str(book), run=run_id, **how)
        run_id = run_id or self.run_of(start)
        after = Counter(line.split()[1] for line in book.read_text().splitlines())
        assert {name: after[name] for name in before} == {name: notes[name] for name in before}
        if answer["status"] == KILLED:
            self.recover(start, book)
            return
        assert answer["status"] == 0
        assert run_id, "no run was begun"
        self.check(run_id, start)

    def run_of(self, start: int) -> str | None:
        """Return the run with that start value."""
        table = tables.execution
        with self.store.database.reading() as tx:
            rows = tx.execute(sa.select(table.c.id, table.c.parameters).where(table.c.kind == "run"))
            found = [row.id for row in rows if row.parameters["start"] == start]
        assert len(found) <= 1, "the run was recorded twice"
        return found[0] if found else None

    def committed(self, run_id: str | None) -> set[str]:
        """Return the executions of a run that are done for good."""
        return {step.id for step in get_run(self.store, run_id).steps if step.state in DONE_STEP} if run_id else set()

    def check(self, run_id: str, start: int) -> None:
        """Check that a finished run is whole and that nothing of it is there twice."""
        run = get_run(self.store, run_id)
        assert (run.state, run.output) == (RunState.SUCCEEDED, EXPECTED(start, self.pipeline))
        assert len(run.steps) == STEPS[self.pipeline]
        assert {step.state for step in run.steps} <= DONE_STEP
        assert len({(step.key, step.ordinal) for step in run.steps}) == STEPS[self.pipeline]
        event, version = tables.event, tables.version
        mine = sa.select(event.c.subject_id).where(event.c.type == "step.committed", event.c.execution_id == run_id)
        same = sa.select(version.c.entity_id).group_by(version.c.entity_id, version.c.digest)
        with self.store.database.reading() as tx:
            told = Counter(tx.execute(mine).scalars())
            doubled = tx.execute(same.having(sa.func.count() > 1)).all()
        assert told == Counter(step.id for step in run.steps if step.state == "COMMITTED")
        assert doubled == []
        assert list_runs(self.store, state="RUNNING") == []


@pytest.fixture(scope="module")
def driver() -> Iterator[subprocess.Popen[str]]:
    """One process that has imported everything and forks the children."""
    command = [sys.executable, str(HERE / "driver.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        if process.stdin is not None:
            process.stdin.close()


@pytest.fixture
def harness(any_store: Store, driver: subprocess.Popen[str], tmp_path: Path) -> Harness:
    """The harness on SQLite and on PostgreSQL."""
    return Harness(any_store, driver, tmp_path)


def boundaries(harness: Harness, **how: Any) -> list[str]:
    """Return the boundaries of a run that nobody disturbs."""
    start, _, answer = harness.killed(kill_at=ALL, **how)
    assert answer["status"] == 0
    run_id = harness.run_of(start)
    assert run_id is not None
    harness.check(run_id, start)
    names: list[str] = answer["boundaries"]
    return names


def places(harness: Harness, names: list[str]) -> list[int]:
    """Return where to kill, counted from 1: everywhere; on PostgreSQL at a third, and where a name is new."""
    if harness.store.database.dialect == "sqlite":
        return list(range(1, len(names) + 1))
    return [place for place, name in enumerate(names, start=1) if place % 3 == 0 or name not in names[: place - 1]]


def test_a_run_killed_at_some_boundaries_goes_on(harness: Harness) -> None:
    names = boundaries(harness)
    for name in ("run.open:inside", "step.start:after", "step.commit:inside", "step.end:inside", "run.finish:inside"):
        start, book, answer = harness.killed(kill_at=names.index(name) + 1)
        assert answer["status"] == KILLED
        harness.recover(start, book)


@pytest.mark.timeout(900)
@pytest.mark.slow
@PIPELINES
def test_a_run_killed_at_every_boundary_goes_on(harness: Harness, name: str) -> None:
    harness.pipeline = name
    for place in places(harness, boundaries(harness)):
        start, book, answer = harness.killed(kill_at=place)
        # Threads that end together are committed together: such a run has a few boundaries less.
        assert answer["status"] == (KILLED if len(answer["boundaries"]) == place else 0)
        harness.recover(start, book)


@pytest.mark.timeout(900)
@pytest.mark.slow
@PIPELINES
def test_a_run_killed_again_at_every_boundary_of_its_resumption_goes_on(harness: Harness, name: str) -> None:
    harness.pipeline = name
    names = boundaries(harness)
    first = names.index("step.commit:inside") + 1
    start, book, _ = harness.killed(kill_at=first)
    resumed = harness.order(start=start, book=str(book), run=harness.run_of(start), kill_at=ALL)
    assert resumed["status"] == 0
    assert len(resumed["boundaries"]) > 20
    for place in places(harness, resumed["boundaries"]):
        start, book, _ = harness.killed(kill_at=first)
        again = harness.order(start=start, book=str(book), run=harness.run_of(start), kill_at=place)
        assert again["status"] == KILLED or name == "surge"  # whose threads may end together: a few boundaries less
        harness.recover(start, book)


@pytest.mark.timeout(900)
@pytest.mark.slow
@PIPELINES
def test_fifty_runs_of_each_pipeline_killed_at_random_moments_go_on(harness: Harness, name: str) -> None:
    """On both databases that is two hundred; each is killed again, or at least aimed at, when it is resumed."""
    harness.pipeline = name
    boundaries(harness)
    began = time.monotonic()
    boundaries(harness)
    lasts = time.monotonic() - began  # the moments lie within a run, however fast this machine is
    ends: Counter[int] = Counter()
    for seed in range(50):
        chance = random.Random(seed)
        start, book, answer = harness.killed(kill_after=chance.uniform(0.0, lasts))
        ends[answer["status"]] += 1
        harness.recover(start, book, kill_after=chance.uniform(0.0, lasts))
    assert set(ends) <= {0, KILLED}
    assert ends[KILLED] > 10, "the moments should lie within the run"


def test_a_killed_run_is_found_lost(harness: Harness) -> None:
    names = boundaries(harness)
    start, _, _ = harness.killed(kill_at=names.index("step.start:after") + 1)
    run = list_runs(harness.store)[0]
    assert (run.state, run.id) == (RunState.LOST, harness.run_of(start))
    assert [step.state for step in get_run(harness.store, run.id).steps] == ["LOST"]
    assert "died" in (run.error or "")


def test_the_next_start_finds_lost_runs_too(harness: Harness) -> None:
    names = boundaries(harness)
    start, _, _ = harness.killed(kill_at=names.index("step.start:after") + 1)
    harness.killed(kill_at=ALL)
    table = tables.execution
    with harness.store.database.reading() as tx:
        state = tx.execute(sa.select(table.c.state).where(table.c.id == harness.run_of(start))).scalar()
    assert state == "LOST"


@pytest.mark.slow
def test_a_killed_parent_takes_its_children_along(harness: Harness) -> None:
    names = boundaries(harness, executor="process")
    place = names.index("step.submitted") + 1
    start, book, answer = harness.killed(kill_at=place, executor="process")
    assert answer["status"] == KILLED
    deadline = time.monotonic() + 20
    for pid in {int(line.split()[2]) for line in book.read_text().splitlines()}:
        while _runs(pid):
            assert time.monotonic() < deadline, f"worker {pid} outlived its parent"
            time.sleep(0.01)
    harness.recover(start, book, executor="process")


def _runs(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_what_a_child_finished_before_its_parent_died_is_taken_over(harness: Harness) -> None:
    names = boundaries(harness, executor="process")
    start, book, _ = harness.killed(kill_at=names.index("step.returned") + 1, executor="process")
    assert book.read_text().count("add ") == 1
    run_id = harness.run_of(start)
    assert harness.committed(run_id) == set()
    harness.recover(start, book, executor="process")
    run = get_run(harness.store, run_id or "")
    notes = Counter(line.split()[1] for line in book.read_text().splitlines())
    assert notes[run.steps[0].id] == 1, "the manifest was there, so the step was not executed again"


def blobs_of(manifest: Path) -> list[str]:
    return [digest for output in json.loads(manifest.read_text())["outputs"] for digest in output["blobs"]]


@pytest.mark.slow
@pytest.mark.parametrize("spoilt", ["empty", "half", "no outputs", "another's", "without its blob"])
def test_what_a_child_left_by_halves_is_ignored(harness: Harness, spoilt: str) -> None:
    names = boundaries(harness, executor="process")
    returned = [place for place, name in enumerate(names, start=1) if name == "step.returned"]
    start, book, _ = harness.killed(kill_at=returned[1], executor="process")  # payload, which gives a blob
    run_id = harness.run_of(start) or ""
    folder = harness.store.home / "runs" / run_id / "attempts"
    (manifest,) = [path for path in folder.glob("*.json") if blobs_of(path)]
    text = manifest.read_text()
    if spoilt == "without its blob":
        harness.store.blobs.delete(blobs_of(manifest)[0])
    else:
        other = json.dumps(json.loads(text) | {"id": "other"})
        changed = {"empty": "", "half": text[: len(text) // 2], "no outputs": "{}", "another's": other}
        manifest.write_text(changed[spoilt])
    harness.recover(start, book, executor="process")
    assert book.read_text().count("payload") == 2


@pytest.mark.slow
def test_a_run_killed_at_some_boundaries_of_the_process_executor_goes_on(harness: Harness) -> None:
    names = boundaries(harness, executor="process")
    for place in range(3, len(names) + 1, max(1, len(names) // 6)):
        start, book, answer = harness.killed(kill_at=place, executor="process")
        assert answer["status"] == KILLED
        harness.recover(start, book, executor="process")
