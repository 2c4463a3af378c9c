"""Hot swap: the engine follows the traffic table, and nothing bad becomes visible."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tidewheel.clock import ManualClock
from tidewheel.registry.traffic import set_traffic
from tidewheel.registry.versions import get_model
from tidewheel.serving.engine import Engine
from tidewheel.serving.follow import RETRY, Repeater

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

ROW = {"a": 2.0, "b": 0.5, "n": 3}


def spoil(shop: Shop, version: int) -> bytes:
    """Damage the stored model of a version; return what it was."""
    path = shop.model_blob(version)
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    return data


def test_a_swap_changes_the_version_that_answers(shop: Shop) -> None:
    assert shop.ask(ROW)["version"] == 1
    set_traffic(shop.store, "bikes", champion=2, by="test", reason="a test")
    assert shop.ask(ROW)["version"] == 1
    assert shop.engine.refresh() == ["bikes"]
    assert shop.ask(ROW)["version"] == 2
    assert shop.engine.refresh() == []
    assert shop.metric("tidewheel_swaps_total") == 2


def test_a_promotion_does_not_load_the_model_again(shop: Shop) -> None:
    shop.deploy(1, challenger=2, share=0.1)
    spoil(shop, 2)  # loading it again would fail
    shop.deploy(2)
    assert shop.ask(ROW)["version"] == 2


def test_the_first_deployment_goes_live_by_itself(shop: Shop) -> None:
    engine = Engine(shop.store, ["later"], writer="w1")
    engine.refresh()
    body = json.dumps(ROW).encode()
    for path in ("/predict/later", "/v2/models/later/infer"):
        response = engine.handle("POST", path, [], body)
        assert response.status == 503
        assert dict(response.headers)[b"retry-after"] == b"1"
        assert b"not deployed yet" in response.body
    assert engine.handle("GET", "/v2/models/later", [], b"").status == 503
    assert engine.handle("GET", "/v2/models/later/ready", [], b"").status == 503
    assert engine.handle("GET", "/v2/health/ready", [], b"").status == 503
    assert engine.handle("GET", "/v2/health/live", [], b"").status == 200
    shop.register("up", "later")
    set_traffic(shop.store, "later", champion=1, by="test", reason="a test")
    engine.refresh()
    assert engine.handle("POST", "/predict/later", [], body).status == 200
    assert engine.handle("GET", "/v2/health/ready", [], b"").status == 200
    engine.close()


def test_a_model_that_is_deployed_later_is_taken_up(shop: Shop) -> None:
    shop.register("up", "later")
    assert shop.post("/predict/later", ROW).status == 404
    shop.deploy(1, "later")
    assert shop.ask(ROW, "later")["version"] == 1


def test_a_damaged_bundle_is_refused_and_the_old_one_keeps_serving(shop: Shop) -> None:
    spoil(shop, 2)
    shop.deploy(2)
    assert shop.ask(ROW)["version"] == 1
    assert shop.metric("tidewheel_deployment_refused", model="bikes") == 1
    assert shop.metric("tidewheel_swaps_refused_total") == 1
    (state,) = json.loads(shop.get("/v2/health/ready").body)["models"]
    assert state["ready"] is True
    assert state["version"] == 1
    assert "digest" in state["refused"] or "damaged" in state["refused"] or "match" in state["refused"]


def test_a_refused_deployment_is_tried_again_later_not_at_once(shop: Shop) -> None:
    whole = spoil(shop, 2)
    shop.deploy(2)
    shop.engine.refresh()
    assert shop.metric("tidewheel_swaps_refused_total") == 1
    shop.model_blob(2).write_bytes(whole)
    shop.engine.refresh()
    assert shop.ask(ROW)["version"] == 1
    assert isinstance(shop.store.clock, ManualClock)
    shop.store.clock.advance(RETRY + timedelta(seconds=1))
    shop.engine.refresh()
    assert shop.ask(ROW)["version"] == 2
    assert shop.metric("tidewheel_deployment_refused", model="bikes") == 0


def test_going_back_ends_a_refusal(shop: Shop) -> None:
    spoil(shop, 2)
    shop.deploy(2)
    shop.deploy(1)
    assert shop.ask(ROW)["version"] == 1
    assert shop.metric("tidewheel_deployment_refused", model="bikes") == 0


def test_a_challenger_that_cannot_be_loaded_fails_its_share_and_the_champion_answers(shop: Shop) -> None:
    spoil(shop, 2)
    shop.deploy(1, challenger=2, share=1.0)
    assert shop.ask(ROW)["arm"] == "fallback"
    failure, answer = shop.log()
    assert (failure.arm, failure.version, failure.status) == ("challenger", 2, 500)
    assert "could not be loaded" in failure.error
    assert (answer.arm, answer.status) == ("champion", 200)
    (state,) = json.loads(shop.get("/v2/health/ready").body)["models"]
    assert state["challenger_trouble"]


def test_a_first_deployment_that_is_refused_says_why(shop: Shop) -> None:
    shop.register("line", "line")
    digest = get_model(shop.store, "line:1").bundle_digest
    shop.store.blobs.delete(digest)
    shop.deploy(1, "line")
    response = shop.post("/predict/line", {"a": 1, "b": 2})
    assert response.status == 503
    assert "was refused" in response.body.decode()


@pytest.mark.parametrize("failures", [1, 3])
def test_a_repeater_outlives_what_it_calls(failures: int) -> None:
    calls: list[int] = []

    def action() -> None:
        calls.append(len(calls))
        if len(calls) <= failures:
            raise OSError("the database is away")
        repeater._stop.set()

    repeater = Repeater(action, 0.001, "test")
    repeater.start()
    repeater._thread.join(10)
    repeater.stop()
    assert len(calls) == failures + 1


def test_a_server_that_starts_on_a_damaged_champion_answers_with_the_one_before(shop: Shop) -> None:
    shop.register("up")
    shop.deploy(2)
    shop.deploy(3)
    whole = {version: spoil(shop, version) for version in (3, 2)}  # 1 and 3 are of one kind and one blob
    shop.model_blob(3).write_bytes(whole[3])
    shop.deploy(2)
    engine = Engine(shop.store, ["bikes"], writer="w1")
    engine.refresh()
    body = json.dumps(ROW).encode()
    answer = json.loads(engine.handle("POST", "/predict/bikes", [], body).body)
    assert answer["version"] == 3
    ready = engine.handle("GET", "/v2/health/ready", [], b"")
    (state,) = json.loads(ready.body)["models"]
    assert (ready.status, state["version"]) == (200, 3)
    assert state["fallback"] == "version 3 answers instead of version 2"
    assert "match" in state["refused"]
    assert b'tidewheel_fallback_champion{model="bikes"} 1' in engine.handle("GET", "/metrics", [], b"").body

    shop.model_blob(2).write_bytes(whole[2])
    assert isinstance(shop.store.clock, ManualClock)
    shop.store.clock.advance(RETRY + timedelta(seconds=1))
    engine.refresh()
    assert json.loads(engine.handle("POST", "/predict/bikes", [], body).body)["version"] == 2
    assert b'tidewheel_fallback_champion{model="bikes"} 0' in engine.handle("GET", "/metrics", [], b"").body
    engine.close()
