"""Read rows from a file, or take those that the store picked."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from tidewheel.data.sources import load as load_rows
from tidewheel.errors import InvalidInput
from tidewheel.pipelines.step import step
from tidewheel.steps.columns import check_columns


@step
def load(source: Path | pl.DataFrame | str, columns: list[str] | None = None) -> pl.DataFrame:
    """Return the rows of a CSV, Parquet, JSON, JSON lines or Arrow file, or of a dataset of the store.

    `source` is a `Path`, whose content counts in the cache key, or what the store picks, such as `latest("bikes")`.
    `columns` keeps those alone, in that order. The format is told by the ending of the name.

    >>> load(pl.DataFrame({"hour": [1, 2], "cnt": [16, 40]}), columns=["cnt"]).columns
    ['cnt']

    Raises InvalidInput for a text (its file could change without the key changing) and for what cannot be read,
    NotFound for a missing file or column.
    """
    if isinstance(source, str):
        raise InvalidInput(
            f"load({source!r}) is given a text, so a changed file would not be seen.",
            f"Give Path({source!r}), or latest({source!r}) for a dataset of the store.",
        )
    rows = source if isinstance(source, pl.DataFrame) else load_rows(source).frame
    if columns is None:
        return rows
    check_columns(rows, columns)
    return rows.select(columns)
