"""Bandits: what they learn, that their log tells the truth, and that they earn more than equal shares."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from tidewheel.clock import ManualClock
from tidewheel.errors import Conflict, ValidationFailed
from tidewheel.models.signature import Field
from tidewheel.registry.freeze import freeze
from tidewheel.registry.promotion import rollback, set_strategy
from tidewheel.registry.strategy import Feature, Learned, Linear, Thompson
from tidewheel.registry.traffic import current_traffic
from tidewheel.serving.arms import Arm
from tidewheel.serving.ask import Ask
from tidewheel.serving.rows import RowCodec
from tidewheel.serving.strategies.contextual import Contextual
from tidewheel.serving.strategies.learn import HOUR_US, Rewarded, learn, taught
from tidewheel.serving.strategies.seated import Seated
from tidewheel.stats.off_policy import arm_value

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

FIELDS = [Field(name="x", kind="float"), Field(name="z", kind="float")]
FEATURES = (Feature(name="x"), Feature(name="z"))


class _Reads:
    names = ("x", "z", "q")


ARMS = {
    version: Arm(name="challenger", version=version, digest="", signature=_Reads(), scorer=None)  # type: ignore[arg-type]
    for version in (1, 2, 3)
}

Strategy = Thompson | Linear
Reward = Callable[[int, Any, np.random.Generator], float]


def way_of(strategy: Strategy) -> Seated | Contextual:
    if isinstance(strategy, Linear):
        return Contextual(strategy, ARMS, RowCodec(FIELDS), "s")
    return Seated("thompson", ARMS, strategy.seats, "s")


class Simulated:
    """A world in which each request earns a reward that depends on who answers; learns in batches, as from the log."""

    def __init__(self, strategy: Strategy, reward: Reward, *, batches: int, size: int = 200, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.chosen: list[int] = []
        self.propensities: list[float] = []
        self.rewards: list[float] = []
        frozen = freeze(strategy, 1, None, at=0)
        assert isinstance(frozen, Thompson | Linear)
        for batch in range(batches):
            way, learned = way_of(frozen), []
            for number in range(size):
                context = random.normal(size=2)
                ask = Ask(f"{seed}-{batch}-{number}", "", [tuple(context.tolist())], b"", [])
                choice = way.choose(ask.id, ask)
                earned = reward(choice.arm.version, context, random)
                seen = (1.0, *context.tolist()) if isinstance(frozen, Linear) else ()
                learned.append(Rewarded(version=choice.arm.version, reward=earned, at=0, context=seen))
                self.chosen.append(choice.arm.version)
                self.propensities.append(choice.propensity)
                self.rewards.append(earned)
            wiser = freeze(taught(frozen, learned, at=0), 1, frozen, at=0)
            assert isinstance(wiser, Thompson | Linear)
            frozen = wiser
        self.strategy = frozen


RATES = {1: 0.10, 2: 0.14, 3: 0.20}


def clicks(version: int, context: Any, random: np.random.Generator) -> float:
    return float(random.random() < RATES[version])


COEFFICIENTS = {1: (0.3, 1.0, 0.0), 2: (0.3, -1.0, 0.0), 3: (0.2, 0.0, 1.0)}


def linear(version: int, context: Any, random: np.random.Generator) -> float:
    return mean_of(version, context) + float(random.normal(scale=0.5))


def mean_of(version: int, context: Any) -> float:
    base, first, second = COEFFICIENTS[version]
    return float(base + first * context[0] + second * context[1])


THOMPSON = Thompson(versions=(1, 2, 3), floor=0.02)
LINEAR = Linear(versions=(1, 2, 3), features=FEATURES, floor=0.02)


def test_inverse_propensity_estimates_of_an_adaptive_log_find_each_arms_true_value() -> None:
    world = Simulated(THOMPSON, clicks, batches=20)
    assert min(world.propensities) >= 0.02
    for version, rate in RATES.items():
        value = arm_value(world.rewards, np.array(world.chosen) == version, world.propensities)
        assert abs(value.ips - rate) < 4 * value.ips_error
        assert abs(value.snips - rate) < 4 * value.snips_error
        assert value.snips_error < 0.05


def test_inverse_propensity_estimates_are_unbiased_over_many_worlds() -> None:
    estimates = []
    for seed in range(40):
        world = Simulated(THOMPSON, clicks, batches=2, size=150, seed=seed)
        estimates.append([arm_value(world.rewards, np.array(world.chosen) == v, world.propensities).ips for v in RATES])
    errors = np.std(estimates, axis=0, ddof=1) / np.sqrt(len(estimates))
    assert np.all(np.abs(np.mean(estimates, axis=0) - list(RATES.values())) < 3.5 * errors)


@pytest.mark.parametrize("algorithm", ["lints", "linucb"])
def test_estimates_from_a_contextual_log_find_each_arms_true_value(algorithm: Any) -> None:
    world = Simulated(msgspec.structs.replace(LINEAR, algorithm=algorithm), linear, batches=15)
    assert min(world.propensities) >= 0.02
    for version, (base, _, _) in COEFFICIENTS.items():  # the mean over contexts, whose mean is 0
        value = arm_value(world.rewards, np.array(world.chosen) == version, world.propensities)
        assert abs(value.ips - base) < 4 * value.ips_error
        assert abs(value.snips - base) < 4 * value.snips_error


def test_thompson_sampling_earns_more_than_equal_shares_and_ends_at_the_best() -> None:
    for seed in range(2):
        world = Simulated(THOMPSON, clicks, batches=20, size=300, seed=seed)
        regret = sum(max(RATES.values()) - RATES[version] for version in world.chosen)
        uniform = len(world.chosen) * (max(RATES.values()) - np.mean(list(RATES.values())))
        assert regret < 0.5 * uniform
        assert isinstance(world.strategy, Thompson)
        assert world.strategy.shares(1)[3] > 0.9
        assert min(world.strategy.shares(1).values()) >= 0.02 - 1e-9


@pytest.mark.parametrize("algorithm", ["lints", "linucb"])
def test_the_contextual_bandit_earns_more_than_equal_shares_and_than_the_best_single_arm(algorithm: Any) -> None:
    world = Simulated(msgspec.structs.replace(LINEAR, algorithm=algorithm), linear, batches=15, size=150)
    late = world.rewards[len(world.rewards) // 2 :]
    uniform = np.mean([base for base, _, _ in COEFFICIENTS.values()])
    assert np.mean(late) > uniform + 0.5
    assert np.mean(late) > max(base for base, _, _ in COEFFICIENTS.values()) + 0.5


def test_normal_rewards_are_learned_too() -> None:
    means = {1: 50.0, 2: 53.0, 3: 49.0}
    strategy = msgspec.structs.replace(THOMPSON, rewards="normal")
    world = Simulated(strategy, lambda version, _, random: random.normal(means[version], 10.0), batches=15)
    assert world.strategy.shares(1)[2] > 0.8


@pytest.mark.parametrize("strategy", [THOMPSON, LINEAR], ids=["thompson", "linear"])
def test_one_lesson_or_many_give_the_same(strategy: Strategy) -> None:
    random = np.random.default_rng(0)
    fading = msgspec.structs.replace(strategy, half_life=2.0)
    rewarded = [
        Rewarded(version=1 + n % 3, reward=float(n % 2), at=n * HOUR_US, context=(1.0, *random.normal(size=2).tolist()))
        for n in range(12)
    ]
    at_once = taught(fading, rewarded, at=20 * HOUR_US)
    step = taught(fading, rewarded[:7], at=6 * HOUR_US)
    in_two = taught(step, rewarded[7:], at=20 * HOUR_US)
    for version in fading.versions:
        for name in Learned.__struct_fields__:
            assert getattr(in_two.seen[version], name) == pytest.approx(getattr(at_once.seen[version], name))
    assert (at_once.policy, in_two.policy) == (1, 2)


def test_old_rewards_fade_by_their_half_life() -> None:
    fading = msgspec.structs.replace(THOMPSON, half_life=3.0)
    once = taught(fading, [Rewarded(version=1, reward=1.0, at=0)], at=0)
    later = taught(once, [], at=6 * HOUR_US)
    assert (later.seen[1].weight, later.seen[1].total) == (0.25, 0.25)


def test_a_changed_world_is_followed_when_rewards_fade() -> None:
    strategy = msgspec.structs.replace(THOMPSON, half_life=1.0)
    good = [Rewarded(version=1, reward=1.0, at=0) for _ in range(300)]
    before = taught(strategy, good, at=0)
    turned = [Rewarded(version=v, reward=float(v == 2), at=12 * HOUR_US) for v in (1, 2, 3) for _ in range(60)]
    assert before.shares(1)[1] > 0.9
    assert taught(before, turned, at=12 * HOUR_US).shares(1)[2] > 0.9


def ask_and_tell(shop: Shop, prefix: str, reward: Callable[[int, dict[str, float]], int], count: int = 60) -> None:
    random = np.random.default_rng(0)
    outcomes = []
    for number in range(count):
        row = {"a": float(random.normal()), "b": float(random.normal()), "n": 3}
        answer = shop.ask({"rows": [row], "id": f"{prefix}{number}"})
        outcomes.append({"id": answer["id"], "label": reward(answer["version"], row)})
    assert shop.post("/outcomes", {"outcomes": outcomes}).status == 202


def test_a_bandit_learns_from_the_log_of_a_server_and_the_server_follows(shop: Shop) -> None:
    assert isinstance(shop.store.clock, ManualClock)
    set_strategy(shop.store, "bikes", Thompson(versions=(1, 2)), by="test", reason="a test")
    shop.engine.refresh()
    ask_and_tell(shop, "a", lambda version, _: int(version == 2))
    shop.store.clock.advance(timedelta(minutes=1))
    lesson = learn(shop.store, "bikes")
    assert (lesson.policy, lesson.rows, lesson.left_out) == (1, 60, 0)
    assert lesson.shares[2] == pytest.approx(0.98, abs=0.002)
    assert shop.engine.refresh() == ["bikes"]
    assert shop.metric("tidewheel_model_info", version=2) == pytest.approx(0.98, abs=0.002)
    ask_and_tell(shop, "b", lambda version, _: int(version == 2))
    late = [record for record in shop.log() if record.id.startswith("b")]
    assert sum(record.version == 2 for record in late) > 52
    assert {(record.version, round(record.propensity, 2)) for record in late} <= {(1, 0.02), (2, 0.98)}
    assert {record.deployment for record in late} == {lesson.traffic.seq}
    again = learn(shop.store, "bikes")
    assert (again.policy, again.rows) == (2, 60)  # each reward is counted once
    assert learn(shop.store, "bikes").traffic == again.traffic  # nothing came, nothing is written
    assert rollback(shop.store, "bikes", by="test", reason="no").strategy == lesson.traffic.strategy


def test_only_what_the_bandit_led_counts(shop: Shop) -> None:
    ask_and_tell(shop, "before", lambda *_: 1, 10)
    set_strategy(shop.store, "bikes", Thompson(versions=(1, 2), faults={2: 1.0}), by="test", reason="a test")
    shop.engine.refresh()
    ask_and_tell(shop, "a", lambda *_: 1, 40)
    answered = sum(record.route == "split" and record.status == 200 for record in shop.log()) - 10
    assert learn(shop.store, "bikes").rows == answered  # answers in place of failures do not, nor what was before
    assert 0 < answered < 40


def test_a_contextual_bandit_learns_from_the_log_of_a_server(shop: Shop) -> None:
    strategy = Linear(versions=(1, 2), features=(Feature(name="a"), Feature(name="b")))
    set_strategy(shop.store, "bikes", strategy, by="test", reason="a test")
    shop.engine.refresh()
    ask_and_tell(shop, "a", lambda version, row: int((row["b"] > 0) == (version == 1)), 80)
    lesson = learn(shop.store, "bikes")
    assert (lesson.rows, lesson.left_out) == (80, 0)
    shop.engine.refresh()
    ask = {"rows": [{"a": 1.5, "b": 1.5, "n": 3}]}
    assert sum(shop.ask({**ask, "unit": f"u{n}"})["version"] == 1 for n in range(40)) > 30
    other = {"rows": [{"a": 1.5, "b": -1.5, "n": 3}]}
    assert sum(shop.ask({**other, "unit": f"u{n}"})["version"] == 2 for n in range(40)) > 25
    told = [shop.ask({**ask, "unit": "same"})["version"] for _ in range(5)]
    assert len(set(told)) == 1


def test_what_is_no_bandit_learns_nothing_and_features_must_be_read(shop: Shop) -> None:
    with pytest.raises(Conflict, match="learns nothing"):
        learn(shop.store, "bikes")
    wider = shop.register("wider")
    strategy = Linear(versions=(1, wider), features=(Feature(name="extra"),))
    set_strategy(shop.store, "bikes", strategy, by="test", reason="a test")
    shop.engine.refresh()
    assert "does not read extra" in shop.get("/v2/health/ready").body.decode()
    assert current_traffic(shop.store, "bikes").strategy is not None
    with pytest.raises(ValidationFailed, match="which no request has"):
        Contextual(Linear(versions=(1, 2), features=(Feature(name="q"),)), ARMS, RowCodec(FIELDS), "s")
