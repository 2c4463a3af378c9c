"""Steps in environments of their own: other versions, made once, never used half made."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from tests.contract.wheels import wheel

from tidewheel.errors import InvalidInput, StepFailed
from tidewheel.lineage.store import Store
from tidewheel.pipelines.executors.environments import existing, find_uv, make, python_in, recipe_of, satisfies
from tidewheel.pipelines.executors.isolated import project_path
from tidewheel.pipelines.runs import start_run
from tidewheel.pipelines.target import load_target
from tidewheel.pipelines.transitions import StepState

pytestmark = pytest.mark.slow


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the sample steps, a lock that asks for tidepool 1.0, and tidepool 2.0 for the rest of us."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("isolated_steps.py"), folder)
    (folder / "shallow.txt").write_text(f"{wheel(tmp_path / 'wheels', 'tidepool', '1.0', 'DEPTH = 1')}\n")
    installed = tmp_path / "installed" / "site-packages"
    installed.mkdir(parents=True)
    (installed / "tidepool.py").write_text("DEPTH = 2\n")
    monkeypatch.syspath_prepend(str(installed))
    yield folder
    for name in ("isolated_steps", "tidepool"):
        sys.modules.pop(name, None)


@pytest.fixture
def sample(place: Path) -> ModuleType:
    load_target(f"{place / 'isolated_steps.py'}:depths")
    return sys.modules["isolated_steps"]


def test_a_step_sees_the_versions_of_its_lock(store: Store, sample: ModuleType) -> None:
    import tidepool  # type: ignore[import-not-found] # the fixture has put it there

    run = start_run(store, sample.depths, {"at": 40})
    deep, prefix = run.output
    assert (deep, tidepool.DEPTH) == (41, 2)
    assert Path(prefix).parent == store.home / "environments"
    again = start_run(store, sample.depths, {"at": 40})
    assert [step.state for step in again.steps] == [StepState.CACHED]


def test_another_lock_is_another_environment_and_another_answer(
    store: Store, sample: ModuleType, place: Path, tmp_path: Path
) -> None:
    first, _ = start_run(store, sample.depths).output
    (place / "shallow.txt").write_text(f"{wheel(tmp_path / 'wheels', 'tidepool', '3.0', 'DEPTH = 3')}\n")
    second, _ = start_run(store, sample.depths).output
    assert (first, second) == (1, 3)


def _times(place: Path) -> None:
    """Let the project's files be older than this process, as a user's are."""
    for file in place.glob("*.py"):
        os.utime(file, (1_000_000_000, 1_000_000_000))


def _noted(place: Path) -> None:
    (place / "shallow.txt").write_text((place / "shallow.txt").read_text() + "# a comment: the file's bytes count\n")


def _edited(place: Path) -> None:
    text = (place / "isolated_steps.py").read_text()
    (place / "isolated_steps.py").write_text(text.replace("return at + (", "return 100 + at + ("))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _: None, (StepState.CACHED, 4)),
        (_times, (StepState.CACHED, 4)),
        (_noted, (StepState.COMMITTED, 4)),
        (_edited, (StepState.COMMITTED, 104)),
    ],
)
def test_answers_of_code_that_only_its_environment_can_load_whole_are_cached(
    store: Store, place: Path, tmp_path: Path, change: Callable[[Path], None], expected: tuple[StepState, int]
) -> None:
    (place / "shallow.txt").write_text(f"{wheel(tmp_path / 'wheels', 'deepwater', '1.0', 'DEPTH = 4')}\n")
    _times(place)
    outputs = []
    for before in (lambda _: None, change):
        before(place)
        sys.modules.pop("isolated_steps", None)
        run = start_run(store, load_target(f"{place / 'isolated_steps.py'}:soundings"))
        outputs.append((run.steps[0].state, run.output))
    assert outputs == [(StepState.COMMITTED, 4), expected]


def test_a_file_that_was_edited_since_it_was_loaded_gives_no_answer_for_the_cache(
    store: Store, place: Path, tmp_path: Path
) -> None:
    (place / "shallow.txt").write_text(f"{wheel(tmp_path / 'wheels', 'deepwater', '1.0', 'DEPTH = 4')}\n")
    _times(place)
    loaded = load_target(f"{place / 'isolated_steps.py'}:soundings")
    _edited(place)
    assert start_run(store, loaded).output == 104  # what its environment loads
    states = [start_run(store, loaded).steps[0].state for _ in range(2)]
    assert states == [StepState.COMMITTED, StepState.COMMITTED]


def test_a_script_header_is_an_environment_with_tidewheel_and_nothing_else_of_ours(
    store: Store, sample: ModuleType
) -> None:
    assert start_run(store, sample.bareness).output == ["tidewheel"]


def test_a_lock_that_is_not_there_is_named(store: Store, sample: ModuleType) -> None:
    with pytest.raises((InvalidInput, StepFailed), match=r"absent\.txt"):
        start_run(store, sample.loss)


def test_a_lock_that_cannot_be_installed_shows_what_the_installer_said(
    store: Store, sample: ModuleType, place: Path
) -> None:
    (place / "shallow.txt").write_text("./no-such-wheel-1.0-py3-none-any.whl\n")
    with pytest.raises(StepFailed, match=r"shallow\.txt cannot be made: uv ended with \d(.|\n)*no-such-wheel"):
        start_run(store, sample.depths)
    recipe = recipe_of(sample.depth, "shallow.txt")
    assert existing(recipe, store.home / "environments") is None


def test_pip_makes_the_same_environment(sample: ModuleType, tmp_path: Path) -> None:
    folder = make(recipe_of(sample.depth, "shallow.txt"), tmp_path / "environments", "pip")
    said = subprocess.run(
        [python_in(folder), "-c", "import tidepool; print(tidepool.DEPTH)"], capture_output=True, text=True, check=True
    )
    assert said.stdout == "1\n"


def test_two_processes_make_an_environment_once(sample: ModuleType, tmp_path: Path) -> None:
    recipe, root = recipe_of(sample.depth, "shallow.txt"), tmp_path / "environments"
    context = multiprocessing.get_context("fork")
    makers = [context.Process(target=make, args=(recipe, root)) for _ in range(2)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join(120)
    assert [maker.exitcode for maker in makers] == [0, 0]
    folder = existing(recipe, root)
    assert folder is not None
    before = (folder / "pyvenv.cfg").stat().st_mtime_ns
    assert make(recipe, root) == folder
    assert (folder / "pyvenv.cfg").stat().st_mtime_ns == before


def test_a_maker_killed_in_the_middle_leaves_nothing_that_is_used(sample: ModuleType, tmp_path: Path) -> None:
    recipe, root = recipe_of(sample.depth, "shallow.txt"), tmp_path / "environments"
    pid = os.fork()
    if pid == 0:
        try:
            make(recipe, root)
        finally:
            os._exit(0)
    deadline = time.monotonic() + 60
    while not (root / recipe.digest).exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert existing(recipe, root) is None
    folder = make(recipe, root)
    assert folder == existing(recipe, root)
    assert subprocess.run([python_in(folder), "-c", "import tidepool"], check=False).returncode == 0


def test_the_projects_own_path_has_neither_python_nor_installed_packages(place: Path) -> None:
    found = [Path(entry).resolve() for entry in project_path()]
    assert not [entry for entry in found if "lib/python" in entry.as_posix()]


@pytest.mark.parametrize(
    ("specifier", "version", "expected"),
    [
        ("", (3, 11), True),
        (">=3.11", (3, 11), True),
        (">=3.12", (3, 11), False),
        (">3.10,<3.12", (3, 11), True),
        ("~=3.11", (3, 12), True),
        ("~=3.11.2", (3, 12), False),
        ("==3.11.*", (3, 11), True),
        ("==3.11.4", (3, 11), True),
        ("!=3.11", (3, 11), False),
        ("===3.11", (3, 11), False),
    ],
)
def test_satisfies_reads_specifiers(specifier: str, version: tuple[int, int], *, expected: bool) -> None:
    assert satisfies(specifier, version) is expected


def test_uv_is_found() -> None:
    found = find_uv()
    assert found is not None
    assert Path(found).is_file()
