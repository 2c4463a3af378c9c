"""Rows that fit pass unchanged, rows that do not stop the run with every finding."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from tidewheel.errors import InvalidInput, NotFound, ValidationFailed
from tidewheel.steps.validate import learn_schema, validate

GOOD = pl.DataFrame({"hour": [1, 2, 3] * 30, "sky": ["clear", "rain", "rain"] * 30})


def test_rows_that_fit_pass_unchanged() -> None:
    schema = learn_schema(GOOD, label="sky")
    assert validate(GOOD, schema, ranges={"hour": (0, 23)}).equals(GOOD)
    assert schema.label == "sky"


@pytest.mark.parametrize(
    ("rows", "options", "code"),
    [
        (GOOD.drop("sky"), {"schema": True}, "missing"),
        (GOOD.with_columns(hour=pl.lit("noon")), {"schema": True}, "mistyped"),
        (GOOD.with_columns(hour=pl.lit(None, pl.Int64)), {"schema": True}, "all_null"),
        (GOOD.with_columns(hour=pl.lit(24)), {"ranges": {"hour": (0, 23)}}, "range"),
        (GOOD.with_columns(hour=pl.lit(-1)), {"ranges": {"hour": (0, None)}}, "range"),
        (GOOD.with_columns(hour=pl.lit(float("nan"))), {"ranges": {"hour": (None, 23)}}, "range"),
        (GOOD.with_columns(hour=pl.lit(99)), {"schema": True, "strict": True}, "range"),
        (GOOD, {"unique": ["hour", "sky"]}, "repeated"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows: pl.DataFrame, options: dict[str, Any], code: str) -> None:
    if options.pop("schema", False):
        options["schema"] = learn_schema(GOOD)
    with pytest.raises(ValidationFailed) as refused:
        validate(rows, **options)
    assert code in {finding.code for finding in refused.value.findings}  # type: ignore[attr-defined]
    assert code in str(refused.value)


def test_a_warning_is_told_and_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    far = GOOD.with_columns(hour=pl.lit(99))
    assert validate(far, learn_schema(GOOD)).equals(far)
    assert "range" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [{"ranges": {"hour": (5, 1)}}, {"ranges": {"sky": (0, 1)}}])
def test_a_range_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        validate(GOOD, **wrong)


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(NotFound, match="hour"):
        validate(GOOD, ranges={"hours": (0, 1)})
    with pytest.raises(NotFound, match="sky"):
        learn_schema(GOOD, label="skye")
    with pytest.raises(InvalidInput, match="0 rows"):
        validate(GOOD.clear(), learn_schema(GOOD))
