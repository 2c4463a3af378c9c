"""Parameters are checked against the signature; text is read as the types it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest

from tidewheel.errors import InvalidInput
from tidewheel.pipelines.parameters import bind, call
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.wish import Input


@pipeline
def typed(  # type: ignore[no-untyped-def] # `free` has no annotation on purpose
    *,
    depth: int = 6,
    rate: float | None = None,
    name: str = "x",
    flag: bool = False,
    many: list[int] | None = None,
    items: list[int] = [],  # noqa: B006
    place: Path = Path(),
    mode: Literal["fast", "slow"] = "fast",
    rows: pl.DataFrame | None = None,
    frame: pl.DataFrame = pl.DataFrame(),  # noqa: B008
    free=None,
) -> Any:
    return locals()


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("depth", "8", 8),
        ("depth", 8, 8),
        ("rate", "0.5", 0.5),
        ("rate", "null", None),
        ("name", "8", "8"),
        ("flag", "true", True),
        ("flag", "0", False),
        ("items", "[1, 2]", [1, 2]),
        ("place", "a/b", Path("a/b")),
        ("mode", "slow", "slow"),
        ("frame", "bikes", Input(kind="dataset", name="bikes")),
        ("free", "bikes", "bikes"),
    ],
)
def test_bind_reads_text_as_the_annotated_type(name: str, given: Any, expected: Any) -> None:
    found = bind(typed, {name: given})[name]
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("name", "given", "hint"),
    [
        ("depth", "6.5", "depth='6.5' of typed is not int"),
        ("flag", "perhaps", "not bool"),
        ("items", "[1, x]", r"not list\[int\]"),
        ("mode", "medium", "medium"),
    ],
)
def test_bind_says_what_cannot_be_read(name: str, given: str, hint: str) -> None:
    with pytest.raises(InvalidInput, match=hint):
        bind(typed, {name: given})


def test_call_respects_positional_and_open_ended_parameters() -> None:
    def body(a: int, /, b: int, *, c: int = 3, **rest: int) -> tuple[Any, ...]:
        return a, b, c, rest

    made = pipeline(body)
    assert call(made, bind(made, {"a": "1", "b": 2, "d": 4})) == (1, 2, 3, {"d": 4})
