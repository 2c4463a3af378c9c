"""Score many rows with a model, some at a time."""

from __future__ import annotations

from typing import Any

import polars as pl

from tidewheel.errors import InvalidInput
from tidewheel.models.scorer import Scorer, Scores
from tidewheel.pipelines.step import step
from tidewheel.steps.columns import check_columns


@step
def batch_score(
    model: Any,
    rows: pl.DataFrame,
    keep: list[str] | None = None,
    batch: int = 50_000,
) -> pl.DataFrame:
    """Return the columns `keep` of the rows (all, unless named) with `prediction` and, per class, `probability=CLASS`.

    `model` is a Model or what `champion("name")` picks; `batch` rows are scored at a time, so that memory is bounded.
    A frame without rows gives one without rows.

    >>> from sklearn.linear_model import LinearRegression
    >>> from tidewheel.models.model import Model
    >>> rows = pl.DataFrame({"x": [0.0, 1.0, 2.0]})
    >>> model = Model(LinearRegression().fit(rows, [1.0, 3.0, 5.0]), example=rows)
    >>> batch_score(model, rows, keep=[])["prediction"].round(6).to_list()
    [1.0, 3.0, 5.0]

    Raises InvalidInput for what is no model and for a column that is in the way, NotFound for one that is not there.
    """
    scorer: Scorer = model.scorer() if hasattr(model, "scorer") else model
    if not hasattr(scorer, "score"):
        raise InvalidInput(f"A {type(model).__name__} is not a model.", 'Give a Model, or champion("name").')
    if batch < 1:
        raise InvalidInput(f"batch={batch} scores nothing.", "Give at least 1 row.")
    names = rows.columns if keep is None else keep
    check_columns(rows, names)
    kept = rows.select(names)
    parts = [_answers(scorer, scorer.score(part)) for part in rows.iter_slices(batch)] if rows.height else []
    answers = pl.concat(parts) if parts else _answers(scorer, scorer.score(rows))
    for name in answers.columns:
        if name in names:
            raise InvalidInput(f"The rows have a column {name!r} already.", "Rename it, or leave it out: keep=[...].")
    return kept.hstack(answers) if names else answers


def _answers(scorer: Scorer, scores: Scores) -> pl.DataFrame:
    found = [pl.Series("prediction", scores.prediction)]
    if scores.probabilities is not None:
        classes = scorer.signature.classes or []
        found += [
            pl.Series(f"probability={name}", scores.probabilities[:, place]) for place, name in enumerate(classes)
        ]
    return pl.DataFrame(found)
