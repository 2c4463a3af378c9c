"""Score a Ray Dataset: `map_batches` with a model that each worker loads once."""

from __future__ import annotations

from typing import Any

import polars as pl

from tidewheel.errors import MissingExtra
from tidewheel.scoring.loaded import Loaded, Portable
from tidewheel.scoring.parts import VERSION, answer_columns

BATCH_ROWS = 65_536


class ScoreBatches:
    """A callable for `Dataset.map_batches(..., batch_format="pyarrow")`: the columns of a batch and the answers."""

    def __init__(self, portable: Portable) -> None:
        self._model = portable.unpack()

    def __call__(self, batch: Any) -> Any:
        """Return the batch with prediction, probabilities and model_version behind its columns."""
        rows = pl.from_arrow(batch)
        if not isinstance(rows, pl.DataFrame):
            rows = rows.to_frame()
        scored = rows.hstack(answer_columns(self._model.signature, self._model.score(rows)))
        return scored.with_columns(pl.lit(self._model.reference).alias(VERSION)).to_arrow()


def score_dataset(dataset: Any, model: Loaded, *, workers: int = 1, batch_rows: int = BATCH_ROWS) -> Any:
    """Return a Ray Dataset with the answers of a model; nothing is computed until it is read.

    Raises MissingExtra when Ray Data is not installed.
    """
    try:
        import ray.data  # noqa: F401 - told of here, not by a worker
    except ImportError as error:
        raise MissingExtra("ray[data]", "ray") from error
    return dataset.map_batches(
        ScoreBatches,
        fn_constructor_args=(model.portable,),
        batch_format="pyarrow",
        batch_size=batch_rows,
        concurrency=workers,
    )
