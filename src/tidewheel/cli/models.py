"""`tidewheel models`: versions, aliases, promotion and rollback."""

from __future__ import annotations

from typing import Annotated

import typer

from tidewheel.cli.opened import opened
from tidewheel.cli.show import By, HomeOption, JsonFlag, json_out, table, who

group = typer.Typer(
    help="Models: versions, aliases with history, rollback.", no_args_is_help=True, rich_markup_mode=None
)
Name = Annotated[str, typer.Argument(help="Name of the model.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the audit log.")]


@group.command("list", epilog="Example: tidewheel models list")
def list_(*, home: HomeOption = "", json: JsonFlag = False) -> None:
    """List the models."""
    from tidewheel.registry import versions

    with opened(home) as store:
        found = versions.list_models(store)
    if json:
        json_out(found)
        return
    table(("model",), ((name,) for name in found), empty="No model yet. Train one with: tidewheel run FILE.py:PIPELINE")


@group.command("versions", epilog="Example: tidewheel models versions bikes")
def versions_(*, name: Name, home: HomeOption = "", json: JsonFlag = False) -> None:
    """List the versions of a model, newest first, with their aliases and metrics."""
    from tidewheel.registry import aliases, versions

    with opened(home) as store:
        found = versions.list_versions(store, name)
        held = aliases.current_aliases(store, name)
    if json:
        json_out({"model": name, "versions": found, "aliases": held})
        return
    marks = {seq: [alias for alias, holder in held.items() if holder == seq] for seq in held.values()}
    rows = ((item.seq, marks.get(item.seq, ""), metrics_text(item.metrics), item.at) for item in found)
    table(("version", "aliases", "metrics", "registered"), rows, empty=f"{name} has no version yet.")


def metrics_text(metrics: object) -> str:
    """Return metrics in one short line."""
    pairs = dict(metrics) if isinstance(metrics, dict) else {}
    return "  ".join(f"{name} {value:.4g}" for name, value in sorted(pairs.items()))


@group.command(epilog="Example: tidewheel models promote bikes 4 --reason 'passed review'")
def promote(
    *,
    name: Name,
    version: Annotated[int, typer.Argument(help="Number of the version.")],
    reason: Reason = "",
    by: By = "",
    home: HomeOption = "",
) -> None:
    """Let a version answer all requests: alias and traffic move together."""
    from tidewheel.registry import promotion

    with opened(home) as store:
        promotion.promote(store, name, version, by=who(by), reason=reason)
    print(f"Version {version} of {name} answers from now on.")


@group.command(epilog="Example: tidewheel models rollback bikes --reason 'complaints since noon'")
def rollback(
    *,
    name: Name,
    reason: Reason = "",
    by: By = "",
    home: HomeOption = "",
) -> None:
    """Give the champion's place, and the traffic, back to the version that held it before."""
    from tidewheel.registry import promotion

    with opened(home) as store:
        traffic = promotion.rollback(store, name, by=who(by), reason=reason)
    print(f"Version {traffic.champion} of {name} answers again.")


@group.command(epilog="Example: tidewheel models history bikes")
def history(*, name: Name, home: HomeOption = "", json: JsonFlag = False) -> None:
    """Show which version held which alias, from when to when, moved by whom and why."""
    from tidewheel.registry import aliases

    with opened(home) as store:
        found = aliases.alias_history(store, name)
    if json:
        json_out(found)
        return
    rows = ((item.name, item.seq, item.valid_from, item.valid_to, item.by, item.reason) for item in found)
    table(("alias", "version", "from", "to", "by", "why"), rows, empty=f"{name} has no alias yet.")
