"""Load what `bikes.py:bikes` or `package.module:name` names: a pipeline, a step, a loop."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.pipelines.logs import headline
from tidewheel.pipelines.pipeline import Pipeline
from tidewheel.pipelines.step import Step


def load_target(target: str) -> Any:
    """Return the object that `FILE.py:NAME` or `package.module:NAME` names.

    Without `:NAME` the only pipeline of the file is meant. The file's folder is put on `sys.path`, as Python does
    for a script, so that it can import its neighbours.

    Raises NotFound for a missing file, module or name (near names are suggested), InvalidInput when the file does
    not import or names no pipeline.
    """
    place, _, name = target.partition(":")
    if not place:
        raise InvalidInput(f"{target!r} names no file.", "Write it like bikes.py:bikes or package.module:bikes.")
    module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    if not name:
        return _only_pipeline(module, target)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise NotFound(f"object in {place}", name, _public(module))
        found = getattr(found, part)
    return found


def load_step(module: str, name: str, file: str | None) -> Step[..., Any]:
    """Return a step by its module, qualified name and file, as a worker process does.

    Raises NotFound when the module has no step of that name.
    """
    loaded = sys.modules.get(module) or _find(module, file)
    found: Any = loaded
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Step):
        known = [key for key, item in vars(loaded).items() if isinstance(item, Step)]
        raise NotFound(f"step in {module}", name, known, "The file was changed after the run began.")
    return found


def _find(module: str, file: str | None) -> ModuleType:
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError:
        if file is None:
            raise
        return _execute(module, Path(file))
    same = file is None or Path(getattr(loaded, "__file__", None) or "").resolve() == Path(file).resolve()
    return loaded if same else _execute(module, Path(file or ""))


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        near = [str(found) for found in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise NotFound("file", str(path), near, mend="" if near else f"Looked in {path.parent.resolve()}.")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    loaded = sys.modules.get(path.stem)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path.resolve()):
        return loaded
    return _execute(path.stem, path.resolve())


def _load_module(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise _broken(name, error) from error
        raise NotFound(
            "module", name, mend="Give the path of a file (bikes.py:bikes), or start where it is."
        ) from error
    except Exception as error:  # whatever the user's module raises while it is imported
        raise _broken(name, error) from error


def _execute(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InvalidInput(f"{path} is not a Python file.", "Give a file that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file raises while it is imported
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise _broken(str(path), error) from error
    return module


def _broken(place: str, error: Exception) -> InvalidInput:
    where = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
    mend = f"Mend it; python -c 'import {Path(place).stem}' shows the whole traceback."
    if isinstance(error, ModuleNotFoundError):
        mend = f"Install it: pip install {error.name}" if error.name else mend
    return InvalidInput(f"{place} cannot be imported: {headline(error)}{where}.", mend)


def _only_pipeline(module: ModuleType, target: str) -> Any:
    found = {name: item for name, item in vars(module).items() if isinstance(item, Pipeline)}
    if len(found) != 1:
        names = ", ".join(sorted(found)) or "none"
        raise InvalidInput(f"{target} has not one pipeline but: {names}.", f"Name the one you mean: {target}:NAME")
    return next(iter(found.values()))


def _public(module: ModuleType) -> list[str]:
    """Return the names that can be meant: pipelines, steps, loops; without any, all that is not private."""
    public = {name: item for name, item in vars(module).items() if not name.startswith("_")}
    marked = [name for name, item in public.items() if type(item).__module__.startswith("tidewheel.")]
    return marked or list(public)
