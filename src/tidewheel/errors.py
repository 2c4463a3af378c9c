"""The error family: one root, situations by name, each message with its mend."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class TidewheelError(Exception):
    """Root of every error that tidewheel raises on purpose.

    `what` says what happened, with the values; `mend` says how to put it right.
    """

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(what, mend)
        self.what = what
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.what}\n  {self.mend}"


class NotFound(TidewheelError, LookupError):
    """A named thing does not exist; near names and what does exist are listed."""

    def __init__(self, kind: str, name: str, known: Iterable[str] = (), mend: str = "") -> None:
        names = sorted(set(known))
        near = get_close_matches(name, names, n=3, cutoff=0.6)
        if near:
            hint = f"Did you mean {' or '.join(repr(item) for item in near)}?"
        elif names:
            listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
            hint = f"These exist: {listed}."
        else:
            hint = "" if mend else f"There is no {kind} yet."
        super().__init__(f"There is no {kind} named {name!r}.", f"{hint} {mend}".strip())
        self.kind = kind
        self.name = name
        self.known = names


class InvalidInput(TidewheelError, ValueError):
    """A value given by the caller cannot be used."""


class Conflict(TidewheelError, RuntimeError):
    """The wish contradicts what is stored, or somebody else holds it."""


class StaleOwner(Conflict):
    """A process that has lost its claim tried to write; its fencing token is old."""


class AlreadyRunning(Conflict):
    """A second process asked for what one process alone may hold."""


class ValidationFailed(TidewheelError, ValueError):
    """Data do not fit their schema; `findings` holds each deviation."""

    def __init__(self, what: str, mend: str, findings: Sequence[object] = ()) -> None:
        super().__init__(what, mend)
        self.findings = tuple(findings)


class CorruptBlob(TidewheelError, OSError):
    """Stored bytes no longer match their digest."""


class MissingBlob(TidewheelError, LookupError):
    """No bytes are stored under that digest."""


class StorageUnavailable(TidewheelError, OSError):
    """The disk is full, the folder read-only, or the database out of reach; `passing` when waiting may help."""

    def __init__(self, what: str, mend: str, *, passing: bool = False) -> None:
        super().__init__(what, mend)
        self.passing = passing


class MissingExtra(TidewheelError, ImportError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"The package {package!r} is not installed.",
            f"Install it with: pip install 'tidewheel[{extra}]'",
        )
        self.package = package
        self.extra = extra


class StepFailed(TidewheelError, RuntimeError):
    """A step raised, or its process died; `step`, `run_id` and `log` (its file) say where to look."""

    def __init__(self, what: str, mend: str, *, step: str = "", run_id: str = "", log: str = "") -> None:
        super().__init__(what, mend)
        self.step = step
        self.run_id = run_id
        self.log = log


class StepTimeout(StepFailed, TimeoutError):
    """A step ran longer than its timeout and was ended."""


class UnusableScores(InvalidInput):
    """A model's answers cannot be judged: not finite, no class of its own, or not one per row."""


class UnsupportedFormat(TidewheelError, NotImplementedError):
    """A model cannot be written in a format, or this installation cannot run what is written."""


class RunFailed(TidewheelError, RuntimeError):
    """The body of a pipeline raised; `run_id` names the run."""

    def __init__(self, what: str, mend: str, *, run_id: str = "") -> None:
        super().__init__(what, mend)
        self.run_id = run_id


class Unhashable(TidewheelError, TypeError):
    """A value has no content that could be digested the same way twice."""


class TooLarge(InvalidInput):
    """A request holds more than one request may."""


class NotReady(TidewheelError, RuntimeError):
    """What was asked for is not there yet; asking again later helps."""


class Overloaded(TidewheelError, RuntimeError):
    """More work waits than can be done in time; `seconds` says after which to ask again."""

    def __init__(self, what: str, mend: str, *, seconds: int = 1) -> None:
        super().__init__(what, mend)
        self.seconds = seconds


class ModelFailed(TidewheelError, RuntimeError):
    """A served model could not score a request that fits its signature."""


class EnvironmentUnavailable(TidewheelError, RuntimeError):
    """An environment cannot be made again: its Python or a package of its lock is not to be had."""


class Unauthorized(TidewheelError, PermissionError):
    """A caller has not shown that it may do what it asks for."""


class Forbidden(TidewheelError, PermissionError):
    """A caller is known, and may not do what it asks for."""
