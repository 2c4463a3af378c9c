"""What a declared loop asks of its monitor."""

from __future__ import annotations

import polars as pl

from tidewheel.loop import triggers
from tidewheel.loop.loop import Loop
from tidewheel.models.model import Model
from tidewheel.monitoring.policy import MonitorPolicy
from tidewheel.pipelines.pipeline import pipeline


@pipeline
def nothing(rows: pl.DataFrame) -> Model:
    raise NotImplementedError


def watched(*on: triggers.Trigger, monitor: MonitorPolicy | None = None) -> MonitorPolicy:
    return Loop(nothing, model="m", data="d", label="y", on=on, monitor=monitor).policy


def test_without_alarms_to_act_on_drift_is_not_watched() -> None:
    assert watched(triggers.new_data(rows=5)) == MonitorPolicy(psi=None)


def test_triggers_say_what_is_watched_over_what_the_monitor_says() -> None:
    monitor = MonitorPolicy(window_rows=50, psi=0.9, latency_ms=7.0)
    policy = watched(triggers.drift(psi=0.3, windows=4), triggers.decay("rmse", worse_by=0.2), monitor=monitor)
    assert (policy.psi, policy.windows, policy.decay, policy.worse_by) == (0.3, 4, "rmse", 0.2)
    assert (policy.window_rows, policy.latency_ms) == (50, 7.0)


def test_a_monitor_alone_stays_as_it_is() -> None:
    monitor = MonitorPolicy(psi=0.9, decay="mae")
    assert watched(monitor=monitor) == monitor
