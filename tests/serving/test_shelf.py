"""Versions that are not deployed: loaded when asked for, within a budget, and let go of when others are asked for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tidewheel.serving.engine import Engine
from tidewheel.serving.limits import Limits

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

BODY = json.dumps(
    {"inputs": [{"name": name, "shape": [1], "datatype": "FP64", "data": [1]} for name in ("a", "b", "n")]}
).encode()


@pytest.fixture
def generous(shop: Shop) -> Iterator[Engine]:
    """An engine with room for many versions."""
    engine = Engine(shop.store, ["bikes"], writer="shelf", limits=Limits(spare_bytes=10**9))
    engine.refresh()
    yield engine
    engine.close()


def ask(engine: Engine, version: object) -> Any:
    return engine.handle("POST", f"/v2/models/bikes/versions/{version}/infer", [], BODY)


def settled(engine: Engine, version: object) -> Any:
    """Ask until the version is no longer being loaded."""
    deadline = time.monotonic() + 20
    while b"is being loaded" in (response := ask(engine, version)).body:
        assert response.status == 503
        assert dict(response.headers)[b"retry-after"] == b"1"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return response


def test_a_version_is_loaded_because_it_is_asked_for(shop: Shop, generous: Engine) -> None:
    assert b"is being loaded" in ask(generous, 2).body
    answer = json.loads(settled(generous, 2).body)
    assert answer["model_version"] == "2"
    assert json.loads(ask(generous, 1).body)["model_version"] == "1"
    assert json.loads(generous.handle("POST", "/v2/models/bikes/infer", [], BODY).body)["model_version"] == "1"
    pinned = [record for record in shop.log() if record.version == 2 and record.status == 200]
    assert [record.route for record in pinned] == ["pinned"]


def test_without_the_setting_only_deployed_versions_answer(shop: Shop) -> None:
    response = ask(shop.engine, 2)
    assert response.status == 404
    assert b"live version" in response.body


@pytest.mark.parametrize("version", ["99", "x", "-1", "9" * 40])
def test_a_version_that_there_is_not_is_not_found(generous: Engine, version: str) -> None:
    assert settled(generous, version).status == 404


def test_what_was_not_asked_for_longest_is_let_go_of(shop: Shop, generous: Engine) -> None:
    for _ in range(2):
        shop.register("up")
    shelf = generous._shelf
    assert shelf is not None
    for version in (2, 3):
        assert settled(generous, version).status == 200
    shelf.budget = shelf.used + 1  # not enough for a third
    assert settled(generous, 2).status == 200  # now 3 is the one that was not asked for longest
    assert settled(generous, 4).status == 200
    assert ("bikes", 3) not in shelf.versions()
    assert ("bikes", 4) in shelf.versions()


def test_a_version_that_does_not_fit_the_budget_is_refused_with_the_sizes(shop: Shop) -> None:
    engine = Engine(shop.store, ["bikes"], writer="small", limits=Limits(spare_bytes=10))
    engine.refresh()
    response = settled(engine, 2)
    assert response.status == 409
    assert b"serve_memory" in response.body
    engine.close()


def test_a_damaged_version_says_so_and_hurts_nobody(shop: Shop, generous: Engine) -> None:
    path = shop.model_blob(2)
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    response = settled(generous, 2)
    assert response.status == 500
    assert b"no longer match" in response.body
    assert ask(generous, 1).status == 200


def test_many_versions_at_once_are_not_all_queued(shop: Shop, generous: Engine, monkeypatch: Any) -> None:
    shelf = generous._shelf
    assert shelf is not None
    release: list[bool] = []
    load: Callable[..., Any] = shelf._load

    def held(*key: Any) -> Any:
        while not release:
            time.sleep(0.005)
        return load(*key)

    monkeypatch.setattr(shelf, "_load", held)
    statuses = [ask(generous, 100 + place).status for place in range(20)]
    release.append(True)
    assert statuses[0] == 503
    assert statuses[-1] == 429
