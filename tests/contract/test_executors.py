"""Every executor of ours keeps the promises of the seam."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from tidewheel.pipelines.executors.inline import InlineExecutor
from tidewheel.pipelines.executors.process import ProcessExecutor
from tidewheel.pipelines.executors.seam import Executor, Site
from tidewheel.pipelines.stored import Shelf
from tidewheel.testing.executors import ExecutorContract


class TestInlineExecutor(ExecutorContract):
    """Steps in this process."""

    background: ClassVar[bool] = False

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls) -> Callable[[Shelf], Executor]:
        return lambda shelf: InlineExecutor(Site(shelf=shelf, attempts=Path()))


@pytest.mark.slow
class TestProcessExecutor(ExecutorContract):
    """Steps in warm children."""

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Shelf], Executor]:
        attempts = tmp_path_factory.mktemp("attempts")
        return lambda shelf: ProcessExecutor(Site(shelf=shelf, attempts=attempts, options={"places": 2}))
