"""Where code comes from: the project itself, an installed distribution, or Python."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

STDLIB = str(Path(os.__file__).parent)  # folder of the standard library
_SITES = frozenset({"site-packages", "dist-packages"})
_PROJECT = re.compile(r"[^A-Za-z0-9._-].*")  # what follows the name in a requirement
_TOLD = "__tidewheel_label__"  # attribute of a worker's `__main__`: what the run's process calls its own
_SUFFIXES = (".dist-info", ".egg-info")
# Import names that differ from the distribution's; any other one is looked up in the RECORD files.
_KNOWN_NAMES = {"sklearn": "scikit-learn", "PIL": "pillow", "yaml": "pyyaml", "dateutil": "python-dateutil"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a module belongs."""

    kind: Literal["project", "distribution", "python"]  # what decides when it changed: its source, its version, Python
    label: str = ""  # for a distribution "name==version"


def place_of(module: str, file: str | None) -> Place:
    """Say where a module belongs, by its name and its file (None for built-in modules).

    >>> place_of("json", os.__file__).kind
    'python'
    """
    top = module.partition(".")[0]
    if top == "tidewheel":
        return Place(kind="distribution", label=distribution_label(top))
    if file and _SITES.intersection(Path(file).parts):
        return Place(kind="distribution", label=distribution_label(top))
    in_python = file is None or file.startswith(("<frozen", STDLIB))
    if in_python and (top in sys.stdlib_module_names or top in sys.builtin_module_names):
        return Place(kind="python")
    return Place(kind="project")


def module_place(module: str) -> Place:
    """Say where a loaded module belongs."""
    loaded = sys.modules.get(module)
    return place_of(module, getattr(loaded, "__file__", None))


def module_label(module: str) -> str:
    """Return the name that identifies a module in any process: a script run as `__main__` is named after its file.

    >>> module_label("bikes.features")
    'bikes.features'
    """
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    told = getattr(main, _TOLD, None)
    if told:
        return str(told)
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None and spec.name:
        return str(spec.name)
    return Path(file).stem if file else "__main__"


def stand_in(label: str) -> None:
    """Have this process call its `__main__` as the process does whose code it executes."""
    setattr(sys.modules["__main__"], _TOLD, label)


@cache
def installed() -> dict[str, str]:
    """Return every installed distribution with its version, by normalised name; read once per process."""
    found: dict[str, str] = {}
    for folder in sys.path:
        for name in _entries(folder):
            if name.endswith(_SUFFIXES):
                project, _, version = name.rpartition(".")[0].partition("-")
                found.setdefault(normalised(project), version.split("-py")[0])
    return dict(sorted(found.items()))


def normalised(name: str) -> str:
    """Return a distribution's name in the one spelling: lower case, hyphens.

    >>> normalised("Scikit_Learn")
    'scikit-learn'
    """
    return name.lower().replace("_", "-").replace(".", "-")


@cache
def distribution_label(top: str) -> str:
    """Return `name==version` of the distribution that holds a top-level import name."""
    known = installed()
    name = normalised(_KNOWN_NAMES.get(top, top))
    if name not in known:
        name = _recorded().get(top, name)
    return f"{name}=={known.get(name, 'unknown')}"


@cache
def requirements(name: str) -> tuple[str, ...]:
    """Return the installed distributions that one needs, however far, by normalised name; extras do not count.

    A step that calls scikit-learn computes with numpy and scipy: their versions count as well.
    """
    found: set[str] = set()
    waiting = [name]
    while waiting:
        new = _direct(waiting.pop()) - found
        found |= new
        waiting += new
    return tuple(sorted(found - {name}))


def metadata_folder(name: str) -> Path | None:
    """Return where the metadata of an installed distribution are; None for one that is not installed."""
    return _folders().get(normalised(name))


@cache
def _direct(name: str) -> frozenset[str]:
    folder = _folders().get(name)
    if folder is None:
        return frozenset()
    try:
        text = (folder / "METADATA").read_text("utf-8", "replace")
    except OSError:
        return frozenset()  # an old format that does not say
    head = text.partition("\n\n")[0]
    named = (line.partition(":")[2] for line in head.splitlines() if line.startswith("Requires-Dist:"))
    wanted = {normalised(_PROJECT.sub("", line.strip())) for line in named if "extra ==" not in line}
    return frozenset(wanted & installed().keys())


@cache
def _folders() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in sys.path:
        for name in _entries(folder):
            if name.endswith(".dist-info"):
                found.setdefault(normalised(name.partition("-")[0]), Path(folder, name))
    return found


@cache
def _recorded() -> dict[str, str]:
    """Map import names to distributions from all RECORD files; a few hundredths of a second, so only on need."""
    found: dict[str, str] = {}
    folders = [Path(folder, name) for folder in sys.path for name in _entries(folder) if name.endswith(".dist-info")]
    for folder in folders:
        record = folder / "RECORD"
        lines = record.read_text("utf-8", "replace").splitlines() if record.is_file() else []
        for line in lines:
            found.setdefault(line.split("/", 1)[0].partition(".")[0], normalised(folder.name.partition("-")[0]))
    return found


def _entries(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder or "."))  # noqa: PTH208 - names alone are wanted, and this is four times faster
    except OSError:
        return []  # sys.path may name folders and archives that cannot be listed
