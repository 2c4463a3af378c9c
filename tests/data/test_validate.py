"""Schemas and what deviates from them."""

import math
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidewheel.data.conform import conform, settle
from tidewheel.data.findings import errors_of, findings_table
from tidewheel.data.records import Finding, Schema
from tidewheel.data.schema import infer_schema
from tidewheel.data.validate import check_first, validate_frame
from tidewheel.errors import InvalidInput, NotFound
from tidewheel.stats.profile import profile_frame

ROWS = 200
START = datetime(2026, 1, 1, tzinfo=UTC)


def history() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "at": [START + timedelta(hours=i) for i in range(ROWS)],
            "hour": [i % 24 for i in range(ROWS)],
            "temp": rng.uniform(0, 1, ROWS),
            "sky": rng.choice(["clear", "rain", "snow"], ROWS),
            "holiday": [i % 7 == 0 for i in range(ROWS)],
            "gap": [None if i % 4 == 0 else float(i) for i in range(ROWS)],
            "cnt": rng.integers(0, 100, ROWS),
        }
    ).with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))


SCHEMA = infer_schema(profile_frame(history()), time="at", label="cnt")


def changed(**columns: Any) -> pl.DataFrame:
    return history().with_columns(**columns)


def codes(findings: list[Finding]) -> set[tuple[str, str, str]]:
    return {(finding.column, finding.code, finding.severity) for finding in findings}


def test_a_schema_says_what_to_expect() -> None:
    assert [column.type for column in SCHEMA.columns] == [
        "datetime",
        "int",
        "float",
        "string",
        "boolean",
        "float",
        "int",
    ]
    sky, gap, hour = SCHEMA.column("sky"), SCHEMA.column("gap"), SCHEMA.column("hour")
    assert sky is not None
    assert sky.categories == ["clear", "rain", "snow"]
    assert gap is not None
    assert gap.nullable
    assert gap.missing == 0.25
    assert hour is not None
    assert not hour.nullable
    assert (hour.low, hour.high) == (0, 23)
    assert msgspec.convert(msgspec.to_builtins(SCHEMA), Schema) == SCHEMA


def test_identifiers_have_no_categories() -> None:
    schema = infer_schema(profile_frame(pl.DataFrame({"id": [f"k{i}" for i in range(50)]})))
    assert schema.columns[0].categories is None


def test_the_history_fits_its_own_schema() -> None:
    assert validate_frame(history(), SCHEMA) == []


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (history().drop("hour"), ("hour", "missing", "error")),
        (history().rename({"hour": "hours"}), ("hour", "missing", "error")),
        (history().rename({"hour": "hours"}), ("hours", "extra", "warning")),
        (changed(hour=pl.lit("noon")), ("hour", "mistyped", "error")),
        (changed(sky=pl.lit(3)), ("sky", "mistyped", "error")),
        (changed(at=pl.lit("soon")), ("at", "mistyped", "error")),
        (changed(holiday=pl.lit(1)), ("holiday", "mistyped", "error")),
        (changed(hour=pl.col("hour") + 0.5), ("hour", "widened", "warning")),
        (changed(hour=pl.when(pl.col("hour") > 3).then("hour")), ("hour", "nulls", "error")),
        (changed(hour=pl.lit(None)), ("hour", "all_null", "error")),
        (changed(temp=pl.lit(math.nan)), ("temp", "all_null", "error")),
        (changed(gap=pl.when(pl.int_range(pl.len()) % 10 == 0).then("gap")), ("gap", "nulls", "warning")),
        (changed(at=pl.when(pl.col("hour") > 3).then("at")), ("at", "nulls", "error")),
        (changed(temp=pl.when(pl.col("hour") == 3).then(math.inf).otherwise("temp")), ("temp", "infinite", "error")),
        (changed(temp=pl.col("temp") * 5), ("temp", "range", "warning")),
        (changed(sky=pl.lit("hail")), ("sky", "unseen", "warning")),
        (changed(sky=pl.lit("rain")), ("sky", "constant", "warning")),
        (changed(cnt=pl.lit(7)), ("cnt", "constant", "warning")),
        (history().with_columns(at=pl.col("at").dt.replace_time_zone(None)), ("at", "naive_time", "warning")),
    ],
)  # fmt: skip
def test_deviations_are_found(frame: pl.DataFrame, expected: tuple[str, str, str]) -> None:
    findings = validate_frame(frame, SCHEMA)
    assert expected in codes(findings)
    severities = [finding.severity for finding in findings]
    assert severities == sorted(severities)


def test_drift_alone_never_stops() -> None:
    drifted = changed(
        temp=pl.col("temp") * 100 - 20, hour=pl.col("hour") + 50, sky=pl.lit("dust"), cnt=pl.col("cnt") * 30
    )
    assert errors_of(validate_frame(drifted, SCHEMA)) == []


@pytest.mark.parametrize("rows", [1, 2, 20])
def test_a_single_gap_in_a_small_batch_does_not_stop(rows: int) -> None:
    batch = history().head(rows).with_columns(temp=pl.when(pl.int_range(pl.len()) > 0).then("temp"))
    findings = validate_frame(batch, SCHEMA)
    assert errors_of(findings) == []
    assert {finding.column for finding in findings} == {"temp"}


def test_a_missing_column_names_its_near_twin() -> None:
    finding = validate_frame(history().rename({"hour": "hours"}), SCHEMA)[0]
    assert "rename 'hours'" in finding.message


def test_mistyped_values_are_shown_with_their_row() -> None:
    texts = ["1"] * 10 + ["one"] + ["2"] * (ROWS - 11)
    finding = validate_frame(changed(temp=pl.Series(texts)), SCHEMA)[0]
    assert finding.seen == "string, 'one' in row 11"


def test_whole_floats_fit_whole_numbers_and_the_other_way_round() -> None:
    fitted = conform(changed(hour=pl.col("hour").cast(pl.Float32), temp=pl.lit(1)), SCHEMA)
    assert fitted.findings == []
    assert fitted.frame.schema["hour"] == pl.Int64
    assert fitted.frame.schema["temp"] == pl.Float64


def test_a_new_column_is_left_out_unless_the_dataset_evolves() -> None:
    frame = changed(wind=pl.lit(1.0))
    assert "wind" not in conform(frame, SCHEMA).frame.columns
    assert conform(frame, SCHEMA, evolve=True).frame.columns[-1] == "wind"


def test_types_are_settled() -> None:
    days = pl.Series([date(2026, 7, 1), date(2026, 7, 2)]).cast(pl.Datetime("us"))
    frame = pl.DataFrame(
        {
            "small": pl.Series([1, 2], dtype=pl.UInt8),
            "half": pl.Series([0.5, 1.5], dtype=pl.Float32),
            "kind": pl.Series(["a", "b"], dtype=pl.Categorical),
            "paris": days.dt.replace_time_zone("Europe/Paris"),
            "naive": days.dt.cast_time_unit("ns"),
            "void": pl.Series([None, None], dtype=pl.String),
            "list": [[1], [2]],
        }
    )
    settled = settle(frame, time=None, label=None)
    assert dict(settled.frame.schema) == {
        "small": pl.Int64,
        "half": pl.Float64,
        "kind": pl.String,
        "paris": pl.Datetime("us", "UTC"),
        "naive": pl.Datetime("us", "UTC"),
        "void": pl.Null,
        "list": pl.List(pl.Int64),
    }
    assert settled.frame["paris"][0] == datetime(2026, 6, 30, 22, tzinfo=UTC)
    assert settled.naive == ["naive"]


def test_texts_with_mixed_offsets_become_utc() -> None:
    frame = pl.DataFrame({"at": ["2026-01-01T02:00:00+02:00", "2026-01-01 01:00", "2026-01-02"]})
    settled = settle(frame, time="at", label=None)
    assert settled.frame["at"].to_list() == [START, START + timedelta(hours=1), START + timedelta(days=1)]
    assert settled.naive == ["at"]


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (["2026-01-01", "soon"], "'soon' in row 2"),
        ([1, 2], "Int64 values"),
    ],
)
def test_a_time_column_without_moments_is_refused(column: list[Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        settle(pl.DataFrame({"at": column}), time="at", label=None)


def test_an_unknown_label_is_answered_with_near_names() -> None:
    with pytest.raises(NotFound, match="Did you mean 'cnt'"):
        settle(history(), time="at", label="cnts")


@pytest.mark.parametrize("value", [2**64 - 1, 2**63])
def test_numbers_beyond_64_bits_are_refused(value: int) -> None:
    with pytest.raises(InvalidInput, match="beyond 64-bit"):
        settle(pl.DataFrame({"x": pl.Series([value], dtype=pl.UInt64)}), time=None, label=None)


@pytest.mark.parametrize(
    ("column", "role", "expected"),
    [
        ([1, 1, 1], "label", ("x", "one_class", "error")),
        (["a", "a", None], "label", ("x", "one_class", "error")),
        ([1.0, math.inf, 2.0], "", ("x", "infinite", "error")),
        ([None, None, None], "", ("x", "all_null", "warning")),
        ([3, 3, 3], "", ("x", "constant", "warning")),
        ([0, 1] + [None] * 20, "label", ("x", "nulls", "error")),
    ],
)
def test_first_rows_are_checked_on_their_own(column: list[Any], role: str, expected: tuple[str, str, str]) -> None:
    profile = profile_frame(pl.DataFrame({"x": column}, strict=False))
    findings = check_first(profile, infer_schema(profile, label="x" if role else None))
    assert codes(findings) == {expected}


def test_findings_print_as_a_table() -> None:
    text = findings_table(validate_frame(history().drop("hour").with_columns(sky=pl.lit("hail")), SCHEMA))
    lines = text.splitlines()
    assert lines[0].split() == ["severity", "column", "code", "expected", "seen"]
    assert lines[1].startswith("error     hour    missing")
    assert any("'hail'" in line for line in lines)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_rows_of_the_history_never_raise_errors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, ROWS, int(rng.integers(1, ROWS))).tolist()
    assert errors_of(validate_frame(history()[rows], SCHEMA)) == []
