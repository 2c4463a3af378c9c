"""Put results on the screen: a table for people, one JSON value for programs."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 120  # characters of a terminal that shows every column
PIPE_WIDTH = 240  # characters of a line that goes to a file or a program

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON value for a program to read.")]
HomeOption = Annotated[
    str, typer.Option("--home", help="Folder of the project's store; default: as tidewheel.toml says, else .tidewheel")
]
By = Annotated[str, typer.Option("--by", help="Who does it, for the audit log; default: the login name.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command at the top level with the example that its help ends in."""

    function: Callable[..., None]  # the translating function
    example: str  # a command line that works


def json_out(value: Any) -> None:
    """Print a value as one line of JSON; records become objects, moments ISO 8601."""
    import orjson

    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS
    if "numpy" in sys.modules:  # with the option orjson imports it, and only who imported it can have made its values
        options |= orjson.OPT_SERIALIZE_NUMPY
    print(orjson.dumps(value, default=_plain, option=options).decode())


def _plain(value: Any) -> Any:
    import msgspec

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value, enc_hook=str)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    return str(value)


def screen() -> Console:
    """Return what tables and trees are printed on; a reader who has gone (`| head`) is no error."""
    from rich.console import Console

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0)  # Rich says 1

    found = Screen()
    return found if found.is_terminal else Screen(width=PIPE_WIDTH)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str, wide_only: Sequence[str] = ()
) -> None:
    """Print rows as a table; `empty` says what to do next when there are none.

    Columns of `wide_only` are left out on a terminal narrower than 120 characters; a pipe gets everything.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    console = screen()
    kept = [index for index, name in enumerate(columns) if name not in wide_only or console.width >= WIDE]
    shown = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for index in kept:
        shown.add_column(columns[index], overflow="fold")
    count = 0
    for row in rows:
        shown.add_row(*(Text(cell(row[index])) for index in kept))
        count += 1
    if count:
        console.print(shown)
    else:
        print(empty)


def cell(value: object) -> str:
    """Return the short text of a value: six significant digits, local-free UTC times, a dash for nothing.

    >>> cell(0.123456789), cell(None), cell(True)
    ('0.123457', '-', 'yes')
    """
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(item) for item in value)
    return str(value)


def who(by: str) -> str:
    """Return the name that stands in the audit log: the given one, else the login name."""
    import getpass
    import os

    if by:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
