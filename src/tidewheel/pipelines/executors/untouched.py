"""Which source files are as they were when they were loaded: then any process that loads them has the same code."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tidewheel.fingerprint.code import CodeDigest
from tidewheel.fingerprint.place import module_place

_LOADED = time.time()  # a fork is younger than what was loaded before it


def untouched_files(closure: CodeDigest) -> dict[str, int]:
    """Return the project's files that a closure reaches, with their times in ns.

    It is {} when one of them was written since this process began.

    >>> from tidewheel.fingerprint.code import code_digest
    >>> untouched_files(code_digest(untouched_files))
    {}
    """
    found: dict[str, int] = {}
    begun = min(_LOADED, _begun()) * 1e9
    for file in {_file_of(name) for name in closure.parts} - {""}:
        try:
            found[file] = Path(file).stat().st_mtime_ns
        except OSError:
            return {}
        if found[file] >= begun:
            return {}  # it may have been edited since it was loaded
    return found


def still_untouched(files: Mapping[str, int]) -> bool:
    """Say whether files, at least one, still have these times."""
    try:
        return bool(files) and all(Path(file).stat().st_mtime_ns == at for file, at in files.items())
    except OSError:
        return False


def _file_of(part: str) -> str:
    """Return the file of the project's module that a part of a closure belongs to; "" for none."""
    names = part.split(".")
    for length in range(len(names), 0, -1):
        module = ".".join(names[:length])
        if module in sys.modules:
            is_projects = module_place(module).kind == "project"
            return str(getattr(sys.modules[module], "__file__", None) or "") if is_projects else ""
    return ""


def _begun() -> float:
    """Return when this process began, in seconds since 1970; 0 where that cannot be told."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, AttributeError):
        return 0.0
