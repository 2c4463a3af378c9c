"""What a pipeline cannot work with is refused with what was given and how to mend it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from tidewheel.errors import InvalidInput, NotFound, StepFailed, TidewheelError
from tidewheel.lineage.store import Store
from tidewheel.pipelines.handle import value
from tidewheel.pipelines.nested import mapped, path_to
from tidewheel.pipelines.options import StepOptions
from tidewheel.pipelines.parameters import bind
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.runs import RunEvent, list_runs, start_run
from tidewheel.pipelines.step import step

ROWS = pl.DataFrame({"a": [1.0, 2.0, 4.0]})


def act(x: int, y: int = 0) -> int:
    return x + y


@pytest.mark.parametrize(
    ("options", "kind", "hint"),
    [
        ({"retires": 2}, NotFound, "Did you mean 'retries'"),
        ({"retries": -1}, InvalidInput, "further tries"),
        ({"retry_on": ValueError("x")}, InvalidInput, "not made of exception types"),
        ({"retry_on": ("ValueError",)}, InvalidInput, r"retry_on=\(ConnectionError, TimeoutError\)"),
        ({"jitter": 1.5}, InvalidInput, "jitter=1.5 is not a share"),
        ({"verify": True}, InvalidInput, "verify=True is not a share"),
        ({"verify": 0.1, "cache": False}, InvalidInput, "never answered from the cache"),
        ({"cache": 1}, InvalidInput, "cache=1 is neither True nor False"),
        ({"cpus": 0}, InvalidInput, "cpus=0 is not an amount"),
        ({"gpus": float("nan")}, InvalidInput, "gpus=nan"),
        ({"memory": "2 gigs"}, InvalidInput, "memory='2 gigs' is not a size.*\n.*2GiB"),
        ({"memory": 0}, InvalidInput, "memory=0 is not a size"),
        ({"isolate": ""}, InvalidInput, "isolate='' names no environment"),
        ({"isolate": "script", "on": "inline"}, InvalidInput, 'isolate= cannot be kept with on="inline"'),
        ({"variables": {"A-B": "x"}}, InvalidInput, "'A-B'"),
        ({"variables": {"A": 1}}, InvalidInput, "'A': 1, which is no environment variable"),
        ({"variables": ["A"]}, InvalidInput, "not a mapping"),
        ({"secrets": "DB_PASSWORD"}, InvalidInput, r"secrets='DB_PASSWORD' is not a list.*\n.*secrets=\(\"one\",\)"),
        ({"secrets": ["not a name"]}, InvalidInput, "cannot be the name of a secret"),
        ({"secrets": ["A"], "variables": {"A": "1"}}, InvalidInput, "Keep it in secrets= alone"),
        ({"code": "helpers"}, InvalidInput, "code='helpers' is not a list"),
        ({"ignore": ("z",)}, NotFound, "no argument of act named 'z'"),
        ({"on": 3}, InvalidInput, "on=3 is not the name"),
    ],
)
def test_options_that_cannot_be_are_refused_where_they_are_written(
    options: dict[str, Any], kind: type[TidewheelError], hint: str
) -> None:
    with pytest.raises(kind, match=hint):
        step(**options)(act)


def test_options_that_can_be_are_kept() -> None:
    made = step(
        retries=3,
        retry_on=ConnectionError,
        memory="1.5MB",
        secrets=["B", "A", "B"],
        variables={"C": "1"},
        code=["a.b", "c/*.sql"],
        ignore=("y",),
        on="somewhere.else",
        verify=1,
    )(act)
    assert made.options == StepOptions(
        retries=3,
        retry_on=(ConnectionError,),
        memory=1_500_000,
        secrets=("B", "A"),
        variables={"C": "1"},
        code=("a.b", "c/*.sql"),
        ignore=("y",),
        on="somewhere.else",
        verify=1.0,
    )
    assert step(act).options == StepOptions()


@dataclass
class Config:
    depth: int
    rates: list[float] = field(default_factory=list)
    lock: Any = None


@pipeline
def configured(config: Config, rate: float = 0.5, pair: tuple[int, str] = (1, "a")) -> int:
    return config.depth


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ({"config": 3}, "config of configured is of the wrong type: expected Config, got int"),
        ({"config": {"depth": "deep"}}, r"expected Config, got dict \(Expected `int`, got `str` - at `\$.depth`\)"),
        ({"config": Config(1, rates=[0.1, "x"])}, r"expected float at \.rates\[1\], got str"),  # type: ignore[list-item]
        ({"config": Config(1), "rate": [1]}, "rate of configured is of the wrong type: expected float, got list"),
        ({"config": Config(1), "pair": (1, 2)}, r"expected str at \[1\], got int"),
        ({"config": '{"depth": 1.5}'}, "is not Config"),
    ],
)
def test_parameters_of_a_wrong_type_are_refused_before_anything_runs(
    store: Store, given: dict[str, Any], hint: str
) -> None:
    with pytest.raises(InvalidInput, match=hint):
        start_run(store, configured, given)
    assert list_runs(store) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"config": {"depth": 2, "rates": [1]}}, {"config": Config(2, rates=[1.0])}),
        ({"config": '{"depth": 2}'}, {"config": Config(2)}),
        ({"config": Config(1), "rate": 1}, {"rate": 1.0}),
        ({"config": Config(1), "pair": [1, "b"]}, {"pair": (1, "b")}),
    ],
)
def test_what_a_file_gives_becomes_what_the_hint_says(given: dict[str, Any], expected: dict[str, Any]) -> None:
    found = bind(configured, given)
    assert {name: found[name] for name in expected} == expected
    assert {name: type(found[name]) for name in expected} == {name: type(item) for name, item in expected.items()}


def test_a_text_needs_a_hint_where_it_could_be_something_else() -> None:
    def body(count, name="x", depth=3):  # type: ignore[no-untyped-def]
        return count, name, depth

    made = pipeline(body)
    assert bind(made, {"count": "bikes", "depth": "8"}) == {"count": "bikes", "name": "x", "depth": 8}
    assert bind(made, {"count": 8, "name": "8"}) == {"count": 8, "name": "8", "depth": 3}
    with pytest.raises(InvalidInput, match=r"count='8' of body has no type hint.*\n.*def body\(count: int, \.\.\.\)"):
        bind(made, {"count": "8"})


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_a_result_of_another_type_fails_its_step(store: Store, values: ModuleType, executor: str) -> None:
    with pytest.raises(StepFailed, match=r"wrong did not return what its annotation says: expected int, got str"):
        start_run(store, values.gives_wrong, {"x": 1}, executor=executor)


def test_a_container_that_contains_itself_is_refused(store: Store) -> None:
    around: list[Any] = [1]
    around.append({"again": around})
    with pytest.raises(InvalidInput, match="A list contains itself"):
        mapped(around, (int,), lambda item: item)

    @pipeline
    def circle(items: list[Any]) -> list[Any]:
        return items

    with pytest.raises(InvalidInput, match="parameter items of circle: A list contains itself"):
        start_run(store, circle, {"items": around})


def test_the_same_list_twice_is_no_circle() -> None:
    inner = [1]
    assert mapped([inner, inner, (inner,)], (int,), lambda item: item + 1) == [[2], [2], ([2],)]


def test_a_value_of_another_run_is_refused(store: Store, values: ModuleType) -> None:
    values.KEPT.clear()
    start_run(store, values.leaks, {"x": 2.0})
    with pytest.raises(InvalidInput, match=r"add was called with a value that waits in another run.*\n.*value\("):
        start_run(store, values.takes)
    with pytest.raises(InvalidInput, match=r"parameter extra of takes holds a value that waits in another run"):
        start_run(store, values.takes, {"extra": values.KEPT[-1]})
    assert value(values.KEPT[-1]) == 2.0, "it can be had after its run has ended"


def test_a_handle_of_a_run_that_has_failed_does_not_wait_for_ever(store: Store, values: ModuleType) -> None:
    values.KEPT.clear()
    with pytest.raises(TidewheelError):
        start_run(store, values.leaks_and_fails, {"x": 2.0}, executor="process")
    with pytest.raises(StepFailed):
        value(values.KEPT[-1])


def test_the_place_of_what_cannot_travel_is_named(store: Store) -> None:
    @step
    def use(config: Config, scale: float = 1.0) -> float:
        return scale

    @pipeline
    def hands_over_a_lock() -> float:
        return use(Config(1, lock={"deep": [0, threading.Lock()]}))

    with pytest.raises(
        StepFailed, match=r"argument \"config\.lock\['deep'\]\[1\]\" of use cannot go to another process"
    ):
        start_run(store, hands_over_a_lock, executor="process")
    assert path_to([1], lambda item: item == 2) == ""


@pytest.mark.parametrize(
    ("retry_on", "tries"), [((ConnectionError,), 1), ((ValueError, OSError), 3), ((Exception,), 3), ((LookupError,), 1)]
)
@pytest.mark.parametrize("executor", ["inline", "process"])
def test_only_chosen_errors_are_tried_again(
    store: Store, retry_on: tuple[type[Exception], ...], tries: int, executor: str
) -> None:
    @step(retries=2, retry_on=retry_on, backoff=0)
    def fails() -> int:
        raise UnicodeError("no luck")  # a ValueError

    @pipeline
    def body() -> int:
        return fails()

    told: list[RunEvent] = []
    with pytest.raises(StepFailed, match="no luck"):
        start_run(store, body, executor=executor, on_event=told.append)
    assert [event.state for event in told if event.step].count("RUNNING") == tries


def test_inner_pipelines_belong_to_the_run(store: Store, values: ModuleType) -> None:
    run = start_run(store, values.outer, {"rows": ROWS})
    assert run.output == 8.0 + (7.0 + 8.0)
    assert [step.name for step in run.steps] == [
        "inner.total",
        "inner.add",
        "inner.total-2",
        "inner.add-2",
        "add",
    ]
    assert len(list_runs(store)) == 1
    assert values.outer(ROWS) == run.output


def test_an_inner_pipeline_picks_its_own_inputs(store: Store, values: ModuleType) -> None:
    from tidewheel.data import datasets

    datasets.register(store, "tides", ROWS)
    run = start_run(store, values.outer_picks)
    assert run.output == 7.0
    assert [pin["reference"] for pin in run.pins.values()] == ["tides:1"]
