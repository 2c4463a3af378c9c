"""Look at schedules until stopped, and do the runs that wait: looks go on while a run takes long."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from tidewheel.errors import TidewheelError
from tidewheel.lineage.store import Store
from tidewheel.triggers.inbox import Files
from tidewheel.triggers.records import leaves
from tidewheel.triggers.schedule import Schedule
from tidewheel.triggers.tick import tick
from tidewheel.triggers.work import work

logger = logging.getLogger("tidewheel.triggers")
MAX_PAUSE_SECONDS = 30.0
_WORK_SECONDS = 5.0  # pause between two looks for runs that others have queued


def conduct_schedules(
    store: Store,
    schedules: Sequence[Schedule],
    *,
    stop: threading.Event,
    seconds: float = 1.0,
    executor: str = "inline",
) -> None:
    """Look every `seconds`, at once when a file comes, until `stop` is set; runs are done in the calling thread.

    What fails is told, and tried again after a pause that doubles up to half a minute.
    """
    queued, stirred = threading.Event(), threading.Event()

    def look() -> bool:
        reports = tick(store, schedules, works=False)
        if any(report.run_id for report in reports):
            queued.set()
        return all(report.verdict != "trouble" for report in reports)

    def do() -> bool:
        work(store, schedules, executor=executor, stop=stop)
        return True

    eyes = threading.Thread(target=_again, args=(look, stop, stirred, seconds), name="look-at-schedules", daemon=True)
    eyes.start()
    with_files = threading.Thread(target=_watch, args=(schedules, stop, stirred), name="watch-files", daemon=True)
    with_files.start()
    _again(do, stop, queued, _WORK_SECONDS)
    stirred.set()
    eyes.join(MAX_PAUSE_SECONDS)


def _again(do: Callable[[], bool], stop: threading.Event, wake: threading.Event, seconds: float) -> None:
    """Do something each `seconds` or when woken, less often while it fails."""
    failures = 0
    while not stop.is_set():
        wake.clear()
        try:
            failures = 0 if do() else failures + 1
        except TidewheelError as error:
            failures += 1
            logger.warning("%s", error)
        except Exception:  # what nobody foresaw in one look must not end the others
            failures += 1
            logger.exception("The look at the schedules failed.")
        pause = seconds if not failures else min(max(seconds, 0.1) * 2**failures, MAX_PAUSE_SECONDS)
        _pause(stop, wake, pause)


def _pause(stop: threading.Event, wake: threading.Event, seconds: float) -> None:
    """Wait to be woken; look at `stop` at least twice a second, because a signal sets that one alone."""
    while seconds > 0 and not stop.is_set() and not wake.wait(min(seconds, 0.5)):
        seconds -= 0.5


def _watch(schedules: Sequence[Schedule], stop: threading.Event, stirred: threading.Event) -> None:
    """Wake the looks when a file changes in a folder that a trigger watches; what this misses, the next look finds."""
    rules = (leaf for schedule in schedules for rule in schedule.on for leaf in leaves(rule))
    folders = {rule.folder for rule in rules if isinstance(rule, Files)}
    if not folders:
        return
    while not stop.is_set():
        there = sorted(folder for folder in folders if folder.is_dir())
        try:
            _wait_for_change(there, stop)
        except OSError as error:
            logger.warning("Files cannot be watched (%s); every look goes through them all the same.", error)
            return
        stirred.set()


def _wait_for_change(folders: Sequence[Path], stop: threading.Event) -> None:
    """Return when something changes in the folders, or after some seconds: others may have come."""
    if not folders:
        stop.wait(1.0)
        return
    from watchfiles import watch

    next(watch(*folders, stop_event=stop, step=50, rust_timeout=5_000, yield_on_timeout=True), None)
