"""A scorer that is given up after a while, so that somebody else can answer."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from tidewheel.errors import ModelFailed
from tidewheel.models.scorer import Rows, Scorer, Scores
from tidewheel.models.signature import Signature

Call = tuple[Sequence[Sequence[Any]], Future[Scores]]


class Timed:
    """Scores in a thread of its own and stops waiting after `timeout_ms`.

    A call cannot be broken off, so while one that was given up is still at work, all others fail at once: a model that
    hangs costs one request its time, not every request. The thread costs about 50 microseconds per call, which is why
    there is one only where a timeout was asked for.
    """

    def __init__(self, scorer: Scorer, timeout_ms: float) -> None:
        self._scorer = scorer
        self._timeout_ms = timeout_ms
        self._late: Future[Scores] | None = None
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def signature(self) -> Signature:
        """Inputs and outputs."""
        return self._scorer.signature

    def score(self, rows: Rows) -> Scores:
        """Score a frame; batches are not timed."""
        return self._scorer.score(rows)

    def score_rows(self, rows: Sequence[Sequence[Any]]) -> Scores:
        """Score rows, or raise ModelFailed when it takes too long."""
        if self._late is not None and not self._late.done():
            raise ModelFailed(
                f"The model is still at work on a call that took longer than {self._timeout_ms:g} ms.",
                "Look at why it is slow, or raise timeout_ms.",
            )
        if self._thread is None:
            # The thread knows no Timed, or that one would never be let go of.
            work = (self._scorer, self._calls)
            self._thread = threading.Thread(target=_serve, args=work, name="tidewheel-timed", daemon=True)
            self._thread.start()
        future: Future[Scores] = Future()
        self._calls.put((rows, future))
        try:
            return future.result(self._timeout_ms / 1_000)
        except TimeoutError as error:
            if future.done():  # the model's own
                raise
            self._late = future
            raise ModelFailed(
                f"The model took longer than {self._timeout_ms:g} ms.", "Look at why, or raise timeout_ms."
            ) from error

    def __del__(self) -> None:
        self._calls.put(None)  # a deployment that nobody uses any more takes its threads along


def _serve(scorer: Scorer, calls: SimpleQueue[Call | None]) -> None:
    while True:
        call = calls.get()
        if call is None:
            return
        rows, future = call
        try:
            future.set_result(scorer.score_rows(rows))
        except Exception as error:  # noqa: BLE001 - a model may raise anything; whoever waits is told
            future.set_exception(error)
