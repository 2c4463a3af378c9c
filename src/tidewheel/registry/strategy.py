"""How requests are answered when more than a champion and a challenger on trial have a part in it.

A strategy is stored in the traffic row, as it is frozen: what bandits have learned and who sits where stand in it, so
that every server decides alike and a rollback is an earlier row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.registry.seats import Seats

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Weight = Annotated[float, Meta(gt=0.0)]
Reward = Literal["label", "correct", "error"]

LEAST_FLOOR = 0.01  # below it a single reward counts a hundredfold in an inverse-propensity estimate
SHARES_OFF = 1e-6  # by which shares may miss 1


class Strategy(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    """What all strategies have."""

    faults: dict[int, Share] = {}  # game day: version -> share of its requests that are made to fail

    @property
    def kind(self) -> str:
        """Its name: split, experiments, blue-green, shadow, thompson, linear, cascade, ensemble or fallback."""
        return str(self.__struct_config__.tag)

    def members(self) -> Sequence[int]:
        """Return the versions that may answer or are scored, beside the champion or with it."""
        raise NotImplementedError

    def shares(self, champion: int) -> Mapping[int, float]:
        """Return the share of the units that is led to each version first."""
        return {champion: 1.0}

    def check(self, champion: int) -> None:
        """Raise InvalidInput for what cannot work with this champion."""
        _distinct(self.members())
        for version in self.faults:
            if version not in (champion, *self.members()):
                raise InvalidInput(f"Version {version} has faults, but no part in it.", "Name one of its versions.")


class Split(Strategy, frozen=True, kw_only=True, tag="split"):
    """Each version answers its share of the units: A/B/n."""

    weights: dict[int, Share]  # version -> its share; together 1
    experiment: str = ""  # names the salt: the same name seats a unit alike for every model; empty: the model's own
    seats: Seats = ()  # filled in when it is stored

    def members(self) -> Sequence[int]:
        """Return the versions."""
        return tuple(self.weights)

    def shares(self, champion: int) -> Mapping[int, float]:
        """Return the weights."""
        del champion
        return self.weights

    def check(self, champion: int) -> None:
        """Raise InvalidInput unless the shares add up to 1 and the champion has one."""
        super().check(champion)
        _whole(self.weights, "The shares")
        _takes_part(champion, self.members())


class Experiment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One A/B/n test on a stretch of a layer."""

    name: str  # names the salt of its split
    start: Share  # where its stretch of the layer begins
    end: Share  # where it ends
    weights: dict[int, Share]  # version -> its share of the experiment; together 1
    seats: Seats = ()  # filled in when it is stored


class Experiments(Strategy, frozen=True, kw_only=True, tag="experiments"):
    """Several A/B/n tests at once, none of which shares a unit with another; units in none get the champion.

    Experiments in one layer, also of different models, part its units among them; layers are independent.
    """

    layer: str  # names the salt of the layer
    experiments: tuple[Experiment, ...]  # stretches that do not overlap

    def members(self) -> Sequence[int]:
        """Return the versions of all experiments, each once."""
        return tuple(dict.fromkeys(version for each in self.experiments for version in each.weights))

    def shares(self, champion: int) -> Mapping[int, float]:
        """Return the share of all units that each version gets."""
        found = dict.fromkeys((champion, *self.members()), 0.0)
        found[champion] += 1.0 - sum(each.end - each.start for each in self.experiments)
        for each in self.experiments:
            for version, weight in each.weights.items():
                found[version] += weight * (each.end - each.start)
        return found

    def check(self, champion: int) -> None:
        """Raise InvalidInput for stretches that overlap and shares that do not add up."""
        super().check(champion)
        names = [each.name for each in self.experiments]
        if not self.layer or not all(names) or len(set(names)) != len(names) or not names:
            raise InvalidInput("A layer and its experiments need names of their own.", "Name each, none twice.")
        end = 0.0
        for each in sorted(self.experiments, key=lambda one: one.start):
            if not end <= each.start < each.end:
                raise InvalidInput(
                    f"The stretch of {each.name!r}, {each.start:g} to {each.end:g}, overlaps another or is empty.",
                    "Give stretches of the layer from 0 to 1 that lie side by side.",
                )
            end = each.end
            _whole(each.weights, f"The shares of {each.name!r}")


class BlueGreen(Strategy, frozen=True, kw_only=True, tag="blue-green"):
    """The champion answers everything; another version stands by, loaded, so that a switch takes one poll."""

    standby: int  # the version that waits

    def members(self) -> Sequence[int]:
        """Return the version that waits."""
        return (self.standby,)

    def check(self, champion: int) -> None:
        """Raise InvalidInput when the version that waits is the champion."""
        super().check(champion)
        _apart(champion, self.members())


class Shadow(Strategy, frozen=True, kw_only=True, tag="shadow"):
    """The champion answers; challengers are scored after the answer has left, and compared."""

    versions: tuple[int, ...]  # challengers
    queue: Annotated[int, Meta(ge=1, le=100_000)] = 256  # requests that may wait; what comes beyond is dropped

    def members(self) -> Sequence[int]:
        """Return the challengers."""
        return self.versions

    def check(self, champion: int) -> None:
        """Raise InvalidInput without a challenger, or when one is the champion."""
        super().check(champion)
        _apart(champion, self.versions)
        _at_least(1, self.versions)


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """What rewards have shown of one version, each counted by its weight, which halves with age."""

    weight: float = 0.0  # sum of weights
    total: float = 0.0  # weighted sum of rewards
    squares: float = 0.0  # weighted sum of their squares
    gram: tuple[float, ...] = ()  # linear bandit: weighted sum of x x', row by row
    moment: tuple[float, ...] = ()  # linear bandit: weighted sum of reward times x


class Bandit(Strategy, frozen=True, kw_only=True):
    """Learns from outcomes which version is best, and sends it more of the traffic; see `learn`."""

    versions: tuple[int, ...]  # the arms
    reward: Reward = "label"  # the outcome itself, whether the prediction was right, or minus the absolute error
    floor: Share = 0.02  # least share of each version, so that every estimate from the log stays bounded
    half_life: Annotated[float, Meta(gt=0.0)] | None = None  # hours after which a reward counts half; None: for ever
    policy: int = 0  # how often it has learned; each is frozen in a row of its own
    since: int = 0  # requests before it do not count, microseconds since 1970 UTC; filled in when it is stored
    learned: int = 0  # moment at which `seen` was weighed, microseconds since 1970 UTC
    cursor: dict[str, int] = {}  # how far the log was read
    seen: dict[int, Learned] = {}  # by version

    def members(self) -> Sequence[int]:
        """Return the arms."""
        return self.versions

    def check(self, champion: int) -> None:
        """Raise InvalidInput for a floor that is too low or leaves nothing to learn, or too few arms."""
        super().check(champion)
        _takes_part(champion, self.versions)
        _at_least(2, self.versions)
        if not LEAST_FLOOR <= self.floor <= 1 / len(self.versions):
            raise InvalidInput(
                f"floor = {self.floor:g} does not suit {len(self.versions)} versions.",
                f"Give {LEAST_FLOOR:g} to {1 / len(self.versions):g}.",
            )


class Thompson(Bandit, frozen=True, kw_only=True, tag="thompson"):
    """Thompson sampling: each version gets the share with which it is the best one, as far as is known."""

    rewards: Literal["bernoulli", "normal"] = "bernoulli"  # 0 or 1, or any number
    chances: dict[int, Share] = {}  # share of each version, the floor included; empty: nothing was learned yet
    seats: Seats = ()  # filled in when it is stored

    def shares(self, champion: int) -> Mapping[int, float]:
        """Return the chances; the same for all before anything was learned."""
        del champion
        return self.chances or dict.fromkeys(self.versions, 1 / len(self.versions))


class Feature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A numeric column that a contextual bandit looks at, as (value - centre) / scale."""

    name: str  # name of the column
    centre: float = 0.0  # what counts as 0
    scale: Weight = 1.0  # what counts as 1


class Linear(Bandit, frozen=True, kw_only=True, tag="linear"):
    """A linear contextual bandit: which version is best depends on the request."""

    features: tuple[Feature, ...]  # what the reward depends on; a constant is added
    algorithm: Literal["lints", "linucb"] = "lints"  # Thompson sampling, or the upper confidence bound
    explore: Weight = 0.5  # width of what is believed possible, in units of the reward
    ridge: Weight = 1.0  # what is believed before any reward

    def shares(self, champion: int) -> Mapping[int, float]:
        """Return equal shares: what a version gets depends on the requests that come."""
        del champion
        return dict.fromkeys(self.versions, 1 / len(self.versions))

    def check(self, champion: int) -> None:
        """Raise InvalidInput without features."""
        super().check(champion)
        if not self.features:
            raise InvalidInput("A contextual bandit has nothing to look at.", "Name numeric columns as features.")


class Cascade(Strategy, frozen=True, kw_only=True, tag="cascade"):
    """A cheap version answers when it is sure; the next one is asked when it is not, the champion last."""

    versions: tuple[int, ...]  # in the order in which they are asked; the last one is the champion
    threshold: Share  # from which it is sure
    measure: Literal["top", "margin"] = "top"  # its highest probability, or how far that is above the second

    def members(self) -> Sequence[int]:
        """Return the stages."""
        return self.versions

    def shares(self, champion: int) -> Mapping[int, float]:
        """Return that the first stage is asked first."""
        del champion
        return {self.versions[0]: 1.0}

    def check(self, champion: int) -> None:
        """Raise InvalidInput unless the champion is the last of several stages."""
        super().check(champion)
        _at_least(2, self.versions)
        if self.versions[-1] != champion:
            raise InvalidInput(f"The champion {champion} is not the last stage.", "Name it last: it is asked last.")


class Ensemble(Strategy, frozen=True, kw_only=True, tag="ensemble"):
    """All versions answer together."""

    weights: dict[int, Weight]  # version -> how much it counts
    combine: Literal["mean", "vote"] = "mean"  # of probabilities, or of numbers; or the class of most votes

    def members(self) -> Sequence[int]:
        """Return the versions."""
        return tuple(self.weights)

    def shares(self, champion: int) -> Mapping[int, float]:
        """Return how much of the answer is each version's."""
        del champion
        return {version: weight / sum(self.weights.values()) for version, weight in self.weights.items()}

    def check(self, champion: int) -> None:
        """Raise InvalidInput unless there are several versions with the champion among them."""
        super().check(champion)
        _takes_part(champion, self.members())
        _at_least(2, self.members())


class Fallback(Strategy, frozen=True, kw_only=True, tag="fallback"):
    """The champion answers; on an error, or when it takes too long, the next version does."""

    versions: tuple[int, ...]  # in the order in which they are asked; the first one is the champion
    timeout_ms: Weight | None = None  # after which a version has failed; None: it may take as long as it takes

    def members(self) -> Sequence[int]:
        """Return the chain."""
        return self.versions

    def check(self, champion: int) -> None:
        """Raise InvalidInput unless the champion is the first of several versions."""
        super().check(champion)
        _at_least(2, self.versions)
        if self.versions[0] != champion:
            raise InvalidInput(f"The champion {champion} is not the first in the chain.", "Name it first.")


AnyStrategy = Split | Experiments | BlueGreen | Shadow | Thompson | Linear | Cascade | Ensemble | Fallback
KINDS: Mapping[str, type[AnyStrategy]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (Split, Experiments, BlueGreen, Shadow, Thompson, Linear, Cascade, Ensemble, Fallback)
}
_decoder = msgspec.json.Decoder(AnyStrategy)


def declared(content: Mapping[str, Any]) -> AnyStrategy:
    """Return the strategy that plain values describe: its kind and its fields, numbers also as text.

    >>> declared({"kind": "cascade", "versions": [1, 2], "threshold": "0.9"}).members()
    (1, 2)

    Raises NotFound for an unknown kind, InvalidInput for fields that do not fit it.
    """
    kind = str(content.get("kind", ""))
    if kind not in KINDS:
        raise NotFound("strategy", kind, KINDS)
    try:
        return msgspec.convert(dict(content), KINDS[kind], strict=False)
    except msgspec.ValidationError as error:
        known = ", ".join(name for name in KINDS[kind].__struct_fields__ if name not in KEPT)
        raise InvalidInput(f"That is no {kind} strategy: {error}.", f"It has these fields: {known}.") from error


KEPT = ("seats", "seen", "cursor", "policy", "since", "learned", "chances")  # what is filled in, not declared


def stored(strategy: AnyStrategy | None) -> str:
    """Return a strategy as the text of its column; empty for none."""
    return "" if strategy is None else msgspec.json.encode(strategy).decode()


def read(text: str) -> AnyStrategy | None:
    """Return the strategy of a column's text; None for an empty one."""
    return _decoder.decode(text) if text else None


def outlined(strategy: AnyStrategy, champion: int) -> dict[str, Any]:
    """Return a strategy for people and journals: what was declared, and the shares, without tables of numbers."""
    plain: dict[str, Any] = msgspec.to_builtins(strategy, str_keys=True)
    for each in plain.get("experiments", ()):
        each.pop("seats", None)
    outline = {name: value for name, value in plain.items() if name not in KEPT}
    outline["digest"] = sha256(stored(strategy).encode()).hexdigest()  # binds what is left out to the audit log
    outline["shares"] = {str(version): share for version, share in strategy.shares(champion).items()}
    return outline | ({"policy": strategy.policy} if isinstance(strategy, Bandit) else {})


def _distinct(versions: Sequence[int]) -> None:
    if len(set(versions)) != len(versions):
        raise InvalidInput(f"A version is named twice: {', '.join(map(str, versions))}.", "Name each once.")


def _at_least(count: int, versions: Sequence[int]) -> None:
    if len(versions) < count:
        raise InvalidInput(f"{len(versions)} versions are too few.", f"Name at least {count}.")


def _takes_part(champion: int, versions: Sequence[int]) -> None:
    if champion not in versions:
        listed = ", ".join(map(str, versions))
        raise InvalidInput(f"The champion {champion} is none of the versions {listed}.", "Give it a part as well.")


def _apart(champion: int, versions: Sequence[int]) -> None:
    if champion in versions:
        raise InvalidInput(f"Version {champion} is the champion already.", "Name other versions beside it.")


def _whole(weights: Mapping[int, float], what: str) -> None:
    total = sum(weights.values())
    if abs(total - 1.0) > SHARES_OFF:
        raise InvalidInput(f"{what} add up to {total:g}.", "Give shares that add up to 1.")
