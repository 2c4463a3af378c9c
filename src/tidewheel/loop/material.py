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

    @property
    def oddities(self) -> list[str]:
        """What an estimator may have stumbled over: columns without a value, infinite numbers."""
        rows, found = self.all, []
        for column in rows.iter_columns():
            infinite = int(column.is_infinite().sum()) if column.dtype.is_float() else 0
            if column.null_count() == rows.height:
                found.append(f"column {column.name!r} holds no value at all")
            elif infinite:
                found.append(f"column {column.name!r} holds {infinite} infinite numbers")
        return found


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

    Raises NotFound for an unknown dataset or label column, InvalidInput for too few rows and for labels of one value:
    the model that always says it would be judged perfect on rows that hold nothing else.
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
    material = Material(dataset=dataset, fit=rows.head(rows.height - count), held_out=rows.tail(count))
    _check_labels(material, loop.label)
    return material


def _check_labels(material: Material, label: str) -> None:
    labels = material.fit[label].drop_nulls()
    if labels.n_unique() < 2:
        held = f"only the value {labels[0]!r}" if len(labels) else "no value at all"
        raise InvalidInput(
            f"The label {label!r} of {material.dataset.reference} holds {held} in the {material.fit.height} rows "
            "to learn from, so there is nothing to learn.",
            "Add rows with other labels, or raise train_rows so that older ones count too.",
        )
