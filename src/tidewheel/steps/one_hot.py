"""A column of zeros and ones for each category, learnt from the rows to train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from tidewheel.errors import InvalidInput
from tidewheel.pipelines.step import step
from tidewheel.steps.columns import check_columns, refuse_empty, refuse_missing, text_columns

Unseen = Literal["refuse", "ignore"]
MOST = 1000  # categories of one column; more are identifiers, not categories


@dataclass(frozen=True, slots=True, kw_only=True)
class OneHot:
    """Which categories become columns."""

    categories: Mapping[str, tuple[str, ...]]  # column to its categories in order, as text
    unseen: Unseen  # what becomes of any other: an error, or zeros throughout


@step
def fit_one_hot(
    rows: pl.DataFrame, columns: list[str] | None = None, label: str | None = None, unseen: Unseen = "refuse"
) -> OneHot:
    """Learn the categories of columns (all of text, categories and booleans but the label, unless they are named).

    >>> fit_one_hot(pl.DataFrame({"sky": ["rain", "clear", "rain"]})).categories
    {'sky': ('clear', 'rain')}

    Raises InvalidInput for an empty frame, missing values, a column of one category, and one of more than 1,000.
    """
    return OneHot(categories=learnt(rows, columns, label), unseen=checked(unseen))


@step
def one_hot(rows: pl.DataFrame, encoder: OneHot) -> pl.DataFrame:
    """Return the rows with each column replaced, where it stood, by one of 0 and 1 per category: NAME=CATEGORY.

    >>> one_hot(pl.DataFrame({"sky": ["rain"]}), OneHot(categories={"sky": ("clear", "rain")}, unseen="refuse")).row(0)
    (0, 1)

    Raises NotFound for a column that is not there, InvalidInput for a category that was not seen when it refuses.
    """
    check_columns(rows, list(encoder.categories))
    parts: list[pl.Series] = []
    for column in rows.get_columns():
        if column.name not in encoder.categories:
            parts.append(column)
            continue
        known = encoder.categories[column.name]
        codes = coded(column, known, encoder.unseen)
        parts += [
            (codes == place).cast(pl.Int8).alias(f"{column.name}={category}") for place, category in enumerate(known)
        ]
    _refuse_twice([part.name for part in parts])
    return pl.DataFrame(parts)


def learnt(rows: pl.DataFrame, columns: list[str] | None, label: str | None) -> dict[str, tuple[str, ...]]:
    """Return the categories of columns in order, as text; raises as `fit_one_hot`."""
    refuse_empty(rows, "learn categories from")
    names = text_columns(rows, columns, label)
    refuse_missing(rows, names, 'Fill them first: fit_imputer(rows, strategy="most_frequent").')
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        categories = tuple(rows[name].unique().sort().cast(pl.String).to_list())
        if rows.schema[name] in (pl.Categorical, pl.Enum):
            categories = tuple(sorted(categories))
        if not 1 < len(categories) <= MOST:
            what = f"{len(categories)} categories in {rows.height} rows"
            raise InvalidInput(
                f"The column {name!r} has {what}, which cannot be learnt from.",
                "Leave it out: one category says nothing, and thousands are identifiers (or use target encoding).",
            )
        found[name] = categories
    return found


def coded(values: pl.Series, known: Sequence[str], unseen: Unseen) -> pl.Series:
    """Return the place of each value among the known categories, -1 for any other.

    Raises InvalidInput for a category that was not seen where that is refused.
    """
    texts = values.cast(pl.String)
    codes = texts.replace_strict(list(known), list(range(len(known))), default=-1, return_dtype=pl.Int32)
    codes = codes.fill_null(-1).alias(values.name)
    if unseen == "refuse" and (codes < 0).any():
        new = texts.filter(codes < 0).unique().sort()
        shown = ", ".join(repr(value) for value in new.head(5))
        raise InvalidInput(
            f"{(codes < 0).sum()} of {len(values)} values of {values.name!r} were not seen when the encoder was "
            f"fitted: {shown}{', ...' if len(new) > 5 else ''}.",
            'Fit it on rows that hold them, or with unseen="ignore".',
        )
    return codes


def checked(unseen: Unseen) -> Unseen:
    """Return it; raises InvalidInput for a policy that does not exist."""
    if unseen not in ("refuse", "ignore"):
        raise InvalidInput(f"unseen={unseen!r} is not known.", "Use refuse or ignore.")
    return unseen


def _refuse_twice(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f"The column {name!r} would stand twice in the result.", "Rename one of the columns.")
