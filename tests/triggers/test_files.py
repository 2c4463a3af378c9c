"""Files count once, when they are complete: written slowly, renamed in, written over, gone; restarts forget nothing."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tidewheel.clock import ManualClock, SystemClock
from tidewheel.errors import InvalidInput
from tidewheel.lineage.store import Store
from tidewheel.pipelines.runs import list_runs
from tidewheel.testing.triggers import Asking
from tidewheel.triggers import Policy, Schedule, event, files
from tidewheel.triggers.conduct import conduct_schedules
from tidewheel.triggers.inbox import Files
from tidewheel.triggers.tick import tick

Book = Callable[[], list[str]]


def go(store: Store, seconds: float) -> None:
    assert isinstance(store.clock, ManualClock)
    store.clock.advance(timedelta(seconds=seconds))


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def make(project: ModuleType, inbox: Path, **options: Any) -> Schedule:
    return Schedule(
        project.keep_books,
        on=[files(str(inbox / "*.csv"), **options)],
        name="inbox",
        parameters={"paths": event("files")},
        policy=Policy(one_at_a_time=False),
    )


def test_a_file_counts_when_it_has_not_changed_for_a_while(
    any_store: Store, project: ModuleType, book: Book, inbox: Path
) -> None:
    schedule = make(project, inbox, settle="10s")
    path = inbox / "a.csv"
    for part in range(5):
        with path.open("a") as file:
            file.write(f"{part}\n")
        (report,) = tick(any_store, [schedule])
        assert (report.verdict, "1 not complete yet" in report.reason) == ("quiet", True)
        go(any_store, 9)
    go(any_store, 1)
    assert [report.verdict for report in tick(any_store, [schedule])] == ["fired"]
    assert book() == ["a.csv"]
    go(any_store, 100)
    assert [report.verdict for report in tick(any_store, [schedule])] == ["quiet"]
    path.write_text("anew\n")
    tick(any_store, [schedule])
    go(any_store, 10)
    tick(any_store, [schedule])
    assert book() == ["a.csv", "a.csv"]


def test_a_file_that_is_renamed_in_counts_at_once(store: Store, project: ModuleType, book: Book, inbox: Path) -> None:
    schedule = make(project, inbox, settle="1h")
    (inbox / "b.csv.part").write_text("1\n")
    tick(store, [schedule])
    (inbox / "b.csv.part").rename(inbox / "b.csv")
    (inbox / "c.csv").write_text("half")
    (report,) = tick(store, [schedule])
    assert (report.verdict, book()) == ("fired", ["b.csv"])


def test_one_run_takes_all_or_each_has_its_own(store: Store, project: ModuleType, book: Book, inbox: Path) -> None:
    together, each = make(project, inbox, settle=0), make(project, inbox, settle=0, each=True)
    for name in "abc":
        (inbox / f"{name}.csv").write_text(name)
    tick(store, [together])
    assert book() == ["a.csv,b.csv,c.csv"]
    apart = Schedule(
        each.pipeline, on=each.on, name="apart", parameters=each.parameters, policy=Policy(one_at_a_time=False)
    )
    assert len([report for report in tick(store, [apart]) if report.verdict == "fired"]) == 3
    assert sorted(book()[1:]) == ["a.csv", "b.csv", "c.csv"]


def test_by_digest_the_same_bytes_do_not_count_again(
    store: Store, project: ModuleType, book: Book, inbox: Path
) -> None:
    schedule = make(project, inbox, settle=0, by="digest")
    path = inbox / "a.csv"
    for content, count in (("one", 1), ("one", 1), ("two", 2)):
        path.write_text(content)
        os.utime(path, ns=(0, len(book()) * 10**9 + path.stat().st_mtime_ns))
        tick(store, [schedule])
        assert len(book()) == count
    with store.database.reading() as tx:
        before = tx.rows("SELECT revision FROM trigger_state")
    tick(store, [schedule])
    with store.database.reading() as tx:
        assert tx.rows("SELECT revision FROM trigger_state") == before


def test_what_was_there_before_counts_only_if_it_is_wanted(
    store: Store, project: ModuleType, book: Book, inbox: Path
) -> None:
    schedule = make(project, inbox, settle=0, existing=False)
    (inbox / "old.csv").write_text("old")
    tick(store, [schedule])
    (inbox / "new.csv").write_text("new")
    tick(store, [schedule])
    assert book() == ["new.csv"]


def test_the_conductor_is_woken_by_a_file_and_stops(store: Store, project: ModuleType, book: Book, inbox: Path) -> None:
    live = Store(database=store.database, blobs=store.blobs, clock=SystemClock(), home=store.home)
    schedule, stop = make(project, inbox, settle=0), threading.Event()
    conductor = threading.Thread(
        target=conduct_schedules, args=(live, [schedule]), kwargs={"stop": stop, "seconds": 3600.0}
    )
    conductor.start()
    patience = threading.Event()
    for number in range(60):  # whenever the watching has begun, one of these is seen
        (inbox / f"{number}.csv").write_text("x")
        if patience.wait(0.5) or list_runs(store, pipeline="keep_books", state="SUCCEEDED"):
            break
    stop.set()
    conductor.join(60)
    assert not conductor.is_alive()
    assert [run.state for run in list_runs(store, pipeline="keep_books")][-1] == "SUCCEEDED"
    assert "0.csv" in book()[0]


def test_a_pattern_is_needed() -> None:
    with pytest.raises(InvalidInput, match="inbox"):
        files("")


@pytest.mark.parametrize(
    ("pattern", "folder"),
    [("inbox/*.csv", "inbox"), ("inbox/a.csv", "inbox"), ("in/**/x/*.csv", "in"), ("*.csv", "."), ("/a/b?/c", "/a")],
)
def test_the_folder_of_a_pattern(pattern: str, folder: str) -> None:
    found = files(pattern)
    assert isinstance(found, Files)
    assert found.folder == Path(folder)


class Inbox(RuleBasedStateMachine):
    """Whatever happens in a folder, each content of each name counts once, and only when it has stood still."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = Path(tempfile.mkdtemp(prefix="tidewheel-inbox-"))
        self.trigger = files(str(self.folder / "*.csv"), settle=5)
        self.memory: dict[str, Any] = {}
        self.used: dict[str, str] = {}
        self.clock = ManualClock()
        self.taken: list[str] = []
        self.contents: dict[str, str] = {}  # what every name holds now
        self.serial = 0
        self.touched: dict[str, Any] = {}  # when each name was written last

    names = st.sampled_from(["a", "b", "c"])

    @rule(name=names)
    def write(self, name: str) -> None:
        self.serial += 1
        path = self.folder / f"{name}.csv"
        path.write_text("x" * self.serial)  # another size each time
        self.contents[name], self.touched[name] = f"{name}:{self.serial}", self.clock.now()

    @rule(name=names)
    def remove(self, name: str) -> None:
        (self.folder / f"{name}.csv").unlink(missing_ok=True)
        self.contents.pop(name, None)

    @rule(seconds=st.integers(-3, 8))
    def wait(self, seconds: int) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    @rule(restart=st.booleans())
    def look(self, restart: bool) -> None:
        if restart:
            import json

            self.memory = json.loads(json.dumps(self.memory))
        name = self.trigger.name
        found = self.trigger.look(Asking(self.clock.now(), self.memory, used={name: self.used}))
        self.memory |= found.keep
        for item in found.items:
            self.used[item.name] = item.stamp
            base = Path(item.name).stem
            self.taken.append(self.contents[base])

    @invariant()
    def nothing_twice(self) -> None:
        assert len(self.taken) == len(set(self.taken))

    @precondition(lambda self: self.contents)
    @rule()
    def in_the_end_all_are_taken(self) -> None:
        self.look(restart=False)
        self.clock.advance(timedelta(seconds=20))
        self.look(restart=True)
        assert set(self.contents.values()) <= set(self.taken)

    def teardown(self) -> None:
        import shutil

        shutil.rmtree(self.folder)


TestInbox = Inbox.TestCase
TestInbox.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
