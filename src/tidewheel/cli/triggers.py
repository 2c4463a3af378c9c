"""`tidewheel triggers` and `tidewheel tick`: what is declared, what each said last, one look, a fresh start."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tidewheel.cli.opened import opened, settings_for
from tidewheel.cli.show import By, Command, HomeOption, JsonFlag, json_out, table, who
from tidewheel.errors import InvalidInput


class _ListsByDefault(TyperGroup):
    """Reads `tidewheel triggers FILE` as `tidewheel triggers list FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the word that is left out."""
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


group = typer.Typer(
    cls=_ListsByDefault, help="Triggers: list, show, rearm, forget, run; list may be left out.", rich_markup_mode=None
)
Files = Annotated[list[str] | None, typer.Argument(help="FILE.py or FILE.py:NAME; default: all that the store knows.")]
Targets = Annotated[list[str], typer.Argument(help="One or more FILE.py or FILE.py:NAME.")]
Name = Annotated[str, typer.Argument(help="Name of the schedule.")]


@group.command("list", epilog="Example: tidewheel triggers bikes.py")
def list_(*, file: Files = None, home: HomeOption = "", json: JsonFlag = False) -> None:
    """List schedules and loops with their triggers and what each said last."""
    from tidewheel.servers import list_triggers

    with opened(home) as store:
        found = list_triggers(store, file or ())
    if json:
        json_out(found)
        return
    table(
        ["name", "starts", "on", "verdict", "reason", "at"],
        [(row.name, row.pipeline, "\n".join(row.on), row.verdict or row.kind, row.reason, row.at) for row in found],
        empty="No trigger yet. Declare a Schedule or Loop, then: tidewheel up FILE.py",
        wide_only=["at"],
    )


@group.command(epilog="Example: tidewheel triggers show nightly")
def show(*, name: Name, home: HomeOption = "", json: JsonFlag = False) -> None:
    """Show the newest evaluation of a schedule: which of its rules held, and why."""
    from tidewheel.errors import NotFound
    from tidewheel.servers import list_triggers
    from tidewheel.triggers.listed import tree_lines

    with opened(home) as store:
        found = {row.name: row for row in list_triggers(store)}
    if name not in found:
        raise NotFound("schedule", name, found, "List them with: tidewheel triggers")
    if json:
        json_out(found[name])
        return
    row = found[name]
    print(f"{row.name}: {row.verdict or 'not looked at yet'}: {row.reason}")
    print("\n".join(f"  {line}" for line in tree_lines(row.tree)))


@group.command(epilog="Example: tidewheel triggers rearm nightly --since 2026-06-01T00:00:00+02:00")
def rearm(
    *,
    name: Name,
    since: Annotated[str, typer.Option("--since", help="Moment to count from, with time zone; default: now.")] = "",
    by: By = "",
    home: HomeOption = "",
) -> None:
    """Let a schedule begin anew: what it acted on counts again, from now or from an earlier moment."""
    from datetime import datetime

    from tidewheel.triggers.state import rearm as begin_anew

    try:
        moment = datetime.fromisoformat(since) if since else None
    except ValueError as error:
        raise InvalidInput(f"--since {since!r} is not a moment.", "Write it like 2026-06-01T00:00:00+02:00.") from error
    if moment is not None and moment.tzinfo is None:
        raise InvalidInput(f"--since {since!r} has no time zone.", "Write it like 2026-06-01T00:00:00+02:00.")
    with opened(home) as store:
        state = begin_anew(store, name, since=moment, by=who(by))
    print(f"{name} begins anew (epoch {state.epoch}), counted from {since or 'now'}.")


@group.command(epilog="Example: tidewheel triggers forget nightly")
def forget(*, name: Name, by: By = "", home: HomeOption = "") -> None:
    """Take a schedule that is gone from its file out of the list, and close its webhooks."""
    from tidewheel.triggers.state import forget as leave_out

    with opened(home) as store:
        leave_out(store, name, by=who(by))
    print(f"{name} is forgotten; declared again, it goes on where it was.")


@group.command(epilog="Example: tidewheel triggers run bikes.py")
def run(*, target: Targets, home: HomeOption = "") -> None:
    """Look at the schedules of some files, and do their runs, until stopped."""
    from tidewheel.servers import conduct_schedules

    conduct_schedules(settings_for(home), target, say=print)


def tick(
    *,
    target: Targets,
    queue_only: Annotated[bool, typer.Option("--queue-only", help="Leave the runs to whoever works.")] = False,
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Look once at the schedules and loops of some files, and do the runs that wait. Safe from several processes."""
    from tidewheel.servers import tick_file

    with opened(home) as store:
        found = tick_file(store, target, executor=settings_for(home).executor, works=not queue_only)
    if json:
        json_out(found)
    else:
        print("\n".join(line for report in found for line in report.lines()))


COMMANDS = (Command(function=tick, example="tidewheel tick bikes.py    (from cron or CI, as often as you like)"),)
