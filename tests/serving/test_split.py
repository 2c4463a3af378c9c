"""Champion and challenger: who answers, what is logged, and what a failing challenger costs a caller."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tidewheel.serving.routing import bucket, injected

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

ROW = {"a": 2.0, "b": 0.5, "n": 3}


def arms(shop: Shop, units: int = 300) -> dict[str, str]:
    answers = {f"u{number}": shop.ask({"rows": [ROW], "unit": f"u{number}"}) for number in range(units)}
    for answer in answers.values():
        assert answer["version"] == (2 if answer["arm"] == "challenger" else 1)
        assert answer["predictions"] == [0 if answer["arm"] == "challenger" else 1]
    return {unit: answer["arm"] for unit, answer in answers.items()}


def test_a_growing_share_only_adds_units(shop: Shop) -> None:
    on: set[str] = set()
    for share in (0.05, 0.25, 0.6, 1.0):
        shop.deploy(1, challenger=2, share=share, salt="s")
        now = {unit for unit, arm in arms(shop).items() if arm == "challenger"}
        assert on <= now
        assert abs(len(now) / 300 - share) < 0.08
        on = now
    assert len(on) == 300


def test_the_split_is_logged_with_its_probability(shop: Shop) -> None:
    shop.deploy(1, challenger=2, share=0.25, salt="s")
    told = arms(shop)
    for record in shop.log():
        assert record.arm == told[record.unit]
        assert record.propensity == pytest.approx(0.25 if record.arm == "challenger" else 0.75)
        assert (record.arm == "challenger") == (bucket("s", record.unit) < 2_500)


def test_the_unit_comes_from_the_body_then_the_header_then_the_request(shop: Shop) -> None:
    shop.deploy(1, challenger=2, share=0.5, salt="s")
    shop.ask({"rows": [ROW], "unit": "body"}, x_unit_id="header")
    shop.ask(ROW, x_unit_id="header")
    shop.ask({"rows": [ROW], "id": "request"})
    for record, keyed in zip(shop.log(), ("body", "header", "request"), strict=True):
        assert (record.arm == "challenger") == (bucket("s", keyed) < 5_000)
    assert [record.unit for record in shop.log()] == ["body", "header", ""]


def test_a_failing_challenger_is_answered_by_the_champion(shop: Shop) -> None:
    shop.deploy(1, challenger=2, share=1.0, salt="s", fault=0.3)
    for number in range(100):
        answer = shop.ask({"rows": [ROW], "id": f"r{number}"})
        failed = injected("s", f"r{number}", 0.3)
        assert (answer["arm"], answer["version"]) == (("fallback", 1) if failed else ("challenger", 2))
    failures = [record for record in shop.log() if record.status == 500]
    assert 10 < len(failures) < 60
    assert {(record.arm, record.version, record.route) for record in failures} == {("challenger", 2, "split")}
    assert all("game day" in record.error and record.output == [] for record in failures)
    answered = {record.id: record for record in shop.log() if record.route == "fallback"}
    assert set(answered) == {record.id for record in failures}
    assert {(record.arm, record.version, record.status) for record in answered.values()} == {("champion", 1, 200)}
    assert shop.metric("tidewheel_fallbacks_total") == len(failures)
    assert shop.metric("tidewheel_requests_total", arm="challenger", status=500) == len(failures)
    assert shop.metric("tidewheel_request_seconds_count") == 100 + len(failures)


def test_a_fault_never_hits_the_champion(shop: Shop) -> None:
    shop.deploy(1, challenger=2, share=0.0, fault=1.0)
    assert set(arms(shop, 50).values()) == {"champion"}
    assert {record.status for record in shop.log()} == {200}


def test_paired_traffic_scores_both_arms(shop: Shop) -> None:
    shop.deploy(1, challenger=2, share=0.5, salt="s", paired=True)
    arms(shop, 60)
    for record in shop.log():
        assert record.other is not None
        assert {record.version, record.other.version} == {1, 2}
        outputs = {record.version: list(record.output), record.other.version: list(record.other.output)}
        assert outputs == {1: [1], 2: [0]}
        assert record.other.probability is not None
        assert record.other.error == ""


def test_a_paired_failure_is_logged_and_costs_nothing(shop: Shop) -> None:
    shop.deploy(1, challenger=2, share=0.0, paired=True, fault=1.0)
    assert set(arms(shop, 20).values()) == {"champion"}
    for record in shop.log():
        assert record.other is not None
        assert (record.other.version, list(record.other.output)) == (2, [])
        assert "game day" in record.other.error
    assert shop.metric("tidewheel_paired_failures_total") == 20


def test_a_caller_may_name_a_live_version(shop: Shop) -> None:
    shop.deploy(1, challenger=2, share=0.0, fault=0.0)
    tensors = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 3], "data": [2.0, 0.5, 3.0]}]}
    for version, expected in ((1, 1), (2, 0)):
        answer = json.loads(shop.post(f"/v2/models/bikes/versions/{version}/infer", tensors).body)
        assert answer["model_version"] == str(version)
        assert answer["outputs"][0]["data"] == [expected]
    assert [(record.version, record.route, record.propensity) for record in shop.log()] == [
        (1, "pinned", 1.0),
        (2, "pinned", 1.0),
    ]
    missing = shop.post("/v2/models/bikes/versions/3/infer", tensors)
    assert missing.status == 404
    assert "These exist: 1, 2" in missing.body.decode()


def test_a_named_version_that_fails_is_not_answered_by_another(shop: Shop) -> None:
    shop.deploy(1, challenger=2, share=0.0, fault=1.0)
    tensors = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 3], "data": [2.0, 0.5, 3.0]}], "id": "r1"}
    response = shop.post("/v2/models/bikes/versions/2/infer", tensors)
    assert response.status == 500
    content = json.loads(response.body)
    assert content["id"] == "r1"
    assert "prediction log under the id r1" in content["mend"]
    (record,) = shop.log()
    assert (record.version, record.status, record.route) == (2, 500, "pinned")


def test_a_challenger_may_read_a_column_more(shop: Shop) -> None:
    wider = shop.register("wider")
    shop.deploy(1, challenger=wider, share=1.0)
    full = shop.ask({**ROW, "extra": 4.0})
    assert (full["arm"], full["version"]) == ("challenger", wider)
    assert shop.log()[-1].features == [[2.0, 0.5, 3, 4.0]]
    lacking = shop.ask(ROW)
    assert (lacking["arm"], lacking["version"]) == ("fallback", 1)
    failure, answer = shop.log()[-2:]
    assert "lacks a column" in failure.error
    assert failure.features == [[2.0, 0.5, 3, None]]
    assert answer.features == [[2.0, 0.5, 3]]


def test_a_champion_of_fewer_columns_reads_only_its_own(shop: Shop) -> None:
    wider = shop.register("wider")
    shop.deploy(wider, challenger=1, share=1.0)
    assert shop.post("/predict/bikes", ROW).status == 422  # the champion needs the column
    answer = shop.ask({**ROW, "extra": 4.0})
    assert (answer["arm"], answer["predictions"]) == ("challenger", [1])
    assert shop.log()[-1].features == [[2.0, 0.5, 3]]
