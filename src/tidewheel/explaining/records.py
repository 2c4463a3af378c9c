"""Contributions of features to answers, and the seam of what finds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Method = Literal["tree", "linear", "booster", "sampling"]
Output = Literal["prediction", "probability", "margin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contributions:
    """How one row's answer is made up: `base` and the sum of `values` over the features are `answer`."""

    base: Floats  # [outputs] the mean answer, from which the contributions are counted
    values: Floats  # [features, outputs] what each feature adds
    errors: Floats  # [features, outputs] standard errors; 0 where the values are exact
    answer: Floats  # [outputs] what the model says of the row
    complete: bool  # False when the time ended before all that was planned was done

    @property
    def gap(self) -> float:
        """How far base and values are from the answer."""
        return float(np.max(np.abs(self.base + self.values.sum(axis=0) - self.answer), initial=0.0))


class Explainer(Protocol):
    """Finds contributions for one model; holds what it has prepared, and no state that a call changes."""

    @property
    def method(self) -> Method:
        """How: exactly by trees, by coefficients or by the booster's library, or by sampling."""
        ...

    @property
    def output(self) -> Output:
        """What is made up: the number, probabilities, or margins (log-odds) before they become probabilities."""
        ...

    def explain_row(self, row: Sequence[Any], deadline: float) -> Contributions:
        """Explain one row of values in the order of the fields until `deadline` (of `time.perf_counter`)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Contributions for some rows."""

    method: Method  # how they were found
    output: Output  # what is made up
    fields: tuple[str, ...]  # names of the features
    outputs: tuple[Any, ...]  # the classes that outputs are of; ("prediction",) for a number
    rows: tuple[Contributions, ...]  # one per row; fewer than asked for when the time ended
    asked: int  # rows that were given

    @property
    def complete(self) -> bool:
        """Whether every row was explained with all that was planned."""
        return len(self.rows) == self.asked and all(row.complete for row in self.rows)

    @property
    def values(self) -> Floats:
        """Contributions [rows, features, outputs]."""
        return np.array([row.values for row in self.rows]).reshape(len(self.rows), len(self.fields), len(self.outputs))
