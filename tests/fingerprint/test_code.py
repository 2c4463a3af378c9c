"""The code closure: what must change the digest of a function, and what must not."""

from __future__ import annotations

import functools
import importlib
import linecache
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tidewheel.errors import InvalidInput
from tidewheel.fingerprint import code, place
from tidewheel.fingerprint.code import CodeDigest, code_digest

STEPS = '''
"""Module."""
import fp_middle
import fp_middle as alias
from fp_deep import Shape
import polars as pl

RATE = 0.5


def work(rows: "pl.DataFrame", depth: int = 2) -> float:
    """Work."""
    # a comment
    return fp_middle.clean(rows) * RATE + Shape(depth).area() + pl.len
'''
MIDDLE = """
import functools
import threading
from fp_deep import LIMITS, scale

LOCK = threading.Lock()
UNUSED = 1


@functools.lru_cache
def clean(rows):
    with LOCK:
        return scale(rows, LIMITS["low"])


def other():
    return 1
"""
DEEP = '''
LIMITS = {"low": 1, "high": 2}


def scale(rows, by):
    def inner(x):
        """Inner."""
        return x * by
    return inner(rows)


class Form:
    sides = 0

    def area(self):
        return self.sides


class Shape(Form):
    def __init__(self, depth):
        self.depth = depth

    @property
    def big(self):
        return self.depth > 3
'''


@pytest.fixture
def digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., CodeDigest]]:
    """Write the three modules with one replacement in one of them, import them afresh, digest `work`."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    names = {"fp_steps": STEPS, "fp_middle": MIDDLE, "fp_deep": DEEP}

    def run(module: str = "", old: str = "", new: str = "", function: str = "work") -> CodeDigest:
        for name, text in names.items():
            if name == module:
                assert old in text
            (tmp_path / f"{name}.py").write_text(text.replace(old, new) if name == module else text)
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        linecache.clearcache()
        return code_digest(getattr(importlib.import_module("fp_steps"), function))

    yield run
    for name in names:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("module", "old", "new", "part"),
    [
        ("fp_steps", "depth: int = 2", "depth: int = 3", "fp_steps.work"),
        ("fp_steps", "RATE = 0.5", "RATE = 0.6", "fp_steps.RATE"),
        ("fp_steps", "* RATE", "+ RATE", "fp_steps.work"),
        ("fp_middle", "return scale", "return 2 * scale", "fp_middle.clean"),
        (
            "fp_middle",
            "@functools.lru_cache",
            "@functools.partial(lambda f: lambda x: f(x))",
            "fp_middle.<lambda>.<locals>.<lambda>",
        ),
        ("fp_middle", "threading.Lock()", "threading.RLock()", "fp_middle.LOCK"),
        ("fp_deep", '"low": 1', '"low": 3', "fp_middle.LIMITS"),
        ("fp_deep", '"low": 1', '"low": "1"', "fp_middle.LIMITS"),
        ("fp_deep", "return x * by", "return x / by", "fp_deep.scale"),
        ("fp_deep", "sides = 0", "sides = 1", "fp_deep.Form"),
        ("fp_deep", "return self.sides", "return -self.sides", "fp_deep.Form.area"),
        ("fp_deep", "depth > 3", "depth > 4", "fp_deep.Shape.big"),
        ("fp_deep", "Shape(Form)", "Shape", "fp_deep.Shape"),
    ],
)
def test_code_digest_changes_with(
    digest: Callable[..., CodeDigest], module: str, old: str, new: str, part: str
) -> None:
    before, after = digest(), digest(module, old, new)
    assert before.digest != after.digest
    assert before.parts.get(part) != after.parts.get(part)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("fp_steps", "# a comment", "# another comment"),
        ("fp_steps", '"""Work."""', '"""Work\n    harder."""'),
        ("fp_steps", '    """Work."""\n', ""),
        ("fp_steps", '"""Module."""', "\n\n\n"),
        ("fp_steps", "    return fp_middle.clean(rows) * RATE", "    return (fp_middle.clean(rows) * RATE)"),
        ("fp_steps", "def work", "def _identity(f):\n    return f\n\n\n@_identity\ndef work"),
        ("fp_middle", "UNUSED = 1", "UNUSED = 2"),
        ("fp_middle", "UNUSED = 1", "rows = 2"),
        ("fp_deep", "LIMITS = {", "x = by = 3\nLIMITS = {"),
        ("fp_middle", "return 1", "return 2"),
        ("fp_deep", '"""Inner."""', '"""Other."""'),
        ("fp_deep", "class Shape(Form):", 'class Shape(Form):\n    """A shape."""\n'),
    ],
)
def test_code_digest_stays_with(digest: Callable[..., CodeDigest], module: str, old: str, new: str) -> None:
    assert digest().digest == digest(module, old, new).digest


def test_code_digest_names_every_part(digest: Callable[..., CodeDigest]) -> None:
    parts = digest().parts
    wanted = {"fp_steps.work", "fp_steps.RATE", "fp_middle.clean", "fp_deep.scale", "fp_deep.Shape", "fp_deep.Form"}
    assert wanted <= parts.keys()
    assert parts["polars"].startswith("polars==")
    assert parts["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert "fp_middle.other" not in parts


def test_code_digest_follows_imports_inside_functions(digest: Callable[..., CodeDigest]) -> None:
    lazy = "def work(rows):\n    from fp_deep import scale\n    import sklearn.linear_model\n    return scale(rows, 1)"
    text = STEPS[STEPS.index("def work") :].strip()
    before = digest("fp_steps", text, lazy)
    assert "fp_deep.scale" in before.parts
    assert before.parts["scikit-learn"].startswith("scikit-learn==1")


def test_code_digest_changes_with_the_version_of_a_package(
    digest: Callable[..., CodeDigest], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest()
    monkeypatch.setattr(place, "installed", lambda: {"polars": "0.0.1"})
    place.distribution_label.cache_clear()
    try:
        after = digest()
    finally:
        monkeypatch.undo()
        place.distribution_label.cache_clear()
    assert after.parts["polars"] == "polars==0.0.1"
    assert before.digest != after.digest


def test_code_digest_of_edited_source_describes_the_code_that_is_loaded(
    digest: Callable[..., CodeDigest], tmp_path: Path
) -> None:
    before = digest()
    loaded = sys.modules["fp_steps"].work
    edited = STEPS.replace("* RATE", "+ RATE")
    (tmp_path / "fp_steps.py").write_text(edited)
    stale = code_digest(loaded)
    fresh = digest("fp_steps", "* RATE", "+ RATE")
    assert stale.digest != fresh.digest, "old code must not be recorded under the digest of the new text"
    assert stale.parts["fp_steps.work"].startswith("code:")
    assert digest().digest == before.digest


def test_code_digest_counts_what_a_closure_holds() -> None:
    def make(factor: int) -> Callable[[int], int]:
        return lambda x: x * factor

    assert code_digest(make(2)).digest != code_digest(make(3)).digest
    assert code_digest(make(2)).digest == code_digest(make(2)).digest


def test_code_digest_counts_the_code_of_decorators() -> None:
    def wrap(by: int) -> Callable[[Callable[[], int]], Callable[[], int]]:
        def decorator(function: Callable[[], int]) -> Callable[[], int]:
            @functools.wraps(function)
            def inner() -> int:
                return function() + by

            return inner

        return decorator

    def one() -> int:
        return 1

    assert code_digest(wrap(1)(one)).digest != code_digest(wrap(2)(one)).digest


def test_code_digest_of_mutual_recursion_ends() -> None:
    def even(n: int) -> bool:
        return n == 0 or odd(n - 1)

    def odd(n: int) -> bool:
        return n != 0 and even(n - 1)

    assert {"python"} < set(code_digest(even).parts)


def test_code_digest_of_a_function_without_source() -> None:
    def compiled(text: str) -> Any:
        space: dict[str, Any] = {"__name__": "nowhere"}
        exec(text, space)
        return space["f"]

    first, second = compiled("def f(x): return x + 1"), compiled("def f(x): return x + 2")
    assert code_digest(first).digest == code_digest(compiled("\n\ndef f(x): return x + 1")).digest
    assert code_digest(first).digest != code_digest(second).digest


def test_code_digest_refuses_what_has_no_code() -> None:
    with pytest.raises(InvalidInput, match="function of your own"):
        code.code_digest(len)
