"""The project's source on its way to other machines: the modules that a step needs, as one zip by its content."""

from __future__ import annotations

import importlib.util
import io
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from tidewheel.errors import InvalidInput
from tidewheel.fingerprint import source
from tidewheel.fingerprint.besides import matching
from tidewheel.fingerprint.place import place_of
from tidewheel.pipelines.step import Step

LIMIT = 20 * 1024 * 1024  # bytes of source; more is data that went astray
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same time in every zip, so that the same files are the same bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Source files of a project."""

    data: bytes  # the zip
    files: tuple[str, ...]  # names inside it, as they stand below a folder of sys.path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Module:
    name: str  # full dotted name
    file: str  # where its source is; "" for a folder without __init__.py
    package: bool  # whether other modules stand below it


def pack(step: Step[..., Any], *, limit: int = LIMIT) -> Bundle:
    """Return the project modules that a step's module imports, directly or not, and those that `code=` names.

    Installed packages and Python itself are not shipped: the worker has them, and their versions are compared there.

    Raises InvalidInput when it all is longer than `limit` bytes.
    """
    files: dict[str, Path] = {}
    for module in _reached(_roots(step)):
        if module.file:
            files[_inside(module)] = Path(module.file)
        for parent in _parents(module.name):
            files.setdefault("/".join((*parent.split("."), "__init__.py")), Path())
    for pattern in step.options.code:
        files |= matching(step.__wrapped__, pattern)
    read = {name: path.read_bytes() if path.name else b"" for name, path in sorted(files.items())}
    size = sum(map(len, read.values()))
    if size > limit:
        longest = max(read, key=lambda name: len(read[name]))
        raise InvalidInput(
            f"The source that {step.name} needs has {size} bytes, more than {limit} ({longest} is the longest file).",
            "Keep data out of the source and of code=, or raise bundle_limit in the executor's table.",
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in read.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return Bundle(data=buffer.getvalue(), files=tuple(read))


def unpack(data: bytes, folder: Path) -> None:
    """Lay a bundle out in a folder."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.extractall(folder)  # the bytes were checked against the digest in the order


def inside(module: str, file: str) -> str:
    """Return where a module of the project stands in a bundle.

    >>> inside("bikes.features", "src/bikes/features.py")
    'bikes/features.py'
    """
    return _inside(_Module(name=module, file=file, package=Path(file).stem == "__init__"))


def _roots(step: Step[..., Any]) -> set[str]:
    """Return the modules to begin with; a step of a script or notebook brings what its namespace holds."""
    function: FunctionType = step.__wrapped__  # type: ignore[assignment] # a step wraps nothing else
    if function.__module__ != "__main__":
        return {function.__module__, *step.options.code}
    found = set(step.options.code)
    for value in (*function.__globals__.values(), *(cell.cell_contents for cell in function.__closure__ or ())):
        home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(home, str) and home != "__main__":
            found.add(home)
    return found


def _reached(names: Iterable[str]) -> Iterator[_Module]:
    queue, seen = list(names), set[str]()
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        module = _find(name)
        if module is None:
            continue
        yield module
        queue += [*_parents(name), *_imported(module)]


def _find(name: str) -> _Module | None:
    """Return a module of the project, without importing it."""
    loaded = sys.modules.get(name)
    file = getattr(loaded, "__file__", None)
    package = hasattr(loaded, "__path__")
    if loaded is None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            spec = None
        if spec is None:
            return None
        file, package = spec.origin, spec.submodule_search_locations is not None
    if file is None or not Path(file).is_file() or place_of(name, file).kind != "project":
        return None
    return _Module(name=name, file=file, package=package)


def _imported(module: _Module) -> set[str]:
    parsed = source.source_of(module.file)
    if parsed is None:
        return set()
    package = module.name if module.package else module.name.rpartition(".")[0]
    found: set[str] = set()
    for target, level, name in source.imports(parsed.tree):
        try:
            full = importlib.util.resolve_name("." * level + target, package) if level else target
        except ImportError:
            continue  # a script outside of a package that would fail at this import
        found |= {full, f"{full}.{name}"} if name and name != "*" else {full}
        found |= set(_parents(full))
    return found


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _inside(module: _Module) -> str:
    path = module.name.split(".")
    suffix = "".join(Path(module.file).suffixes) or ".py"
    return "/".join([*path, "__init__" + suffix]) if module.package else "/".join(path) + suffix
