"""The steps that a worker has loaded: each once, with the digest of its code."""

from __future__ import annotations

import hashlib
import linecache
import pickle
from dataclasses import dataclass
from typing import Any

from tidewheel.fingerprint.code import CodeDigest, code_digest
from tidewheel.pipelines.executors.orders import Order, Parcel
from tidewheel.pipelines.executors.untouched import still_untouched
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.target import load_step


@dataclass(frozen=True, slots=True)
class _Loaded:
    step: Step[..., Any]  # as this process has it
    closure: CodeDigest  # its code when it was loaded
    untouched: bool  # whether it was loaded from the files that the run has loaded


class LoadedSteps:
    """Steps by the digest of their parcel."""

    def __init__(self) -> None:
        self._known: dict[str, _Loaded] = {}

    def step(self, parcel: Parcel) -> Step[..., Any]:
        """Return the step of a parcel, loaded now unless it has been; raises whatever its modules raise."""
        return self._of(parcel).step

    def code(self, order: Order) -> str:
        """Return the digest of its code here; where only the project's part counts and is the same, the run's.

        With other packages, or another Python, the same source may have another digest: then its files have to be
        the ones that the run has loaded. The packages are in the key already.
        """
        loaded = self._of(order.parcel)
        same = project_digest(loaded.closure) == order.parcel.project or loaded.untouched
        return order.code if order.parcel.project and same else loaded.closure.digest

    def _of(self, parcel: Parcel) -> _Loaded:
        found = self._known.get(parcel.digest)
        if found is None:
            for name, text in parcel.sources.items():
                linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
            given = pickle.loads(parcel.data)  # noqa: S301 - from the run, over its own pipe
            step: Step[..., Any] = given if parcel.by_value else load_step(*given)
            found = self._known[parcel.digest] = _Loaded(step, code_digest(step), still_untouched(parcel.files))
        return found


def project_digest(closure: CodeDigest) -> str:
    """Return the digest of the project's own part of a code closure: neither Python nor what is installed counts."""
    parts = sorted(f"{name} {part}" for name, part in closure.parts.items() if _is_projects(name, part))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _is_projects(name: str, part: str) -> bool:
    return name != "python" and "==" not in part and part != "not importable"
