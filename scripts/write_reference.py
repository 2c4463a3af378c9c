"""Write docs/reference.md from the source: commands, settings, errors and public names, each with its own words.

Run by `make docs`; a test fails when the file is not what this would write.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference.md"
ANNOTATION = re.compile(r"(: |-> )'([^']*)'")  # annotations are kept as text, which `signature` quotes
HEAD = """# Reference

Written from the source by `make docs`. Commands that a program would read take `--json`.
"""


def reference() -> str:
    """Return the whole page as Markdown."""
    parts = [HEAD, *_commands(), *_settings(), *_errors(), *_public_names(), *_status()]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _commands() -> Iterator[str]:
    from typer.main import get_command

    from tidewheel.cli.main import cli

    yield "## Commands"
    for words, command in walk("tidewheel", get_command(cli)):
        yield f"### `{words}`"
        yield _sentence(command.help or "")
        rows = [_parameter(parameter) for parameter in command.params if parameter.name != "help"]
        if rows:
            yield _table(("argument or option", "meaning"), rows)
        if command.epilog:
            yield f"```console\n{_sentence(command.epilog).removeprefix('Example: ')}\n```"


def walk(words: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Give every command under a group with the words that call it, sorted by them."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield words, command
        return
    for name in sorted(inner):
        if not inner[name].hidden:
            yield from walk(f"{words} {name}", inner[name])


def _parameter(parameter: Any) -> tuple[str, str]:
    meaning = _sentence(getattr(parameter, "help", "") or "")
    if parameter.param_type_name == "argument":
        return f"`{(parameter.metavar or parameter.name).upper()}`", meaning
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    default = parameter.default
    plain = isinstance(default, str | int | float) and not isinstance(default, bool) and default != ""
    return names, f"{meaning} Default: `{default}`." if plain else meaning


def _settings() -> Iterator[str]:
    from tidewheel.settings import Settings

    yield "## Settings"
    yield (
        "Each environment is a table of `tidewheel.toml`, the nearest one at or above the working folder. "
        "A variable wins over the file. `TIDEWHEEL_ENVIRONMENT` chooses the table; without it `dev` holds."
    )
    rows = [(name, f"`TIDEWHEEL_{name.strip('`').upper()}`", *rest) for name, *rest in _fields(Settings)]
    yield _table(("setting", "variable", "default", "meaning"), rows)


def _fields(record: type[Any]) -> Iterator[tuple[str, str, str]]:
    """Give the name, default and meaning of each field of a dataclass."""
    notes = _field_notes(Path(inspect.getfile(record)), record.__name__)
    for field in dataclasses.fields(record):
        if not field.name.startswith("_"):
            bare = field.default is dataclasses.MISSING or field.default == ""
            yield f"`{field.name}`", "" if bare else f"`{field.default}`", notes.get(field.name, "")


def _field_notes(file: Path, name: str) -> dict[str, str]:
    """Return the comment that stands behind each field of a class."""
    source = file.read_text("utf-8")
    lines = source.splitlines()
    (record,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name)
    return {
        node.target.id: lines[(node.end_lineno or 1) - 1].partition("# ")[2]
        for node in record.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def _errors() -> Iterator[str]:
    from tidewheel import errors

    yield "## Errors"
    yield (
        "All stand in `tidewheel.errors` under one root. The message says what happened, with the values, "
        "and then how to mend it; `.what` and `.mend` hold the two parts."
    )
    rows = []
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, errors.TidewheelError):
            parents = ", ".join(f"`{parent.__name__}`" for parent in error.__bases__)
            rows.append((f"`{name}`", parents, _first_sentence(error)))
    yield _table(("error", "is also", "when"), rows)


def _public_names() -> Iterator[str]:
    import tidewheel

    yield "## Public names"
    yield "`import tidewheel` imports none of them; each is loaded when it is first touched."
    for name in sorted(tidewheel.__all__, key=str.lower):
        public = getattr(tidewheel, name)
        yield f"### `tidewheel.{name}`"
        yield from _described(name, public)


def _described(name: str, public: object) -> Iterator[str]:
    yield _first_sentence(public)
    if inspect.ismodule(public):
        rows = [(f"`{name}.{member}{_signature(item)}`", _first_sentence(item)) for member, item in _members(public)]
        yield _table(("name", "meaning"), rows)
    elif dataclasses.is_dataclass(public) and isinstance(public, type):
        yield _table(("field", "default", "meaning"), list(_fields(public)))
    else:
        yield f"```text\n{name}{_signature(public)}\n```"


def _members(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Give what a module of the face offers: all of its `__all__`, or the functions that it defines."""
    offered = getattr(module, "__all__", None)
    if offered is not None:
        yield from ((name, getattr(module, name)) for name in offered)
        return
    for name, item in vars(module).items():
        if inspect.isfunction(item) and item.__module__ == module.__name__ and not name.startswith("_"):
            yield name, item


def _signature(public: Any) -> str:
    try:
        text = str(inspect.signature(public))
    except (TypeError, ValueError):
        return ""
    return ANNOTATION.sub(r"\1\2", text)


def _status() -> Iterator[str]:
    from tidewheel.web import records

    yield "## The page as JSON"
    yield (
        "`GET /api/status` of `tidewheel web` gives what the page shows; `?model=NAME` chooses the model that is "
        "shown in full. Times are ISO 8601 in UTC. The document is a `Status`:"
    )
    found = [item for item in vars(records).values() if dataclasses.is_dataclass(item) and isinstance(item, type)]
    for record in sorted(found, key=lambda item: {"Status": 0, "LoopState": 1}.get(item.__name__, 2)):
        yield f"### `{record.__name__}`"
        yield _first_sentence(record)
        types = {field.name: ANNOTATION.sub(r"\1\2", str(field.type)) for field in dataclasses.fields(record)}
        rows = [(name, f"`{types[name.strip('`')]}`", meaning) for name, _, meaning in _fields(record)]
        yield _table(("field", "type", "meaning"), rows)


def _first_sentence(public: object) -> str:
    return _sentence((inspect.getdoc(public) or "").split("\n\n")[0])


def _sentence(text: str) -> str:
    return " ".join(text.split())


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows])


def main(arguments: list[str]) -> int:
    """Write the page, or with --check say whether it is up to date."""
    text = reference()
    if "--check" not in arguments:
        REFERENCE.write_text(text, encoding="utf-8")
        return 0
    fresh = REFERENCE.exists() and REFERENCE.read_text("utf-8") == text
    print("docs/reference.md is up to date" if fresh else "docs/reference.md is stale; run: make docs")
    return 0 if fresh else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
