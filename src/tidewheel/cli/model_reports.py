"""`tidewheel models`: compare, card, verify, explain, import, export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidewheel.cli.models import Name
from tidewheel.cli.opened import opened
from tidewheel.cli.show import By, Command, HomeOption, JsonFlag, json_out, table, who

if TYPE_CHECKING:
    from tidewheel.registry.compare import VersionComparison

Reference = Annotated[str, typer.Argument(help="A version: bikes:3, bikes@champion, or bikes for the newest.")]
SHIFTS = 12  # columns that are shown


def compare(
    *,
    name: Name,
    before: Annotated[str, typer.Argument(help="Number or alias of the first version.")],
    after: Annotated[str, typer.Argument(help="Number or alias of the second version.")],
    rows: Annotated[
        str, typer.Option("--rows", help="File of labelled rows that both score, for paired metrics.")
    ] = "",
    label: Annotated[str, typer.Option("--label", help="Column of the labels in --rows.")] = "",
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Compare two versions: data, code, parameters, packages, metrics, signature, size and latency."""
    from tidewheel.app import read_rows
    from tidewheel.registry.compare import compare_versions

    given = read_rows(rows) if rows else None
    first, second = (f"{name}{':' if each.isdigit() else '@'}{each}" for each in (before, after))
    with opened(home) as store:
        found = compare_versions(store, first, second, rows=given, label=label, timed=True)
    if json:
        json_out({"breaking": found.breaking, "comparison": found})
        return
    _show(found)


def _show(found: VersionComparison) -> None:
    titles = ("", found.before.reference, found.after.reference)
    table(titles, ((item.name, item.before, item.after) for item in found.metrics), empty="Neither has metrics.")
    paired = ((item.metric, item.before, item.after, item.difference, item.low, item.high) for item in found.paired)
    if found.paired:
        print(f"On the same {found.paired[0].n:,} rows; a difference above 0 is better:")
        table((*titles, "difference", "low", "high"), paired, empty="")
    changes = [
        ("dataset", [found.datasets] if found.datasets else []),
        ("estimator", [found.estimator] if found.estimator else []),
        ("parameter", found.parameters),
        ("code", found.code),
        ("package", found.environment),
        ("bytes", [found.size]),
        ("us for one row", [found.latency] if found.latency else []),
    ]
    rows = [
        (kind, item.name if kind in ("parameter", "code", "package") else None, _short(item.before), _short(item.after))
        for kind, items in changes
        for item in items
    ]
    table(("what", *titles), rows, empty="")
    if found.code_changed and not found.code:
        print("The code differs; which part of it is not known.")
    shifts = ((item.name, item.shift, item.missing) for item in found.columns[:SHIFTS] if item.shift or item.missing)
    table(("column", "shift", "missing"), shifts, empty="The columns of the training rows are distributed alike.")
    fields = ((item.name, item.before, item.after, item.breaking) for item in found.signature)
    table(("field", *titles[1:], "breaking"), fields, empty="The signatures are the same.")
    print("Callers would notice: the signature breaks." if found.breaking else "Callers would not notice.")


def _short(value: Any) -> Any:
    return f"{value[:19]}..." if isinstance(value, str) and len(value) > 60 else value


def card(
    *,
    reference: Reference,
    out: Annotated[str, typer.Option("--out", help="File to write; without it the card is printed.")] = "",
    home: HomeOption = "",
) -> None:
    """Write the model card of a version as Markdown."""
    from tidewheel.registry.card import model_card

    with opened(home) as store:
        text = model_card(store, reference)
    if not out:
        print(text, end="")
        return
    Path(out).write_text(text, "utf-8")
    print(f"Wrote {out}.")


def verify(
    *,
    reference: Annotated[str, typer.Argument(help="A version (bikes:3), or a model for all its versions.")],
    trust: Annotated[bool, typer.Option("--trust", help="Load pickles too, which runs their makers' code.")] = False,
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Check rows, digests, every stored form and the golden samples; ends with 1 when something is wrong."""
    from tidewheel.registry.verification import verify_versions

    with opened(home) as store:
        found = verify_versions(store, reference, trust=trust)
    if json:
        json_out(found)
    else:
        rows = (
            (item.model, item.version, "sound" if item.sound else "BAD", item.formats, (*item.problems, *item.skipped))
            for item in found
        )
        table(("model", "version", "", "formats", "notes"), rows, empty=f"{reference} has no version.")
    if not all(item.sound for item in found):
        sys.exit(1)


def explain(
    *,
    reference: Reference,
    rows: Annotated[str, typer.Argument(help="File of rows: CSV, Parquet, JSON, JSON lines or Arrow.")],
    background: Annotated[
        str, typer.Option("--background", help="File of rows to count from; default: drawn from the baseline.")
    ] = "",
    budget_ms: Annotated[float, typer.Option("--budget-ms", min=0, help="Time for all rows; 0: no end.")] = 0.0,
    trust: Annotated[bool, typer.Option("--trust", help="Load a pickle, which runs its maker's code.")] = False,
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Say what each feature of some rows contributes to the model's answers."""
    from tidewheel.app import explain_version, read_rows

    given, others = read_rows(rows), read_rows(background) if background else None
    with opened(home) as store:
        found = explain_version(store, reference, given, background=others, budget_ms=budget_ms or None, trust=trust)
    if json:
        told = [
            {"base": row.base, "values": row.values, "errors": row.errors, "answer": row.answer} for row in found.rows
        ]
        json_out(
            {
                "method": found.method,
                "output": found.output,
                "complete": found.complete,
                "fields": found.fields,
                "of": found.outputs,
                "rows": told,
            }
        )
        return
    of = "" if found.outputs == ("prediction",) else f" of {', '.join(map(str, found.outputs))}"
    print(f"{found.output}{of}, by {found.method}")
    for number, row in enumerate(found.rows):
        order = sorted(range(len(found.fields)), key=lambda place: -abs(row.values[place]).max())
        print(f"row {number}: answer {_numbers(row.answer)}, counted from {_numbers(row.base)}")
        lines = ((found.fields[place], _numbers(row.values[place]), _numbers(row.errors[place])) for place in order)
        table(("field", "adds", "standard error"), lines, empty="The model has no fields.")
    if not found.complete:
        print(f"The time ended: {len(found.rows)} of {found.asked} rows, errors as shown.")


def _numbers(values: Any) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def export_(
    *,
    reference: Reference,
    folder: Annotated[Path, typer.Argument(help="New or empty folder.")],
    home: HomeOption = "",
) -> None:
    """Write a version as a folder that `import` takes in elsewhere; every byte is checked."""
    from tidewheel.shipping.payload import payload_of, write_folder

    with opened(home) as store:
        payload = payload_of(store, reference)
        write_folder(payload, folder)
    print(f"{payload.name}:{payload.version} stands in {folder}.")


def import_(
    *,
    folder: Annotated[Path, typer.Argument(help="Folder that `export` or `tidewheel ship --as folder` wrote.")],
    name: Annotated[str, typer.Option("--name", help="Name of the model here; default: the one it had.")] = "",
    by: By = "",
    home: HomeOption = "",
) -> None:
    """Register the version in a folder as the next one of its model; an altered file is refused."""
    from tidewheel.shipping.payload import import_folder

    with opened(home) as store:
        found = import_folder(store, folder, name=name, by=who(by))
    print(f"It is {found.reference} here.")


COMMANDS = (
    Command(function=compare, example="tidewheel models compare bikes 4 5 --rows holdout.csv --label count"),
    Command(function=card, example="tidewheel models card bikes@champion --out CARD.md"),
    Command(function=verify, example="tidewheel models verify bikes"),
    Command(function=explain, example="tidewheel models explain bikes@champion rows.csv"),
    Command(function=export_, example="tidewheel models export bikes:3 bikes-3"),
    Command(function=import_, example="tidewheel models import bikes-3 --name bikes"),
)
