"""Read words of the command line that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tidewheel.errors import InvalidInput

Target = Annotated[str, typer.Argument(help="FILE.py:PIPELINE or package.module:PIPELINE.")]
Parameters = Annotated[
    list[str] | None, typer.Option("--param", "-p", help="A parameter as name=value; several are allowed.")
]
ParameterFile = Annotated[
    str, typer.Option("--params", help="A .toml or .json file of parameters; --param wins over it.")
]


def parsed_pairs(pairs: list[str] | None) -> dict[str, str]:
    """Return the values of `--param name=value` words; raises InvalidInput for one that is not."""
    found: dict[str, str] = {}
    for pair in pairs or ():
        name, mark, value = pair.partition("=")
        if not mark or not name.isidentifier():
            raise InvalidInput(f"--param {pair!r} is not name=value.", "Write it like: --param depth=8")
        found[name] = value
    return found


def parameters_from(pairs: list[str] | None, file: str) -> dict[str, Any]:
    """Return the parameters of a file, and over them those of the command line."""
    if not file:
        return dict(parsed_pairs(pairs))
    from tidewheel.pipelines.parameter_file import read_parameters

    return read_parameters(Path(file)) | parsed_pairs(pairs)
