"""Who scores: this process, several processes, or a Ray cluster."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from tidewheel.errors import ModelFailed
from tidewheel.pipelines.executors.family import hear_of_parents_end
from tidewheel.scoring.loaded import Loaded, Portable
from tidewheel.scoring.parts import Stretch, score_to_files

_THREADS = "POLARS_MAX_THREADS"
_model: list[Loaded] = []  # the model of a worker process, loaded once


def score_all(
    model: Loaded,
    work: Sequence[Stretch],
    folder: Path,
    *,
    jobs: int = 1,
    on: str = "here",
    address: str = "auto",
    tell: Callable[[int], None],
) -> None:
    """Score stretches into files of a folder, in any order; `tell` hears of rows that are kept.

    Raises what scoring raises, ModelFailed when a process dies under a model.
    """
    if on == "ray" and work:
        from tidewheel.scoring.on_ray import score_on_ray

        score_on_ray(model.portable, work, folder, address=address, tell=tell)
    elif jobs == 1 or len(work) <= 1:
        for stretch in work:
            score_to_files(model, stretch, folder, tell)
    else:
        _score_in_processes(model.portable, work, folder, jobs, tell)


def _score_in_processes(
    portable: Portable, work: Sequence[Stretch], folder: Path, jobs: int, tell: Callable[[int], None]
) -> None:
    with (
        _few_threads(),
        ProcessPoolExecutor(
            min(jobs, len(work)), mp_context=get_context("spawn"), initializer=_begin, initargs=(portable,)
        ) as pool,
    ):
        waiting = [pool.submit(_score, stretch, folder) for stretch in work]
        try:
            for done in as_completed(waiting):
                tell(done.result())
        except BrokenProcessPool as error:
            raise ModelFailed(
                f"A process that scored with {portable.name} died.",
                "Look for a lack of memory, then give the same command again: what was scored is kept.",
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _few_threads() -> Iterator[None]:
    """Let each new process read with one thread: the others have cores to use."""
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = before or "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_THREADS]


def _begin(portable: Portable) -> None:
    hear_of_parents_end(signal.SIGKILL)  # a pool whose parent was killed would wait for ever
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _model.append(portable.unpack())


def _score(stretch: Stretch, folder: Path) -> int:
    return score_to_files(_model[0], stretch, folder)
