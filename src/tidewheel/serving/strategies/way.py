"""Make the strategy of a traffic row from its loaded arms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from tidewheel.errors import ValidationFailed
from tidewheel.registry import strategy as declared
from tidewheel.registry.traffic import Traffic
from tidewheel.serving.arms import Arm, Way
from tidewheel.serving.rows import RowCodec
from tidewheel.serving.strategies.chain import Chain, answered, sure
from tidewheel.serving.strategies.contextual import Contextual
from tidewheel.serving.strategies.ensemble import Together
from tidewheel.serving.strategies.seated import Alone, Layered, Seated
from tidewheel.serving.strategies.timed import Timed


def make_way(traffic: Traffic, arms: Mapping[int, Arm], rows: RowCodec) -> Way | None:
    """Return how requests are led under a traffic row; None for champion and challenger.

    `arms` are all that take part, the champion included. Raises ValidationFailed for arms that do not fit the strategy.
    """
    if traffic.strategy is None:
        return None
    maker: Callable[..., Way] = _MAKERS[type(traffic.strategy)]
    return maker(traffic.strategy, traffic, arms, rows)


def _split(strategy: declared.Split, traffic: Traffic, arms: Mapping[int, Arm], rows: RowCodec) -> Way:
    del rows
    return Seated(strategy.kind, arms, strategy.seats, traffic.salt, strategy.experiment)


def _thompson(strategy: declared.Thompson, traffic: Traffic, arms: Mapping[int, Arm], rows: RowCodec) -> Way:
    del rows
    return Seated(strategy.kind, arms, strategy.seats, traffic.salt)


def _experiments(strategy: declared.Experiments, traffic: Traffic, arms: Mapping[int, Arm], rows: RowCodec) -> Way:
    del rows
    return Layered(strategy, arms[traffic.champion], arms, traffic.salt)


def _linear(strategy: declared.Linear, traffic: Traffic, arms: Mapping[int, Arm], rows: RowCodec) -> Way:
    return Contextual(strategy, arms, rows, traffic.salt)


def _blue_green(strategy: declared.BlueGreen, traffic: Traffic, arms: Mapping[int, Arm], rows: RowCodec) -> Way:
    del rows
    return Alone(strategy.kind, arms[traffic.champion])


def _shadow(strategy: declared.Shadow, traffic: Traffic, arms: Mapping[int, Arm], rows: RowCodec) -> Way:
    del rows
    return Alone(strategy.kind, arms[traffic.champion], [arms[version] for version in strategy.versions])


def _cascade(strategy: declared.Cascade, traffic: Traffic, arms: Mapping[int, Arm], rows: RowCodec) -> Way:
    del traffic, rows
    stages = [arms[version] for version in strategy.versions]
    for arm in stages[:-1]:
        if not arm.signature.probabilities:
            raise ValidationFailed(
                f"Version {arm.version} answers without probabilities, so nobody knows when it is unsure.",
                "Begin a cascade with classifiers that answer with probabilities.",
            )
    return Chain(strategy.kind, stages, sure(strategy.threshold, strategy.measure))


def _ensemble(strategy: declared.Ensemble, traffic: Traffic, arms: Mapping[int, Arm], rows: RowCodec) -> Way:
    del rows
    return Together(strategy, arms, arms[traffic.champion])


def _fallback(strategy: declared.Fallback, traffic: Traffic, arms: Mapping[int, Arm], rows: RowCodec) -> Way:
    del traffic, rows
    chain = [arms[version] for version in strategy.versions]
    if strategy.timeout_ms is not None:
        chain = [_timed(arm, strategy.timeout_ms) for arm in chain]
    return Chain(strategy.kind, chain, answered)


def _timed(arm: Arm, timeout_ms: float) -> Arm:
    return arm if arm.scorer is None else replace(arm, scorer=Timed(arm.scorer, timeout_ms))


_MAKERS: Mapping[type[declared.Strategy], Callable[..., Way]] = {
    declared.Split: _split,
    declared.Thompson: _thompson,
    declared.Experiments: _experiments,
    declared.Linear: _linear,
    declared.BlueGreen: _blue_green,
    declared.Shadow: _shadow,
    declared.Cascade: _cascade,
    declared.Ensemble: _ensemble,
    declared.Fallback: _fallback,
}
