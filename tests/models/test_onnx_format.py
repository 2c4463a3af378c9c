"""ONNX graphs: inputs as a matrix or by column, errors in words, operators that nobody has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tidewheel.errors import InvalidInput, NotFound, UnsupportedFormat
from tidewheel.models.model import Model
from tidewheel.models.onnx_format import OnnxFormat, OnnxScorer
from tidewheel.models.onnx_graphs import MATRIX
from tidewheel.models.onnx_trees import count_trees
from tidewheel.models.signature import Field, Signature

if TYPE_CHECKING:
    from tests.models.conftest import Table


def scorer_of(estimator: Any, x: pl.DataFrame, y: pl.Series) -> tuple[Model, OnnxScorer, bytes]:
    model = Model(estimator.fit(x, y), example=x)
    data = next(OnnxFormat().candidates(model))
    return model, OnnxScorer(data, model.signature), data


@pytest.fixture(scope="module")
def regression(table: Table) -> tuple[Model, OnnxScorer, bytes]:
    return scorer_of(LinearRegression(), table.numbers, table.amount)


def test_numbers_become_one_matrix_without_zipmap(table: Table) -> None:
    _, _, data = scorer_of(HistGradientBoostingClassifier(max_iter=3), table.numbers, table.two)
    graph = onnx.load_from_string(data).graph
    assert [each.name for each in graph.input] == [MATRIX]
    assert "ZipMap" not in {node.op_type for node in graph.node}


def test_same_model_gives_the_same_bytes(table: Table) -> None:
    model, _, data = scorer_of(RandomForestClassifier(5, random_state=0), table.numbers, table.two)
    assert next(OnnxFormat().candidates(model)) == data


def test_mapping_frame_matrix_and_rows_answer_alike(regression: tuple[Model, OnnxScorer, bytes], table: Table) -> None:
    model, scorer, _ = regression
    x = table.numbers
    expected = scorer.score(x).prediction
    np.testing.assert_allclose(expected, model.predict(x), rtol=1e-4, atol=1e-4)
    matrix = x.to_numpy().astype(np.float32)
    mapping = {column.name: column.to_list() for column in x}
    rows = [list(row) for row in x.iter_rows()]
    for scores in (scorer.score(matrix), scorer.score(mapping), scorer.score_rows(rows)):
        np.testing.assert_array_equal(scores.prediction, expected)
    np.testing.assert_array_equal(scorer.score(matrix.astype(np.float64)).prediction, expected)


def test_no_rows_get_no_answers(table: Table) -> None:
    _, scorer, _ = scorer_of(LogisticRegression(max_iter=5), table.numbers, table.three)
    for scores in (scorer.score(table.numbers.clear()), scorer.score_rows([])):
        assert scores.prediction.shape == (0,)
        assert scores.probabilities is not None
        assert scores.probabilities.shape == (0, 3)


@pytest.mark.parametrize(
    "rows",
    [[[1.0, 2.0]], [["warm", 1, 1, 1, 1, True]], [[1, 1, 1, 1, 1, 1], [1]], [[{}, 1, 1, 1, 1, 1]]],
    ids=["too few", "text", "ragged", "object"],
)
def test_rows_that_do_not_fit_are_refused_with_the_order(
    rows: list[list[Any]], regression: tuple[Model, OnnxScorer, bytes]
) -> None:
    with pytest.raises(InvalidInput, match="f0, f1, f2, f3, count, flag"):
        regression[1].score_rows(rows)


def test_missing_column_is_named(regression: tuple[Model, OnnxScorer, bytes], table: Table) -> None:
    with pytest.raises(NotFound, match="'count'"):
        regression[1].score(table.numbers.drop("count"))


@pytest.mark.parametrize("odd", [["1.5"], [None], [{}]], ids=["text", "null", "object"])
def test_mapping_with_an_odd_value_is_judged_by_its_column(
    odd: list[Any], regression: tuple[Model, OnnxScorer, bytes], table: Table
) -> None:
    mapping = {column.name: column.head(1).to_list() for column in table.numbers} | {"f2": odd}
    if odd == [None]:
        assert np.isnan(regression[1].score(mapping).prediction).all()
    else:
        with pytest.raises(InvalidInput, match="'f2'"):
            regression[1].score(mapping)


@pytest.mark.parametrize(
    ("operator", "domain"), [("Teleport", "ai.onnx.ml"), ("Solve", "com.example")], ids=["operator", "domain"]
)
def test_operator_that_onnx_runtime_lacks_is_said(operator: str, domain: str) -> None:
    shape = [None, 1]
    graph = helper.make_graph(
        [helper.make_node(operator, [MATRIX], ["answer"], domain=domain)],
        "strange",
        [helper.make_tensor_value_info(MATRIX, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, shape)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    data = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    with pytest.raises(UnsupportedFormat, match=operator):
        OnnxScorer(data, Signature(task="regression", fields=[Field(name="a", kind="float")]))


def test_bytes_that_are_no_graph_are_said() -> None:
    with pytest.raises(UnsupportedFormat, match="cannot run this model"):
        OnnxScorer(b"no graph", Signature(task="regression", fields=[Field(name="a", kind="float")]))


def test_huge_forest_is_not_converted(table: Table) -> None:
    model = Model(RandomForestClassifier(10).fit(table.numbers, table.two), example=table.numbers)
    with pytest.raises(UnsupportedFormat, match="limited to 50") as caught:
        next(OnnxFormat(max_nodes=50).candidates(model))
    assert "max_depth" in caught.value.mend


def test_trees_are_counted_inside_pipelines(table: Table) -> None:
    forest = RandomForestClassifier(4).fit(table.numbers, table.two)
    boosting = make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=3)).fit(table.numbers, table.two)
    assert count_trees(forest).forest == sum(tree.tree_.node_count for tree in forest.estimators_)
    found = count_trees(boosting)
    assert (found.forest, found.boosting) == (0, sum(len(each.nodes) for (each,) in boosting[-1]._predictors))
    assert count_trees(LinearRegression()).boosting == 0
