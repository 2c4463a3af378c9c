"""What a step asks of a run: tries, time, place, room, environment. Checked where it is written."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.pipelines.durations import seconds
from tidewheel.pipelines.sizes import size_in_bytes

SCRIPT = "script"  # isolate="script": the packages stand in the header of the step's own file (PEP 723)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EXECUTOR = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
Errors = type[BaseException] | tuple[type[BaseException], ...]


class StepWishes(TypedDict, total=False):
    """The options of `@step(...)` as they are written; `StepOptions` says what each means."""

    retries: int
    retry_on: Errors
    backoff: float | str
    jitter: float
    timeout: float | str | None
    cache: bool
    verify: float
    side_effect: bool
    on: str | None
    cpus: float
    memory: int | str | None
    gpus: float
    isolate: str | Path | None
    variables: Mapping[str, str]
    secrets: Iterable[str]
    code: Iterable[str | Path]
    ignore: Iterable[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """How a run treats a step. Of all this `code`, `ignore`, `variables` and `isolate` alone bear on the cache key."""

    retries: int = 0  # further tries after the first one failed
    retry_on: tuple[type[BaseException], ...] = (Exception,)  # errors after which there is a further try
    backoff: float = 1.0  # seconds before the first retry; doubled for each further one
    jitter: float = 0.1  # share (0 to 1) by which a pause may be longer or shorter, so that many do not retry at once
    timeout: float | None = None  # seconds after which one try is ended
    cache: bool = True  # whether other runs may be answered with its outputs
    verify: float = 0.0  # share (0 to 1) of cache hits that are executed again and compared
    side_effect: bool = False  # it changes the world outside: never cached, retried only if retries say so
    on: str | None = None  # name of the executor that it runs on; None: where the run says
    cpus: float = 1.0  # processors that one call needs
    memory: int | None = None  # bytes that one call needs at most; None: not said
    gpus: float = 0.0  # graphics processors that one call needs
    isolate: str | None = None  # path of a lock or requirements file, or "script"; None: this environment
    variables: Mapping[str, str] = field(default_factory=dict)  # environment variables while it runs
    secrets: tuple[str, ...] = ()  # names of the secrets that it may read
    code: tuple[str, ...] = ()  # further modules and file patterns whose content counts in the key
    ignore: tuple[str, ...] = ()  # arguments that do not count in the key

    @property
    def reusable(self) -> bool:
        """Whether an earlier execution with the same key may answer a call."""
        return self.cache and not self.side_effect


def step_options(wishes: Mapping[str, Any]) -> StepOptions:
    """Return the options that were wished for; raises NotFound for an unknown one, InvalidInput for an odd value."""
    for name in wishes:
        if name not in _READERS:
            raise NotFound("option of @step", name, _READERS)
    options = StepOptions(**{name: _READERS[name](wished, name) for name, wished in wishes.items()})
    _check_together(options)
    return options


def _check_together(options: StepOptions) -> None:
    if options.on == "inline" and (options.timeout is not None or options.isolate is not None):
        option = "timeout" if options.timeout is not None else "isolate"
        raise InvalidInput(
            f'{option}= cannot be kept with on="inline": that is a function call in this very process.',
            f"Leave one of the two out; a step with {option}= goes to a process of its own.",
        )
    if options.verify and not options.reusable:
        raise InvalidInput(
            f"verify={options.verify:g} has nothing to verify: this step is never answered from the cache.",
            "Leave verify= out, or cache=False and side_effect=True.",
        )
    for name in options.secrets:
        if name in options.variables:
            raise InvalidInput(
                f"{name} stands in variables= and in secrets=.",
                "Keep it in secrets= alone: values of secrets are not code.",
            )


def _count(wished: Any, name: str) -> int:
    if isinstance(wished, bool) or not isinstance(wished, int) or wished < 0:
        raise InvalidInput(f"{name}={wished!r} cannot be.", "Give the number of further tries: 0, 1, 2 ...")
    return wished


def _flag(wished: Any, name: str) -> bool:
    if not isinstance(wished, bool):
        raise InvalidInput(f"{name}={wished!r} is neither True nor False.", f"Write {name}=True or {name}=False.")
    return wished


def _share(wished: Any, name: str) -> float:
    if isinstance(wished, bool) or not isinstance(wished, int | float) or not 0 <= wished <= 1:
        raise InvalidInput(f"{name}={wished!r} is not a share.", "Give a number from 0 to 1, such as 0.1.")
    return float(wished)


def _amount(wished: Any, name: str) -> float:
    number = isinstance(wished, int | float) and not isinstance(wished, bool)
    if not number or not math.isfinite(wished) or wished < 0 or (wished == 0 and name == "cpus"):
        raise InvalidInput(f"{name}={wished!r} is not an amount.", f"Give a number such as {name}=2 or {name}=0.5.")
    return float(wished)


def _errors(wished: Any, name: str) -> tuple[type[BaseException], ...]:
    kinds = wished if isinstance(wished, tuple) else (wished,)
    for kind in kinds:
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise InvalidInput(
                f"{name}={wished!r} is not made of exception types.", f"Write {name}=(ConnectionError, TimeoutError)."
            )
    return kinds


def _executor(wished: Any, name: str) -> str | None:
    if wished is not None and (not isinstance(wished, str) or not _EXECUTOR.fullmatch(wished)):
        raise InvalidInput(
            f"{name}={wished!r} is not the name of an executor.", f'Use {name}="inline", {name}="process" ...'
        )
    return wished


def _place(wished: Any, name: str) -> str | None:
    if wished is not None and (not isinstance(wished, str | Path) or not str(wished)):
        raise InvalidInput(
            f"{name}={wished!r} names no environment.",
            f'Give the path of a lock or requirements file, or {name}="{SCRIPT}" for the header of the step\'s file.',
        )
    return None if wished is None else str(wished)


def _variables(wished: Any, name: str) -> Mapping[str, str]:
    if not isinstance(wished, Mapping):
        raise InvalidInput(f"{name}={wished!r} is not a mapping.", f'Write {name}={{"OMP_NUM_THREADS": "1"}}.')
    for variable, text in wished.items():
        if not isinstance(variable, str) or not _NAME.fullmatch(variable) or not isinstance(text, str):
            raise InvalidInput(
                f"{name} holds {variable!r}: {text!r}, which is no environment variable.",
                "Use names of letters, digits and _, and texts as values.",
            )
    return dict(wished)


def _texts(wished: Any, name: str) -> tuple[str, ...]:
    texts: tuple[Any, ...] = (
        tuple(wished) if isinstance(wished, Iterable) and not isinstance(wished, str | Mapping) else (None,)
    )
    if not all(isinstance(text, str | Path) and str(text) for text in texts):
        raise InvalidInput(f"{name}={wished!r} is not a list of names.", f'Write {name}=("one",) or {name}=["one"].')
    return tuple(dict.fromkeys(str(text) for text in texts))


def _secret_names(wished: Any, name: str) -> tuple[str, ...]:
    names = _texts(wished, name)
    for secret in names:
        if not _NAME.fullmatch(secret):
            raise InvalidInput(
                f"{name} holds {secret!r}, which cannot be the name of a secret.",
                "Use letters, digits and _: the secret is an environment variable of the step too.",
            )
    return names


_READERS: Mapping[str, Callable[[Any, str], Any]] = MappingProxyType(
    {
        "retries": _count,
        "retry_on": _errors,
        "backoff": seconds,
        "jitter": _share,
        "timeout": lambda wished, name: None if wished is None else seconds(wished, name, positive=True),
        "cache": _flag,
        "verify": _share,
        "side_effect": _flag,
        "on": _executor,
        "cpus": _amount,
        "memory": lambda wished, name: None if wished is None else size_in_bytes(wished, name),
        "gpus": _amount,
        "isolate": _place,
        "variables": _variables,
        "secrets": _secret_names,
        "code": _texts,
        "ignore": _texts,
    }
)
