"""Eight schedulers, each a process with a clock that jumps, on one database: one run for every due time."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest

from tidewheel.clock import ManualClock
from tidewheel.lineage.read import list_executions
from tidewheel.lineage.store import Store
from tidewheel.triggers.clockwork import Clockwork
from tidewheel.triggers.fire import open_runs
from tidewheel.triggers.schedule import Schedule
from tidewheel.triggers.tick import tick

SCHEDULERS = 8
HERE = Path(__file__).parent


def due_times(schedule: Schedule, begin: datetime, end: datetime) -> list[str]:
    (rule,) = schedule.on
    assert isinstance(rule, Clockwork)
    return sorted(due.isoformat() for due in rule.back_from(end, begin))


@pytest.mark.slow
@pytest.mark.parametrize("begin", ["2026-03-27T00:00:00+00:00", "2026-10-23T00:00:00+00:00"], ids=["spring", "autumn"])
def test_eight_schedulers_give_one_run_for_every_due_time(
    any_store: Store, project: ModuleType, book: Callable[[], list[str]], begin: str, request: pytest.FixtureRequest
) -> None:
    first, hours = datetime.fromisoformat(begin), 96  # over the change of the clock in each of the zones
    assert isinstance(any_store.clock, ManualClock)
    any_store.clock.advance(first - any_store.clock.now())
    tick(any_store, project.storm)  # they count from here on
    command = [sys.executable, str(HERE / "scheduler.py"), str(HERE / "schedule_steps.py")]
    home, url = any_store.home, f"sqlite:///{any_store.home / 'tidewheel.db'}"
    homes = [home] * SCHEDULERS
    if any_store.database.dialect == "postgresql":  # as if each were on a machine of its own
        url, homes = request.getfixturevalue("postgres_url"), [home / f"machine{seed}" for seed in range(SCHEDULERS)]
    running = [
        subprocess.Popen(
            [*command, str(homes[seed]), str(home / "blobs"), url, str(seed), begin, str(hours)], stderr=subprocess.PIPE
        )
        for seed in range(SCHEDULERS)
    ]
    errors = [process.communicate(timeout=240)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0] * SCHEDULERS, errors

    end = first + timedelta(hours=hours)
    any_store.clock.advance(end - any_store.clock.now())
    tick(any_store, project.storm)  # whatever nobody has claimed at the end
    with any_store.database.reading() as tx:
        assert [open_runs(tx, schedule.name) for schedule in project.storm] == [[]] * len(project.storm)
        runs = list_executions(tx, "run", limit=100_000)
    assert {run.state for run in runs} == {"SUCCEEDED"}
    found = Counter((run.facets["cause"]["trigger"], run.facets["cause"]["event"]["due"]) for run in runs)
    # A clock that jumped ahead may have come to due times after the end; those, too, have one run each.
    latest = max(datetime.fromisoformat(due) for _, due in found)
    expected = {(schedule.name, due) for schedule in project.storm for due in due_times(schedule, first, end)}
    assert expected <= set(found)
    assert set(found.values()) == {1}
    assert latest < end + timedelta(days=3)
    assert sorted(book()) == sorted(due for _, due in found)  # each was done once
    assert {datetime.fromisoformat(due).astimezone(UTC).minute for _, due in found} <= {15, 30, 45, 0}
