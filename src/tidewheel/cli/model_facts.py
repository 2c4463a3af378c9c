"""`tidewheel models`: owner, description, tags, search, deletion."""

from __future__ import annotations

from typing import Annotated

import typer

from tidewheel.cli.models import Name, Reason, metrics_text
from tidewheel.cli.opened import opened, settings_for
from tidewheel.cli.show import By, Command, HomeOption, JsonFlag, json_out, table, who
from tidewheel.errors import InvalidInput

Subject = Annotated[str, typer.Argument(help="A model (bikes), or one version of it (bikes:3, bikes@champion).")]
Number = Annotated[int, typer.Argument(help="Number of the version.")]


def tag(
    *,
    subject: Subject,
    pairs: Annotated[list[str] | None, typer.Argument(help="Tags as key=value.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", help="A tag to take away.")] = None,
    reason: Reason = "",
    by: By = "",
    home: HomeOption = "",
) -> None:
    """Set and take away tags of a model or a version."""
    changes: dict[str, str | None] = {f"tags.{name}": None for name in remove or ()}
    for pair in pairs or ():
        name, mark, value = pair.partition("=")
        if not mark:
            raise InvalidInput(f"{pair!r} is not key=value.", "Write it like: team=risk")
        changes[f"tags.{name.strip()}"] = value
    _annotate(subject, changes, reason, by, home)


def describe(
    *,
    subject: Subject,
    pairs: Annotated[
        list[str] | None,
        typer.Argument(help="owner, description, intended_use, limitations, ethics, contact, licence, as key=value."),
    ] = None,
    reason: Reason = "",
    by: By = "",
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Say what a model or a version is, and whose; without anything to say, show what was said and by whom."""
    if not pairs:
        _show_history(subject, home, json=json)
        return
    changes: dict[str, str | None] = {}
    for pair in pairs:
        name, mark, value = pair.partition("=")
        if not mark:
            raise InvalidInput(f"{pair!r} is not key=value.", "Write it like: owner=anna; owner= takes it away.")
        changes[name.strip()] = value or None
    _annotate(subject, changes, reason, by, home)


def _annotate(subject: str, changes: dict[str, str | None], reason: str, by: str, home: str) -> None:
    from tidewheel.registry.annotations import annotate

    with opened(home) as store:
        held = annotate(store, subject, changes, by=who(by), reason=reason)
    rows = ((item.name, item.value, item.by, item.at) for item in held.values())
    table(("field", "value", "by", "since"), rows, empty=f"Nothing is said of {subject}.")


def _show_history(subject: str, home: str, *, json: bool) -> None:
    import re

    from tidewheel.registry.annotations import annotation_history, annotations_of

    name = re.split("[:@]", subject, maxsplit=1)[0]
    with opened(home) as store:
        held = annotations_of(store, subject)
        changes = annotation_history(store, name)
    if json:
        json_out({"subject": subject, "now": held, "history": changes})
        return
    now = ((item.name, item.value, item.by, item.at) for item in held.values())
    table(("field", "value", "by", "since"), now, empty=f"Nothing is said of {subject}.")
    rows = ((item.at, item.by, item.version, item.name, item.before, item.after, item.reason) for item in changes)
    if changes:
        table(("at", "by", "version", "field", "before", "after", "why"), rows, empty="")


def search(
    *,
    wanted: Annotated[str, typer.Argument(metavar="FILTER", help="Comparisons joined by and, or, not and brackets.")],
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most versions to show.")] = 100,
    deleted: Annotated[bool, typer.Option("--deleted", help="Show deleted versions too.")] = False,
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Find versions of all models by owner, tags, metrics and more."""
    from tidewheel.registry.versions import search_versions

    with opened(home) as store:
        found = search_versions(store, wanted, limit=limit, deleted=deleted)
    if json:
        json_out(found)
        return
    rows = ((item.name, item.seq, metrics_text(item.metrics), item.by, item.at) for item in found)
    table(("model", "version", "metrics", "by", "registered"), rows, empty="No version passes this filter.")


def delete(
    *,
    name: Name,
    version: Number,
    reason: Reason = "",
    force: Annotated[bool, typer.Option("--force", help="Delete it although it is young; needs a reason.")] = False,
    by: By = "",
    home: HomeOption = "",
) -> None:
    """Delete a version that nothing uses; `tidewheel gc` takes its payload after keep_days, until then undelete it."""
    from tidewheel.registry.deletion import delete_version

    settings = settings_for(home)
    with opened(home) as store:
        delete_version(store, name, version, by=who(by), reason=reason, force=force, keep_days=settings.keep_days)
    print(f"Version {version} of {name} is deleted.")
    print(f"  It comes back with: tidewheel models undelete {name} {version}")


def undelete(*, name: Name, version: Number, reason: Reason = "", by: By = "", home: HomeOption = "") -> None:
    """Take a deletion back, unless the collector has taken the payload."""
    from tidewheel.registry.deletion import undelete_version

    with opened(home) as store:
        undelete_version(store, name, version, by=who(by), reason=reason)
    print(f"Version {version} of {name} is back.")


COMMANDS = (
    Command(function=tag, example="tidewheel models tag bikes:3 team=risk stage=trial --remove old"),
    Command(function=describe, example="tidewheel models describe bikes owner=anna description='Rentals per hour'"),
    Command(
        function=search, example="tidewheel models search \"owner = anna and tags.team = 'risk' and metrics.rmse < 60\""
    ),
    Command(function=delete, example="tidewheel models delete bikes 3 --reason 'leaks the label' --force"),
    Command(function=undelete, example="tidewheel models undelete bikes 3"),
)
