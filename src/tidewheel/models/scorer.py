"""Arrays in, arrays out: what serving, evaluation and tests call to get predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import polars as pl

from tidewheel.models.signature import Columns, Signature

Matrix = np.ndarray[Any, np.dtype[Any]]
Rows: TypeAlias = "Columns | Matrix | pl.DataFrame"  # as text: to build it would load Polars


@dataclass(frozen=True, slots=True)
class Scores:
    """The answer to some rows. Positional, because one is built per request."""

    prediction: Matrix  # [n] class labels, or numbers for regression
    probabilities: Matrix | None = None  # [n, classes] in the order of the signature's classes


class Scorer(Protocol):
    """A loaded model: one thread, no I/O, no state that a call changes."""

    @property
    def signature(self) -> Signature:
        """Inputs and outputs."""
        ...

    def score(self, rows: Rows) -> Scores:
        """Score columns by name (mapping or Polars frame), or a matrix [rows, fields] in the order of the fields."""
        ...

    def score_rows(self, rows: Sequence[Sequence[Any]]) -> Scores:
        """Score rows of values in the order of the fields; None is a missing value. The shortest way for few rows."""
        ...
