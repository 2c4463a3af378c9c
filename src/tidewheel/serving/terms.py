"""The terms on which a server answers: who may ask, and what is written down about it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidewheel.errors import InvalidInput
from tidewheel.lineage.store import Store
from tidewheel.predictions.rules import check_rules
from tidewheel.serving.access import AccessLog, Watch
from tidewheel.serving.gate import VARIABLE, Gate, check_secret
from tidewheel.serving.spans import otel_spans


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a server is told beside what it serves; one record for every process that it consists of."""

    secret: str = field(default="", repr=False)  # an API key from outside the store, which opens all but manage
    anonymous: bool = False  # whether callers without a key may do what that key may
    access_log: str = ""  # stderr, or a file that gets a line per request; empty: none
    repository: bool = False  # whether callers may load and unload models
    otel: str = ""  # OpenTelemetry collector; empty: none
    log: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # rules of the prediction log by model

    def __post_init__(self) -> None:
        check_secret(self.secret)
        check_rules(self.log)


def check_exposed(store: Store, terms: Terms, host: str) -> None:
    """Refuse to answer other machines while nobody could be turned away.

    Raises InvalidInput unless some key opens something, or `anonymous` says that a proxy in front asks.
    """
    gate = Gate(store, lambda: time.time_ns() // 1_000, secret=terms.secret)
    gate.refresh()
    if terms.anonymous or gate.usable():
        return
    raise InvalidInput(
        f"{host} can be reached from other machines, and there is no API key that they would have to show.",
        f"Make one: tidewheel keys create NAME. A container takes a secret of yours in {VARIABLE}. Behind a proxy that "
        "asks for credentials set anonymous = true.",
    )


def watch_of(terms: Terms, gate: Gate) -> Watch:
    """Return what is told about requests. Raises MissingExtra or InvalidInput when that cannot be done."""
    log = AccessLog(terms.access_log) if terms.access_log else None
    return Watch(log, otel_spans(terms.otel) if terms.otel else None, gate.caller)
