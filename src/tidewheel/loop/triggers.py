"""What a loop asks its triggers with; the triggers themselves stand in the room below, under the same names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from tidewheel.errors import InvalidInput
from tidewheel.lineage.store import Store
from tidewheel.loop.requests import Request
from tidewheel.loop.state import LoopState
from tidewheel.monitoring.alerts import open_alerts
from tidewheel.monitoring.records import Alert
from tidewheel.triggers.arrivals import NewData, absent, new_data
from tidewheel.triggers.clockwork import Cron, cron, every
from tidewheel.triggers.facts import stored_growth
from tidewheel.triggers.inbox import files
from tidewheel.triggers.items import Used, used_up
from tidewheel.triggers.listing import objects
from tidewheel.triggers.monitored import ALARMS, OnAlert, decay, drift, metric
from tidewheel.triggers.pointing import alias
from tidewheel.triggers.records import Cause, Growth
from tidewheel.triggers.requested import Manual, manual
from tidewheel.triggers.webhooks import webhook

__all__ = [
    "ALARMS",
    "Cause",
    "Context",
    "Cron",
    "Manual",
    "NewData",
    "OnAlert",
    "Trigger",
    "absent",
    "alias",
    "cron",
    "decay",
    "drift",
    "every",
    "files",
    "loop_name",
    "manual",
    "metric",
    "new_data",
    "objects",
    "webhook",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What triggers are asked with."""

    now: datetime  # the present moment, aware
    state: LoopState  # the loop's memory
    version: str  # id of the newest version of the dataset
    rows: int  # rows of the dataset, with those that wait to be kept
    labelled: int  # labelled rows so far, kept or waiting
    deployed: bool = True  # whether a model answers
    rolling: bool = False  # whether a rollout is being decided
    alerts: Sequence[Alert] = ()  # open alerts of the version that answers
    requests: Sequence[Request] = ()  # retrainings asked for by people
    came: datetime | None = None  # when the newest version of the dataset was kept
    model: str = ""  # the loop's model
    held: Store | None = None  # where the rest stands; None: nowhere

    @property
    def store(self) -> Store:
        """Where triggers read what is not of the loop; raises InvalidInput where it was not given."""
        if self.held is None:
            raise InvalidInput("This context has no store.", "Give it one: Context(held=store, ...).")
        return self.held

    def remembered(self, rule: str) -> Any:
        """Return what a rule remembers: the mark of its last cause, or what it has kept besides."""
        return self.state.memory.get(rule, self.state.acted.get(rule))

    def used_up(self, rule: str) -> Mapping[str, str]:
        """Return what a rule has used up: name to stamp."""
        with self.store.database.reading() as tx:
            return used_up(tx, Used(name=loop_name(self.model), epoch=1), rule)

    def growth(self, data: str) -> Growth | None:
        """Return how far a dataset has come; the loop's own counts from the last retraining."""
        if data:
            return stored_growth(self.store, data)
        return Growth(rows=self.rows, version=self.version, at=self.came, before=self.state.rows_at_last_run)

    def open_alerts(self, model: str) -> Sequence[Alert]:
        """Return the open alerts of a model."""
        return open_alerts(self.store, model) if model else self.alerts

    def requested(self) -> Sequence[Request]:
        """Return what people have asked for."""
        return self.requests


class Trigger(Protocol):
    """A rule that may start a retraining."""

    @property
    def name(self) -> str:
        """The trigger as declared."""
        ...

    def due(self, context: Context) -> Cause | None:
        """Return the cause when a retraining is due, else None."""
        ...


def loop_name(model: str) -> str:
    """Return the name under which the triggers of a loop are kept."""
    return f"loop:{model}"
