"""`tidewheel gc`."""

from __future__ import annotations

from typing import Annotated

import typer

from tidewheel.cli.opened import settings_for
from tidewheel.cli.show import By, Command, HomeOption, JsonFlag, json_out, table, who


def gc(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    keep_days: Annotated[
        float, typer.Option(help="Days for which runs and cache entries are kept; default: the setting.")
    ] = -1.0,
    keep_runs: Annotated[
        int, typer.Option(help="Newest runs of each pipeline that are kept; default: the setting.")
    ] = -1,
    by: By = "",
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Delete what is no longer kept: bytes and logs of old runs, old cache entries. Their records stay."""
    from tidewheel.app import collect_garbage

    found = collect_garbage(
        settings_for(home),
        dry=dry_run,
        keep_days=None if keep_days == -1.0 else keep_days,
        keep_runs=None if keep_runs == -1 else keep_runs,
        by=who(by),
    )
    if json:
        json_out(found)
        return
    verb = "would be freed" if found.dry else "freed"
    print(f"{found.size:,} bytes {verb}; {found.kept_runs} runs are kept, of {found.expired_runs} only the records.")
    rows = ((freed.kind, freed.count, f"{freed.size:,}") for freed in found.freed)
    table(("kind", "count", "bytes"), rows, empty="There is nothing to delete.")
    if found.spared:
        print(f"{found.spared} blobs that nothing names were used within the last hour; they go the next time.")


COMMANDS = (Command(function=gc, example="tidewheel gc --dry-run --keep-days 90"),)
