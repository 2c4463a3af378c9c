"""A small project of schedules, as a user writes it; what runs is noted in a file, one line a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tidewheel import approve, pipeline, step, triggers

BOOK = "TRIGGERS_BOOK"  # variable with the path of the file


@step(cache=False)
def note(line: str) -> str:
    with Path(os.environ[BOOK]).open("a", encoding="utf-8") as book:
        book.write(f"{line}\n")
    return line


@step(cache=False)
def die_once(line: str) -> str:
    mark = Path(os.environ[BOOK]).with_suffix(".died")
    if not mark.exists():
        mark.touch()
        os._exit(9)
    return line


@step(cache=False)
def fall(line: str) -> str:
    raise RuntimeError(line)


@pipeline
def keep_books(due: str = "", paths: list[str] | None = None, body: Any = None) -> str:
    return note(due or ",".join(Path(path).name for path in paths or []) or str(body))


@pipeline
def mortal(due: str = "") -> str:
    return note(die_once(due))


@pipeline
def failing(due: str = "") -> str:
    return fall(due)


@pipeline
def asking(due: str = "") -> str:
    return note(f"{due} {bool(approve('Write it down?', timeout='2h'))}")


hourly = triggers.Schedule(
    keep_books,
    on=[triggers.cron("0 * * * *", missed="all")],
    name="hourly",
    parameters={"due": triggers.event("due")},
    policy=triggers.Policy(one_at_a_time=False),
)

ZONES = ("Europe/Paris", "America/New_York", "Australia/Lord_Howe", "UTC")
storm = [
    triggers.Schedule(
        keep_books,
        on=[triggers.cron(expression, tz=zone, missed="all", limit=10_000)],
        name=f"storm/{zone}/{place}",
        parameters={"due": triggers.event("due")},
        policy=triggers.Policy(one_at_a_time=False),
    )
    for zone in ZONES
    for place, expression in enumerate(("30 2 * * *", "15 */4 * * *"))
]
