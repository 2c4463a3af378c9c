"""Running scores over the stream: the loop, the frozen model, and the previous label, on the same rows."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Sequence


class RunningScore:
    """Accuracy or root mean squared error over all rows so far and over the last `recent` ones.

    >>> score = RunningScore("accuracy", recent=2)
    >>> for truth, guess in (("a", "a"), ("b", "a"), ("b", "b")):
    ...     score.add(truth, guess)
    >>> round(score.value, 3), score.recent_value
    (0.667, 0.5)
    """

    def __init__(self, metric: str, recent: int = 300) -> None:
        self.metric = metric
        self.count = 0
        self._sum = 0.0
        self._recent: deque[float] = deque(maxlen=recent)

    def add(self, truth: object, guess: object) -> None:
        """Take in one row; a guess of None (no answer) counts as wrong, for a quantity as zero."""
        term = self._term(truth, guess)
        self.count += 1
        self._sum += term
        self._recent.append(term)

    def _term(self, truth: object, guess: object) -> float:
        if self.metric == "rmse":
            return (float(str(truth)) - float(str(guess if guess is not None else 0.0))) ** 2
        return float(same_class(truth, guess))

    @property
    def value(self) -> float:
        """Score over all rows; NaN before the first."""
        return self._final(self._sum, self.count)

    @property
    def recent_value(self) -> float:
        """Score over the last rows; NaN before the first."""
        return self._final(sum(self._recent), len(self._recent))

    def _final(self, total: float, count: int) -> float:
        if not count:
            return math.nan
        return math.sqrt(total / count) if self.metric == "rmse" else total / count


def same_class(truth: object, guess: object) -> bool:
    """Say whether two labels name the same class, also when one went through JSON."""
    if truth == guess:
        return True
    return guess is not None and str(truth) == str(guess)


def no_change(labels: Sequence[object], metric: str) -> float:
    """Return the score of predicting the previous label; the first of `labels` is only a predecessor.

    Zliobaite (2013) shows that on autocorrelated streams this simple guess beats many methods, so
    it is always printed beside the others.
    """
    score = RunningScore(metric)
    for before, now in itertools.pairwise(labels):
        score.add(now, before)
    return score.value
