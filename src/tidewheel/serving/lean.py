"""Keep out of a worker's memory what it does not use: a package is loaded when somebody asks it for something."""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_LOCK = threading.RLock()


class _Later(ModuleType):
    """Stands where a package would, and turns into it at the first attribute that is asked for.

    The standard library's LazyLoader does not last: in Python 3.11 the next `import` of the package loads it.
    """

    def __getattr__(self, attribute: str) -> Any:
        with _LOCK:
            if sys.modules.get(self.__name__) is self:
                del sys.modules[self.__name__]
            real = import_module(self.__name__)
            self.__dict__.update(real.__dict__)
        return getattr(real, attribute)


def load_later(*names: str) -> None:
    """Let `import name` cost nothing until an attribute of the package is read; for packages not loaded yet.

    Polars alone takes 33 MB and 0.1 s; a worker that serves ONNX never asks it for anything.
    """
    for name in names:
        if name not in sys.modules and (spec := find_spec(name)) is not None:
            module = _Later(name)
            module.__spec__ = spec
            sys.modules[name] = module


def is_loaded(name: str) -> bool:
    """Whether a package was really loaded.

    >>> is_loaded("sys")
    True
    """
    return not isinstance(sys.modules.get(name), _Later | None)
