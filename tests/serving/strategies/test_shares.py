"""A/B/n, layers and blue/green through the real engine: who answers, for how long, and what is logged of it."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from tidewheel.registry.promotion import rollback, set_strategy
from tidewheel.registry.seats import seated
from tidewheel.registry.strategy import AnyStrategy, BlueGreen, Experiment, Experiments, Split
from tidewheel.serving.arms import Arm
from tidewheel.serving.ask import Ask
from tidewheel.serving.engine import Engine
from tidewheel.serving.strategies.seated import Layered, Seated

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

ROW = {"a": 2.0, "b": 0.5, "n": 3}
UNITS = [f"user-{number}" for number in range(20_000)]
NOTHING = Ask("r", "", [], b"", [])


def arm(version: int) -> Arm:
    return Arm(name="challenger", version=version, digest="", signature=None, scorer=None)  # type: ignore[arg-type]


def way(shares: dict[int, float], salt: str = "s") -> Seated:
    return Seated("split", {version: arm(version) for version in shares}, seated(shares), salt)


def move(shop: Shop, strategy: AnyStrategy, **given: object) -> None:
    set_strategy(shop.store, "bikes", strategy, by="test", reason="a test", **given)  # type: ignore[arg-type]
    shop.engine.refresh()


def who(shop: Shop, units: int = 200) -> dict[str, int]:
    return {f"u{number}": shop.ask({"rows": [ROW], "unit": f"u{number}"})["version"] for number in range(units)}


def test_units_fall_into_the_arms_as_their_shares_say() -> None:
    shares = {1: 0.5, 2: 0.3, 3: 0.15, 4: 0.05}
    led = way(shares)
    counts = Counter(led.choose(unit, NOTHING).arm.version for unit in UNITS)
    expected = [share * len(UNITS) for share in shares.values()]
    assert chisquare([counts[version] for version in shares], expected).pvalue > 0.001


@given(unit=st.text(), low=st.integers(0, 100), more=st.integers(0, 100))
def test_a_growing_arm_keeps_every_unit_and_the_choice_never_changes_by_itself(unit: str, low: int, more: int) -> None:
    first = {1: 1 - low / 300, 2: low / 600, 3: low / 600}
    grown = {1: 1 - low / 300 - more / 300, 2: low / 600 + more / 300, 3: low / 600}
    arms = {version: arm(version) for version in first}
    seats = seated(first)
    before = Seated("split", arms, seats, "s").choose(unit, NOTHING)
    after = Seated("split", arms, seated(grown, seats), "s").choose(unit, NOTHING)
    assert before.arm is Seated("split", arms, seats, "s").choose(unit, NOTHING).arm
    assert after.arm is before.arm or (before.arm.version, after.arm.version) == (1, 2)


def test_experiments_of_one_layer_share_no_unit_and_split_independently() -> None:
    halves = {1: 0.5, 2: 0.5}
    made = tuple(
        Experiment(name=name, start=start, end=end, weights=halves, seats=seated(halves))
        for name, start, end in (("color", 0.0, 0.3), ("price", 0.3, 0.8))
    )
    arms = {version: arm(version) for version in halves}
    layered = Layered(Experiments(layer="web", experiments=made), arms[1], arms, "layer web")
    found = [layered.choose(unit, NOTHING) for unit in UNITS]
    counts = Counter(choice.experiment for choice in found)
    stretches = {"color": 0.3, "price": 0.5, "": 0.2}
    expected = [share * len(UNITS) for share in stretches.values()]
    assert chisquare([counts[name] for name in stretches], expected).pvalue > 0.001
    for name in ("color", "price"):
        inside = Counter(choice.arm.version for choice in found if choice.experiment == name)
        assert chisquare([inside[1], inside[2]]).pvalue > 0.001
    assert {(choice.arm.version, choice.propensity) for choice in found if not choice.experiment} == {(1, 1.0)}
    other = Seated("split", arms, seated(halves), "experiment else")
    both = Counter(
        (mine.arm.version, other.choose(unit, NOTHING).arm.version)
        for mine, unit in zip(found, UNITS, strict=True)
        if mine.experiment == "price"
    )
    assert chisquare(list(both.values())).pvalue > 0.001


def test_a_split_is_sticky_over_restarts_and_logged_with_its_probability(shop: Shop) -> None:
    shop.register("up")
    move(shop, Split(weights={1: 0.5, 2: 0.3, 3: 0.2}, experiment="looks"))
    told = who(shop)
    restarted = Engine(shop.store, writer="w1")
    restarted.refresh()
    for unit in ("u1", "u2", "u77"):
        body = json.dumps({"rows": [ROW], "unit": unit}).encode()
        assert json.loads(restarted.handle("POST", "/predict/bikes", [], body).body)["version"] == told[unit]
    restarted.close()
    assert set(told.values()) == {1, 2, 3}
    for record in shop.log()[:200]:
        assert record.version == told[record.unit]
        assert record.propensity == {1: 0.5, 2: 0.3, 3: 0.2}[record.version]
        assert record.arm == ("champion" if record.version == 1 else "challenger")
        assert (record.strategy, record.experiment, record.deployment, record.route) == ("split", "looks", 2, "split")
    assert shop.metric("tidewheel_model_info", version=2) == 0.3
    (model,) = json.loads(shop.get("/v2/health/ready").body)["models"]
    assert model["strategy"] == "split"
    assert [each["share"] for each in model["arms"]] == [0.5, 0.3, 0.2]


def test_a_growing_arm_keeps_its_units_and_a_rollback_returns_the_old_split(shop: Shop) -> None:
    shop.register("up")
    move(shop, Split(weights={1: 0.8, 2: 0.1, 3: 0.1}))
    before = who(shop)
    move(shop, Split(weights={1: 0.5, 2: 0.4, 3: 0.1}))
    after = who(shop)
    moved = {(before[unit], after[unit]) for unit in before if before[unit] != after[unit]}
    assert moved == {(1, 2)}
    rollback(shop.store, "bikes", by="test", reason="a test")
    shop.engine.refresh()
    assert who(shop) == before


def test_without_a_unit_each_request_is_drawn_for_itself_and_flagged(shop: Shop) -> None:
    move(shop, Split(weights={1: 0.5, 2: 0.5}))
    found = Counter(shop.ask(ROW)["version"] for _ in range(200))
    assert 60 < found[1] < 140
    assert {record.unit for record in shop.log()} == {""}


def test_blue_green_switches_at_once_and_back(shop: Shop) -> None:
    move(shop, BlueGreen(standby=2))
    deployed = shop.engine.fleet.endpoints["bikes"].deployed
    assert deployed is not None
    loaded = {each.version: each.scorer for each in deployed.arms()}
    assert set(loaded) == {1, 2}
    assert set(who(shop, 20).values()) == {1}
    move(shop, BlueGreen(standby=1), champion=2)
    deployed = shop.engine.fleet.endpoints["bikes"].deployed
    assert deployed is not None
    assert all(each.scorer is loaded[each.version] for each in deployed.arms())  # nothing was loaded again
    assert set(who(shop, 20).values()) == {2}
    assert rollback(shop.store, "bikes", by="test", reason="no").champion == 1
    shop.engine.refresh()
    assert set(who(shop, 20).values()) == {1}
    (model,) = json.loads(shop.get("/v2/health/ready").body)["models"]
    assert [each["version"] for each in model["arms"]] == [1, 2]


def test_a_failing_arm_is_answered_by_the_champion_and_logged_as_failed(shop: Shop) -> None:
    broken = shop.register("up")
    move(shop, Split(weights={1: 0.4, 2: 0.3, broken: 0.3}, faults={2: 1.0}))
    told = who(shop, 100)
    assert set(told.values()) == {1, broken}
    failures = [record for record in shop.log() if record.status == 500]
    answers = {record.id: record for record in shop.log() if record.route == "fallback"}
    assert {(record.version, record.route, record.propensity) for record in failures} == {(2, "split", 0.3)}
    assert {(each.version, each.propensity) for each in answers.values()} == {(1, 1.0)}
    assert set(answers) == {record.id for record in failures}


def test_an_arm_that_cannot_be_loaded_is_answered_by_the_champion(shop: Shop) -> None:
    broken = shop.register("line")  # of other columns and another task, so that its bundle is one of its own
    shop.model_blob(broken).write_bytes(b"nothing that was ever saved")
    move(shop, Split(weights={1: 0.5, broken: 0.5}))
    assert set(who(shop, 60).values()) == {1}
    failures = [record for record in shop.log() if record.status == 500]
    assert len(failures) > 15
    assert all(record.version == broken and "could not be loaded" in record.error for record in failures)
    (model,) = json.loads(shop.get("/v2/health/ready").body)["models"]
    assert "trouble" in model["arms"][1]


@pytest.mark.parametrize("kind", ["split", "blue-green"])
def test_a_version_may_be_named_under_a_strategy(shop: Shop, kind: str) -> None:
    move(shop, Split(weights={1: 1.0, 2: 0.0}) if kind == "split" else BlueGreen(standby=2))
    tensors = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 3], "data": [2.0, 0.5, 3.0]}]}
    answer = json.loads(shop.post("/v2/models/bikes/versions/2/infer", tensors).body)
    assert answer["outputs"][0]["data"] == [0]
    assert [(record.version, record.route, record.strategy) for record in shop.log()] == [(2, "pinned", "")]
