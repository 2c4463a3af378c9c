"""The project's own modules that this process has imported."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tidewheel.fingerprint.place import STDLIB, place_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A module of the project."""

    name: str  # as it was imported
    file: Path  # its source
    root: Path  # the folder on sys.path that it was found in


def imported_modules() -> list[Imported]:
    """Return the modules that belong neither to Python nor to an installed distribution, by file."""
    found: dict[Path, Imported] = {}
    for name, module in tuple(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not file.endswith(".py") or "site-packages" in file or file.startswith(STDLIB):
            continue  # told apart by text alone: a process has a thousand modules and a handful are the project's
        if place_of(name, file).kind != "project":
            continue
        path = Path(file).resolve()
        if path not in found or found[path].name == "__main__":
            found[path] = Imported(name=name, file=path, root=_root(name, path))
    return sorted(found.values(), key=lambda module: module.file)


def _root(name: str, file: Path) -> Path:
    """Return the folder that an import of this name began in: `src` for `bikes.features` in `src/bikes/features.py`."""
    parts = name.split(".")
    depth = len(parts) if file.name == "__init__.py" else len(parts) - 1
    root = file.parents[min(depth, len(file.parents) - 1)]
    expected = root.joinpath(*parts, "__init__.py") if file.name == "__init__.py" else root.joinpath(*parts)
    return root if expected in (file, file.with_suffix("")) else file.parent
