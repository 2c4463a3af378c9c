"""Traffic in plain words: a strategy from what was typed, and the parts of a row for tables and pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import load_bundle
from tidewheel.models.signature import Signature
from tidewheel.registry.strategy import AnyStrategy, declared
from tidewheel.registry.traffic import Traffic
from tidewheel.registry.versions import get_model

NUMERIC = ("float", "int")
WEIGHED = ("split", "ensemble")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one version has to do."""

    version: int  # its number
    part: str  # champion, challenger, or what the strategy calls it
    share: float  # share of the units that is led to it first, 0 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A traffic row in plain words."""

    kind: str  # champion, canary, or the kind of the strategy
    seq: int  # number of the row
    by: str  # who decided
    reason: str  # why
    arms: tuple[Part, ...]  # the champion first


def described(traffic: Traffic) -> Described:
    """Return who has which part under a traffic row."""
    strategy = traffic.strategy
    kind = strategy.kind if strategy is not None else "canary" if traffic.challenger is not None else "champion"
    names = {"blue-green": "standby", "shadow": "shadow", "cascade": "stage", "ensemble": "member", "fallback": "next"}
    other = names.get(kind, "challenger" if strategy is None else "arm")
    parts = tuple(
        Part(version=version, part="champion" if version == traffic.champion else other, share=share)
        for version, share in traffic.shares().items()
    )
    return Described(kind=kind, seq=traffic.seq, by=traffic.by, reason=traffic.reason, arms=parts)


def strategy_of(store: Store, model: str, content: Mapping[str, Any]) -> AnyStrategy:
    """Return the strategy that plain values describe.

    Besides the strategy's own fields, `arms` maps versions to numbers or None: shares of a split (equal without
    numbers), weights of an ensemble, the order of the others. `features` of a linear bandit may be names alone, as a
    list or parted by commas: their centre and scale are then what training saw.
    Raises NotFound for an unknown strategy, model or column, InvalidInput for what does not fit.
    """
    plain = dict(content)
    kind = str(plain.get("kind", ""))
    arms: Mapping[int, float | None] = plain.pop("arms", {})
    if arms and kind in WEIGHED:
        plain["weights"] = _weights(arms, 1 / len(arms) if kind == "split" else 1.0)
    elif arms and kind == "blue-green":
        plain["standby"] = list(arms)[-1]
    elif arms:
        plain["versions"] = list(arms)
    names = plain.get("features")
    if kind == "linear" and names is not None:
        named = names.split(",") if isinstance(names, str) else names
        if all(isinstance(each, str) for each in named):
            plain["features"] = scaled(_signature(store, model, next(iter(plain.get("versions", ())), None)), named)
    return declared(plain)


def scaled(signature: Signature, names: list[str]) -> list[dict[str, Any]]:
    """Return numeric columns on the scale of training: its middle is 0, its ends are -1 and 1."""
    fields = {field.name: field for field in signature.fields if field.kind in NUMERIC}
    found = []
    for name in names:
        if name not in fields:
            raise NotFound("numeric column", name, fields)
        low, high = fields[name].low, fields[name].high
        if low is None or high is None or low == high:
            found.append({"name": name, "centre": low or 0.0})
        else:
            found.append({"name": name, "centre": (low + high) / 2, "scale": (high - low) / 2})
    return found


def _weights(arms: Mapping[int, float | None], alike: float) -> dict[int, float]:
    given = [number for number in arms.values() if number is not None]
    if given and len(given) < len(arms):
        raise InvalidInput("Some versions have a number and some have none.", "Give one to each, or to none.")
    return {version: alike if number is None else number for version, number in arms.items()}


def _signature(store: Store, model: str, version: int | None) -> Signature:
    if version is None:
        raise InvalidInput("No version is named.", "Add --arm VERSION for each.")
    return load_bundle(store, get_model(store, f"{model}:{version}").bundle_digest).manifest.signature
