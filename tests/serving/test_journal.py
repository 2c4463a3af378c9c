"""A disk that is full: predictions still go out and are counted, outcomes are given back to their caller."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tidewheel.predictions.log import read_log
from tidewheel.predictions.segments import log_folder
from tidewheel.serving.engine import Engine

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

ROW = {"a": 2.0, "b": 0.5, "n": 3}


@pytest.fixture
def fill_disk() -> Iterator[Callable[[], None]]:
    """Let the kernel take no more bytes into any file of this process, as a full disk does; undone afterwards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_costs_records_never_answers(shop: Shop, fill_disk: Callable[[], None]) -> None:
    shop.ask({"rows": [ROW], "id": "before"})
    fill_disk()
    for _ in range(5):
        assert shop.ask(ROW)["predictions"] == [1]
    assert shop.metric("tidewheel_log_dropped_total", model="bikes") == 5
    (state,) = json.loads(shop.get("/v2/health/ready").body)["models"]
    assert "log" in state
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    shop.ask({"rows": [ROW], "id": "after"})
    assert [record.id for record in shop.log()] == ["before", "after"]
    (state,) = json.loads(shop.get("/v2/health/ready").body)["models"]
    assert "log" not in state


def test_a_full_disk_gives_outcomes_back(shop: Shop, fill_disk: Callable[[], None]) -> None:
    fill_disk()
    response = shop.post("/outcomes", {"outcomes": [{"id": "r", "label": 1}]})
    assert response.status == 507
    assert dict(response.headers)[b"retry-after"] == b"1"
    assert "error" in json.loads(response.body)
    assert shop.metric("tidewheel_outcomes_refused_total") == 1
    assert shop.metric("tidewheel_outcomes_total") == 0


def test_a_log_folder_that_cannot_be_made_costs_no_answer(shop: Shop) -> None:
    (shop.store.home / "elsewhere").write_text("a file where a folder should be")
    engine = Engine(shop.store, ["bikes"], home=shop.store.home / "elsewhere", writer="w1")
    engine.refresh()
    assert engine.handle("POST", "/predict/bikes", [], json.dumps(ROW).encode()).status == 200
    engine.sync()
    engine.close()


def test_a_strict_engine_logs_the_same(shop: Shop) -> None:
    engine = Engine(shop.store, ["bikes"], home=shop.store.home / "strict", strict=True)
    engine.refresh()
    engine.handle("POST", "/predict/bikes", [], json.dumps({"rows": [ROW], "id": "r1"}).encode())
    assert [each.id for each in read_log(log_folder(shop.store.home / "strict", "bikes")).records] == ["r1"]
    engine.close()
