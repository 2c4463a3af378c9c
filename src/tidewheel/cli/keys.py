"""`tidewheel keys`: who may ask the prediction server, and for what."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

import typer

from tidewheel.cli.opened import opened
from tidewheel.cli.show import By, HomeOption, JsonFlag, json_out, table, who
from tidewheel.errors import InvalidInput

group = typer.Typer(
    help="API keys of the prediction server: make, list, revoke.",
    epilog="Example: tidewheel keys create shop --model bikes --verb predict --verb outcomes --expires 90d",
    no_args_is_help=True,
)
Name = Annotated[str, typer.Argument(help="What the audit log and the access log call the key.")]
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@group.command(epilog="Example: tidewheel keys create shop --model bikes --verb predict --verb outcomes --expires 90d")
def create(
    *,
    name: Name,
    model: Annotated[list[str] | None, typer.Option(help="A model it may be used with; without it, all.")] = None,
    verb: Annotated[
        list[str] | None, typer.Option(help="predict, outcomes, read or manage; without it, predict alone.")
    ] = None,
    expires: Annotated[str, typer.Option(help="How long it opens, such as 12h, 90d or 8w; without it, for good.")] = "",
    by: By = "",
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Make a key and print it, this once. From the first key on, callers need one."""
    from tidewheel.serving.keys import create_key

    span = _span(expires)
    with opened(home) as store:
        made = create_key(store, name, models=model or (), verbs=verb or ("predict",), expires=span, by=who(by))
    if json:
        json_out({"name": made.key.name, "secret": made.secret, "verbs": made.key.verbs, "models": made.key.models})
        return
    print(made.secret)
    until = "" if made.key.expires is None else f" until {made.key.expires:%Y-%m-%d %H:%M} UTC"
    models = ", ".join(made.key.models) or "all models"
    typer.echo(f"{name}: {', '.join(made.key.verbs)} with {models}{until}. It is not shown again.", err=True)


@group.command("list", epilog="Example: tidewheel keys list")
def list_made(*, home: HomeOption = "", json: JsonFlag = False) -> None:
    """List the keys: what they open, until when, and who made them. No secret is stored, so none is shown."""
    from tidewheel.serving.keys import list_keys

    with opened(home) as store:
        found = list_keys(store)
        now = store.clock.now()
    if json:
        json_out(found)
        return
    rows = (
        (
            key.name,
            ", ".join(key.verbs),
            ", ".join(key.models) or "all",
            "revoked" if key.revoked else "usable" if key.usable(now) else "expired",
            key.expires,
            key.at,
            key.by,
        )
        for key in found
    )
    columns = ("key", "may", "with", "is", "expires", "made", "by")
    table(columns, rows, empty="There are no keys: whoever reaches the server may ask. tidewheel keys create NAME")


@group.command(epilog="Example: tidewheel keys revoke shop --reason 'found in a public repository'")
def revoke(
    *,
    name: Name,
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")] = "",
    by: By = "",
    home: HomeOption = "",
) -> None:
    """Refuse a key from now on; servers follow within a second."""
    from tidewheel.serving.keys import revoke_key

    with opened(home) as store:
        key = revoke_key(store, name, by=who(by), reason=reason)
    print(f"{key.name} is revoked since {key.revoked:%Y-%m-%d %H:%M:%S} UTC.")


def _span(text: str) -> timedelta | None:
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if found is None:
        raise InvalidInput(f"{text!r} is no span of time.", "Give a number and m, h, d or w, such as 90d.")
    return timedelta(**{_UNITS[found.group(2)]: int(found.group(1))})
