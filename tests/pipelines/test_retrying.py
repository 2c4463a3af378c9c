"""Pauses double, are spread by a share that the id of the call decides, and have a limit."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewheel.errors import InvalidInput
from tidewheel.pipelines.options import StepOptions
from tidewheel.pipelines.retrying import pause_before, worth_retrying
from tidewheel.pipelines.sizes import size_in_bytes


def test_pauses_double_up_to_an_hour() -> None:
    options = StepOptions(backoff=10.0, jitter=0.0)
    assert [pause_before(options, failures, "id") for failures in (1, 2, 3, 9, 10, 5000)] == [
        10,
        20,
        40,
        2560,
        3600,
        3600,
    ]


@given(failures=st.integers(1, 12), call=st.uuids(), jitter=st.floats(0, 1))
def test_a_pause_is_off_by_the_jitter_at_most_and_always_the_same(failures: int, call: object, jitter: float) -> None:
    spread, exact = StepOptions(backoff=1.0, jitter=jitter), StepOptions(backoff=1.0, jitter=0.0)
    pause, middle = pause_before(spread, failures, str(call)), pause_before(exact, failures, str(call))
    assert middle * (1 - jitter) - 1e-9 <= pause <= middle * (1 + jitter) + 1e-9
    assert pause == pause_before(spread, failures, str(call))


def test_calls_that_fail_together_do_not_come_back_together() -> None:
    options = StepOptions(backoff=10.0, jitter=0.5)
    pauses = [pause_before(options, 1, f"call {number}") for number in range(400)]
    assert len(set(pauses)) == 400
    assert 9.5 < statistics.fmean(pauses) < 10.5
    assert min(pauses) < 5.5
    assert max(pauses) > 14.5


@pytest.mark.parametrize(
    ("retry_on", "kind", "types", "expected"),
    [
        ((Exception,), "raised", ("builtins.ValueError", "builtins.Exception"), True),
        ((Exception,), "raised", ("builtins.SystemExit", "builtins.BaseException"), False),
        ((OSError,), "raised", ("builtins.ValueError", "builtins.Exception"), False),
        ((OSError,), "timeout", (), True),
        ((TimeoutError,), "timeout", (), True),
        ((ConnectionError,), "timeout", (), False),
        ((ChildProcessError,), "killed", (), True),
        ((ConnectionError,), "killed", (), False),
        ((Exception,), "unusable", (), False),
        ((Exception,), "storage", (), False),
    ],
)
def test_worth_retrying(
    retry_on: tuple[type[BaseException], ...],
    kind: str,
    types: tuple[str, ...],
    expected: bool,
) -> None:
    assert worth_retrying(StepOptions(retry_on=retry_on), kind, types) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512", 512),
        ("1B", 1),
        ("1kB", 1000),
        ("1KiB", 1024),
        (" 2 GiB ", 2 << 30),
        ("2g", 2_000_000_000),
        ("0.5 MiB", 1 << 19),
        (7.2, 8),
        ("1.5TiB", 3 << 39),
    ],
)
def test_sizes(text: str | float, expected: int) -> None:
    assert size_in_bytes(text, "memory") == expected


@pytest.mark.parametrize("text", ["", "GiB", "-1", -1, 0, "0", True, None, float("inf"), "1 EiB", "1,5 GB"])
def test_what_is_no_size(text: str | float) -> None:
    with pytest.raises(InvalidInput, match=r"memory=.* is not a size.*\n.*512MiB"):
        size_in_bytes(text, "memory")
