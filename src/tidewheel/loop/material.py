"""The rows of a retraining: one pinned version of the dataset, its newest part held out."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from tidewheel.data import datasets
from tidewheel.data.records import DatasetVersion
from tidewheel.errors import InvalidInput, NotFound
from tidewheel.lineage.store import Store
from tidewheel.loop.loop import Loop


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The rows of a retraining, pinned."""

    dataset: DatasetVersion  # where they come from
    fit: pl.DataFrame  # older rows, for the pipeline
    held_out: pl.DataFrame  # newest rows, for the gates

    @property
    def all(self) -> pl.DataFrame:
        """Both parts, in order."""
        return pl.concat([self.fit, self.held_out])


def pin(store: Store, loop: Loop, reference: str) -> Material:
    """Read the rows of a dataset version and split off the newest part.

    Raises NotFound for an unknown dataset or label column, InvalidInput for too few rows.
    """
    dataset = datasets.get(store, reference)
    rows = datasets.read(store, reference, last=loop.train_rows)
    if loop.label not in rows.columns:
        raise NotFound("column", loop.label, rows.columns, f"It is the label of the loop of {loop.model}.")
    fewest, most = loop.holdout_rows
    count = min(max(round(rows.height * loop.holdout), fewest), most)
    if rows.height < 2 * count:
        raise InvalidInput(
            f"{reference} has {rows.height} rows; {count} are held out and no fewer can be learned from.",
            f"Wait for {2 * count} rows, or lower holdout_rows.",
        )
    return Material(dataset=dataset, fit=rows.head(rows.height - count), held_out=rows.tail(count))
