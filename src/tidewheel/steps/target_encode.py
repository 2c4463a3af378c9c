"""The mean label of each category, learnt so that no row is told its own label.

A category's code is (sum of its labels + smooth * mean of all) / (its rows + smooth): Micci-Barreca, "A preprocessing
scheme for high-cardinality categorical attributes", SIGKDD Explorations 3(1), 2001, with a fixed weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from tidewheel.errors import InvalidInput
from tidewheel.pipelines.step import step
from tidewheel.steps.columns import check_columns, refuse_empty, refuse_missing, text_columns


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetEncoder:
    """What each category is worth."""

    codes: Mapping[str, Mapping[str, float]]  # column to category to its smoothed mean label, in the label's unit
    mean: float  # what any other category gets: the mean of all labels


@step
def fit_target_encoder(
    rows: pl.DataFrame,
    label: str,
    columns: list[str] | None = None,
    *,
    smooth: float = 10.0,
    folds: int = 5,
    seed: int = 0,
) -> tuple[pl.DataFrame, TargetEncoder]:
    """Return the rows to train on, encoded out of fold, and the encoder for all other rows.

    Each row gets codes that were learnt on the folds it is not in, so that a model cannot read its label in them;
    `target_encode` with these very rows would leak. `smooth` is how many rows the overall mean counts for.

    >>> rows = pl.DataFrame({"city": ["a", "b"] * 10, "cnt": [1.0, 3.0] * 10})
    >>> encoded, encoder = fit_target_encoder(rows, label="cnt", smooth=0)
    >>> encoder.codes["city"]
    {'a': 1.0, 'b': 3.0}

    Raises InvalidInput for an empty frame, missing values, a constant label or one that is no number, and fewer rows
    than folds.
    """
    refuse_empty(rows, "learn from")
    check_columns(rows, [label])
    names = text_columns(rows, columns, label)
    refuse_missing(rows, names, 'Fill them first: fit_imputer(rows, strategy="most_frequent").')
    truth = _truth(rows, label)
    if smooth < 0 or folds < 2 or folds > rows.height:
        raise InvalidInput(
            f"smooth={smooth} and folds={folds} do not fit {rows.height} rows.",
            "Give smooth of at least 0, and from 2 folds to as many as there are rows.",
        )
    fold = np.random.default_rng(seed).permutation(rows.height) % folds
    encoded = rows.with_columns(pl.Series(name, np.zeros(rows.height)) for name in names)
    for number in range(folds):
        inside = pl.Series(fold == number)
        encoder = _learnt(rows.filter(~inside), truth.filter(~inside), names, smooth)
        told = target_encode(rows, encoder)
        encoded = encoded.with_columns(
            pl.when(inside).then(told[name]).otherwise(pl.col(name)).alias(name) for name in names
        )
    return encoded, _learnt(rows, truth, names, smooth)


@step
def target_encode(rows: pl.DataFrame, encoder: TargetEncoder) -> pl.DataFrame:
    """Return rows that the encoder was not fitted on with each category replaced by its code.

    A category that was not seen, or is missing, gets the mean of all labels.

    >>> encoder = TargetEncoder(codes={"city": {"a": 1.0}}, mean=2.0)
    >>> target_encode(pl.DataFrame({"city": ["a", "z"]}), encoder)["city"].to_list()
    [1.0, 2.0]

    Raises NotFound for a column that is not there.
    """
    check_columns(rows, list(encoder.codes))
    return rows.with_columns(
        rows[name]
        .cast(pl.String)
        .replace_strict(list(codes), list(codes.values()), default=None, return_dtype=pl.Float64)
        .fill_null(encoder.mean)
        .alias(name)
        for name, codes in encoder.codes.items()
    )


def _truth(rows: pl.DataFrame, label: str) -> pl.Series:
    if not (rows.schema[label].is_numeric() or rows.schema[label] == pl.Boolean):
        raise InvalidInput(
            f"The label {label!r} holds {rows.schema[label]}, which has no mean.",
            "Make it a number or a boolean; for several classes encode one label per class.",
        )
    refuse_missing(rows, [label], "Leave out rows without a label.")
    truth = rows[label].cast(pl.Float64)
    if truth.n_unique() == 1:
        raise InvalidInput(
            f"The label {label!r} is {truth[0]:g} in every row, so no category is worth more than another.",
            "Add rows with other labels.",
        )
    return truth


def _learnt(rows: pl.DataFrame, truth: pl.Series, names: list[str], smooth: float) -> TargetEncoder:
    mean = float(truth.to_numpy().mean())
    codes: dict[str, dict[str, float]] = {}
    for name in names:
        pairs = pl.DataFrame({"category": rows[name].cast(pl.String), "truth": truth})
        sums = pairs.group_by("category").agg(total=pl.col("truth").sum(), rows=pl.len()).sort("category")
        weighed = sums.select(pl.col("category"), (pl.col("total") + smooth * mean) / (pl.col("rows") + smooth))
        codes[name] = dict(weighed.iter_rows())
    return TargetEncoder(codes=codes, mean=mean)
