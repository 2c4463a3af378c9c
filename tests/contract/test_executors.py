"""Every executor of ours keeps the promises of the seam."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.contract.wheels import wheel

from tidewheel.pipelines.executors.environments import Recipe, recipe_of
from tidewheel.pipelines.executors.inline import InlineExecutor
from tidewheel.pipelines.executors.isolated import IsolatedExecutor
from tidewheel.pipelines.executors.process import ProcessExecutor
from tidewheel.pipelines.executors.seam import Executor, Site, Task
from tidewheel.pipelines.executors.threads import ThreadsExecutor
from tidewheel.pipelines.stored import Shelf
from tidewheel.testing.executors import ChildProcessContract, ExecutorContract


class TestInlineExecutor(ExecutorContract):
    """Steps in this process, one after the other."""

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls) -> Callable[[Shelf], Executor]:
        return lambda shelf: InlineExecutor(Site(shelf=shelf, attempts=Path()))


class TestThreadsExecutor(ExecutorContract):
    """Steps in this process, side by side."""

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls) -> Callable[[Shelf], Executor]:
        return lambda shelf: ThreadsExecutor(Site(shelf=shelf, attempts=Path(), options={"places": 3}))


class TestProcessExecutor(ChildProcessContract):
    """Steps in warm children."""

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Shelf], Executor]:
        attempts = tmp_path_factory.mktemp("attempts")
        options = {"places": 2, "beat_seconds": 0.05}
        return lambda shelf: ProcessExecutor(Site(shelf=shelf, attempts=attempts, options=options))


class InOneEnvironment(IsolatedExecutor):
    """The isolated executor with one environment for all steps, whatever they say."""

    lock: Path

    def recipe(self, task: Task) -> Recipe:
        """Take the same requirements for every step."""
        return recipe_of(task.step, str(self.lock))


@pytest.mark.slow
class TestIsolatedExecutor(ChildProcessContract):
    """Steps in warm children of an environment without any of our packages."""

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Shelf], Executor]:
        folder = tmp_path_factory.mktemp("isolated")
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{wheel(folder, 'tidepool', '1.0', 'DEPTH = 1')}\n")
        options = {"places": 2, "beat_seconds": 0.05, "environments": str(folder / "environments")}

        def made(shelf: Shelf) -> Executor:
            executor = InOneEnvironment(Site(shelf=shelf, attempts=folder / "attempts", options=options))
            executor.lock = requirements
            return executor

        return made
