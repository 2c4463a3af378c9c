"""Part rows into two, one to learn from and one to judge by, so that nothing of the second is known to the first."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tidewheel.errors import InvalidInput
from tidewheel.pipelines.step import step
from tidewheel.steps.columns import check_columns, refuse_empty, refuse_missing


@step
def split_random(rows: pl.DataFrame, test: float = 0.2, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (train, test) with about the share `test` of the rows in the second, drawn at random.

    Equal rows always come to the same side: a copy in both would be an answer known beforehand. Order is kept.

    >>> train, held = split_random(pl.DataFrame({"x": range(10)}), test=0.3)
    >>> train.height, held.height
    (7, 3)

    Raises InvalidInput for a share outside 0 to 1 and for rows that cannot be parted.
    """
    _check(rows, test)
    return _parted(rows, _drawn(_codes(rows.hash_rows()), test, np.random.default_rng(seed), "rows"))


@step
def split_stratified(
    rows: pl.DataFrame, by: str, test: float = 0.2, seed: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (train, test) in which every value of the column `by` has about the same share; else as `split_random`.

    >>> train, held = split_stratified(pl.DataFrame({"x": range(8), "kind": ["a", "b"] * 4}), by="kind", test=0.5)
    >>> sorted(held["kind"])
    ['a', 'a', 'b', 'b']

    Raises InvalidInput for a value that occurs in fewer than two distinct rows and for missing values.
    """
    _check(rows, test)
    check_columns(rows, [by])
    refuse_missing(rows, [by], "Drop those rows, or fill the column first.")
    generator = np.random.default_rng(seed)
    strata, codes = _codes(rows[by]), _codes(rows.hash_rows())
    held = np.zeros(rows.height, dtype=np.bool_)
    for stratum in range(int(strata.max()) + 1):
        where = np.flatnonzero(strata == stratum)
        what = f"rows with {by}={rows[by][int(where[0])]!r}"
        held[where] = _drawn(_codes(pl.Series(codes[where])), test, generator, what)
    return _parted(rows, held)


@step
def split_by_group(
    rows: pl.DataFrame, group: str, test: float = 0.2, seed: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (train, test) with whole groups (customers, patients, machines) in one of them, drawn at random.

    >>> train, held = split_by_group(pl.DataFrame({"who": ["a", "a", "b", "b", "c"]}), group="who", test=0.4)
    >>> set(train["who"]) & set(held["who"])
    set()

    Raises InvalidInput for fewer than two groups and for missing values of the group.
    """
    _check(rows, test)
    check_columns(rows, [group])
    refuse_missing(rows, [group], "Say which group those rows belong to, or drop them.")
    generator = np.random.default_rng(seed)
    return _parted(rows, _drawn(_codes(rows[group]), test, generator, f"groups of {group!r}"))


@step
def split_by_time(rows: pl.DataFrame, time: str, test: float = 0.2) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return (train, test) with the newest rows in the second, each side in the order of time.

    Every row of the second is later than every row of the first: rows of one moment are not parted.

    >>> train, held = split_by_time(pl.DataFrame({"day": [3, 1, 2, 3]}), time="day", test=0.25)
    >>> train["day"].to_list(), held["day"].to_list()
    ([1, 2], [3, 3])

    Raises InvalidInput where all rows are of one moment, and for missing times.
    """
    _check(rows, test)
    check_columns(rows, [time])
    refuse_missing(rows, [time], "Every row must say when it happened.")
    ordered = rows.sort(time, maintain_order=True)
    moments = ordered[time]
    starts = [index for index in (moments != moments.shift(1)).fill_null(value=True).arg_true() if index]
    if not starts:
        raise InvalidInput(
            f"All {rows.height} rows have the same {time!r}: {moments[0]}.", "Part them by split_random instead."
        )
    wanted = rows.height * (1 - test)
    cut = min(starts, key=lambda index: (abs(index - wanted), index))
    return ordered.head(cut), ordered.slice(cut)


def _check(rows: pl.DataFrame, test: float) -> None:
    refuse_empty(rows, "part")
    if not 0 < test < 1:
        raise InvalidInput(f"test={test} is no share.", "Give the share of rows to hold out, such as 0.2.")


def _codes(values: pl.Series) -> NDArray[np.int64]:
    """Number distinct values 0, 1, 2 ... in the order in which they first occur."""
    _, first, inverse = np.unique(values.rank("dense").to_numpy(), return_index=True, return_inverse=True)
    places = np.empty(len(first), dtype=np.int64)
    places[np.argsort(first)] = np.arange(len(first))
    return places[inverse]


def _drawn(codes: NDArray[np.int64], test: float, generator: np.random.Generator, what: str) -> NDArray[np.bool_]:
    """Draw whole codes at random until the share is met as nearly as it can be; both sides get at least one."""
    sizes = np.bincount(codes)
    if len(sizes) < 2:
        raise InvalidInput(
            f"There are {len(codes)} {what} and all are alike, so they cannot be parted.",
            "Merge what is rare into one value, drop it, or split in another way.",
        )
    order = generator.permutation(len(sizes))
    filled = np.cumsum(sizes[order])[:-1]
    take = int(np.argmin(np.abs(filled - test * len(codes)))) + 1
    chosen = np.zeros(len(sizes), dtype=np.bool_)
    chosen[order[:take]] = True
    return chosen[codes]


def _parted(rows: pl.DataFrame, held: NDArray[np.bool_]) -> tuple[pl.DataFrame, pl.DataFrame]:
    mask = pl.Series(held)
    return rows.filter(~mask), rows.filter(mask)
