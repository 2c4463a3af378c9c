"""Every estimator answers alike before and after it was stored, in whatever form it was stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from tidewheel.errors import NotFound, UnsupportedFormat
from tidewheel.models.encode import encode_model, format_named
from tidewheel.models.model import Model
from tidewheel.models.scorer import Scorer
from tidewheel.models.signature import select, widen

if TYPE_CHECKING:
    from tests.models.conftest import Table

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CLASSIFIERS = [
    HistGradientBoostingClassifier(max_iter=15),
    RandomForestClassifier(10),
    ExtraTreesClassifier(10, n_jobs=2),
    GradientBoostingClassifier(n_estimators=10),
    DecisionTreeClassifier(),
    LogisticRegression(),
    make_pipeline(StandardScaler(), LogisticRegression()),
    make_pipeline(StandardScaler(), SVC()),
    CalibratedClassifierCV(SVC(), cv=2),
    LinearSVC(),
    GaussianNB(),
    KNeighborsClassifier(3),
    MLPClassifier((8,), max_iter=20),
]


def stored(model: Model, rows: pl.DataFrame) -> tuple[Model, Scorer, str, str]:
    """Encode on the rows and load again: the widened model, its scorer, the format and the reason."""
    frame = select(model.signature, rows)
    wide = Model.restored(
        model.estimator, signature=widen(model.signature, frame), adapter=model.adapter, trust=model.trust
    )
    encoded = encode_model(wide, frame)[0]
    form = format_named(encoded.entry.name)
    scorer = form.load(encoded.data, signature=wide.signature, adapter=wide.adapter)
    return wide, scorer, encoded.entry.name, encoded.entry.reason


def check_alike(estimator: Any, x: pl.DataFrame, y: pl.Series, form: str, reason: str = "") -> None:
    """Fit, store, load; compare with scikit-learn's own answers, by frame, by matrix and row by row."""
    fitted = clone(estimator).fit(x, y)
    model, scorer, name, why = stored(Model(fitted, example=x.head(50)), x)
    assert name == form, why
    assert reason in why
    scores = scorer.score(x)
    expected = fitted.predict(x)
    if model.signature.task == "regression":
        np.testing.assert_allclose(scores.prediction, expected, atol=1e-4 * np.abs(expected).max())
    else:
        np.testing.assert_array_equal(scores.prediction, expected)
    if model.signature.probabilities:
        assert scores.probabilities is not None
        np.testing.assert_allclose(scores.probabilities, fitted.predict_proba(x), atol=1e-4)
    else:
        assert scores.probabilities is None
    few = scorer.score_rows([list(row) for row in x.head(3).iter_rows()])
    np.testing.assert_array_equal(few.prediction, scores.prediction[:3])


@pytest.mark.parametrize("label", ["two", "three"])
@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=lambda each: type(each).__name__)
def test_classifier_becomes_onnx(estimator: Any, label: str, table: Table) -> None:
    check_alike(estimator, table.numbers, getattr(table, label), "onnx")


@pytest.mark.parametrize(
    "estimator",
    [
        HistGradientBoostingRegressor(max_iter=15),
        RandomForestRegressor(10),
        LinearRegression(),
        make_pipeline(StandardScaler(), Ridge()),
    ],
    ids=lambda each: type(each).__name__,
)
def test_regressor_becomes_onnx(estimator: Any, table: Table) -> None:
    check_alike(estimator, table.numbers, table.amount, "onnx")


@pytest.mark.parametrize(
    "labels", [("no", "yes"), (False, True), (0.0, 1.0), (3, 8)], ids=["text", "boolean", "float", "integer"]
)
@pytest.mark.parametrize(
    "estimator",
    [HistGradientBoostingClassifier(max_iter=5), LogisticRegression(), SVC()],
    ids=lambda e: type(e).__name__,
)
def test_labels_of_any_type_come_back_as_they_were(estimator: Any, labels: tuple[Any, Any], table: Table) -> None:
    y = pl.Series([labels[value] for value in table.two])
    check_alike(estimator, table.numbers, y, "onnx")
    model, scorer, _, _ = stored(Model(clone(estimator).fit(table.numbers, y), example=table.numbers), table.numbers)
    assert model.signature.classes == sorted(labels)
    assert type(scorer.score(table.numbers).prediction.tolist()[0]) is type(labels[0])


@pytest.mark.parametrize(
    "estimator",
    [HistGradientBoostingClassifier(max_iter=15), make_pipeline(SimpleImputer(), LogisticRegression())],
    ids=lambda each: type(each).__name__,
)
def test_missing_values_become_nan_in_onnx(estimator: Any, table: Table) -> None:
    check_alike(estimator, table.gaps, table.two, "onnx")


def pipeline_of(tail: Any) -> Any:
    """Impute and scale numbers, encode text."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return make_pipeline(
        ColumnTransformer(
            [
                ("numbers", numbers, ["f0", "f1", "f2", "f3"]),
                ("text", OneHotEncoder(handle_unknown="ignore"), ["sky"]),
                ("counts", SimpleImputer(strategy="most_frequent"), ["count"]),
            ]
        ),
        tail,
    )


@pytest.mark.parametrize("tail", [LogisticRegression(), RandomForestClassifier(10)], ids=lambda e: type(e).__name__)
def test_text_columns_become_inputs_of_their_own(tail: Any, table: Table) -> None:
    check_alike(pipeline_of(tail), table.mixed, table.two, "onnx")


def test_text_columns_score_unseen_values_and_extra_columns(table: Table) -> None:
    fitted = pipeline_of(LogisticRegression()).fit(table.mixed, table.two)
    _, scorer, _, _ = stored(Model(fitted, example=table.mixed), table.mixed)
    strange = table.mixed.head(5).with_columns(sky=pl.lit("fog"), extra=pl.lit(1))
    np.testing.assert_array_equal(scorer.score(strange).prediction, fitted.predict(strange))


def test_categorical_boosting_stays_native(table: Table) -> None:
    x = table.mixed.with_columns(pl.col("sky").cast(pl.Enum(["clear", "rain", "snow"])))
    check_alike(HistGradientBoostingRegressor(max_iter=10), x, table.amount, "skops", "skl2onnx cannot convert")


def test_scaled_boosting_passes_by_rounding_once(table: Table) -> None:
    # Above 255 distinct values thresholds are values of the data: equality decides, and scaling in float32 breaks it.
    repeated = table.numbers.with_columns(pl.when(pl.col("flag")).then(0.1).otherwise(pl.col("f0")).alias("f0"))
    estimator = make_pipeline(StandardScaler(), HistGradientBoostingRegressor(max_iter=20, min_samples_leaf=3))
    fitted = estimator.fit(repeated, table.amount)
    _, _, name, reason = stored(Model(fitted, example=repeated), repeated)
    assert name == "onnx"
    assert "Parity failed" in reason


def test_wrong_conversion_never_answers(table: Table) -> None:
    # skl2onnx 1.20 gives this estimator other probabilities than scikit-learn does; parity keeps it native.
    fitted = LinearDiscriminantAnalysis().fit(table.numbers, table.two)
    _, scorer, _, _ = stored(Model(fitted, example=table.numbers), table.numbers)
    probabilities = scorer.score(table.numbers).probabilities
    assert probabilities is not None
    np.testing.assert_allclose(probabilities, fitted.predict_proba(table.numbers), atol=1e-4)


def test_forest_with_missing_values_stays_native(table: Table) -> None:
    # skl2onnx 1.20 forgets to which side a forest sends missing values.
    check_alike(RandomForestClassifier(10, random_state=0), table.gaps, table.two, "skops", "Parity failed")


def test_float32_rounding_of_large_numbers_is_caught(table: Table) -> None:
    seconds = 1.7e9 + np.arange(table.numbers.height) * 7.0
    x = table.numbers.with_columns(second=pl.Series(seconds))
    y = pl.Series((seconds // 7 % 2).astype(int))
    fitted = HistGradientBoostingClassifier(max_iter=20, min_samples_leaf=1).fit(x, y)
    model, scorer, name, reason = stored(Model(fitted, example=x), x)
    np.testing.assert_array_equal(scorer.score(x).prediction, fitted.predict(x))
    assert (name, "Parity failed" in reason) == ("skops", True)
    assert model.signature.task == "binary"


def test_unknown_estimator_stays_native_with_the_reason(table: Table) -> None:
    check_alike(DummyClassifier(), table.numbers, table.two, "skops", "Unable to find a shape calculator")


@pytest.mark.parametrize(
    "estimator", [HistGradientBoostingClassifier(max_iter=5), RandomForestClassifier(5)], ids=lambda e: type(e).__name__
)
def test_one_class_label_is_served_right(estimator: Any, table: Table) -> None:
    fitted = clone(estimator).fit(table.numbers, pl.Series([4] * table.numbers.height))
    model, scorer, _, _ = stored(Model(fitted, example=table.numbers), table.numbers)
    assert model.signature.classes == [4]
    scores = scorer.score(table.numbers)
    assert set(scores.prediction.tolist()) == {4}
    assert scores.probabilities is not None
    assert scores.probabilities.shape == (table.numbers.height, 1)


def test_constant_columns_are_no_trouble(table: Table) -> None:
    x = table.numbers.with_columns(same=pl.lit(3.0), zero=pl.lit(0))
    check_alike(make_pipeline(StandardScaler(), LogisticRegression()), x, table.two, "onnx")


def test_datetime_feature_has_no_onnx(table: Table) -> None:
    class Hour:
        """Says which half of the day it is."""

        classes_ = np.array([0, 1])

        def predict(self, rows: pl.DataFrame) -> np.ndarray[Any, Any]:
            return (rows["when"].dt.hour() >= 12).to_numpy().astype(int)

    when = pl.datetime_range(pl.datetime(2026, 1, 1), pl.datetime(2026, 1, 2), "1h", eager=True)
    x = pl.DataFrame({"when": when})
    _, scorer, name, reason = stored(Model(Hour(), example=x, trust=True), x)
    assert name == "pickle"
    assert "ONNX has no datetime input: when" in reason
    assert scorer.score(x).prediction.sum() == 12


def test_object_that_only_a_pickle_holds_is_refused_without_trust(table: Table) -> None:
    class Threshold:
        """Not an estimator of scikit-learn."""

        def predict(self, rows: pl.DataFrame) -> np.ndarray[Any, Any]:
            return rows["f0"].to_numpy()

    model = Model(Threshold(), example=table.numbers, task="regression")
    with pytest.raises(UnsupportedFormat, match="trust=True"):
        encode_model(model, table.numbers)


def test_unknown_format_names_the_known() -> None:
    with pytest.raises(NotFound, match="onnx"):
        format_named("onix")
