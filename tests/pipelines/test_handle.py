"""Handles wait when touched, and only then."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from tidewheel.errors import StepFailed
from tidewheel.pipelines.handle import Handle, replaced, source_of, sources_in, value


class Later:
    """A value that counts how often it was asked for."""

    def __init__(self, item: Any) -> None:
        self.item = item
        self.asked = 0

    def get(self) -> Any:
        self.asked += 1
        if isinstance(self.item, Exception):
            raise self.item
        return self.item


def later(item: Any) -> Any:
    return Handle(Later(item))


class Box:
    inner = 3

    def __enter__(self) -> str:
        return "entered"

    def __exit__(self, *args: object) -> None:
        return None


TOUCHES: list[tuple[Any, Callable[[Any], Any], Any]] = [
    (3, bool, True),
    (0, bool, False),
    (3, lambda h: h + 1, 4),
    (3, lambda h: 1 + h, 4),
    (3, lambda h: 10 - h, 7),
    (3, lambda h: h - 1, 2),
    (3, lambda h: 2**h, 8),
    (3, lambda h: h**2, 9),
    (7, lambda h: divmod(h, 2), (3, 1)),
    (7, lambda h: divmod(15, h), (2, 1)),
    (3, lambda h: -h, -3),
    (3, lambda h: [0, 1, 2, "three"][h], "three"),
    (3, lambda h: list(range(h)), [0, 1, 2]),
    (3.7, round, 4),
    (3.7, int, 3),
    (3.7, math.floor, 3),
    (3.7, lambda h: f"{h:.2f}", "3.70"),
    (9.0, math.sqrt, 3.0),
    (3, lambda h: h == 3, True),
    (3, lambda h: h < 4, True),
    (3, lambda h: {3: "x"}[h], "x"),
    ([1, 2], list, [1, 2]),
    ([1, 2], lambda h: [item for item in h], [1, 2]),  # noqa: C416 - iteration is what is tested
    ([1, 2], len, 2),
    ([1, 2], lambda h: 2 in h, True),
    ([1, 2], lambda h: h[0], 1),
    ([1, 2], lambda h: max(*h), 2),
    ([1, 2], lambda h: list(reversed(h)), [2, 1]),
    ({"a": 1}, lambda h: {**h}, {"a": 1}),
    ({"a": 1}, lambda h: h["a"], 1),
    ("text", str, "text"),
    ("text", lambda h: h.upper(), "TEXT"),
    ("text", repr, "'text'"),
    (lambda x: x + 1, lambda h: h(1), 2),
    (Box(), lambda h: h.inner, 3),
    (Box(), lambda h: type(h.__enter__()), str),
    (3, lambda h: isinstance(h, int), True),
    (3, lambda h: pickle.loads(pickle.dumps(h)), 3),
    (True, lambda h: "yes" if h else "no", "yes"),
    (np.arange(3), lambda h: int(np.sum(h)), 3),
    (np.arange(3), lambda h: np.asarray(h).tolist(), [0, 1, 2]),
    (pl.DataFrame({"a": [1]}), lambda h: h.height, 1),
    (pl.DataFrame({"a": [1]}), lambda h: pl.concat([h, h]).height, 2),
    ([3, 1], lambda h: [0, *h], [0, 3, 1]),
]


@pytest.mark.parametrize(("item", "touch", "expected"), TOUCHES)
def test_a_touched_handle_acts_like_its_value(item: Any, touch: Callable[[Any], Any], expected: Any) -> None:
    assert touch(later(item)) == expected == touch(item)


@pytest.mark.parametrize("touch", [touch for _, touch, _ in TOUCHES])
def test_every_touch_of_a_failed_handle_raises_its_error(touch: Callable[[Any], Any]) -> None:
    with pytest.raises(StepFailed, match="it broke"):
        touch(later(StepFailed("it broke", "mend it")))


def test_a_with_block_uses_the_value() -> None:
    with later(Box()) as entered:
        assert entered == "entered"


def test_passing_on_does_not_touch() -> None:
    source = Later(1)
    handle = Handle(source)
    nested = {"a": [handle, (handle, 2)], "b": 3}
    assert sources_in(nested) == [source, source]
    assert source_of(handle) is source
    assert source.asked == 0


def test_replaced_copies_only_what_holds_handles() -> None:
    plain, mixed = [1, 2], [later(1), 2]
    both = {"plain": plain, "mixed": mixed}
    found = replaced(both, lambda source: source.get())
    assert found == {"plain": [1, 2], "mixed": [1, 2]}
    assert found["plain"] is plain
    assert found["mixed"] is not mixed


def test_value_waits_for_everything_inside() -> None:
    found = value({"a": [later(1), (later("x"),)], "b": later([2])})
    assert json.dumps(found) == '{"a": [1, ["x"]], "b": [2]}'
    assert value(3) == 3


def test_setting_and_deleting_act_on_the_value() -> None:
    items, box = [1, 2, 3], Box()
    handle: Any = later(items)
    handle[0] = 9
    del handle[1]
    boxed: Any = later(box)
    boxed.inner = 5
    assert (items, box.inner) == ([9, 3], 5)
    del boxed.inner
    assert box.inner == 3
