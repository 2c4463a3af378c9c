"""Requests that came together are scored together, and nobody can tell from the answers or from the log."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tidewheel.serving.arms import Arm
from tidewheel.serving.batching import MOST_ROWS
from tidewheel.serving.response import Response


def together(shop: Any, asked: list[tuple[str, Any]]) -> list[Response]:
    """Submit requests in one turn, flush, and return the answers in order."""
    found: dict[int, Response] = {}
    for place, (path, content) in enumerate(asked):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        shop.engine.submit("POST", path, [], body, lambda response, place=place: found.setdefault(place, response))
    shop.engine.flush()
    return [found[place] for place in range(len(asked))]


def plain(response: Response) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(response.body)
    content.pop("id", None)
    return content


def asks(bakery: Any, kind: str, count: int) -> list[dict[str, Any]]:
    rows = bakery.rows(kind).to_dicts()
    return [{"rows": rows[place : place + 1 + place % 3], "id": f"r{place}"} for place in range(count)]


def test_answers_are_those_of_requests_sent_alone(shop: Any, bakery: Any) -> None:
    shop.deploy(1, challenger=2, share=0.5)
    asked: list[tuple[str, Any]] = [("/predict/bikes", content) for content in asks(bakery, "up", 40)]
    asked.insert(7, ("/predict/bikes", b"{"))
    asked.insert(9, ("/predict/nobody", {"rows": []}))
    bodies = [
        (path, content if isinstance(content, bytes) else json.dumps(content).encode()) for path, content in asked
    ]
    alone = [shop.engine.handle("POST", path, [], body) for path, body in bodies]
    found = together(shop, asked)
    assert [each.status for each in found] == [each.status for each in alone]
    for one, other in zip(map(plain, found), map(plain, alone), strict=True):
        # ONNX Runtime adds up many rows in another order than one: the last bits of a float32 may differ.
        np.testing.assert_allclose(one.pop("probabilities", []), other.pop("probabilities", []), rtol=0, atol=3e-7)
        assert one == other


def test_one_call_scores_what_came_together(shop: Any, bakery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    score = Arm.score

    def counted(self: Arm, rows: Any, request_id: str) -> Any:
        calls.append(len(rows))
        return score(self, rows, request_id)

    monkeypatch.setattr(Arm, "score", counted)
    row = bakery.rows("up").row(0, named=True)
    together(shop, [("/predict/bikes", {"rows": [row]})] * 30)
    assert calls == [30]
    calls.clear()
    together(shop, [("/predict/bikes", {"rows": [row] * 60})] * 10)
    assert all(rows <= MOST_ROWS for rows in calls)
    assert sum(calls) == 600


def test_a_request_that_fails_alone_fails_alone(shop: Any, bakery: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    score = Arm.score

    def touchy(self: Arm, rows: Any, request_id: str) -> Any:
        if any(row[0] == 13.5 for row in rows):
            raise ValueError("13.5 is unlucky")
        return score(self, rows, request_id)

    monkeypatch.setattr(Arm, "score", touchy)
    row = bakery.rows("up").row(0, named=True)
    first = next(iter(row))
    asked = [("/predict/bikes", {"rows": [row | ({first: 13.5} if place == 3 else {})]}) for place in range(8)]
    assert [each.status for each in together(shop, asked)] == [200, 200, 200, 500, 200, 200, 200, 200]


def test_each_request_is_logged_once_with_its_own_rows(shop: Any, bakery: Any) -> None:
    shop.deploy(1, challenger=2, share=0.5, paired=True)
    asked = asks(bakery, "up", 20)
    together(shop, [("/predict/bikes", content) for content in asked])
    records = {record.id: record for record in shop.log()}
    assert set(records) == {content["id"] for content in asked}
    for content in asked:
        record = records[content["id"]]
        assert [tuple(row) for row in record.features] == [tuple(row.values()) for row in content["rows"]]
        assert len(record.output) == len(content["rows"])
        assert record.other is not None
        assert len(record.other.output) == len(content["rows"])
    assert shop.metric("tidewheel_requests_total", status=200) == 20
