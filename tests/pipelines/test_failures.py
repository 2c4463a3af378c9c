"""Steps that raise, hang, die, or give what cannot be kept: each says which, why, and how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tidewheel.blobs.store import MemoryBlobs
from tidewheel.errors import InvalidInput, RunFailed, StepFailed, StepTimeout, StorageUnavailable
from tidewheel.lineage.store import Store
from tidewheel.pipelines.runs import RunEvent, get_run, list_runs, resume_run, start_run
from tidewheel.pipelines.transitions import RunState, StepState

EXECUTORS = ["inline", "process"]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_step_that_raises_is_named_with_its_last_lines(
    store: Store, sample: ModuleType, book: Path, executor: str
) -> None:
    with pytest.raises(StepFailed) as failed:
        start_run(store, sample.broken, {"book": str(book)}, executor=executor)
    error = failed.value
    assert error.what.startswith("Step breaks of broken failed: ZeroDivisionError: ")
    assert "sample_steps.py, line" in error.what
    assert f"tidewheel resume FILE.py:broken {error.run_id}" in error.mend
    assert "about to divide 2" in error.mend
    log = Path(error.log).read_text()
    assert "on standard error" in log
    assert "return x // 0" in log
    assert "tidewheel/pipelines" not in log, "frames of the room say nothing to the user"
    run = get_run(store, error.run_id)
    assert (run.state, run.error) == (RunState.FAILED, str(error))
    assert [(step.name, step.state) for step in run.steps] == [
        ("noted", StepState.COMMITTED),
        ("breaks", StepState.FAILED),
        ("noted-2", StepState.SKIPPED),
        ("noted-3", StepState.COMMITTED),
    ]


def test_the_error_of_an_inline_step_is_the_cause(store: Store, sample: ModuleType, book: Path) -> None:
    with pytest.raises(StepFailed) as failed:
        start_run(store, sample.broken, {"book": str(book)})
    assert isinstance(failed.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_body_may_deal_with_a_failure_itself(store: Store, sample: ModuleType, book: Path, executor: str) -> None:
    run = start_run(store, sample.tolerant, {"book": str(book)}, executor=executor)
    assert (run.state, run.output) == (RunState.SUCCEEDED, 8)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_retries_go_on_until_it_works_or_none_is_left(
    store: Store, sample: ModuleType, book: Path, executor: str
) -> None:
    told: list[RunEvent] = []
    run = start_run(store, sample.stubborn, {"book": str(book)}, executor=executor, on_event=told.append)
    assert run.output == 3
    assert run.steps[0].attempt == 3
    assert [event.state for event in told if event.step] == [
        "RUNNING",
        "RETRY_AT",
        "RUNNING",
        "RETRY_AT",
        "RUNNING",
        "COMMITTED",
    ]
    with pytest.raises(StepFailed, match=r"tried 3 times.*not yet: try 6"):
        start_run(store, sample.stubborn, {"book": str(book), "succeed_at": 9}, executor=executor)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_step_that_hangs_is_ended_with_its_children(
    store: Store, sample: ModuleType, book: Path, executor: str
) -> None:
    with pytest.raises(StepTimeout, match=r"Step hangs of hanging failed: .*timeout of 0.5 s.*\n.*@step\(timeout="):
        start_run(store, sample.hanging, {"book": str(book)}, executor=executor)
    child = int(book.read_text().split()[-1])
    assert _ends(child)


def _ends(pid: int) -> bool:
    """Say whether a process ends; one that waits to be collected has ended. The kernel may take a moment."""
    stat, deadline = Path(f"/proc/{pid}/stat"), time.monotonic() + 10
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_run_that_ends_leaves_no_step_open(store: Store, sample: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="enough") as failed:
        start_run(store, sample.ends_early, {"folder": str(tmp_path)}, executor="process")
    run = get_run(store, failed.value.run_id)
    assert [(step.name, step.state) for step in run.steps] == [
        ("meets", StepState.CANCELLED),
        ("tries_again_later", StepState.CANCELLED),
    ]
    (tmp_path / "right").touch()
    with pytest.raises(RunFailed, match="enough"):
        resume_run(store, run.id, sample.ends_early, executor="process")


def test_a_killed_child_is_told_by_its_signal(store: Store, sample: ModuleType) -> None:
    with pytest.raises(StepFailed, match=r"its process was killed by SIGKILL\n.*memory"):
        start_run(store, sample.dying)


def test_a_child_that_leaves_is_told_by_its_code(store: Store, sample: ModuleType) -> None:
    with pytest.raises(StepFailed, match="its process exited with code 7"):
        start_run(store, sample.leaving)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_output_that_cannot_be_kept_fails_the_step(store: Store, sample: ModuleType, executor: str) -> None:
    with pytest.raises(StepFailed, match=r"returns_a_lock of .*lock cannot be stored.*\n.*inside the step"):
        start_run(store, sample.gives_a_lock, executor=executor)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_step_that_returns_another_number_of_values_fails(store: Store, sample: ModuleType, executor: str) -> None:
    with pytest.raises(StepFailed, match=r"annotated to return 2 values and returned 3 values"):
        start_run(store, sample.miscounted, executor=executor)


def test_a_value_without_content_is_not_cached_and_says_so(store: Store, sample: ModuleType) -> None:
    for _ in range(2):
        run = start_run(store, sample.takes_a_lock)
        assert run.output == "lock"
        assert run.steps[0].state is StepState.COMMITTED
        assert run.steps[0].reason.startswith("not cached: argument 'thing': ")


def test_a_value_that_cannot_be_pickled_is_refused_by_the_process_executor(store: Store, sample: ModuleType) -> None:
    with pytest.raises(StepFailed, match=r"argument 'thing' of takes cannot go to another process.*\n.*on=.inline."):
        start_run(store, sample.takes_a_lock, executor="process")


def test_blobs_in_memory_are_refused_by_the_process_executor(store: Store, sample: ModuleType, book: Path) -> None:
    memory = Store(database=store.database, blobs=MemoryBlobs(), clock=store.clock, home=store.home)
    with pytest.raises(InvalidInput, match="child processes"):
        start_run(memory, sample.chain, {"n": 1, "book": str(book)}, executor="process")


def test_code_that_differs_in_every_process_is_executed_and_not_cached(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tidewheel.pipelines.target import load_target

    (tmp_path / "restless.py").write_text(
        "import os\n"
        "from tidewheel.pipelines.step import step\n"
        "from tidewheel.pipelines.pipeline import pipeline\n"
        "STARTED = os.getpid()\n\n"
        "@step\n"
        "def one(x: int) -> int:\n"
        "    return x if STARTED else 0\n\n"
        "@pipeline\n"
        "def restless() -> int:\n"
        "    return one(1)\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    pipeline = load_target(f"{tmp_path / 'restless.py'}:restless")
    for _ in range(2):
        run = start_run(store, pipeline, executor="process")
        assert (run.output, run.steps[0].state) == (1, StepState.COMMITTED)


def test_a_text_that_names_a_file_gives_a_hint(store: Store, sample: ModuleType, book: Path) -> None:
    from tidewheel.pipelines.why import why

    run = start_run(store, sample.chain, {"n": 1, "book": str(book)})
    assert any("pass a pathlib.Path" in line for line in why(store, run.id).lines())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root with CAP_SYS_ADMIN; the test of RLIMIT_FSIZE stands in")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_full_disk_ends_the_run_without_harm(
    store: Store, sample: ModuleType, small_disk: Path, executor: str
) -> None:
    from tidewheel.blobs.folder import FolderBlobs

    tight = Store(database=store.database, blobs=FolderBlobs(small_disk), clock=store.clock, home=store.home)
    with pytest.raises(StorageUnavailable, match=r"No space left.*\n.*Free room"):
        start_run(tight, sample.filling, {"size": 8_000_000}, executor=executor)
    run = list_runs(store)[0]
    assert run.state is RunState.FAILED
    assert start_run(tight, sample.filling, {"size": 100_000}, executor=executor).output == 100_000
    assert not list(small_disk.rglob(".partial-*"))


LIMITED = """
import resource, signal, sys
from pathlib import Path
from tidewheel.app import open_store
from tidewheel.errors import StorageUnavailable
from tidewheel.pipelines.runs import start_run
from tidewheel.pipelines.target import load_target
from tidewheel.settings import Settings
store = open_store(Settings(home=Path(sys.argv[1]), storage_patience=0.0))
filling = load_target(sys.argv[2] + ":filling")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
try:
    start_run(store, filling, {"size": 4_000_000})
except StorageUnavailable as error:
    print(error)
"""


def test_a_file_size_limit_is_told_like_a_full_disk(tmp_path: Path, sample: ModuleType) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path), str(sample.__file__)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot be kept" in done.stdout
    assert "Free room" in done.stdout


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder that even root cannot write."""
    place = tmp_path / "sealed"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        place.chmod(0o500)
        yield place
        place.chmod(0o700)
        return
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_read_only_home_is_refused_with_advice(store: Store, sample: ModuleType, book: Path, read_only: Path) -> None:
    sealed = Store(database=store.database, blobs=store.blobs, clock=store.clock, home=read_only)
    with pytest.raises(StorageUnavailable, match=r"The lock .* cannot be made.*\n.*writable"):
        start_run(sealed, sample.chain, {"n": 1, "book": str(book)})
    assert list_runs(store) == []


def test_signals_are_named() -> None:
    from tidewheel.pipelines.executors.fleet import _death

    cases: list[tuple[Any, str]] = [
        (-signal.SIGSEGV, "was killed by SIGSEGV"),
        (-200, "was killed by signal 200"),
        (None, "died with the warden of all workers"),
    ]
    assert [_death(code) for code, _ in cases] == [text for _, text in cases]
