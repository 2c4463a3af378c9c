"""What counts beside the code that a function reaches: files and modules that its author names, an environment."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from tidewheel.errors import InvalidInput
from tidewheel.fingerprint.canonical import combine
from tidewheel.fingerprint.code import module_parts
from tidewheel.fingerprint.files import path_digest

SCRIPT = "script"  # the environment stands in the header of the function's own file (PEP 723)
_HEADER = re.compile(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$")


def named_code(function: Callable[..., Any], entries: Iterable[str]) -> dict[str, str]:
    """Return a digest for each module and file that an author named as part of a function's code.

    An entry is an importable module ("bikes.plugins") or a pattern of files ("sql/*.sql"), looked for beside the
    function's file and then in the working folder.

    Raises InvalidInput for an entry that is neither.
    """
    found: dict[str, str] = {}
    for entry in entries:
        files = matching(function, entry)
        if files:
            found |= {f"file {label}": path_digest(path) for label, path in files.items()}
        else:
            found |= module_parts(_module(entry))
    return found


def environment_digest(function: Callable[..., Any], isolate: str) -> str:
    """Return the digest of what an isolated environment is made from: a lock file's bytes, or a PEP 723 header.

    Raises InvalidInput when there is no such file or header.
    """
    if isolate == SCRIPT:
        return combine("script", [script_header(function).encode()]).hex()
    files = matching(function, isolate)
    if not files:
        raise InvalidInput(
            f"isolate={isolate!r} names no file beside {_folder(function)} or in {Path.cwd()}.",
            "Write the lock first (uv pip compile -o requirements.lock), or give its path.",
        )
    return combine("lock", [path_digest(path).encode() for path in files.values()]).hex()


def matching(function: Callable[..., Any], pattern: str) -> Mapping[str, Path]:
    """Return the files of a pattern by the name that is theirs on every machine: their path below its folder."""
    for folder in dict.fromkeys((_folder(function), Path.cwd())):
        base, rest = (Path(Path(pattern).anchor), pattern[1:]) if Path(pattern).is_absolute() else (folder, pattern)
        found = sorted(path for path in base.glob(rest) if path.is_file()) if rest else []
        if found:
            return {path.relative_to(base).as_posix(): path for path in found}
    return {}


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, ValueError, TypeError) as error:
        raise InvalidInput(
            f"code={name!r} is no file beside the step and no module that can be imported: {error}.",
            'Name modules ("bikes.plugins") or file patterns ("sql/*.sql").',
        ) from error


def script_header(function: Callable[..., Any]) -> str:
    """Return the PEP 723 header of a function's file, as comment lines; raises InvalidInput where there is none."""
    file = _file(function)
    found = _HEADER.search(Path(file).read_text("utf-8")) if file else None
    if found is None:
        raise InvalidInput(
            f'isolate="script" needs a header in {file or "a file"}, and there is none.',
            "Begin the file with: # /// script, # dependencies = [...], # /// (PEP 723).",
        )
    return found["content"]


def _folder(function: Callable[..., Any]) -> Path:
    file = _file(function)
    return Path(file).resolve().parent if file else Path.cwd()


def _file(function: Callable[..., Any]) -> str:
    inner = inspect.unwrap(function)
    file = getattr(getattr(inner, "__code__", None), "co_filename", "")
    return file if file and not file.startswith("<") else ""
