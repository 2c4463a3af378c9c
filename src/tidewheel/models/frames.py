"""Frames of any kind to Polars, and back to the kind an estimator was fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import narwhals as nw
import numpy as np
import polars as pl

from tidewheel.errors import InvalidInput, MissingExtra

FrameKind = Literal["polars", "pandas", "arrow", "numpy"]


class Adapter(msgspec.Struct, frozen=True, kw_only=True):
    """How rows are handed to an estimator: the kind of frame it was fitted on, and its categorical columns."""

    kind: FrameKind = "polars"  # the frame library of the example
    categories: dict[str, list[str]] = {}  # categorical columns with their levels in order
    shape: list[int] = []  # of one row, where the estimator takes more than a flat one: [1, 28, 28]
    dtype: str = ""  # of the tensor a network takes: float32, float64 or int64
    output: str = ""  # what raw outputs of boosters and networks mean, see outputs.py


def frame_kind(frame: object) -> FrameKind:
    """Name the library of a frame.

    >>> frame_kind(np.zeros((2, 2)))
    'numpy'

    Raises InvalidInput for anything that is not a pandas, Polars or Arrow frame, an array or a mapping of columns.
    """
    if isinstance(frame, np.ndarray):
        return "numpy"
    if isinstance(frame, pl.DataFrame | pl.LazyFrame | Mapping):
        return "polars"
    if nw.dependencies.is_pandas_dataframe(frame):
        return "pandas"
    if nw.dependencies.is_pyarrow_table(frame):
        return "arrow"
    raise InvalidInput(
        f"A {type(frame).__module__}.{type(frame).__name__} is not a frame.",
        "Give a Polars, pandas or Arrow frame, a two-dimensional NumPy array, or a mapping of column names to values.",
    )


def to_polars(frame: Any) -> pl.DataFrame:
    """Return any accepted frame as a Polars frame; the columns of an array are named x0, x1, x2 ...

    >>> to_polars(np.array([[1.0, 2.0]])).columns
    ['x0', 'x1']

    Raises InvalidInput for what is not a frame, MissingExtra when pandas needs pyarrow and it is absent.
    """
    kind = frame_kind(frame)
    if kind == "numpy":
        return _array_to_polars(frame)
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, Mapping):
        return _columns_to_polars(frame)
    if kind == "pandas":
        frame = frame.rename(columns=str)
    try:
        table: pl.DataFrame = nw.from_native(frame, eager_only=True).to_polars()
    except ImportError as error:
        raise MissingExtra("pyarrow", "arrow") from error
    return table


def adapter_of(frame: Any) -> Adapter:
    """Remember what an estimator's frames look like, from one of them."""
    kind = frame_kind(frame)
    if kind == "pandas":
        levels = {
            str(name): [str(level) for level in frame[name].cat.categories]
            for name, dtype in frame.dtypes.items()
            if str(dtype) == "category"
        }
        return Adapter(kind=kind, categories=levels)
    if kind == "polars":
        columns = [column for column in to_polars(frame) if column.dtype in (pl.Categorical, pl.Enum)]
        return Adapter(kind=kind, categories={column.name: _levels(column) for column in columns})
    return Adapter(kind=kind)


def present(frame: pl.DataFrame, adapter: Adapter) -> Any:
    """Return the rows as the estimator expects them: same library, same categorical levels.

    Raises MissingExtra when that library is not installed.
    """
    if adapter.kind == "numpy":
        return frame.to_numpy()
    if adapter.kind == "polars":
        casts = [pl.col(name).cast(pl.Enum(levels), strict=False) for name, levels in adapter.categories.items()]
        return frame.with_columns(casts) if casts else frame
    try:
        if adapter.kind == "arrow":
            return frame.to_arrow()
        return _to_pandas(frame, adapter)
    except ImportError as error:
        raise MissingExtra(adapter.kind.replace("arrow", "pyarrow"), adapter.kind) from error


def _levels(column: pl.Series) -> list[str]:
    if isinstance(column.dtype, pl.Enum):
        return column.dtype.categories.to_list()
    return column.cast(pl.String).drop_nulls().unique().sort().to_list()


def _to_pandas(frame: pl.DataFrame, adapter: Adapter) -> Any:
    import pandas as pd

    result = frame.to_pandas()
    for name, levels in adapter.categories.items():
        typed = pl.Series(levels).cast(frame[name].dtype).to_list()  # levels may be numbers
        known = result[name].where(result[name].isin(typed), None)  # a level that was never seen is no level
        result[name] = pd.Categorical(known, categories=typed)
    return result


def _array_to_polars(array: np.ndarray[Any, Any]) -> pl.DataFrame:
    if array.ndim == 1 and array.dtype.names is None:
        raise InvalidInput(
            f"An array of shape {array.shape} has no columns.",
            "Give a two-dimensional array; for one row use array.reshape(1, -1).",
        )
    if array.ndim > 2:
        raise InvalidInput(
            f"An array of shape {array.shape} is not a table.",
            "Give a two-dimensional array; only networks take rows of another shape.",
        )
    if array.dtype == object:
        return pl.DataFrame([_series(f"x{i}", array[:, i].tolist()) for i in range(array.shape[1])])
    return pl.from_numpy(array, schema=None if array.dtype.names else [f"x{i}" for i in range(array.shape[1])])


def _columns_to_polars(columns: Mapping[str, Any]) -> pl.DataFrame:
    lengths = {str(name): len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInput(f"The columns differ in length: {lengths}.", "Give every column one value per row.")
    return pl.DataFrame([_series(str(name), values) for name, values in columns.items()])


def _series(name: str, values: Any) -> pl.Series:
    if isinstance(values, np.ndarray) and values.dtype == object:
        values = values.tolist()
    try:
        return pl.Series(name, values, strict=not isinstance(values, list | tuple))
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise InvalidInput(
            f"The column {name!r} mixes values of different types: {error}.", "Give values of one type per column."
        ) from error
