"""Outcomes: accepted when they are in the log, refused with their place when they fit nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tidewheel.errors import InvalidInput, NotFound, ValidationFailed
from tidewheel.models.signature import Signature
from tidewheel.predictions.join import Joiner
from tidewheel.predictions.log import read_outcomes
from tidewheel.predictions.segments import log_folder
from tidewheel.serving.outcomes import check_labels, choose_model, decode_outcomes

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

ROW = {"a": 2.0, "b": 0.5, "n": 3}


def bring(shop: Shop, *pairs: tuple[str, Any], **more: Any) -> Any:
    content = {"outcomes": [{"id": name, "label": label} for name, label in pairs], **more}
    return shop.post("/outcomes", content)


def test_outcomes_meet_their_predictions(shop: Shop) -> None:
    shop.ask({"rows": [ROW], "id": "one"})
    shop.ask({"rows": [ROW, ROW], "id": "two"})
    response = bring(shop, ("two/1", 0), ("one", 1), ("nobody", 1))
    assert (response.status, json.loads(response.body)) == (202, {"accepted": 3})
    found = Joiner(log_folder(shop.store.home, "bikes")).labelled()
    assert [(row.id, row.label) for row in found.rows] == [("two/1", 0), ("one", 1)]
    assert found.orphans == 1
    assert shop.metric("tidewheel_outcomes_total", model="bikes") == 3


def test_every_answered_row_can_be_labelled_by_the_id_of_its_answer(shop: Shop) -> None:
    shop.deploy(1, challenger=2, share=0.5, fault=0.5)
    ids = [shop.ask({"rows": [ROW, ROW]})["id"] for _ in range(30)]
    assert bring(shop, *((f"{each}/{row}", 1) for each in ids for row in (0, 1))).status == 202
    found = Joiner(log_folder(shop.store.home, "bikes")).labelled()
    assert (len(found.rows), found.orphans) == (60, 0)
    assert {row.prediction.status for row in found.rows} == {200}


def test_a_server_of_several_models_asks_whose_they_are(shop: Shop) -> None:
    shop.register("line", "line")
    shop.deploy(1, "line")
    response = bring(shop, ("r", 1))
    assert response.status == 400
    assert "bikes, line" in response.body.decode()
    assert bring(shop, ("r", 1.5), model="line").status == 202
    assert len(read_outcomes(log_folder(shop.store.home, "line")).records) == 1
    near = bring(shop, ("r", 1), model="lin")
    assert near.status == 404
    assert "Did you mean 'line'?" in near.body.decode()


@pytest.mark.parametrize(
    ("label", "place"),
    [("1", "$.outcomes[0].label"), (True, "$.outcomes[0].label"), (1.5, "$.outcomes[0].label")],
)
def test_a_label_of_another_kind_is_refused_with_its_place(shop: Shop, label: Any, place: str) -> None:
    response = bring(shop, ("r", label), ("s", 1))
    assert response.status == 422
    assert place in response.body.decode()
    assert read_outcomes(log_folder(shop.store.home, "bikes")).records == []


@pytest.mark.parametrize(
    ("classes", "label", "kept"),
    [
        ([0, 1], 1, 1),
        ([0, 1], 1.0, 1),
        ([0, 1], 7, 7),
        ([0.0, 1.0], 1, 1),
        ([False, True], 1, True),
        (["a", "b"], "c", "c"),
        (None, 2, 2),
        (None, 2.5, 2.5),
        ([0, "a"], "x", "x"),
    ],
)
def test_a_label_is_kept_as_the_model_would_say_it(classes: Any, label: Any, kept: Any) -> None:
    signature = Signature(task="multiclass", fields=[], classes=classes)
    body = json.dumps({"outcomes": [{"id": "r", "label": label}]}).encode()
    (outcome,) = check_labels(decode_outcomes(body).outcomes, signature)
    assert (outcome.label, type(outcome.label)) == (kept, type(kept))


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"outcomes": []},
        {"outcomes": [{"id": "r"}]},
        {"outcomes": [{"id": "", "label": 1}]},
        {"outcomes": [{"id": 1, "label": 1}]},
        {"outcomes": [{"id": "r", "label": None}]},
        {"outcomes": [{"id": "r", "label": [1]}]},
        {"outcomes": [{"id": "r", "label": 1, "extra": 1}]},
        {"outcomes": [{"id": "x" * 500, "label": 1}]},
        {"outcomes": {"id": "r", "label": 1}},
        [],
    ],
)
def test_what_is_no_outcome_is_refused_with_the_right_shape(content: Any) -> None:
    with pytest.raises(ValidationFailed, match=r'"outcomes": \[\{"id"') as caught:
        decode_outcomes(json.dumps(content).encode())
    assert caught.value.findings


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"outcomes": [{"id": "\xff", "label": 1}]}'])
def test_invalid_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        decode_outcomes(body)


def test_a_huge_label_is_refused_or_kept_whole() -> None:
    for text in ("9" * 25, "9" * 400, "1e999", "-" + "9" * 25):
        body = b'{"outcomes": [{"id": "r", "label": %s}]}' % text.encode()
        try:
            (outcome,) = check_labels(decode_outcomes(body).outcomes, None)
        except ValidationFailed:
            continue
        assert isinstance(outcome.label, float)


def test_the_only_model_needs_no_name() -> None:
    assert choose_model(None, ["one"]) == "one"
    assert choose_model("two", ["one", "two"]) == "two"
    for served in ([], ["one", "two"]):
        with pytest.raises(InvalidInput, match=r'Add "model"'):
            choose_model(None, served)
    with pytest.raises(NotFound):
        choose_model("x", ["one"])
