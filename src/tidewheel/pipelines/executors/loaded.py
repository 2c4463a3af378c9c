"""The steps that a worker has loaded: each once, with the digest of its code."""

from __future__ import annotations

import hashlib
import linecache
import pickle
from dataclasses import dataclass
from typing import Any

from tidewheel.fingerprint.code import CodeDigest, code_digest
from tidewheel.pipelines.executors.orders import Order, Parcel
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.target import load_step


@dataclass(frozen=True, slots=True)
class _Loaded:
    step: Step[..., Any]  # as this process has it
    closure: CodeDigest  # its code when it was loaded


class LoadedSteps:
    """Steps by the digest of their parcel."""

    def __init__(self) -> None:
        self._known: dict[str, _Loaded] = {}

    def step(self, parcel: Parcel) -> Step[..., Any]:
        """Return the step of a parcel, loaded now unless it has been; raises whatever its modules raise."""
        return self._of(parcel).step

    def code(self, order: Order) -> str:
        """Return the digest of its code here; where only the project's part counts and is the same, the run's."""
        closure = self._of(order.parcel).closure
        if order.parcel.project and project_digest(closure) == order.parcel.project:
            return order.code
        return closure.digest

    def _of(self, parcel: Parcel) -> _Loaded:
        found = self._known.get(parcel.digest)
        if found is None:
            for name, text in parcel.sources.items():
                linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
            given = pickle.loads(parcel.data)  # noqa: S301 - from the run, over its own pipe
            step: Step[..., Any] = given if parcel.by_value else load_step(*given)
            found = self._known[parcel.digest] = _Loaded(step, code_digest(step))
        return found


def project_digest(closure: CodeDigest) -> str:
    """Return the digest of the project's own part of a code closure: neither Python nor what is installed counts."""
    parts = sorted(f"{name} {part}" for name, part in closure.parts.items() if _is_projects(name, part))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _is_projects(name: str, part: str) -> bool:
    return name != "python" and "==" not in part and part != "not importable"
