"""Challengers in the shadow: scored by a thread after the answer has left, compared, logged, dropped under load."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isclose
from queue import SimpleQueue
from time import perf_counter_ns

from tidewheel.predictions.records import Shadowed
from tidewheel.registry.strategy import Shadow
from tidewheel.serving.arms import Answer, Arm, Deployed, said
from tidewheel.serving.ask import Ask
from tidewheel.serving.journal import Journal
from tidewheel.serving.metrics import Counters

SAME = 1e-6  # relative difference of two numbers that count as the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How far two answers to the same rows are apart."""

    differ: int  # rows predicted otherwise
    distance: float  # greatest absolute difference of a probability, or of a number


@dataclass(frozen=True, slots=True)
class _Task:
    """One answer that a challenger is to be compared with. Positional, because one is built per request."""

    deployed: Deployed
    arm: Arm
    ask: Ask
    answer: Answer


class Shadows:
    """Scores challengers of one endpoint in one thread of its own, which begins with the first request.

    `offer` never waits: where more requests wait than the strategy allows, the shadow is dropped and counted.
    """

    def __init__(self, model: str, journal: Journal, counters: Counters, now_us: Callable[[], int]) -> None:
        self._model = model
        self._journal = journal
        self._counters = counters
        self._now_us = now_us
        self._tasks: SimpleQueue[_Task | threading.Event] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ended = False

    def offer(self, deployed: Deployed, ask: Ask, answer: Answer) -> None:
        """Take an answer that has been given; for one thread."""
        strategy = deployed.traffic.strategy
        most = strategy.queue if isinstance(strategy, Shadow) else 0
        if self._ended or deployed.way is None:
            return
        if self._tasks.qsize() >= most * len(deployed.way.shadows):
            self._counters.shadow_dropped += 1
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tidewheel-shadow", daemon=True)
            self._thread.start()
        for arm in deployed.way.shadows:
            self._tasks.put(_Task(deployed, arm, ask, answer))

    def drain(self, seconds: float | None = None) -> bool:
        """Wait until what was offered so far is scored, at most some seconds; say whether it is."""
        if self._thread is None:
            return True
        done = threading.Event()
        self._tasks.put(done)
        return done.wait(seconds)

    def close(self, seconds: float = 5.0) -> None:
        """Score what waits, at most some seconds, and take nothing more."""
        self._ended = True
        self.drain(seconds)

    def _run(self) -> None:
        while True:
            task = self._tasks.get()
            if isinstance(task, _Task):
                self._score(task)
                continue
            task.set()
            if self._ended:
                return

    def _score(self, task: _Task) -> None:
        counters, arm = self._counters, task.arm
        answer, error, started = Answer([], None), "", perf_counter_ns()
        try:
            answer = arm.score(arm.select(task.ask.rows), task.ask.id)
        except Exception as failure:  # noqa: BLE001 - a model may raise anything; it is logged against its version
            error = said(failure)
        found = compare(task.answer, answer) if not error else Comparison(differ=0, distance=0.0)
        counters.shadow_scored += 1
        counters.shadow_failures += bool(error)
        counters.shadow_differing += found.differ > 0
        self._journal.write_shadow(
            Shadowed(
                id=task.ask.id,
                at=self._now_us(),
                model=self._model,
                version=arm.version,
                champion=task.deployed.champion.version,
                deployment=task.deployed.traffic.seq,
                output=answer.output,
                probability=answer.probability,
                latency_us=(perf_counter_ns() - started) // 1_000,
                error=error,
                differ=found.differ,
                distance=found.distance,
            )
        )


def compare(one: Answer, other: Answer) -> Comparison:
    """Return how far two answers to the same rows are apart.

    >>> compare(Answer([1, 0], [[0.2, 0.8], [0.9, 0.1]]), Answer([1, 1], [[0.3, 0.7], [0.4, 0.6]]))
    Comparison(differ=1, distance=0.5)
    """
    pairs = list(zip(one.output, other.output, strict=True))
    differ = sum(not _same(mine, theirs) for mine, theirs in pairs)
    if one.probability is not None and other.probability is not None:
        rows = zip(one.probability, other.probability, strict=True)
        return Comparison(differ=differ, distance=max((_apart(*row) for row in rows), default=0.0))
    numbers = [abs(mine - theirs) for mine, theirs in pairs if isinstance(mine, float) and isinstance(theirs, float)]
    return Comparison(differ=differ, distance=max(numbers, default=0.0))


def _same(mine: object, theirs: object) -> bool:
    if isinstance(mine, float) and isinstance(theirs, float):
        return isclose(mine, theirs, rel_tol=SAME)
    return mine == theirs


def _apart(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the greatest difference of two rows of probabilities; 1 where they are of different classes."""
    if len(mine) != len(theirs):
        return 1.0
    return max((abs(one - other) for one, other in zip(mine, theirs, strict=True)), default=0.0)
