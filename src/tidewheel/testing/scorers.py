"""A scorer without a model, for tests of whatever calls one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tidewheel.models.scorer import Rows, Scores
from tidewheel.models.signature import Field, Label, Signature, Task


class AnsweringScorer:
    """A scorer whose answers are a function of how many rows are asked; it may raise or take its time.

    >>> AnsweringScorer("regression", lambda rows: Scores(np.ones(rows))).score_rows([[0.0], [0.0]]).prediction
    array([1., 1.])
    """

    def __init__(
        self, task: Task, answer: Callable[[int], Scores], *, classes: list[Label] | None = None, column: str = "x"
    ) -> None:
        self.signature = Signature(task=task, fields=[Field(name=column, kind="float")], classes=classes)
        self.answer = answer

    def score(self, rows: Rows) -> Scores:
        """Answer as many rows as are given."""
        return self.answer(len(rows))

    def score_rows(self, rows: Sequence[Sequence[Any]]) -> Scores:
        """Answer as many rows as are given."""
        return self.answer(len(rows))


def stored_answers(
    task: Task, predictions: ArrayLike, *, classes: list[Label] | None = None, column: str = "x"
) -> AnsweringScorer:
    """Return a scorer that gives the first of some stored predictions to however many rows are asked."""
    kept = np.asarray(predictions)
    return AnsweringScorer(task, lambda rows: Scores(kept[:rows]), classes=classes, column=column)
