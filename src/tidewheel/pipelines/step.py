"""`@step`: a plain typed function that a run journals, caches and retries."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Literal, ParamSpec, TypeVar, Unpack, cast, overload

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.fingerprint.place import module_label
from tidewheel.pipelines.active import recorder
from tidewheel.pipelines.collected import Collected, call_each
from tidewheel.pipelines.options import StepOptions, StepWishes, step_options
from tidewheel.pipelines.shape import Shape, shape_of

P = ParamSpec("P")
R = TypeVar("R")


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

    @overload
    def map(self, items: Iterable[Any], *, on_error: Literal["fail"] = "fail", **shared: Any) -> list[R]: ...
    @overload
    def map(self, items: Iterable[Any], *, on_error: Literal["collect"], **shared: Any) -> Collected[R]: ...
    def map(self, items: Iterable[Any], *, on_error: str = "fail", **shared: Any) -> list[R] | Collected[R]:
        """Call the step once for each item, given as its first argument; inside a run they go side by side.

        An item that fails fails the run in the end, when all others are done. With `on_error="collect"` it does not:
        all items are waited for, and what is returned holds the values of those that succeeded and says which others
        failed, and why.

        >>> @step
        ... def double(x: int, by: int = 2) -> int:
        ...     return x * by
        >>> double.map([1, 2, 3], by=10)
        [10, 20, 30]
        >>> [failure.index for failure in double.map([1, None], on_error="collect").failures]
        [1]

        Raises InvalidInput for another `on_error`.
        """
        if on_error not in ("fail", "collect"):
            raise InvalidInput(f"on_error={on_error!r} is not known.", 'Use on_error="fail" or on_error="collect".')
        call, taker = cast("Callable[..., R]", self), recorder()
        if taker is None:
            if on_error == "collect":
                return call_each(lambda item: call(item, **shared), items)
            return [call(item, **shared) for item in items]
        given = [taker.call(self, self.bind((item,), shared), item=index) for index, item in enumerate(items)]
        return given if on_error == "fail" else cast("Collected[R]", taker.gather(given))

    @functools.cached_property
    def name(self) -> str:
        """The function's own name."""
        return self.__wrapped__.__qualname__.rpartition(".")[2]

    @functools.cached_property
    def identity(self) -> str:
        """Module and qualified name: what the step is called across runs and processes."""
        return f"{module_label(self.__wrapped__.__module__)}.{self.__wrapped__.__qualname__}".replace(".<locals>", "")

    @functools.cached_property
    def shape(self) -> Shape:
        """What a call gives, as its return annotation says."""
        return shape_of(self.__wrapped__)

    @property
    def parts(self) -> int | None:
        """How many artifacts a call gives: the items of an annotated `tuple[A, B]`, None for a single one."""
        return self.shape.parts

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


@overload
def step(function: Callable[P, R]) -> Step[P, R]: ...
@overload
def step(function: None = None, **wishes: Unpack[StepWishes]) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(
    function: Callable[P, R] | None = None, **wishes: Unpack[StepWishes]
) -> Step[P, R] | Callable[[Callable[P, R]], Step[P, R]]:
    """Mark a function as a step of pipelines.

    Tries: `retries` further ones after an error in `retry_on`, the first `backoff` seconds later, each further one
    after twice the time, spread by `jitter`; `timeout` ends one try (seconds, or "90s", "10m", "2h") with its process.
    Answers: `cache=False` executes it in every run, `side_effect=True` says that it changes the world outside and is
    never cached, `verify` is the share of answers from the cache that are executed again and compared, `code` adds
    modules and file patterns to what counts in the key, `ignore` takes arguments out of it.
    Place: `on` names an executor; `cpus`, `memory` ("2GiB") and `gpus` say what one call needs; `isolate` names a lock
    or requirements file, or "script", that it gets an environment of its own from; `variables` are set while it runs;
    `secrets` names what it may read with `secret()`.

    >>> @step(retries=2, retry_on=ConnectionError, timeout="10m", memory="2GiB")
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> double(4), double.options.memory
    (8, 2147483648)

    Raises NotFound for an unknown option, InvalidInput for options that cannot be.
    """
    options = step_options(wishes)
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
    names = inspect.signature(function).parameters
    for name in options.ignore:
        if name not in names:
            raise NotFound(f"argument of {function.__qualname__}", name, names, mend="ignore= takes arguments.")
    return Step(function, options)
