"""Packed models come back exactly; foreign code needs trust."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from tidewheel.errors import InvalidInput, UnsupportedFormat
from tidewheel.models.model import Model
from tidewheel.models.packing import pack, unpack
from tidewheel.models.pickle_format import dump_object, load_object
from tidewheel.models.skops_format import dump_estimator, load_estimator

if TYPE_CHECKING:
    from tests.models.conftest import Table


def half(rows: Any) -> Any:
    """Halve."""
    return rows / 2


class Doubler:
    """Not an estimator of scikit-learn."""

    def __init__(self) -> None:
        self.factor = 2

    def predict(self, rows: pl.DataFrame) -> np.ndarray[Any, Any]:
        return rows["f0"].to_numpy() * self.factor


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(), LogisticRegression()),
        RandomForestClassifier(5),
        HistGradientBoostingClassifier(max_iter=5),
        make_pipeline(FunctionTransformer(np.abs), LogisticRegression(max_iter=5)),
    ],
    ids=["pipeline", "forest", "boosting", "ufunc"],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_packed_model_answers_exactly_alike(estimator: Any, table: Table) -> None:
    model = Model(estimator.fit(table.numbers, table.three), example=table.numbers, target="class")
    data = pack(model)
    again = unpack(data)
    np.testing.assert_array_equal(again.predict_proba(table.numbers), model.predict_proba(table.numbers))
    assert again.signature == model.signature
    assert pack(again) == data
    assert again.__digest__() == model.__digest__()


def test_other_bytes_are_refused() -> None:
    with pytest.raises(InvalidInput, match="not a packed model"):
        unpack(b"\xc1")


def test_own_class_needs_trust_on_both_ends(table: Table) -> None:
    model = Model(Doubler(), example=table.numbers, task="regression")
    with pytest.raises(UnsupportedFormat, match="trust=True"):
        pack(model)
    trusted = Model(Doubler(), example=table.numbers, task="regression", trust=True)
    data = pack(trusted)
    with pytest.raises(UnsupportedFormat, match="runs code"):
        unpack(data)
    np.testing.assert_array_equal(unpack(data, trust=True).predict(table.numbers), table.numbers["f0"].to_numpy() * 2)
    assert model.__digest__().startswith("sha256:")


def test_own_function_inside_a_pipeline_is_not_trusted(table: Table) -> None:
    fitted = make_pipeline(FunctionTransformer(half), LogisticRegression(max_iter=5))
    with pytest.raises(UnsupportedFormat, match="half"):
        dump_estimator(fitted)


@pytest.mark.parametrize("data", [b"", b"PK no archive"], ids=["empty", "broken"])
def test_broken_skops_is_said(data: bytes) -> None:
    with pytest.raises(UnsupportedFormat, match="cannot be loaded"):
        load_estimator(data)


def test_skops_that_names_foreign_code_is_not_loaded() -> None:
    import skops.io

    with pytest.raises(UnsupportedFormat, match=r"untrusted parts.*half"):
        load_estimator(skops.io.dumps(FunctionTransformer(half)))


def test_unpicklable_part_is_named() -> None:
    doubler = Doubler()
    doubler.lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(UnsupportedFormat, match=r"cannot be pickled.*lock"):
        dump_object(doubler)


def test_broken_pickle_is_said() -> None:
    with pytest.raises(UnsupportedFormat, match="cannot be loaded"):
        load_object(b"\x80\x05.")


@pytest.mark.slow
def test_own_modules_travel_by_value(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Mine:\n    def predict(self, rows):\n        return [7] * len(rows)\n")
    target = tmp_path / "mine.pickle"
    write = "import mine, pathlib, sys; from tidewheel.models.pickle_format import dump_object; "
    write += "pathlib.Path(sys.argv[1]).write_bytes(dump_object(mine.Mine()))"
    subprocess.run([sys.executable, "-c", write, str(target)], check=True, cwd=tmp_path)
    assert load_object(target.read_bytes()).predict([1, 2]) == [7, 7]
