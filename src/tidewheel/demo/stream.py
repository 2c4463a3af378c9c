"""The ordered table that the demo turns into history and live requests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from tidewheel.errors import InvalidInput, NotFound

Task = Literal["binary", "multiclass", "regression"]
MOST_LEVELS = 20  # a text column with more different values than that, and than half the rows, names rows
MAX_CLASSES = 50  # a whole-number label with more distinct values is a quantity, not a class


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A table in order of time; the first `history` rows are known at the start, the rest arrives live."""

    name: str  # of the dataset and the model
    frame: pl.DataFrame  # features and label, in order; the time column is gone
    label: str  # column to be predicted
    history: int  # rows known at the start
    task: Task  # from the label's type
    left_out: tuple[str, ...] = ()  # columns that cannot be learned from: moments, names of single rows, lists

    @property
    def metric(self) -> str:
        """Accuracy for classes, root mean squared error for quantities."""
        return "rmse" if self.task == "regression" else "accuracy"

    @property
    def spread(self) -> float:
        """Standard deviation of a quantity's labels in the history; 1 for classes."""
        if self.task != "regression":
            return 1.0
        return float(np.std(self.frame[self.label].head(self.history).cast(pl.Float64).to_numpy()))

    @property
    def live(self) -> int:
        """How many rows arrive as requests."""
        return self.frame.height - self.history


def digits_stream(history: int = 500) -> Stream:
    """Return scikit-learn's handwritten digits in their original order: one writer after another, 1,797 rows."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    names = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]
    frame = pl.DataFrame(pixels, schema=names, orient="row").with_columns(pl.Series("digit", labels))
    return checked(Stream(name="digits", frame=frame, label="digit", history=history, task="multiclass"))


def table_stream(path: Path, *, time: str, label: str, history: int, drop: tuple[str, ...] = ()) -> Stream:
    """Read any ordered table: CSV, Parquet or JSON lines, sorted by its time column.

    The time column gives the order and is then left out: a clock that only grows is a feature
    that no future row shares with the past. Raises NotFound for a column that is not there.
    """
    from tidewheel.data.sources import load

    frame = load(path).frame
    for column in (time, label, *drop):
        if column not in frame.columns:
            raise NotFound("column", column, frame.columns, f"The table is {path.name}.")
    if not frame[time].is_sorted():
        frame = frame.sort(time, maintain_order=True)
    frame = frame.drop(time, *drop)
    frame = frame.with_columns(pl.col(pl.Boolean).cast(pl.Int8))
    missing = frame[label].null_count()
    if missing:
        raise InvalidInput(f"{missing:,} rows of {path.name} have no {label}.", "Leave those rows out.")
    name = "".join(letter if letter.isalnum() else "_" for letter in path.stem.lower()).strip("_") or "table"
    left_out = tuple(each.name for each in frame.drop(label) if not describes(each.head(history)))
    stream = Stream(
        name=name,
        frame=frame.drop(left_out),
        label=label,
        history=history,
        task=task_of(frame[label]),
        left_out=left_out,
    )
    return checked(stream)


def describes(column: pl.Series) -> bool:
    """Say whether a column can be learned from: numbers, and text whose values come back.

    >>> describes(pl.Series([1, 2])), describes(pl.Series([f"row {n}" for n in range(99)]))
    (True, False)
    """
    if column.dtype.is_numeric():
        return True
    distinct = column.drop_nulls().n_unique()
    return column.dtype == pl.String and 2 <= distinct <= max(MOST_LEVELS, column.len() // 2)


def task_of(labels: pl.Series) -> Task:
    """Say what a label column asks for: two classes, several classes, or a quantity."""
    distinct = labels.n_unique()
    if labels.dtype.is_float() and distinct > 2:
        return "regression"
    if labels.dtype.is_integer() and distinct > MAX_CLASSES:
        return "regression"
    return "binary" if distinct == 2 else "multiclass"


def checked(stream: Stream) -> Stream:
    """Return the stream, or say why no loop can turn on it."""
    if stream.live < 1:
        raise InvalidInput(
            f"--history {stream.history:,} leaves nothing to arrive: the table has {stream.frame.height:,} rows.",
            f"Choose a --history below {stream.frame.height:,}.",
        )
    if stream.frame.width < 2:
        raise InvalidInput("Only the label is left; there is nothing to predict from.", "Drop fewer columns.")
    if stream.frame[stream.label].head(stream.history).n_unique() < 2:
        raise InvalidInput(
            f"The first {stream.history:,} rows have one value of {stream.label} alone.", "Choose a larger --history."
        )
    return stream
