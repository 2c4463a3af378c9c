"""No row, copy of a row, group or moment is on both sides, whatever the rows; shares are as scikit-learn's."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedShuffleSplit

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.steps.split import split_by_group, split_by_time, split_random, split_stratified

SHARES = st.floats(0.05, 0.95)
SEEDS = st.integers(0, 2**32)
VALUES = st.lists(st.integers(0, 30), min_size=2, max_size=80).filter(lambda values: len(set(values)) > 1)


def together(train: pl.DataFrame, test: pl.DataFrame) -> Counter[tuple[object, ...]]:
    return Counter(train.rows()) + Counter(test.rows())


@given(values=VALUES, share=SHARES, seed=SEEDS)
def test_equal_rows_are_on_one_side_and_none_is_lost(values: list[int], share: float, seed: int) -> None:
    rows = pl.DataFrame({"value": values})
    train, test = split_random(rows, share, seed)
    assert train.height
    assert test.height
    assert not set(train["value"]) & set(test["value"])
    assert together(train, test) == Counter(rows.rows())
    assert all(part.equals(again) for part, again in zip((train, test), split_random(rows, share, seed), strict=True))


@given(count=st.integers(2, 300), share=SHARES, seed=SEEDS)
def test_distinct_rows_give_the_share_to_the_row(count: int, share: float, seed: int) -> None:
    _, test = split_random(pl.DataFrame({"value": range(count)}), share, seed)
    assert abs(test.height - min(max(share * count, 1), count - 1)) <= 0.5 + 1e-9


@given(
    groups=st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=60).filter(lambda found: len(set(found)) > 1),
    share=SHARES,
    seed=SEEDS,
)
def test_a_group_is_on_one_side(groups: list[str], share: float, seed: int) -> None:
    rows = pl.DataFrame({"group": groups, "row": range(len(groups))})
    train, test = split_by_group(rows, "group", share, seed)
    assert train.height
    assert test.height
    assert not set(train["group"]) & set(test["group"])
    assert together(train, test) == Counter(rows.rows())


@given(values=VALUES, share=SHARES)
def test_what_is_held_out_is_later(values: list[int], share: float) -> None:
    rows = pl.DataFrame({"time": values, "row": range(len(values))})
    train, test = split_by_time(rows, "time", share)
    assert max(train["time"]) < min(test["time"])
    assert together(train, test) == Counter(rows.rows())
    largest = max(Counter(values).values())
    assert abs(test.height - share * len(values)) <= max(largest, 1)


@given(
    counts=st.lists(st.integers(4, 40), min_size=2, max_size=5),
    share=st.sampled_from([0.2, 0.25, 0.4, 0.5]),
    seed=st.integers(0, 1000),
)
def test_strata_are_parted_as_scikit_learn_does(counts: list[int], share: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    rows = pl.DataFrame({"label": labels, "row": range(len(labels))})
    _, test = split_stratified(rows, "label", share, seed)
    oracle = StratifiedShuffleSplit(n_splits=1, test_size=share, random_state=seed)
    _, wanted = next(oracle.split(rows.to_numpy(), labels))
    ours, theirs = (np.bincount(found, minlength=len(counts)) for found in (test["label"].to_numpy(), labels[wanted]))
    assert np.abs(ours - theirs).max() <= 1


def test_another_seed_draws_other_rows() -> None:
    rows = pl.DataFrame({"value": range(100)})
    assert not split_random(rows, seed=1)[1].equals(split_random(rows, seed=2)[1])


def test_rows_with_gaps_lists_and_structs_are_parted() -> None:
    rows = pl.DataFrame({"a": [[1], [1], [2], None], "b": [{"x": 1.0}, {"x": 1.0}, {"x": None}, None]})
    train, test = split_random(rows, 0.5)
    assert train.height + test.height == 4
    assert (rows.row(0) in train.rows()) != (rows.row(0) in test.rows())


def test_rows_that_cannot_be_parted_are_refused() -> None:
    rows = pl.DataFrame({"kind": ["a", "a", "a", "b"], "when": [1, 1, 1, 1], "x": [1.0, 2.0, 3.0, 4.0]})
    gaps = rows.with_columns(kind=pl.Series(["a", None, "b", "b"]), when=pl.Series([1.0, float("nan"), 2.0, 3.0]))
    for share in (0.0, 1.0, -0.5, float("nan")):
        with pytest.raises(InvalidInput, match="share"):
            split_random(rows, share)
    with pytest.raises(InvalidInput, match="0 rows"):
        split_random(rows.clear())
    with pytest.raises(InvalidInput, match="alike"):
        split_random(rows.select("when"))
    with pytest.raises(InvalidInput, match="kind='b'"):
        split_stratified(rows, "kind")
    with pytest.raises(InvalidInput, match="same 'when'"):
        split_by_time(rows, "when")
    with pytest.raises(InvalidInput, match="alike"):
        split_by_group(rows, "when")
    with pytest.raises(NotFound, match="kind"):
        split_by_group(rows, "kid")
    for broken, name in ((split_by_group, "kind"), (split_stratified, "kind"), (split_by_time, "when")):
        with pytest.raises(InvalidInput, match="missing"):
            broken(gaps, name)
