"""A Model knows what its estimator expects and answers frames of any kind."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.models.model import Model

if TYPE_CHECKING:
    from tests.models.conftest import Table

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def test_the_example_of_the_readme_works(table: Table) -> None:
    x, y = table.numbers, table.amount
    model = Model(HistGradientBoostingRegressor(max_depth=4).fit(x, y), example=x.head(100))
    assert model.signature.task == "regression"
    assert model.signature.names == x.columns
    np.testing.assert_array_equal(model.predict(x), model.estimator.predict(x))


@pytest.mark.parametrize(
    ("estimator", "label", "expected"),
    [
        (make_pipeline(StandardScaler(), LogisticRegression()), "two", ("binary", [0, 1], True)),
        (make_pipeline(StandardScaler(), LogisticRegression()), "three", ("multiclass", [0, 1, 2], True)),
        (SVC(), "two", ("binary", [0, 1], False)),
        (LinearRegression(), "amount", ("regression", None, False)),
    ],
    ids=["two", "three", "no probabilities", "regression"],
)
def test_task_and_classes_are_inferred(estimator: Any, label: str, expected: tuple[Any, ...], table: Table) -> None:
    model = Model(estimator.fit(table.numbers, getattr(table, label)), example=table.numbers)
    signature = model.signature
    assert (signature.task, signature.classes, signature.probabilities) == expected
    assert signature.task in repr(model)


def test_pandas_polars_arrow_and_arrays_answer_alike(table: Table) -> None:
    x = table.numbers
    model = Model(LogisticRegression().fit(x.to_pandas(), table.two), example=x.to_pandas())
    expected = model.predict(x)
    for frame in (x.to_pandas(), x.to_arrow(), x.select(reversed(x.columns)), {c.name: c for c in x}):
        np.testing.assert_array_equal(model.predict(frame), expected)
    np.testing.assert_array_equal(model.score_rows([list(row) for row in x.iter_rows()]).prediction, expected)


def test_model_fitted_on_arrays_answers_arrays_and_frames(table: Table) -> None:
    array = table.numbers.to_numpy().astype(float)
    model = Model(LinearRegression().fit(array, table.amount), example=array)
    assert model.signature.names == [f"x{i}" for i in range(array.shape[1])]
    np.testing.assert_allclose(model.predict(array), model.estimator.predict(array))
    np.testing.assert_allclose(model.predict(pl.from_numpy(array, schema=model.signature.names)), model.predict(array))


def test_pandas_categories_reach_the_estimator(table: Table) -> None:
    x = table.mixed.to_pandas()
    x["sky"] = pd.Categorical(x["sky"])
    fitted = HistGradientBoostingRegressor(max_iter=10).fit(x, table.amount)
    model = Model(fitted, example=x.head(50))
    np.testing.assert_array_equal(model.predict(table.mixed), fitted.predict(x))


def test_example_with_more_columns_is_cut_to_the_fitted_ones(table: Table) -> None:
    x = table.numbers.select("f1", "count")
    model = Model(LinearRegression().fit(x, table.amount), example=table.numbers)
    assert model.signature.names == ["f1", "count"]


def test_example_without_a_fitted_column_is_refused(table: Table) -> None:
    fitted = LinearRegression().fit(table.numbers, table.amount)
    with pytest.raises(NotFound, match="Did you mean 'counts'"):
        Model(fitted, example=table.numbers.rename({"count": "counts"}))


def test_array_example_of_another_width_is_refused(table: Table) -> None:
    fitted = LinearRegression().fit(table.numbers.to_numpy().astype(float), table.amount)
    with pytest.raises(InvalidInput, match="fitted on 6 columns, the example has 2"):
        Model(fitted, example=np.zeros((3, 2)))


class Constant:
    """Answers the same to everything."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def predict(self, rows: pl.DataFrame) -> Any:
        return self.answer(rows)


@pytest.mark.parametrize(
    ("estimator", "said"),
    [
        (object(), "has no predict method"),
        (LinearRegression(), "is not fitted"),
        (make_pipeline(StandardScaler(), LogisticRegression()), "is not fitted"),
        (Constant(len), "cannot be told"),
    ],
    ids=["no predict", "not fitted", "pipeline not fitted", "no task"],
)
def test_what_cannot_be_a_model_is_refused(estimator: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        Model(estimator, example={"a": [1.0]})


def test_several_labels_at_once_are_refused(table: Table) -> None:
    both = np.column_stack([table.two, table.three])
    with pytest.raises(InvalidInput, match="several labels"):
        Model(RandomForestClassifier(3).fit(table.numbers, both), example=table.numbers)
    model = Model(LinearRegression().fit(table.numbers, both), example=table.numbers)
    with pytest.raises(InvalidInput, match="one model per label"):
        model.predict(table.numbers)


def test_any_object_with_predict_is_a_model_when_told_the_task() -> None:
    model = Model(Constant(lambda rows: rows["a"].to_numpy() * 2), example={"a": [1.0]}, task="regression")
    assert model.predict({"a": [3.0]}).tolist() == [6.0]
    wrong = Model(Constant(lambda rows: np.zeros(1)), example={"a": [1.0]}, task="regression")
    with pytest.raises(InvalidInput, match=r"shape \(1,\) to 2 rows"):
        wrong.predict({"a": [1.0, 2.0]})


def test_probabilities_are_refused_where_there_are_none(table: Table) -> None:
    model = Model(SVC().fit(table.numbers, table.two), example=table.numbers)
    assert model.score(table.numbers).probabilities is None
    with pytest.raises(InvalidInput, match="CalibratedClassifierCV"):
        model.predict_proba(table.numbers)


def test_no_rows_get_no_answers(table: Table) -> None:
    model = Model(LogisticRegression().fit(table.numbers, table.two), example=table.numbers)
    scores = model.score(table.numbers.clear())
    assert scores.prediction.shape == (0,)
    assert scores.probabilities is not None
    assert scores.probabilities.shape == (0, 2)


def test_digest_tells_models_apart_and_equal_ones_together(table: Table) -> None:
    def fit(regularisation: float) -> Model:
        return Model(LogisticRegression(C=regularisation).fit(table.numbers, table.two), example=table.numbers)

    assert fit(1.0).__digest__() == fit(1.0).__digest__()
    assert fit(1.0).__digest__() != fit(0.5).__digest__()


PROGRAM = """
import polars as pl
from sklearn.ensemble import RandomForestClassifier
from tidewheel.models.model import Model
x = pl.DataFrame({"a": [float(i % 7) for i in range(60)], "b": [float(i % 5) for i in range(60)]})
print(Model(RandomForestClassifier(5, random_state=0).fit(x, [i % 2 for i in range(60)]), example=x).__digest__())
"""


@pytest.mark.slow
def test_digest_is_the_same_in_another_process() -> None:
    found = {
        subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    }
    assert len(found) == 1
    assert found.pop().startswith("sha256:")
