"""A model in this process answers every kind of frame in kind, and the same whatever the kind."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.scoring.conftest import numbers, texts

import tidewheel
from tidewheel.errors import CorruptBlob, InvalidInput, NotFound
from tidewheel.lineage.store import Store
from tidewheel.registry.versions import get_model
from tidewheel.scoring.loaded import load_folder, load_model
from tidewheel.shipping.payload import payload_of, write_folder

KINDS = ["polars", "pandas", "arrow", "columns", "rows"]


def as_kind(frame: pl.DataFrame, kind: str) -> Any:
    return {
        "polars": lambda: frame,
        "pandas": frame.to_pandas,
        "arrow": frame.to_arrow,
        "columns": lambda: frame.to_dict(as_series=False),
        "rows": frame.to_dicts,
    }[kind]()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["trees", "colors", "line"])
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_every_kind_gets_the_same_answers_in_kind(yard: Store, kind: str, name: str, rows: int) -> None:
    model = load_model(yard, name)
    frame = (texts() if name == "colors" else numbers()).drop("id").head(rows)
    expected = model.score(frame)
    answer = model.predict(as_kind(frame, kind))
    wanted = {"polars": pl.Series, "columns": list, "rows": list}.get(kind)
    assert isinstance(answer, wanted) if wanted else kind[:5] in type(answer).__module__.replace("pyarrow", "arrow")
    assert list(pl.Series(answer if kind != "arrow" else answer.to_pylist())) == expected.prediction.tolist()
    if name != "line":
        table = model.predict_proba(as_kind(frame, kind))
        plain = table if kind in ("columns", "rows") else pl.DataFrame(table).rows()
        assert expected.probabilities is not None
        assert np.array_equal(np.asarray(plain), expected.probabilities)


def test_columns_in_another_order_and_besides_do_no_harm(yard: Store) -> None:
    model, frame = load_model(yard, "trees"), numbers().head(9)
    expected = model.predict(frame)
    assert model.predict(frame.select("id", "n", "b", "a")).equals(expected)
    assert model.predict(frame.select("id", "n", "b", "a").to_pandas()).tolist() == expected.to_list()


def test_a_pandas_answer_keeps_the_index(yard: Store) -> None:
    frame = numbers().drop("id").head(3).to_pandas().set_axis(["x", "y", "z"], axis=0)
    model = load_model(yard, "trees")
    assert list(model.predict(frame).index) == ["x", "y", "z"]
    assert list(model.predict_proba(frame).columns) == ["0", "1"]


def test_one_row_gets_one_value(yard: Store) -> None:
    row = numbers().row(0, named=True)
    model = load_model(yard, "trees@champion")
    assert model.predict(row) == model.predict([row])[0]
    assert model.predict_proba(row) == model.predict_proba([row])[0]
    matrix = np.array([[row["a"], row["b"], row["n"]]])
    assert model.predict(matrix).tolist() == [model.predict(row)]


def test_what_does_not_fit_is_told(yard: Store) -> None:
    model = load_model(yard, "trees")
    with pytest.raises(NotFound, match="There is no column named 'n'"):
        model.predict({"a": 1.0, "b": 2.0})
    with pytest.raises(NotFound, match="There is no column named 'n'"):
        model.predict(numbers().drop("n"))
    with pytest.raises(InvalidInput, match="'a' is float for this model"):
        model.predict({"a": "1.0", "b": 2.0, "n": 3})
    with pytest.raises(InvalidInput, match="cannot be read"):
        model.predict(["a"])
    with pytest.raises(InvalidInput, match="is not a frame"):
        model.predict(3)
    with pytest.raises(InvalidInput, match="gives no probabilities"):
        load_model(yard, "line").predict_proba(numbers())


def test_a_digest_a_folder_and_a_pickle_of_it_are_the_same_model(yard: Store, tmp_path: Path) -> None:
    frame = texts().head(7)
    expected = load_model(yard, "colors").predict(frame).to_list()
    assert load_model(yard, get_model(yard, "colors").bundle_digest).predict(frame).to_list() == expected
    folder = write_folder(payload_of(yard, "colors@champion"), tmp_path / "shipped")
    shipped = tidewheel.load(folder)
    assert (shipped.reference, shipped.predict(frame).to_list()) == ("colors:1", expected)
    assert tidewheel.load(str(folder)).reference == "colors:1"
    assert tidewheel.load("colors", home=yard.home).predict(frame).to_list() == expected
    assert pickle.loads(pickle.dumps(shipped)).predict(frame).to_list() == expected


def test_an_altered_or_absent_folder_is_refused(yard: Store, tmp_path: Path) -> None:
    folder = write_folder(payload_of(yard, "colors"), tmp_path / "shipped")
    (folder / "model.onnx").write_bytes(b"x" + (folder / "model.onnx").read_bytes()[1:])
    with pytest.raises(CorruptBlob, match="no longer match"):
        load_folder(folder)
    with pytest.raises(NotFound, match=r"model\.json"):
        load_folder(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(InvalidInput, match="is not what ship wrote"):
        load_folder(tmp_path)
