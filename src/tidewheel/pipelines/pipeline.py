"""`@pipeline`: a plain function that calls steps; a run executes it and journals each call."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar

from tidewheel.errors import InvalidInput
from tidewheel.pipelines.active import entering, recorder
from tidewheel.pipelines.identity import check_body
from tidewheel.pipelines.wish import Input

P = ParamSpec("P")
R = TypeVar("R")


class Pipeline(Generic[P, R]):
    """A function marked `@pipeline`. Called outside a run it is just the function, and so are the steps it calls."""

    __name__: str  # as the function's

    def __init__(self, function: Callable[P, R]) -> None:
        functools.update_wrapper(self, function)
        self.__wrapped__ = function
        self.signature = inspect.signature(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Execute the body; inside the run of another pipeline its steps belong to that run.

        Raises InvalidInput where an input is picked by the store, which only a run can do, and for a body that looks at
        a value that waits in a way that Python does not let through (`is None`).
        """
        taker = recorder()
        if taker is None:
            self._refuse_inputs(args, kwargs)
            return self.__wrapped__(*args, **kwargs)
        check_body(self.__wrapped__, self.name)
        bound = self._bound(args, kwargs)
        for name, item in bound.arguments.items():
            if type(item) is Input:
                bound.arguments[name] = taker.pick(item)
        with entering(self.name):
            return self.__wrapped__(*bound.args, **bound.kwargs)

    @property
    def name(self) -> str:
        """The function's own name: the name of the pipeline in runs, tables and commands."""
        return self.__wrapped__.__name__

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"

    def _bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}() {error}") from None
        bound.apply_defaults()
        return bound

    def _refuse_inputs(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        bound = self.signature.bind_partial(*args, **kwargs)
        bound.apply_defaults()
        for name, item in bound.arguments.items():
            if type(item) is Input:
                raise InvalidInput(
                    f"The parameter {name} of {self.name} is {item!r}, which a store has to pick.",
                    f"Start it as a run (tidewheel run FILE.py:{self.name}), or give {name}=... yourself.",
                )


def pipeline(function: Callable[P, R]) -> Pipeline[P, R]:
    """Mark a plain function that calls steps as a pipeline.

    >>> from tidewheel.pipelines.step import step
    >>> @step
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> @pipeline
    ... def twice(x: int) -> int:
    ...     return double(double(x))
    >>> twice(3)
    12

    Raises InvalidInput for something that is not a plain function.
    """
    if not inspect.isfunction(function) or inspect.iscoroutinefunction(function):
        raise InvalidInput(
            f"{function!r} cannot be a pipeline.", "Put @pipeline above a plain function: def name(rows) -> ..."
        )
    return Pipeline(function)
