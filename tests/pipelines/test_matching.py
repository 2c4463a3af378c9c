"""A value is compared with an annotation as a type checker would, as far as that is cheap."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, Protocol, TypedDict, TypeVar

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tidewheel.pipelines.matching import mismatch, type_name

T = TypeVar("T")
Metres = NewType("Metres", float)
FRAME = pl.DataFrame({"a": [1]})


class Speaks(Protocol):
    def speak(self) -> str: ...


class Point(NamedTuple):
    x: int
    frame: pl.DataFrame


class Options(TypedDict):
    depth: int
    name: NotRequired[str]


@dataclass
class Parts:
    train: pl.DataFrame
    score: float | None = None


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (3, int),
        (3, float),
        (True, int),
        (3.5, complex),
        (np.float32(1), float),
        (np.int64(1), int),
        (np.int64(1), float),
        (None, None),
        (None, int | None),
        ("x", Any),
        ("x", object),
        ("x", T),
        ("a", Literal["a", "b"]),
        (FRAME, pl.DataFrame),
        (FRAME, pl.DataFrame | pl.LazyFrame),
        (np.zeros(2), NDArray[np.float64]),
        ([1, 2], list[int]),
        ([1, 2.5], list[float]),
        ((1, "a"), tuple[int, str]),
        ((1, 2, 3), tuple[int, ...]),
        ((), tuple[()]),
        ({"a": [1]}, dict[str, list[int]]),
        ({"a": 1}, Mapping[str, int]),
        ([1], Sequence[int]),
        ({1}, set[int]),
        (iter([1]), Iterator[int]),
        (len, Callable[[str], int]),
        (int, type[int]),
        (3, Annotated[int, "metres"]),
        (3.0, Metres),
        (object(), Speaks),
        (Point(1, FRAME), Point),
        (Parts(FRAME, 1), Parts),
        ({"depth": 1}, Options),
        ({"depth": 1, "name": "x"}, Options),
    ],
)
def test_what_fits(value: Any, annotation: Any) -> None:
    assert mismatch(value, annotation) == ""


@pytest.mark.parametrize(
    ("value", "annotation", "said"),
    [
        ("3", int, "expected int, got str"),
        (3.0, int, "expected int, got float"),
        (Decimal(3), float, "expected float, got decimal.Decimal"),
        (None, int, "expected int, got None"),
        (1, None, "expected None, got int"),
        (1, str | None, "expected str | None, got int"),
        (1, Literal["a"], "expected Literal['a'], got 1"),
        (True, Literal[1], "expected Literal[1], got True"),
        (FRAME.lazy(), pl.DataFrame, "expected DataFrame, got polars.LazyFrame"),
        ([FRAME, 1], list[pl.DataFrame], "expected DataFrame at [1], got int"),
        ((1,), tuple[int, str], "expected 2 values, got 1"),
        ((1, 2), tuple[int, str], "expected str at [1], got int"),
        ({"a": [1, "b"]}, dict[str, list[int]], "expected int at ['a'][1], got str"),
        ({1: 1}, dict[str, int], "expected str at (a key), got int"),
        ("12", list[str], "expected list[str], got str"),
        (1, Metres, None),
        (Point("x", FRAME), Point, "expected int at .x, got str"),  # type: ignore[arg-type]
        (Parts([1]), Parts, "expected DataFrame at .train, got list"),  # type: ignore[arg-type]
        (Parts, Parts, "expected Parts, got type"),
        ({"depth": "1"}, Options, "expected int at ['depth'], got str"),
        ({}, Options, "expected Options, got a dict with no 'depth'"),
        (
            {"depth": 1, "nmae": "x"},
            Options,
            "expected Options, got a dict with the key 'nmae', which it does not declare",
        ),
    ],
)
def test_what_does_not_fit(value: Any, annotation: Any, said: str | None) -> None:
    assert mismatch(value, annotation) == (said or "")


SIMPLE = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.lists(SIMPLE, max_size=8))
def test_a_list_fits_the_union_of_the_types_in_it(items: list[Any]) -> None:
    kinds = {type(item) for item in items} or {int}
    union: Any = None
    for kind in kinds:
        union = kind if union is None else union | kind
    assert mismatch(items, list[union]) == ""
    assert mismatch(tuple(items), tuple[union, ...]) == ""
    assert mismatch([*items, b"x"], list[union]).startswith("expected ")


def test_only_the_first_items_are_looked_at() -> None:
    assert mismatch([1] * 100 + ["x"], list[int]) == ""
    assert mismatch([1] * 99 + ["x"], list[int]) == "expected int at [99], got str"


def test_types_are_named_as_one_writes_them() -> None:
    names = [type_name(kind) for kind in (int, None, dict[str, list[int]], int | None, tuple[int, ...], Parts)]
    assert names == ["int", "None", "dict[str, list[int]]", "int | None", "tuple[int, ...]", "Parts"]
