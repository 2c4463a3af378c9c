"""The promises of a model format, as tests that any format can inherit, and a format that keeps models in memory."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl
import pytest

from tidewheel.errors import TidewheelError, UnsupportedFormat
from tidewheel.models.format import ModelFormat
from tidewheel.models.frames import Adapter
from tidewheel.models.model import Model
from tidewheel.models.parity import check_parity
from tidewheel.models.scorer import Matrix, Scorer
from tidewheel.models.signature import Signature, infer_fields


class MemoryFormat:
    """Keeps models in a dictionary and stores their keys, for tests of what works with formats."""

    name = "memory"

    def __init__(self) -> None:
        self._kept: dict[bytes, Any] = {}

    def candidates(self, model: Model) -> Iterator[bytes]:
        """Yield the model's digest, under which its estimator is remembered."""
        key = model.__digest__().encode()
        self._kept[key] = model.estimator
        yield key

    def load(self, data: bytes, *, signature: Signature, adapter: Adapter) -> Model:
        """Return the model remembered under that key; UnsupportedFormat for another."""
        if data not in self._kept:
            raise UnsupportedFormat("Nothing was kept under this key.", "Load where it was stored.")
        return Model.restored(self._kept[data], signature=signature, adapter=adapter)


class ModelFormatContract:
    """Subclass it in a test file as `class TestMyFormat(ModelFormatContract)` with a fixture `form`.

    pytest runs it once for each promise, on a regression and on a classification of three classes.
    """

    @pytest.fixture
    def form(self) -> ModelFormat:
        """Return the format; override it."""
        pytest.fail("a subclass of ModelFormatContract has to define the fixture `form`")

    @pytest.fixture(params=["regression", "multiclass"])
    def model(self, request: pytest.FixtureRequest) -> Model:
        """Return a small fitted model; override it if the format holds others."""
        from sklearn.linear_model import LinearRegression, LogisticRegression

        rows = self.rows()
        total = (rows["a"] + rows["b"]).to_numpy()
        if request.param == "regression":
            return Model(LinearRegression().fit(rows, total), example=rows)
        return Model(LogisticRegression().fit(rows, np.digitize(total, [-0.5, 0.5])), example=rows)

    def rows(self) -> pl.DataFrame:
        """Return real rows for the model."""
        random = np.random.default_rng(0)
        return pl.DataFrame({"a": random.normal(size=60), "b": random.normal(size=60)})

    @pytest.fixture
    def scorer(self, form: ModelFormat, model: Model) -> Scorer:
        """Store and load the model."""
        data = next(iter(form.candidates(model)))
        return form.load(data, signature=model.signature, adapter=model.adapter)

    def test_a_stored_model_answers_like_the_original(self, scorer: Scorer, model: Model) -> None:
        """The first candidate of a plain linear model passes parity."""
        _hold(check_parity(model, scorer, self.rows()).passed, "parity")
        _hold(scorer.signature == model.signature, "signature")

    def test_every_way_of_asking_gives_the_same_answer(self, scorer: Scorer) -> None:
        """Frame, mapping, matrix and rows are four ways to say the same."""
        rows = self.rows()
        expected = scorer.score(rows).prediction
        for scores in (
            scorer.score({column.name: column.to_list() for column in rows}),
            scorer.score(rows.to_numpy()),
            scorer.score_rows([list(row) for row in rows.iter_rows()]),
        ):
            np.testing.assert_allclose(scores.prediction, expected, rtol=1e-5)

    def test_one_row_is_answered_as_it_is_among_others(self, scorer: Scorer) -> None:
        """No answer depends on who else asks at the same time."""
        rows = [list(row) for row in self.rows().iter_rows()]
        together = scorer.score_rows(rows).prediction
        alone = [scorer.score_rows([row]).prediction[0] for row in rows]
        _alike(np.asarray(alone), together)

    def test_no_rows_get_no_answers(self, scorer: Scorer) -> None:
        """Nothing asked, nothing answered, no error."""
        _hold(len(scorer.score_rows([]).prediction) == 0, "no rows")
        _hold(len(scorer.score(self.rows().clear()).prediction) == 0, "empty frame")

    def test_threads_do_not_disturb_each_other(self, scorer: Scorer) -> None:
        """A scorer has no state that a call changes."""
        rows = self.rows()
        expected = scorer.score(rows).prediction
        with ThreadPoolExecutor(4) as pool:
            for scores in pool.map(scorer.score, [rows] * 16):
                np.testing.assert_array_equal(scores.prediction, expected)

    def test_the_same_model_is_stored_as_the_same_bytes(self, form: ModelFormat, model: Model) -> None:
        """Bytes are content: they carry no time and no address."""
        _hold(list(form.candidates(model)) == list(form.candidates(model)), "equal bytes")

    @pytest.mark.parametrize("rows", [[[1.0]], [[1.0, 2.0, 3.0]], [["warm", 1.0]]], ids=["few", "many", "text"])
    def test_rows_that_do_not_fit_are_refused(self, scorer: Scorer, rows: list[list[Any]]) -> None:
        """A wrong row is the caller's mistake and is said as such."""
        with pytest.raises(TidewheelError, match=r"a, b|'a'"):
            scorer.score_rows(rows)

    def test_other_bytes_are_refused(self, form: ModelFormat) -> None:
        """What is no model of this format is never scored."""
        signature = Signature(task="regression", fields=infer_fields(self.rows()))
        with pytest.raises(UnsupportedFormat):
            form.load(b"no model", signature=signature, adapter=Adapter())


def _alike(seen: Matrix, expected: Matrix) -> None:
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(seen, expected, rtol=1e-6)
    else:
        np.testing.assert_array_equal(seen, expected)


def _hold(truth: bool, promise: str) -> None:  # noqa: FBT001 - reads as a statement
    if not truth:
        pytest.fail(f"The format breaks the promise: {promise}.")
