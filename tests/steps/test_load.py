"""Every format gives the same rows; a text and what cannot be read are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import tidewheel
from tidewheel.errors import InvalidInput, NotFound
from tidewheel.steps.load import load

ROWS = pl.DataFrame({"hour": [3, 4, 5], "sky": ["clear", None, "rain"], "temp": [1.5, 2.25, None]})
WRITERS: dict[str, Callable[[Path], object]] = {
    "rows.csv": ROWS.write_csv,
    "rows.tsv": lambda path: ROWS.write_csv(path, separator="\t"),
    "rows.parquet": ROWS.write_parquet,
    "rows.ndjson": ROWS.write_ndjson,
    "rows.jsonl": ROWS.write_ndjson,
    "rows.json": ROWS.write_json,
    "rows.arrow": ROWS.write_ipc,
    "stream.arrow": ROWS.write_ipc_stream,
    "packed.feather": lambda path: ROWS.write_ipc(path, compression="zstd"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_rows(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    assert load(tmp_path / name).equals(ROWS)
    assert load(tmp_path / name, columns=["temp", "hour"]).columns == ["temp", "hour"]


@pytest.mark.parametrize(
    ("name", "content", "hint"),
    [
        ("a.json", b'{"hour": 3}', "list of objects"),
        ("a.json", b"[]", "empty list"),
        ("a.json", b'[{"hour": 3},\n {"hour": }]', "line 2"),
        ("a.json", b'[{"hour": 3}, {"hour": "x"}]', "mixes number"),
        ("a.json", b"[3]", "object"),
        ("a.json", b"  ", "blanks"),
        ("a.arrow", b"ARROW1 and then nothing", "not a readable Arrow file"),
        ("a.arrow", b"neither", "not a readable Arrow file"),
        ("a.csv", b"", "empty"),
        ("a.xlsx", b"x", "ends in .xlsx"),
    ],
)
def test_what_cannot_be_read_is_named(name: str, content: bytes, hint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=hint):
        load(tmp_path / name)


def test_a_text_is_refused_because_its_content_would_not_count(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"Path\('rows.csv'\)"):
        load("rows.csv")
    ROWS.write_csv(tmp_path / "rows.csv")
    with pytest.raises(NotFound, match=r"rows\.csv"):
        load(tmp_path / "row.csv")
    with pytest.raises(NotFound, match="temp"):
        load(ROWS, columns=["tempo"])


def test_a_changed_file_and_a_dataset_of_the_store_are_seen(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(
        "from pathlib import Path\n"
        "from tidewheel import latest, pipeline\n"
        "from tidewheel.steps.load import load\n"
        "@pipeline\ndef from_file(file: Path):\n    return load(file)\n"
        "@pipeline\ndef from_store():\n    return load(latest('rows'), columns=['hour'])\n"
    )
    app = tidewheel.open(tmp_path / "home")
    file = tmp_path / "rows.csv"
    ROWS.write_csv(file)
    target = f"{tmp_path / 'flow.py'}:from_file"
    assert app.run(target, file=file).steps[0].state == "COMMITTED"
    assert app.run(target, file=file).steps[0].state == "CACHED"
    ROWS.head(1).write_csv(file)
    changed = app.run(target, file=file)
    assert (changed.steps[0].state, changed.output.height) == ("COMMITTED", 1)
    app.register("rows", ROWS)
    assert app.run(f"{tmp_path / 'flow.py'}:from_store").output.to_dict(as_series=False) == {"hour": [3, 4, 5]}
    app.close()
