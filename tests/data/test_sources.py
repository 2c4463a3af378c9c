"""Reading files and frames: what comes out, and what a caller is told when it cannot be read."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidewheel.data.csv_file import parse_csv
from tidewheel.data.sources import load
from tidewheel.errors import InvalidInput, NotFound

TABLE = pl.DataFrame(
    {
        "hour": [0, 1, None],
        "price": [0.5, None, 2.25],
        "sky": ["clear", "rain, heavy", None],
        "holiday": [True, False, None],
        "at": pl.Series(["2026-01-01T12:30", "2026-01-02T00:00", None]).str.to_datetime("%Y-%m-%dT%H:%M"),
        "day": [date(2026, 1, 1), date(2026, 1, 2), None],
    }
)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_csv_file_comes_back_with_its_types(tmp_path: Path) -> None:
    TABLE.write_csv(tmp_path / "t.csv", datetime_format="%Y-%m-%dT%H:%M:%S")
    loaded = load(tmp_path / "t.csv")
    assert loaded.frame.equals(TABLE)
    assert (loaded.uri, loaded.form) == ("t.csv", "csv")


@pytest.mark.parametrize("suffix", [".parquet", ".pq"])
def test_a_parquet_file_comes_back(tmp_path: Path, suffix: str) -> None:
    TABLE.write_parquet(tmp_path / f"t{suffix}")
    assert load(str(tmp_path / f"t{suffix}")).frame.equals(TABLE)


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson"])
def test_json_lines_come_back(tmp_path: Path, suffix: str) -> None:
    plain = TABLE.select("hour", "price", "sky", "holiday")
    plain.write_ndjson(tmp_path / f"t{suffix}")
    assert load(tmp_path / f"t{suffix}").frame.equals(plain)


@pytest.mark.parametrize(
    "source",
    [
        TABLE,
        TABLE.lazy(),
        pa.table({name: TABLE[name].to_arrow() for name in TABLE.columns}),
        pd.DataFrame({name: TABLE[name].to_list() for name in TABLE.columns}),
    ],
    ids=["polars", "lazy", "arrow", "pandas"],
)
def test_frames_come_back(source: Any) -> None:
    frame = load(source).frame
    assert frame.columns == TABLE.columns
    assert frame["sky"].to_list() == TABLE["sky"].to_list()
    assert frame["price"].to_list() == TABLE["price"].to_list()


def test_a_named_pandas_index_becomes_a_column_and_numbered_columns_get_names() -> None:
    named = pd.DataFrame({"x": [1, 2]}, index=pd.Index([7, 8], name="id"))
    assert load(named).frame.columns == ["id", "x"]
    assert load(pd.DataFrame(np.ones((2, 2)))).frame.columns == ["0", "1"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_taken_from_the_header(separator: str) -> None:
    text = separator.join(["a", "b"]) + "\n" + separator.join(["1", "x"]) + "\n"
    assert parse_csv(text.encode(), "t.csv").rows() == [(1, "x")]


def test_words_for_no_value_are_null_among_numbers_and_text_elsewhere() -> None:
    frame = parse_csv(b"n,f,country\n1,0.5,NA\nNA,NULL,DE\n3,1.5,FR\n", "t.csv")
    assert frame.rows() == [(1, 0.5, "NA"), (None, None, "DE"), (3, 1.5, "FR")]
    assert frame["n"].dtype == pl.Int64


def test_text_columns_keep_their_zeros() -> None:
    assert parse_csv(b"zip,n\n00501,1\n", "t.csv", texts=["zip"]).rows() == [("00501", 1)]


def test_a_byte_order_mark_and_quoted_line_breaks_do_no_harm() -> None:
    assert parse_csv(b'\xef\xbb\xbfa,b\r\n1,"x\r\ny"\r\n', "t.csv").rows() == [(1, "x\r\ny")]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("empty.csv", b"", "is empty"),
        ("blank.csv", b"\n\n", "nothing but blanks"),
        ("header.csv", b"a,b\n", "a header and no rows"),
        ("long.csv", b"a,b\n1,2\n1,2,3\n", "Line 3 of long.csv has 3 fields; the header has 2"),
        ("short.csv", b'a,b,c\n"x\ny",2,3\n4,5\n', "Line 4 of short.csv has 2 fields; the header has 3"),
        ("twice.csv", b"a,b,a\n1,2,3\n", "'a' occurs more than once in the header of twice.csv"),
        ("nameless.csv", b"a,,c\n1,2,3\n", "Column 2 of nameless.csv has no name"),
        ("latin.csv", "a,b\n1,caf\xe9\n".encode("cp1252"), r"byte 9 \(0xe9, line 2\).*\n.*WINDOWS-1252"),
        ("wide.csv", "a,b\n1,x\n".encode("utf-16"), r"byte 0 .*\n.*UTF-16"),
        ("zero.csv", b"a,b\n1,\0\n", "zero bytes"),
        ("mixed.csv", b"a,b\n1,x\nfoo,y\n3,z\n", "'a' of mixed.csv mixes numbers and text: 1 of 3.*'foo' in row 2"),
        ("open.csv", b'a,b\n1,"x' + b"y" * 140_000 + b"\n2,3\n", "cannot be read as CSV"),
        ("bad.jsonl", b'{"a":1}\n{"a":\n', "Line 2 of bad.jsonl is not valid JSON"),
        ("list.jsonl", b'{"a":1}\n[1]\n', "Line 2 of list.jsonl holds a list, not an object"),
        ("mixed.jsonl", b'{"a":1}\n{"a":"k"}\n', r"'a' of mixed.jsonl mixes number \(line 1\) and text \(line 2\)"),
        ("flag.jsonl", b'{"a":1}\n{"a":true}\n', "mixes number .* and boolean"),
        ("none.jsonl", b"\n\n", "nothing but blanks"),
        ("cut.parquet", b"PAR1 and no more", "cut.parquet is not a readable Parquet file"),
        ("table.xlsx", b"PK", r"ends in .xlsx.*\n.*\.csv, \.tsv, \.parquet"),
        ("table", b"a\n1\n", "ends in nothing"),
    ],
)
def test_unreadable_files_are_refused_with_the_place(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    with pytest.raises(InvalidInput, match=f"(?s){told}"):
        load(write(tmp_path, name, content))


def test_a_missing_file_is_answered_with_near_names(tmp_path: Path) -> None:
    write(tmp_path, "bikes.csv", "a\n1\n")
    with pytest.raises(NotFound, match=r"Did you mean 'bikes.csv'"):
        load(tmp_path / "bike.csv")
    with pytest.raises(NotFound, match="no folder named"):
        load(tmp_path / "nowhere" / "bikes.csv")


def test_a_folder_with_a_known_suffix_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "parts.parquet").mkdir()
    with pytest.raises(InvalidInput, match="is a folder"):
        load(tmp_path / "parts.parquet")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (42, "builtins.int is neither a file name nor a frame"),
        (pd.DataFrame({"a": [1, "x"]}), "'a' mixes int and str"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a' occurs more than once"),
        (pa.table([[1], [2]], names=["a", "a"]), "'a' occurs more than once"),
        (pl.DataFrame({"a": pl.Series([], dtype=pl.Int64)}), "no rows"),
        (pl.DataFrame(), "no columns"),
    ],
    ids=["number", "mixed", "twice", "twice arrow", "no rows", "no columns"],
)
def test_unusable_frames_are_refused(source: Any, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        load(source)


def test_a_mostly_textual_column_with_numbers_stays_text() -> None:
    content = "ticket\nA/5 21171\nPC 17599\n113803\n373450\nSTON 310\n"
    assert parse_csv(content.encode(), "t.csv")["ticket"].dtype == pl.String


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=8).filter(
    lambda text: text.strip() == text and not text[0].isdigit()
)


@given(st.lists(st.tuples(st.integers(-(2**62), 2**62), cells), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_csv_round_trip(rows: list[tuple[int, str]]) -> None:
    frame = pl.DataFrame(rows, schema={"n": pl.Int64, "t": pl.String}, orient="row")
    text = frame.write_csv(quote_style="non_numeric")
    assert parse_csv(text.encode(), "t.csv", texts=["t"]).equals(frame)


def test_moments_with_zones_are_kept_as_such(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "at\n2026-01-01T00:00:00Z\n2026-01-01T01:00:00Z\n")
    assert load(path).frame["at"].to_list()[0] == datetime(2026, 1, 1, tzinfo=UTC)
