"""`@step` and `@pipeline`: plain functions outside a run, typed through the decorators, options checked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, assert_type

import polars as pl
import pytest

from tidewheel.errors import InvalidInput
from tidewheel.pipelines.active import step_context
from tidewheel.pipelines.durations import seconds
from tidewheel.pipelines.inputs import as_of, champion, latest, window
from tidewheel.pipelines.pipeline import Pipeline, pipeline
from tidewheel.pipelines.step import Step, step


@step
def double(x: int, by: int = 2) -> int:
    """Double."""
    return x * by


@step(retries=2, timeout="10m", backoff="500ms")
def halve(x: float) -> float:
    return x / 2


@step
def pair(x: int) -> tuple[int, str]:
    return x, str(x)


@pipeline
def both(x: int) -> float:
    return halve(double(x))


def test_types_pass_through_the_decorators() -> None:
    assert_type(double(3), int)
    assert_type(halve(3.0), float)
    assert_type(both(3), float)
    assert_type(double.map([1, 2]), list[int])
    assert isinstance(double, Step)
    assert isinstance(both, Pipeline)


def test_outside_a_run_a_step_is_the_function() -> None:
    assert (double(3), double(3, by=5), halve(3.0), both(3)) == (6, 15, 1.5, 3.0)
    assert (double.__doc__, double.__name__, double.name) == ("Double.", "double", "double")
    assert double.identity.endswith("test_step.double")
    assert double.map([1, 2], by=3) == [3, 6]


def several_things() -> None:
    """Nothing."""


def test_options_are_kept() -> None:
    assert (halve.options.retries, halve.options.timeout, halve.options.backoff) == (2, 600.0, 0.5)
    assert double.options.reusable
    assert not step(side_effect=True)(several_things).options.reusable


def test_parts_are_read_from_the_annotation() -> None:
    def some() -> tuple[int, ...]:
        return ()

    def missing(x):  # type: ignore[no-untyped-def]
        return x

    def unknown() -> Nowhere:  # type: ignore[name-defined] # noqa: F821
        return None

    assert pair.parts == 2
    assert [step(function).parts for function in (some, missing, unknown)] == [None, None, None]


def test_bind_fills_in_defaults_and_refuses_like_a_call() -> None:
    assert double.bind((1,), {}) == {"x": 1, "by": 2}
    with pytest.raises(TypeError, match=r"double\(\) missing a required argument: 'x'"):
        double.bind((), {})

    def all_kinds(a: int, /, b: int, *args: int, c: int, **kwargs: int) -> tuple[Any, ...]:
        return a, b, args, c, kwargs

    made = step(all_kinds)
    assert made.apply(made.bind((1, 2, 3, 4), {"c": 5, "d": 6})) == (1, 2, (3, 4), 5, {"d": 6})


async def later() -> int:
    return 1


def several() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: step(retries=-1), "further tries"),
        (lambda: step(retries=True), "further tries"),
        (lambda: step(timeout="soon"), r"timeout='soon' is not a duration.*\n.*10m"),
        (lambda: step(timeout=0), "timeout=0"),
        (lambda: step(backoff=-1), "backoff=-1"),
        (
            lambda: step(on="the moon"),
            'on="inline"',
        ),
        (lambda: step(on="inline", timeout=1), "Leave one of the two out"),
        (lambda: step(later), r"async.*\n.*asyncio.run"),
        (lambda: step(several), "generator"),
        (lambda: step(lambda x: x), "def name"),
        (
            lambda: step(3),  # type: ignore[call-overload]
            "plain function",
        ),
        (lambda: pipeline(later), "plain function"),
        (
            lambda: pipeline(3),  # type: ignore[arg-type]
            "plain function",
        ),
        (lambda: window("bikes"), "last=7"),
        (lambda: window("bikes", last=1, rows=2), "one of them"),
        (lambda: window("bikes", rows=0), "at least 1"),
        (lambda: as_of(datetime(2026, 1, 1), latest("bikes")), "no time zone"),  # noqa: DTZ001
        (lambda: as_of(datetime(2026, 1, 1, tzinfo=UTC), "bikes"), "as_of"),
        (step_context, "tidewheel|run"),
    ],
)
def test_what_cannot_be_is_refused_with_advice(make: Callable[[], Any], hint: str) -> None:
    with pytest.raises(InvalidInput, match=hint):
        make()


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90), ("1.5h", 5400), ("250ms", 0.25), (3, 3), (" 2 d ", 172800)]
)
def test_seconds_reads_durations(text: float | str, expected: float) -> None:
    assert seconds(text, "timeout") == expected


def test_a_pipeline_with_picked_inputs_cannot_be_called_plainly() -> None:
    def total(rows: pl.DataFrame = latest("bikes")) -> float:  # noqa: B008
        return float(rows["a"].sum())

    made = pipeline(total)
    assert made(pl.DataFrame({"a": [1, 2]})) == 3
    with pytest.raises(InvalidInput, match=r"latest\('bikes'\), which a store has to pick.*\n.*tidewheel run"):
        made()


def test_inputs_show_what_they_pick() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert repr(champion("bikes")) == "champion('bikes')"
    assert repr(as_of(moment, window("bikes", last=7))) == (
        "as_of('2026-01-01T00:00:00+00:00', window('bikes', last=7))"
    )


class Holder:
    factor = 3

    @step
    def scaled(self, x: int) -> int:
        return x * self.factor


def test_a_method_can_be_a_step() -> None:
    assert Holder().scaled(2) == 6
