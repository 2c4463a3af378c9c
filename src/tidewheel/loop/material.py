"""The rows of a retraining: one pinned version of the dataset, its newest part held out."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from tidewheel.data import datasets
from tidewheel.data.records import DatasetVersion
from tidewheel.errors import InvalidInput, NotFound
from tidewheel.lineage.read import find_entity, get_version
from tidewheel.lineage.store import Store
from tidewheel.loop.loop import Loop
from tidewheel.registry.versions import get_model


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


def unseen_rows(store: Store, loop: Loop, dataset: DatasetVersion) -> int | None:
    """Return how many rows of a dataset version the champion cannot have been fitted on.

    None when all of them may be judged on: without a champion, or with one that was made from another dataset.
    """
    with store.database.reading() as tx:
        try:
            champion = get_model(tx, f"{loop.model}@champion")
        except NotFound:
            return None
        if not champion.dataset_version_id:
            return None
        known = get_version(tx, champion.dataset_version_id)
        if known.entity_id != find_entity(tx, "dataset", loop.data).id:
            return None
    return max(dataset.rows - datasets.get(store, f"{loop.data}:{known.seq}").rows, 0)


def pin(store: Store, loop: Loop, reference: str, *, unseen: int | None = None) -> Material:
    """Read the rows of a dataset version and split off the newest part.

    At most half of the rows that the champion has not seen (`unseen`) are held out: rows it was fitted on would make
    it look too good, and a candidate that is given none of the others would know nothing that the champion does not.

    Raises NotFound for an unknown dataset or label column, InvalidInput for too few rows.
    """
    dataset = datasets.get(store, reference)
    rows = datasets.read(store, reference, last=loop.train_rows)
    if loop.label not in rows.columns:
        raise NotFound("column", loop.label, rows.columns, f"It is the label of the loop of {loop.model}.")
    fewest, most = loop.holdout_rows
    count = round(rows.height * loop.holdout)
    if unseen is not None:
        count = min(count, unseen // 2)
    count = min(max(count, fewest), most)
    if rows.height < 2 * count:
        raise InvalidInput(
            f"{reference} has {rows.height} rows; {count} are held out and no fewer can be learned from.",
            f"Wait for {2 * count} rows, or lower holdout_rows.",
        )
    return Material(dataset=dataset, fit=rows.head(rows.height - count), held_out=rows.tail(count))
