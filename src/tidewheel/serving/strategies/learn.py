"""Learn from outcomes which version is best, and freeze what was learned as the next policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from tidewheel.clock import micros
from tidewheel.errors import Conflict
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import load_bundle
from tidewheel.predictions.join import Joiner, LabelledRow
from tidewheel.predictions.segments import log_folder as folder_of
from tidewheel.registry.strategy import Bandit, Feature, Learned, Linear, Thompson
from tidewheel.registry.traffic import Traffic, current_traffic, set_traffic
from tidewheel.registry.versions import get_model
from tidewheel.serving.strategies.contextual import Context
from tidewheel.stats.best_arm import Seen, best_of_bernoulli, best_of_normal, with_floor

HOUR_US = 3_600_000_000

FieldsOf = Callable[[int], Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What one look at the log has taught."""

    model: str  # name of the model
    policy: int  # number of the policy that holds now
    rows: int  # rewards that were counted
    left_out: int  # labelled rows of the bandit's that could not be: no number, or features that were not kept
    shares: dict[
        int, float
    ]  # version -> share that it gets now; equal for a contextual bandit, which decides per request
    traffic: Traffic  # the row that holds now


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewarded:
    """One reward of one version."""

    version: int  # who earned it
    reward: float  # how much
    at: int  # when its outcome arrived, microseconds since 1970 UTC
    context: tuple[float, ...] = ()  # what a contextual bandit saw


def learn(
    store: Store,
    model: str,
    *,
    by: str = "learn",
    reason: str = "",
    log_folder: Path | None = None,
    joiner: Joiner | None = None,
) -> Lesson:
    """Take in the outcomes that came since the last policy, and let servers follow the new one.

    Only requests that the bandit itself has led somewhere count, each by the version that answered. Nothing is written
    when nothing came. A `joiner` kept between calls spares reading the log again. Raises NotFound for a model that is
    not deployed, Conflict when its traffic follows no bandit, or was moved meanwhile.
    """
    traffic = current_traffic(store, model)
    strategy = traffic.strategy
    if not isinstance(strategy, Thompson | Linear):
        kind = strategy.kind if strategy is not None else "champion and challenger"
        raise Conflict(
            f"The traffic of {model!r} follows {kind}, which learns nothing.",
            f"Begin one with: tidewheel models traffic {model} --strategy thompson --arm 1 --arm 2",
        )
    labelled = (joiner or Joiner(log_folder or folder_of(store.home, model))).labelled(strategy.cursor)
    own = [row for row in labelled.rows if _decided(row, strategy)]
    rewarded = rewards_of(own, strategy, lambda version: _fields(store, model, version))
    left_out = len(own) - len(rewarded)
    if not rewarded:
        return _lesson(traffic, strategy, 0, left_out)
    wiser = msgspec.structs.replace(taught(strategy, rewarded, at=micros(store.clock.now())), cursor=labelled.cursor)
    moved = set_traffic(
        store,
        model,
        champion=traffic.champion,
        strategy=wiser,
        salt=traffic.salt,
        by=by,
        reason=reason or f"policy {wiser.policy} from {len(rewarded)} rewards",
        expected_seq=traffic.seq,
    )
    return _lesson(moved, wiser, len(rewarded), left_out)


def rewards_of(rows: Sequence[LabelledRow], strategy: Thompson | Linear, fields_of: FieldsOf) -> list[Rewarded]:
    """Return the rewards of labelled rows, those left out that are no number or lack what the bandit looks at."""
    contexts: dict[int, tuple[Context, frozenset[int]]] = {}
    found: list[Rewarded] = []
    for row in rows:
        reward = _reward(row, strategy)
        if reward is None:
            continue
        if not isinstance(strategy, Linear):
            found.append(Rewarded(version=row.prediction.version, reward=reward, at=row.at))
            continue
        version = row.prediction.version
        if version not in contexts:
            contexts[version] = _context(strategy.features, fields_of(version))
        context, places = contexts[version]
        if row.row < len(row.prediction.features) and not places & set(row.prediction.redacted):
            seen = tuple(context.one(row.prediction.features[row.row]).tolist())
            found.append(Rewarded(version=version, reward=reward, at=row.at, context=seen))
    return found


def taught(strategy: Thompson | Linear, rewarded: Sequence[Rewarded], *, at: int) -> Thompson | Linear:
    """Return the next policy: what was known fades by its half-life, then each reward counts by its age.

    One look or many give the same, because a weight depends on nothing but the time from outcome to now.
    """
    faded = _weight(strategy, at - strategy.learned)
    seen = {}
    for version in strategy.versions:
        own = [each for each in rewarded if each.version == version]
        weights = np.array([_weight(strategy, at - each.at) for each in own])
        rewards = np.array([each.reward for each in own])
        before = strategy.seen.get(version, Learned())
        seen[version] = Learned(
            weight=before.weight * faded + float(weights.sum()),
            total=before.total * faded + float(weights @ rewards),
            squares=before.squares * faded + float(weights @ rewards**2),
        )
        if isinstance(strategy, Linear):
            contexts = np.array([each.context for each in own]).reshape(len(own), len(strategy.features) + 1)
            gram = (contexts * weights[:, None]).T @ contexts
            moment = contexts.T @ (weights * rewards)
            seen[version] = msgspec.structs.replace(
                seen[version],
                gram=_added(before.gram, faded, gram.ravel().tolist()),
                moment=_added(before.moment, faded, moment.tolist()),
            )
    wiser = msgspec.structs.replace(strategy, seen=seen, learned=at, policy=strategy.policy + 1)
    return msgspec.structs.replace(wiser, chances=chances_of(wiser)) if isinstance(wiser, Thompson) else wiser


def chances_of(strategy: Thompson) -> dict[int, float]:
    """Return the share of each version: the chance that it is the best one, lifted to the floor."""
    learned = [strategy.seen.get(version, Learned()) for version in strategy.versions]
    seen = [Seen(weight=each.weight, total=each.total, squares=each.squares) for each in learned]
    best = best_of_bernoulli(seen) if strategy.rewards == "bernoulli" else best_of_normal(seen)
    return dict(zip(strategy.versions, with_floor(best, strategy.floor).tolist(), strict=True))


def _decided(row: LabelledRow, strategy: Thompson | Linear) -> bool:
    """Whether this bandit has led the row's request where it was answered."""
    record = row.prediction
    own = record.route == "split" and record.strategy == strategy.kind and record.at >= strategy.since
    return own and record.version in strategy.versions


def _reward(row: LabelledRow, strategy: Thompson | Linear) -> float | None:
    label, said = row.label, row.prediction.output[row.row]
    if strategy.reward == "correct":
        return float(label == said)
    if isinstance(label, str):
        return None
    if strategy.reward == "error":
        return None if isinstance(said, str) or said is None else -abs(float(label) - float(said))
    if isinstance(strategy, Thompson) and strategy.rewards == "bernoulli" and label not in (0, 1):
        return None
    return float(label)


def _weight(strategy: Bandit, age_us: int) -> float:
    """Return by how much a reward of some age counts."""
    return 1.0 if strategy.half_life is None else 0.5 ** (max(age_us, 0) / (strategy.half_life * HOUR_US))


def _added(before: Sequence[float], faded: float, fresh: Sequence[float]) -> tuple[float, ...]:
    old = before or [0.0] * len(fresh)
    return tuple(faded * mine + theirs for mine, theirs in zip(old, fresh, strict=True))


def _context(features: Sequence[Feature], names: Sequence[str]) -> tuple[Context, frozenset[int]]:
    """Return how the logged rows of a version are looked at, and which of their columns are."""
    places = [names.index(each.name) for each in features]  # a version that lacks one is not deployed
    return Context(features, places), frozenset(places)


def _fields(store: Store, model: str, version: int) -> Sequence[str]:
    bundle = load_bundle(store, get_model(store, f"{model}:{version}").bundle_digest)
    return bundle.manifest.signature.names


def _lesson(traffic: Traffic, strategy: Thompson | Linear, rows: int, left_out: int) -> Lesson:
    return Lesson(
        model=traffic.model,
        policy=strategy.policy,
        rows=rows,
        left_out=left_out,
        shares=traffic.shares(),
        traffic=traffic,
    )
