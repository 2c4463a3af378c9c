"""When work is due: triggers on the clock, on data, on files and objects, on calls from outside, and on silence."""

from __future__ import annotations

from tidewheel.triggers.arrivals import absent, new_data
from tidewheel.triggers.clockwork import cron, every
from tidewheel.triggers.inbox import files
from tidewheel.triggers.listing import objects
from tidewheel.triggers.monitored import decay, drift, metric
from tidewheel.triggers.pointing import alias
from tidewheel.triggers.policy import Policy
from tidewheel.triggers.requested import manual
from tidewheel.triggers.schedule import Schedule, event
from tidewheel.triggers.webhooks import webhook

__all__ = [
    "Policy",
    "Schedule",
    "absent",
    "alias",
    "cron",
    "decay",
    "drift",
    "event",
    "every",
    "files",
    "manual",
    "metric",
    "new_data",
    "objects",
    "webhook",
]
