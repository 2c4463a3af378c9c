"""The engine without sockets: every route, what it answers and what it logs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tidewheel.clock import micros
from tidewheel.errors import NotFound
from tidewheel.serving.engine import Engine
from tidewheel.serving.routes import ROUTES, match

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

ROW = {"a": 2.0, "b": 0.5, "n": 3}


def error(response: Any) -> str:
    content = json.loads(response.body)
    assert "Traceback" not in response.body.decode()
    return f"{content['error']} {content['mend']}"


def test_a_row_is_answered_and_logged(shop: Shop) -> None:
    answer = shop.ask({"rows": [ROW], "id": "r1", "unit": "u1"})
    assert answer["predictions"] == [1]
    assert answer["classes"] == [0, 1]
    assert sum(answer["probabilities"][0]) == pytest.approx(1)
    assert (answer["id"], answer["model"], answer["version"], answer["arm"]) == ("r1", "bikes", 1, "champion")
    (record,) = shop.log()
    assert (record.id, record.unit, record.status, record.route) == ("r1", "u1", 200, "split")
    assert (record.version, record.arm, record.propensity) == (1, "champion", 1.0)
    assert record.features == [[2.0, 0.5, 3]]
    assert record.output == [1]
    assert record.probability == answer["probabilities"]
    assert record.at == micros(shop.store.clock.now())


def test_several_rows_are_answered_in_order(shop: Shop) -> None:
    rows = [ROW, ROW | {"a": -2.0}, ROW]
    assert shop.ask({"rows": rows})["predictions"] == [1, 0, 1]
    assert [len(record.features) for record in shop.log()] == [3]


def test_a_bare_row_and_rows_give_the_same(shop: Shop) -> None:
    assert shop.ask(ROW)["probabilities"] == shop.ask({"rows": [ROW]})["probabilities"]


def test_the_answers_are_those_of_the_model(shop: Shop, bakery: Any) -> None:
    frame = bakery.rows("up")
    direct = bakery.bundle("up", shop.store).scorer().score(frame)
    served = shop.ask({"rows": frame.to_dicts()})
    assert served["predictions"] == direct.prediction.tolist()
    assert served["probabilities"] == pytest.approx(direct.probabilities)


def test_the_open_inference_protocol_gives_the_same(shop: Shop) -> None:
    inputs = [
        {"name": "a", "datatype": "FP64", "shape": [2], "data": [2.0, -2.0]},
        {"name": "b", "datatype": "FP64", "shape": [2, 1], "data": [[0.5], [0.5]]},
        {"name": "n", "datatype": "INT32", "shape": [2], "data": [3, 3]},
    ]
    response = shop.post("/v2/models/bikes/infer", {"inputs": inputs, "id": "v2", "parameters": {"mine": 1}})
    answer = json.loads(response.body)
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("v2", "bikes", "1")
    assert answer["parameters"] == {"mine": 1, "arm": "champion"}
    assert [each["name"] for each in answer["outputs"]] == ["predict", "predict_proba"]
    assert answer["outputs"][0] == {"name": "predict", "datatype": "INT64", "shape": [2], "data": [1, 0]}
    plain = shop.ask({"rows": [ROW, ROW | {"a": -2.0}]})
    assert answer["outputs"][1]["data"] == [each for row in plain["probabilities"] for each in row]
    assert shop.log()[0].features == shop.log()[1].features


def test_the_documentation_holds_a_request_that_works(shop: Shop) -> None:
    shop.register("colors", "paint")
    shop.deploy(1, "paint")
    page = shop.get("/docs").body.decode()
    assert shop.get("/").body.decode() == page
    for model in ("bikes", "paint"):
        example = page.split(f"<h2>{model}</h2>")[1].split("curl -d '")[1].split("'")[0]
        assert shop.post(f"/predict/{model}", example.encode()).status == 200


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_metadata_and_readiness(shop: Shop, version: str) -> None:
    found = json.loads(shop.get(f"/v2/models/bikes{version}").body)
    assert found["name"] == "bikes"
    assert found["versions"] == ["1"]
    assert found["platform"] == "onnxruntime_onnx"
    assert {each["name"]: each["datatype"] for each in found["inputs"]} == {"a": "FP64", "b": "FP64", "n": "INT64"}
    assert found["outputs"][1] == {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 2]}
    ready = shop.get(f"/v2/models/bikes{version}/ready")
    assert (ready.status, json.loads(ready.body)) == (200, {"name": "bikes", "ready": True})
    assert shop.get("/v2/models/bikes/versions/7").status == 404
    assert shop.get("/v2/models/bikes/versions/7/ready").status == 404


def test_health_and_server_metadata(shop: Shop) -> None:
    assert json.loads(shop.get("/v2/health/live").body) == {"live": True}
    ready = json.loads(shop.get("/v2/health/ready").body)
    assert ready["ready"] is True
    assert ready["models"] == [{"name": "bikes", "ready": True, "version": 1, "deployment": 1}]
    server = json.loads(shop.get("/v2").body)
    assert server["name"] == "tidewheel"
    assert set(server) == {"name", "version", "extensions"}


def test_an_unknown_model_is_answered_with_near_names(shop: Shop) -> None:
    for path in ("/predict/bikse", "/v2/models/bikse/infer", "/v2/models/bikse/versions/1/infer"):
        response = shop.post(path, ROW)
        assert response.status == 404
        assert "Did you mean 'bikes'?" in error(response)
    assert shop.get("/v2/models/bikse").status == 404


def test_an_unknown_path_is_answered_with_the_known_ones(shop: Shop) -> None:
    response = shop.get("/predictions")
    assert response.status == 404
    assert "/predict/{model}" in error(response)


@pytest.mark.parametrize(("method", "path"), [("GET", "/predict/bikes"), ("POST", "/metrics"), ("DELETE", "/outcomes")])
def test_a_wrong_method_is_answered_with_the_right_one(shop: Shop, method: str, path: str) -> None:
    response = shop.engine.handle(method, path, [], b"")
    assert response.status == 405
    assert dict(response.headers)[b"allow"] in (b"POST", b"GET, HEAD")


def test_head_is_get_without_a_body(shop: Shop) -> None:
    response = shop.engine.handle("HEAD", "/v2/health/live", [], b"")
    assert (response.status, response.body) == (200, b"")


def test_a_large_body_is_refused_before_it_is_read(shop: Shop) -> None:
    for path in ("/predict/bikes", "/v2/models/bikes/infer", "/outcomes"):
        response = shop.post(path, b"[" * 10_000_000)
        assert response.status == 413
        assert "8,388,608 bytes" in error(response)
    assert [record.status for record in shop.log()] == [413, 413]


def test_refusals_are_logged_beside_the_split(shop: Shop) -> None:
    assert shop.post("/predict/bikes", {"rows": [{"a": 1}]}).status == 422
    assert shop.post("/predict/bikes", b"{").status == 400
    assert [(record.status, record.route, record.features) for record in shop.log()] == [
        (422, "refused", []),
        (400, "refused", []),
    ]
    assert "$.rows[0].b: missing" in shop.log()[0].error
    assert shop.metric("tidewheel_requests_total", status=422, arm="refused") == 1


def test_the_request_id_comes_back(shop: Shop) -> None:
    response = shop.post("/predict/bikes", ROW, x_request_id="trace-1")
    assert dict(response.headers)[b"x-request-id"] == b"trace-1"
    assert json.loads(response.body)["id"] == "trace-1"
    response = shop.post("/predict/bikes", {"rows": [ROW], "id": "mine"}, x_request_id="trace-2")
    assert dict(response.headers)[b"x-request-id"] == b"trace-2"
    assert json.loads(response.body)["id"] == "mine"
    refused = shop.post("/predict/bikes", b"{", x_request_id="trace-3")
    assert dict(refused.headers)[b"x-request-id"] == b"trace-3"
    assert json.loads(refused.body)["id"] == "trace-3"


def test_an_odd_request_id_is_echoed_but_names_no_rows(shop: Shop) -> None:
    response = shop.post("/predict/bikes", ROW, x_request_id="a/b")
    assert dict(response.headers)[b"x-request-id"] == b"a/b"
    assert "/" not in json.loads(response.body)["id"]
    broken = shop.engine.handle("POST", "/predict/bikes", [(b"x-request-id", b"\x7f\xe4")], json.dumps(ROW).encode())
    assert dict(broken.headers)[b"x-request-id"].isascii()


def test_an_unseen_category_is_answered_with_a_note_and_counted(shop: Shop) -> None:
    shop.register("colors", "paint")
    shop.deploy(1, "paint")
    answer = shop.ask({"color": "mauve", "size": None, "new": True}, "paint")
    assert answer["notes"] == ["$.rows[0].color: 'mauve' was not seen in training"]
    assert answer["predictions"][0] in ("yes", "no")
    assert shop.metric("tidewheel_unseen_categories_total", model="paint") == 1


def test_a_model_that_refuses_unseen_categories_is_the_callers_to_know(shop: Shop) -> None:
    shop.register("strict", "paint")
    shop.deploy(1, "paint")
    response = shop.post("/predict/paint", {"color": "mauve", "size": 1.0, "new": True})
    assert response.status == 422
    assert "'mauve' was not seen in training" in error(response)
    (record,) = shop.log("paint")
    assert (record.status, record.route, record.features) == (422, "split", [["mauve", 1.0, True]])


def test_an_absurd_number_that_breaks_the_model_is_the_callers_to_know(shop: Shop) -> None:
    shop.register("line", "line")
    shop.deploy(1, "line")
    response = shop.post("/predict/line", {"a": 3e38, "b": 0.0})
    assert response.status == 422
    assert "3e+38 is far from what training saw" in error(response)


def test_a_regression_answers_numbers(shop: Shop) -> None:
    shop.register("line", "line")
    shop.deploy(1, "line")
    answer = shop.ask({"a": 1.0, "b": 2.0}, "line")
    assert answer["predictions"] == [pytest.approx(102.0, abs=0.01)]
    assert "probabilities" not in answer


def test_a_model_name_may_hold_slashes(shop: Shop) -> None:
    shop.register("up", "team/bikes")
    shop.deploy(1, "team/bikes")
    assert shop.ask(ROW, "team/bikes")["model"] == "team/bikes"
    assert json.loads(shop.get("/v2/models/team/bikes/versions/1").body)["name"] == "team/bikes"
    assert len(shop.log("team/bikes")) == 1


def test_only_the_named_models_are_served(shop: Shop) -> None:
    shop.register("up", "other")
    shop.deploy(1, "other")
    engine = Engine(shop.store, ["other"], writer="w1")
    engine.refresh()
    body = json.dumps(ROW).encode()
    assert engine.handle("POST", "/predict/other", [], body).status == 200
    assert engine.handle("POST", "/predict/bikes", [], body).status == 404
    engine.close()


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.action)
def test_every_documented_path_is_matched(route: Any) -> None:
    for optional in ("", "/versions/{version}"):
        path = route.path.replace("[/versions/{version}]", optional).replace("{model}", "m").replace("{version}", "3")
        found = match(route.method, path)
        assert found.route is route
        assert found.allowed


def test_no_other_path_is_matched() -> None:
    for path in ("", "/predict/", "/v2/models/", "/v2/health", "//", "/outcomes/x"):
        with pytest.raises(NotFound):
            match("GET", path)
