"""`tidewheel outbox`: what is to be told to others, and was not yet."""

from __future__ import annotations

from typing import Annotated

import typer

from tidewheel.cli.opened import opened
from tidewheel.cli.show import HomeOption, JsonFlag, json_out, table
from tidewheel.errors import InvalidInput

group = typer.Typer(
    help="Events for others (OpenLineage, webhook): send, list, retry.",
    epilog="Example: tidewheel outbox send",
    no_args_is_help=True,
)


@group.command(epilog="Example: tidewheel outbox send")
def send(*, home: HomeOption = "", json: JsonFlag = False) -> None:
    """Send what is due; exits with 1 when something was not taken."""
    with opened(home) as store:
        if not store.sinks:
            raise InvalidInput("Nobody is to be told.", "Set openlineage or webhook in tidewheel.toml.")
        done = store.tell()
    if json:
        json_out(done)
    else:
        print(f"{done.sent} sent, {done.failed} to be tried again, {done.parked} parked.")
    if done.failed or done.parked:
        raise typer.Exit(1)


@group.command("list", epilog="Example: tidewheel outbox list")
def list_waiting(*, home: HomeOption = "", json: JsonFlag = False) -> None:
    """List the events that were not delivered yet, and why."""
    from tidewheel.app import outbox_waiting

    with opened(home) as store:
        found = outbox_waiting(store)
    if json:
        json_out(found)
        return
    rows = (
        (item.seq, item.sink, item.run_id, item.at, item.tries, "parked" if item.parked else "waiting", item.error)
        for item in found
    )
    table(("event", "for", "run", "at", "tries", "is", "because"), rows, empty="Everything was delivered.")


@group.command(epilog="Example: tidewheel outbox retry 17")
def retry(
    *,
    event: Annotated[int, typer.Argument(help="Number of a parked event; without it, all of them.")] = 0,
    home: HomeOption = "",
) -> None:
    """Take parked events up again."""
    from tidewheel.app import outbox_retry

    with opened(home) as store:
        print(f"{outbox_retry(store, event or None)} events are tried again.")
