"""Any object as a pickle: only where the user said so, since loading a pickle runs the code it names."""

from __future__ import annotations

import inspect
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from tidewheel.errors import UnsupportedFormat
from tidewheel.models.estimator import class_path, single_threaded
from tidewheel.models.frames import Adapter
from tidewheel.models.model import Model
from tidewheel.models.signature import Signature


class PickleFormat:
    """cloudpickle, with the user's own modules by value, so that the bundle loads where they are not."""

    name = "pickle"

    def candidates(self, model: Model) -> Iterator[bytes]:
        """Yield one encoding; raises UnsupportedFormat without trust, or for what cannot be pickled."""
        if not model.trust:
            raise UnsupportedFormat(
                f"{class_path(model.estimator)} can only be stored as a pickle, which runs code when it is loaded.",
                "Give Model(..., trust=True) if whoever loads it may run your code.",
            )
        yield dump_object(model.estimator)

    def load(self, data: bytes, *, signature: Signature, adapter: Adapter) -> Model:
        """Return a scorer of the unpickled object."""
        return Model.restored(single_threaded(load_object(data)), signature=signature, adapter=adapter, trust=True)


def dump_object(thing: Any) -> bytes:
    """Return a pickle; classes and functions of modules that are not installed travel by value.

    Raises UnsupportedFormat, with the part, for what cannot be pickled: locks, files, sockets, generators.
    """
    modules = _own_modules(thing)
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        data: bytes = cloudpickle.dumps(thing)
    except Exception as error:
        raise UnsupportedFormat(
            f"{class_path(thing)} cannot be pickled: {error}",
            "Keep locks, files and connections out of the fitted object, or open them in predict.",
        ) from error
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)
    return data


def load_object(data: bytes) -> Any:
    """Return the object of a pickle. Runs code: only for bytes whose digest was checked and whose maker is trusted."""
    try:
        return cloudpickle.loads(data)
    except Exception as error:
        raise UnsupportedFormat(
            f"This pickle cannot be loaded: {error}", "Install the packages and the Python of the bundle's lock."
        ) from error


def _own_modules(thing: Any) -> list[ModuleType]:
    """Modules of the object's class and its pipeline parts that lie outside the installed packages."""
    parts = [thing, *(step for _, step in getattr(thing, "steps", ()))]
    names = {type(part).__module__ for part in parts} - {"__main__", "builtins"}
    found = [sys.modules[name] for name in sorted(names) if name in sys.modules]
    return [module for module in found if _is_own(module)]


def _is_own(module: ModuleType) -> bool:
    file = inspect.getsourcefile(module) if getattr(module, "__file__", None) else None
    if file is None:
        return False
    paths = sysconfig.get_paths()
    installed = [*site.getsitepackages(), site.getusersitepackages(), paths["purelib"], paths["platlib"]]
    standard = paths["stdlib"]
    return not any(Path(file).is_relative_to(place) for place in (*installed, standard))
