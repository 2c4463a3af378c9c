"""Parameters from a file: TOML or JSON, one value per name."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from tidewheel.errors import InvalidInput, NotFound


def read_parameters(path: Path) -> dict[str, Any]:
    """Return the parameters of a run that a .toml or .json file holds, by name.

    Raises NotFound for a missing file, InvalidInput for another ending, what cannot be read, and a JSON file that
    holds no object.
    """
    readers = {".toml": tomllib.loads, ".json": json.loads}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InvalidInput(f"{path} is neither .toml nor .json.", "Write parameters as TOML (depth = 8) or JSON.")
    try:
        found = reader(path.read_text("utf-8"))
    except FileNotFoundError as error:
        near = [str(item) for item in path.parent.glob("*") if item.suffix in readers] if path.parent.is_dir() else []
        raise NotFound("file", str(path), near, mend="" if near else f"Looked in {path.parent.resolve()}.") from error
    except (OSError, ValueError) as error:  # both readers' errors are ValueErrors, and so is wrong UTF-8
        raise InvalidInput(f"{path} cannot be read: {error}.", "Correct the line that it names.") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"{path} holds a {type(found).__name__}, not an object.", 'Write it like {"depth": 8}.')
    return found
