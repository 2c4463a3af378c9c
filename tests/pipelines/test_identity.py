"""What a handle cannot be seen through for is found in the source of the body, and told with what to write instead."""

# ruff: noqa: E721 - the bodies here are what is found fault with
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tidewheel.errors import InvalidInput
from tidewheel.pipelines.handle import value
from tidewheel.pipelines.identity import blind_spots, check_body
from tidewheel.pipelines.inputs import latest
from tidewheel.pipelines.step import step


class Parts(NamedTuple):
    low: int
    high: int | None


@step
def find(x: int) -> int | None:
    return x or None


@step
def pair(x: int) -> tuple[int, int | None]:
    return x, None


@step
def parts(x: int) -> Parts:
    return Parts(x, None)


@step
def plain(x: int) -> list[int]:
    return [x, x]


def compared(n: int) -> int:
    found = find(n)
    return 0 if found is None else 1


def not_compared(n: int) -> int:
    found = find(n)
    if found is not None and n:
        return 1
    return 0


def unpacked(n: int) -> int:
    _, second = pair(n)
    return 0 if second is None else 1


def a_field(n: int) -> int:
    both = parts(n)
    return 0 if both.high is None else 1


def in_a_loop(n: int) -> int:
    found = [find(i) for i in range(n)]
    return sum(1 for item in found if item is None)


def mapped(n: int) -> int:
    for item in find.map(range(n)):
        if item is None:
            return 1
    return 0


def walrus(n: int) -> int:
    if (found := find(n)) and found is not None:
        return 1
    return 0


def its_type(n: int) -> bool:
    found = find(n)
    return type(found) == int


def matched(n: int) -> int:
    found = find(n)
    match found:
        case None:
            return 0
        case _:
            return 1


def picked() -> int:
    rows = latest("bikes")
    return 0 if rows is None else 1


def nested(n: int) -> Callable[[], bool]:
    found = find(n)
    return lambda: found is None


@pytest.mark.parametrize(
    ("body", "text", "hint"),
    [
        (compared, "found is None", "tidewheel.value(found)"),
        (not_compared, "found is not None", "tidewheel.value(found)"),
        (unpacked, "second is None", "tidewheel.value(second)"),
        (a_field, "both.high is None", "tidewheel.value(both.high)"),
        (in_a_loop, "item is None", "tidewheel.value(item)"),
        (mapped, "item is None", "tidewheel.value(item)"),
        (walrus, "found is not None", "tidewheel.value(found)"),
        (its_type, "type(found)", "isinstance(found, ...)"),
        (matched, "match found", "match tidewheel.value(found)"),
        (picked, "rows is None", "tidewheel.value(rows)"),
        (nested, "found is None", "tidewheel.value(found)"),
    ],
)
def test_a_look_at_a_handle_is_refused(body: Callable[..., Any], text: str, hint: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_body(body, "body")
    error = refused.value
    assert f"`{text}` in the pipeline body (test_identity.py, line " in error.what
    assert hint in error.mend


def started_as_none(n: int) -> Any:
    best = None
    for i in range(n):
        score = find(i)
        if best is None or (score or 0) > best:
            best = score
    return best


def a_parameter(rows: Any = None) -> int:
    return 0 if rows is None else 1


def forced(n: int) -> int:
    found = value(find(n))
    return 0 if found is None else 1


def an_attribute_of_the_value(n: int) -> bool:
    found = find(n)
    return found.imag is None  # type: ignore[union-attr] # touching `imag` waits; what comes back is no handle


def items_of_a_list(n: int) -> bool:
    first, second = plain(n)
    return first is None or second is None


def equality(n: int) -> bool:
    found = find(n)
    return found == None  # noqa: E711 - equality waits


def literal_patterns(n: int) -> int:
    found = find(n)
    match found:
        case 1:
            return 1
        case int(x) if x > 2:
            return 2
    return 0


@pytest.mark.parametrize(
    "body",
    [
        started_as_none,
        a_parameter,
        forced,
        an_attribute_of_the_value,
        items_of_a_list,
        equality,
        literal_patterns,
        eval("lambda n: find(n) is None"),
    ],
)
def test_what_python_can_do_is_left_alone(body: Callable[..., Any]) -> None:
    assert list(blind_spots(body)) == []


def test_the_line_is_that_of_the_file() -> None:
    (found,) = blind_spots(compared)
    assert found.line == compared.__code__.co_firstlineno + 2
    assert found.step == "the step find"
