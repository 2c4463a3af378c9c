"""A number for each category, learnt from the rows to train on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from tidewheel.errors import InvalidInput
from tidewheel.pipelines.step import step
from tidewheel.steps.columns import check_columns, refuse_missing
from tidewheel.steps.one_hot import Unseen, checked, coded, learnt


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordinal:
    """Which number a category has: its place."""

    categories: Mapping[str, tuple[str, ...]]  # column to its categories in order, as text
    unseen: Unseen  # what becomes of any other: an error, or -1


@step
def fit_ordinal(
    rows: pl.DataFrame,
    columns: list[str] | None = None,
    label: str | None = None,
    order: Mapping[str, list[str]] | None = None,
    unseen: Unseen = "refuse",
) -> Ordinal:
    """Learn the categories of columns (all of text, categories and booleans but the label, unless they are named).

    Numbers follow the alphabet, or the `order` that is given for a column: {"size": ["small", "large"]}.

    >>> fit_ordinal(pl.DataFrame({"size": ["s", "l"]}), order={"size": ["s", "l"]}).categories
    {'size': ('s', 'l')}

    Raises what `fit_one_hot` raises, and InvalidInput for an order that lacks a category or names one twice.
    """
    found = learnt(rows, columns, label)
    check_columns(rows, list(order or {}))
    for name, given in (order or {}).items():
        lacking = sorted(set(found.get(name, ())) - set(given))
        if lacking or len(set(given)) != len(given) or name not in found:
            raise InvalidInput(
                f"The order of {name!r} does not fit: it lacks {lacking or 'nothing'} and has {len(given)} names.",
                "Name every category of an encoded column once, smallest first.",
            )
        found[name] = tuple(given)
    return Ordinal(categories=found, unseen=checked(unseen))


@step
def ordinal(rows: pl.DataFrame, encoder: Ordinal) -> pl.DataFrame:
    """Return the rows with each column replaced by the number of its category, from 0.

    >>> ordinal(pl.DataFrame({"size": ["l"]}), Ordinal(categories={"size": ("s", "l")}, unseen="refuse")).row(0)
    (1,)

    Raises NotFound for a column that is not there, InvalidInput for missing values, and for a category that was not
    seen when it refuses.
    """
    check_columns(rows, list(encoder.categories))
    if encoder.unseen == "refuse":
        refuse_missing(rows, list(encoder.categories), "Fill them first, see tidewheel.steps.impute.")
    return rows.with_columns(coded(rows[name], known, encoder.unseen) for name, known in encoder.categories.items())
