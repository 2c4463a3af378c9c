"""MLflow's /invocations: every shape that its clients send, answered as its server answers."""

from __future__ import annotations

import json
from itertools import product
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

ROWS = [{"a": 0.5, "b": 1.0, "n": 3}, {"a": -0.5, "b": 2.0, "n": 4}]
FRAME = pd.DataFrame(ROWS)
CSV = [(b"content-type", b"text/csv; charset=utf-8")]


def invoke(shop: Shop, content: Any, path: str = "/invocations") -> Any:
    response = shop.post(path, content)
    assert response.status == 200, response.body
    return json.loads(response.body)


# What mlflow.pyfunc.scoring_server.client.ScoringServerClient and mlflow.deployments' predict put into a request.
SHAPES: dict[str, Any] = {
    "dataframe_split": {"dataframe_split": FRAME.to_dict(orient="split")},
    "dataframe_split without index": {"dataframe_split": json.loads(FRAME.to_json(orient="split", index=False))},
    "dataframe_records": {"dataframe_records": FRAME.to_dict(orient="records")},
    "instances by name": {"instances": ROWS},
    "instances by place": {"instances": [list(row.values()) for row in ROWS]},
    "inputs by column": {"inputs": FRAME.to_dict(orient="list")},
    "inputs by column, two-dimensional": {"inputs": {name: [[v] for v in FRAME[name].tolist()] for name in FRAME}},
    "inputs by place": {"inputs": [list(row.values()) for row in ROWS]},
    "with params": {"instances": ROWS, "params": {"temperature": 0.1}},
    "with a column too many": {"dataframe_records": [row | {"index": 7} for row in ROWS]},
    "whole numbers as floats": {"dataframe_records": [row | {"n": float(row["n"])} for row in ROWS]},
    "columns in another order": {"dataframe_split": FRAME[["n", "b", "a"]].to_dict(orient="split")},
}


def test_every_shape_of_mlflow_is_answered(shop: Shop) -> None:
    for (shape, content), path in product(SHAPES.items(), ("/invocations", "/invocations/bikes")):
        assert invoke(shop, content, path) == {"predictions": [1, 0]}, shape
        assert [list(row) for row in shop.log()[-1].features] == [list(row.values()) for row in ROWS]


@pytest.mark.parametrize(
    "text",
    [
        FRAME.to_csv(index=False),
        FRAME.to_csv(),
        "n,b,a\r\n3,1.0,0.5\r\n4,2.0,-0.5\r\n",
        "\ufeffa,b,n\n0.5,1,3\n-0.5,2,4",
    ],
)
def test_csv_is_answered(shop: Shop, text: str) -> None:
    response = shop.engine.handle("POST", "/invocations", CSV, text.encode())
    assert (response.status, json.loads(response.body)) == (200, {"predictions": [1, 0]})
    assert dict(response.headers)[b"x-model-version"] == b"1"


def test_missing_values_are_empty_cells_and_nulls(shop: Shop) -> None:
    shop.register("colors", "paint")
    shop.deploy(1, "paint")
    table = 'color,size,new\nred,,True\n"green",1.5,0\n'
    response = shop.engine.handle("POST", "/invocations/paint", CSV, table.encode())
    assert json.loads(response.body) == {"predictions": ["yes", "no"]}
    assert [list(row) for row in shop.log("paint")[0].features] == [["red", None, True], ["green", 1.5, False]]
    frame = pd.DataFrame({"color": ["red"], "size": [None], "new": [True]})
    assert invoke(shop, {"dataframe_split": frame.to_dict(orient="split")}, "/invocations/paint")["predictions"] == [
        "yes"
    ]


def test_a_server_of_several_models_wants_the_name(shop: Shop) -> None:
    shop.register("line", "line")
    shop.deploy(1, "line")
    response = shop.post("/invocations", SHAPES["instances by name"])
    assert response.status == 400
    assert b"bikes, line" in response.body
    assert shop.post("/invocations/lime", {}).status == 404
    assert len(invoke(shop, {"instances": [[1.0, 2.0]]}, "/invocations/line")["predictions"]) == 1


WRONG: list[tuple[Any, int, str]] = [
    ({}, 400, "none of dataframe_split"),
    ([], 400, "none of"),
    ({"instances": ROWS, "inputs": ROWS}, 400, "instances and inputs"),
    ({"instances": []}, 422, "no rows"),
    ({"instances": {}}, 422, "no rows"),
    ({"instances": 3}, 422, "an array"),
    ({"instances": [1, 2]}, 422, "an array of 3 values"),
    ({"instances": [[1, 2]]}, 422, "an array of 3 values"),
    ({"instances": [ROWS[0], {"a": 1}]}, 422, "$.instances[1]"),
    ({"dataframe_records": [{"a": 1, "b": 2}]}, 422, "$.n: missing"),
    ({"dataframe_records": [ROWS[0] | {"n": 3.5}]}, 422, "$ row 0.n"),
    ({"dataframe_records": [ROWS[0] | {"a": "x"}]}, 422, "$ row 0.a"),
    ({"dataframe_records": [ROWS[0] | {"a": None}]}, 422, "null"),
    ({"dataframe_split": {"columns": ["a"]}}, 422, "columns"),
    ({"dataframe_split": {"columns": ["a", "a"], "data": []}}, 422, "same name"),
    ({"dataframe_split": {"columns": ["a", "b", "n"], "data": [[1, 2]]}}, 422, "data[0]"),
    ({"inputs": {"a": [1], "b": [1, 2], "n": [1]}}, 422, "one length"),
    ({"inputs": {"a": 1, "b": 1, "n": 1}}, 422, "an array per column"),
    ({"instances": ROWS, "params": 3}, 422, "$.params"),
    ({"instances": ROWS, "parms": {}}, 422, "$.parms"),
    ({"instances": ROWS * 6_000}, 413, "12,000 rows"),
    ({"dataframe_split": {"columns": ["a"], "data": [[1]] * 12_000}}, 413, "12,000 rows"),
    (b"{", 400, "not valid JSON"),
    (b"\xff", 400, "not"),
]


def test_what_is_wrong_is_said(shop: Shop) -> None:
    for content, status, what in WRONG:
        response = shop.post("/invocations", content)
        assert response.status == status, response.body
        assert what in json.loads(response.body)["error"]


def test_csv_that_does_not_fit_is_refused(shop: Shop) -> None:
    for text in ("", "\n", "a,b\n1,2\n", "a,b,n\n1,2\n", "a,b,n\nx,2,3\n", 'a,b,n\n"1,2,3\n', "a,b,n\n"):
        assert shop.engine.handle("POST", "/invocations", CSV, text.encode()).status in (400, 422), text


def test_probes_are_answered_as_mlflow_does(shop: Shop) -> None:
    for path in ("/ping", "/health"):
        assert (shop.get(path).status, shop.get(path).body) == (200, b"\n")
    assert shop.get("/version").body.decode().count(".") >= 1
