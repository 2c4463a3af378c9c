"""`@step`: a plain typed function that a run journals, caches and retries."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, ParamSpec, TypeVar, cast, overload

from tidewheel.errors import InvalidInput
from tidewheel.fingerprint.place import module_label
from tidewheel.pipelines.active import recorder
from tidewheel.pipelines.durations import seconds

P = ParamSpec("P")
R = TypeVar("R")
Where = Literal["inline", "process"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """How a run treats a step; none of it counts in the cache key."""

    retries: int = 0  # further tries after the first one failed
    backoff: float = 1.0  # seconds before the first retry; doubled for each further one
    timeout: float | None = None  # seconds after which one try is ended
    cache: bool = True  # whether other runs may be answered with its outputs
    side_effect: bool = False  # it changes the world outside: never cached, retried only if retries say so
    on: Where | None = None  # where it runs; None: where the run says

    @property
    def reusable(self) -> bool:
        """Whether an earlier execution with the same key may answer a call."""
        return self.cache and not self.side_effect


class Step(Generic[P, R]):
    """A function marked `@step`. Called outside a run it is just the function."""

    __name__: str  # as the function's

    def __init__(self, function: Callable[P, R], options: StepOptions) -> None:
        functools.update_wrapper(self, function)
        self.__wrapped__ = function
        self.options = options
        self._signature = inspect.signature(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, or inside a pipeline's run hand the call to the run and return a handle at once."""
        taker = recorder()
        if taker is None:
            return self.__wrapped__(*args, **kwargs)
        return cast("R", taker.call(self, self.bind(args, kwargs)))

    def map(self, items: Iterable[Any], **shared: Any) -> list[R]:
        """Call the step once for each item, given as its first argument; inside a run they go side by side.

        >>> @step
        ... def double(x: int, by: int = 2) -> int:
        ...     return x * by
        >>> double.map([1, 2, 3], by=10)
        [10, 20, 30]
        """
        call = cast("Callable[..., R]", self)
        return [call(item, **shared) for item in items]

    @property
    def name(self) -> str:
        """The function's own name."""
        return self.__wrapped__.__qualname__.rpartition(".")[2]

    @property
    def identity(self) -> str:
        """Module and qualified name: what the step is called across runs and processes."""
        return f"{module_label(self.__wrapped__.__module__)}.{self.__wrapped__.__qualname__}".replace(".<locals>", "")

    @functools.cached_property
    def parts(self) -> int | None:
        """How many artifacts a call gives: the items of an annotated `tuple[A, B]`, None for a single one."""
        annotation = _return_annotation(self.__wrapped__)
        if typing.get_origin(annotation) is not tuple:
            return None
        items = typing.get_args(annotation)
        return None if not items or Ellipsis in items or items == ((),) else len(items)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by name, defaults filled in; raises TypeError as the function would."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}() {error}") from None
        bound.apply_defaults()
        return dict(bound.arguments)

    def apply(self, arguments: Mapping[str, Any]) -> R:
        """Call the function with arguments by name, as `bind` gave them."""
        bound = inspect.BoundArguments(self._signature, dict(arguments))
        return self.__wrapped__(*bound.args, **bound.kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind like a function does; the object then is the step's first input."""
        if instance is None:
            return self
        return types.MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<step {self.identity}>"


def _return_annotation(function: Callable[..., Any]) -> Any:
    annotated = types.SimpleNamespace(__annotations__={"return": function.__annotations__.get("return")})
    try:
        return typing.get_type_hints(annotated, globalns=function.__globals__).get("return")
    except (NameError, TypeError, AttributeError, SyntaxError):
        return None  # a name that exists for type checkers only; one artifact then


@overload
def step(function: Callable[P, R]) -> Step[P, R]: ...
@overload
def step(
    function: None = None,
    *,
    retries: int = 0,
    backoff: float | str = 1.0,
    timeout: float | str | None = None,
    cache: bool = True,
    side_effect: bool = False,
    on: Where | None = None,
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(
    function: Callable[P, R] | None = None,
    *,
    retries: int = 0,
    backoff: float | str = 1.0,
    timeout: float | str | None = None,
    cache: bool = True,
    side_effect: bool = False,
    on: Where | None = None,
) -> Step[P, R] | Callable[[Callable[P, R]], Step[P, R]]:
    """Mark a function as a step of pipelines.

    `retries` further tries after a failure, the first `backoff` seconds later, each further one after twice
    the time; `timeout` ends one try (seconds, or "90s", "10m", "2h") by ending its process; `cache=False`
    executes it in every run; `side_effect=True` says that it changes the world outside: it is never cached;
    `on` pins it to "inline" (this process) or "process" (a child).

    >>> @step(retries=2, timeout="10m")
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> double(4)
    8

    Raises InvalidInput for options that cannot be.
    """
    if isinstance(retries, bool) or retries < 0:
        raise InvalidInput(f"retries={retries!r} cannot be.", "Give the number of further tries: 0, 1, 2 ...")
    if on not in (None, "inline", "process"):
        raise InvalidInput(f"on={on!r} is not an executor.", 'Use on="inline" or on="process".')
    if on == "inline" and timeout is not None:
        raise InvalidInput(
            'A timeout cannot be kept with on="inline": nothing can end a function of this process.',
            "Leave one of the two out; a step with a timeout goes to a child process.",
        )
    options = StepOptions(
        retries=retries,
        backoff=seconds(backoff, "backoff"),
        timeout=None if timeout is None else seconds(timeout, "timeout", positive=True),
        cache=cache,
        side_effect=side_effect,
        on=on,
    )
    if function is None:
        return lambda marked: _made(marked, options)
    return _made(function, options)


def _made(function: Callable[P, R], options: StepOptions) -> Step[P, R]:
    if not inspect.isfunction(function) or function.__name__ == "<lambda>":
        raise InvalidInput(f"{function!r} cannot be a step.", "Put @step above a plain function: def name(rows) -> ...")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise InvalidInput(
            f"{function.__qualname__} is async or a generator, which cannot be journaled.",
            "Return the whole value; inside, call asyncio.run(...) or list(...).",
        )
    return Step(function, options)
