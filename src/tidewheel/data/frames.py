"""Frames of other libraries, through Narwhals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import polars as pl

from tidewheel.errors import InvalidInput, MissingExtra


def from_frame(source: Any) -> pl.DataFrame:
    """Return a pandas, Polars, Arrow or other eager frame as Polars; a named pandas index becomes a column.

    Raises InvalidInput for anything else, for column names that occur twice and for columns of mixed types.
    """
    if isinstance(source, pl.DataFrame):
        return source
    if isinstance(source, pl.LazyFrame):
        return source.collect()
    names = getattr(source, "column_names", None)  # Arrow; there `columns` are the arrays themselves
    check_names([str(name) for name in (getattr(source, "columns", ()) if names is None else names)], "the frame")
    import narwhals as nw

    try:
        frame = nw.from_native(_with_index(source), eager_only=True)
    except TypeError as error:
        raise InvalidInput(
            f"A {type(source).__module__}.{type(source).__name__} is neither a file name nor a frame.",
            "Pass the path of a .csv, .parquet or .jsonl file, or a pandas, Polars or Arrow frame.",
        ) from error
    try:
        converted: pl.DataFrame = frame.to_polars()
    except ImportError as error:
        raise MissingExtra("pyarrow", "pandas") from error
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise _unconvertible(frame, error) from error
    return converted


def check_names(names: Iterable[str], where: str) -> None:
    """Raise InvalidInput when a column name occurs twice."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InvalidInput(
            f"The column name {twice[0]!r} occurs more than once in {where}.", "Give every column a name of its own."
        )


def _with_index(source: Any) -> Any:
    """Make columns of a pandas index that has names; an unnamed one is only a row number."""
    if type(source).__module__.split(".")[0] != "pandas" or not hasattr(source, "rename"):
        return source
    named = any(name is not None for name in source.index.names)
    frame = source.reset_index() if named else source
    return frame.rename(columns=str)


def _unconvertible(frame: Any, error: Exception) -> InvalidInput:
    """Name the first column that mixes types."""
    for name in frame.columns:
        kinds = sorted({type(value).__name__ for value in frame[name].to_list() if value is not None})
        if len(kinds) > 1:
            return InvalidInput(
                f"Column {name!r} mixes {' and '.join(kinds)}.",
                f"Bring it to one type first, for example frame[{name!r}] = frame[{name!r}].astype(str).",
            )
    return InvalidInput(f"The frame cannot be converted: {error}", "Bring every column to a plain type first.")
