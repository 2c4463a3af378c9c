"""Compare two values as a reader of results would: identical, within a tolerance, or different."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from tidewheel.errors import InvalidInput, TidewheelError


class Verdict(StrEnum):
    """How alike two values are, the most alike first."""

    IDENTICAL = "identical"
    WITHIN = "within tolerance"
    DIFFERENT = "different"


_SCORED = 2_000  # rows on which models are compared
_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far numbers may be apart: `absolute + relative * |before|`, as numpy.isclose has it."""

    relative: float = 1e-6  # share of the earlier number
    absolute: float = 1e-9  # in the number's own unit

    def __post_init__(self) -> None:
        """Refuse what is no tolerance."""
        for name, amount in (("rtol", self.relative), ("atol", self.absolute)):
            if not 0 <= amount < math.inf:
                raise InvalidInput(f"{name} = {amount!r} is not a tolerance.", "Give a finite number of at least 0.")

    def holds(self, before: complex, after: complex) -> bool:
        """Say whether two numbers are close enough; NaN is close to NaN.

        >>> Tolerance(relative=0.01).holds(100.0, 100.9), Tolerance(relative=0.01).holds(100.0, 102.0)
        (True, False)
        """
        if before == after or (cmath.isnan(before) and cmath.isnan(after)):
            return True
        if not cmath.isfinite(before) or not cmath.isfinite(after):
            return False
        return abs(before - after) <= self.absolute + self.relative * abs(before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """What a comparison found."""

    verdict: Verdict  # identical, within tolerance or different
    detail: str = ""  # the largest deviation and where, "" for identical values
    largest: float = 0.0  # largest absolute difference of two numbers


SAME = Likeness(verdict=Verdict.IDENTICAL)


def different(detail: str, largest: float = 0.0) -> Likeness:
    """Return the finding that two values differ."""
    return Likeness(verdict=Verdict.DIFFERENT, detail=detail, largest=largest)


def worst(findings: Iterable[Likeness]) -> Likeness:
    """Return the finding that counts for the whole: the worst verdict with the largest deviation."""
    return max(findings, key=lambda found: (_RANK[found.verdict], found.largest), default=SAME)


def likeness(before: Any, after: Any, tolerance: Tolerance, rows: Sequence[Any] = ()) -> Likeness:
    """Compare two values of any kind that a step can return.

    Numbers are compared by the tolerance, frames and arrays cell by cell, containers and records part by part, files
    by their bytes, models by their predictions on `rows` (frames that hold their columns).

    >>> likeness([1.0, 2.0], [1.0, 2.0 + 1e-12], Tolerance()).verdict.value
    'within tolerance'
    >>> likeness({"a": 1}, {"a": "1"}, Tolerance()).detail
    "['a']: int became str"
    """
    return _compare(before, after, tolerance, rows)


def _compare(before: Any, after: Any, tolerance: Tolerance, rows: Sequence[Any]) -> Likeness:
    if type(before) is not type(after):
        return different(f"{type(before).__name__} became {type(after).__name__}")
    if isinstance(before, int | float | complex) and not isinstance(before, bool):
        return _numbers(before, after, tolerance)
    whole = _whole(before)
    if whole is not None:
        return whole(before, after, tolerance)
    if type(before).__module__.startswith("tidewheel.models."):
        return _models(before, after, tolerance, rows)
    parts = _parts(before), _parts(after)
    if parts[0] is not None and parts[1] is not None:
        return _partwise(parts[0], parts[1], tolerance, rows)
    if isinstance(before, Path):
        return SAME if before.read_bytes() == after.read_bytes() else different("the files' bytes differ")
    return _equal(before, after)


def _numbers(before: complex, after: complex, tolerance: Tolerance) -> Likeness:
    if before == after or (cmath.isnan(before) and cmath.isnan(after)):
        return SAME
    apart = abs(before - after)
    detail = f"{before!r} became {after!r}"
    if tolerance.holds(before, after):
        return Likeness(verdict=Verdict.WITHIN, detail=detail, largest=apart)
    return different(detail, apart)


def _whole(value: Any) -> Callable[[Any, Any, Tolerance], Likeness] | None:
    """Return how a frame, series or array is compared; None for anything else."""
    root = type(value).__module__.partition(".")[0]
    if root == "numpy":
        return _arrays
    if root in ("polars", "pandas", "pyarrow") and hasattr(value, "__len__" if root != "polars" else "clone"):
        return _frames
    return None


def _arrays(before: Any, after: Any, tolerance: Tolerance) -> Likeness:
    import numpy as np

    left, right = np.asarray(before), np.asarray(after)
    if (left.dtype, left.shape) != (right.dtype, right.shape):
        return different(f"{left.dtype}{list(left.shape)} became {right.dtype}{list(right.shape)}")
    inexact = left.dtype.kind in "fc"
    same = (left == right) | (np.isnan(left) & np.isnan(right)) if inexact else left == right
    if bool(np.all(same)):
        return SAME
    off = int(same.size - np.count_nonzero(same))
    if left.dtype.kind not in "fciu":
        return different(f"{off} of {same.size} cells differ")
    finite = np.isfinite(left) & np.isfinite(right)
    wide = complex if left.dtype.kind == "c" else np.float64
    apart = np.abs(left.astype(wide)[~same & finite] - right.astype(wide)[~same & finite])
    largest = float(apart.max()) if apart.size else math.inf
    detail = f"{off} of {same.size} cells differ, at most by {largest:.3g}"
    close = np.isclose(right.astype(wide), left.astype(wide), tolerance.relative, tolerance.absolute, equal_nan=True)
    if bool(np.all(close)):
        return Likeness(verdict=Verdict.WITHIN, detail=detail, largest=largest)
    return different(detail, largest)


def _frames(before: Any, after: Any, tolerance: Tolerance) -> Likeness:
    left, right = _polars(before), _polars(after)
    if left is None or right is None:
        return _equal(before, after)
    if left.columns != right.columns:
        return different(f"columns {', '.join(left.columns)} became {', '.join(right.columns)}")
    if left.height != right.height:
        return different(f"{left.height} rows became {right.height}")
    return worst(_column(name, left[name], right[name], tolerance) for name in left.columns)


def _column(name: str, before: Any, after: Any, tolerance: Tolerance) -> Likeness:
    if before.dtype != after.dtype:
        return different(f"column {name!r}: {before.dtype} became {after.dtype}")
    if before.equals(after, null_equal=True):
        return SAME
    if before.dtype.is_numeric() and not before.dtype.is_decimal():
        if not before.is_null().equals(after.is_null()):
            return different(f"column {name!r}: other cells are empty")
        kept = before.is_not_null()
        found = _arrays(before.filter(kept).to_numpy(), after.filter(kept).to_numpy(), tolerance)
    elif before.dtype.is_nested():
        found = _partwise(dict(enumerate(before.to_list())), dict(enumerate(after.to_list())), tolerance, ())
    else:
        off = int((~before.eq_missing(after)).sum())
        found = different(f"{off} of {len(before)} cells differ")
    detail = f"column {name!r}: {found.detail}" if found.detail else ""
    return Likeness(verdict=found.verdict, detail=detail, largest=found.largest)


def _polars(value: Any) -> Any:
    """Return a table of any library as a Polars frame; None for what is not one."""
    import polars as pl

    if isinstance(value, pl.LazyFrame):
        return value.collect()
    if isinstance(value, pl.Series):
        return value.to_frame()
    if isinstance(value, pl.DataFrame):
        return value
    try:
        if type(value).__module__.startswith("pandas"):
            table = value.to_frame() if hasattr(value, "to_frame") else value
            return pl.from_pandas(table.reset_index())
        found = pl.from_arrow(value)
    except Exception:  # noqa: BLE001 - many kinds of error mean the same: it is no table that Polars can hold
        return None
    return found if isinstance(found, pl.DataFrame) else None


def _parts(value: Any) -> dict[Any, Any] | None:
    """Return what a container or record is made of; None for anything else."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple):
        return dict(enumerate(value))
    names = getattr(type(value), "__struct_fields__", None)
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value)]
    return {name: getattr(value, name) for name in names} if names is not None else None


def _partwise(
    before: Mapping[Any, Any], after: Mapping[Any, Any], tolerance: Tolerance, rows: Sequence[Any]
) -> Likeness:
    if before.keys() != after.keys():
        lost, new = before.keys() - after.keys(), after.keys() - before.keys()
        told = [
            f"{word} {', '.join(sorted(map(repr, keys)))[:200]}"
            for word, keys in (("without", lost), ("with", new))
            if keys
        ]
        return different(" and ".join(told))
    found = [(key, _compare(part, after[key], tolerance, rows)) for key, part in before.items()]
    key, whole = max(found, key=lambda pair: (_RANK[pair[1].verdict], pair[1].largest), default=("", SAME))
    if whole.verdict is Verdict.IDENTICAL:
        return SAME
    joint = "" if whole.detail.startswith("[") else ": "
    return Likeness(verdict=whole.verdict, detail=f"[{key!r}]{joint}{whole.detail}", largest=whole.largest)


def _models(before: Any, after: Any, tolerance: Tolerance, rows: Sequence[Any]) -> Likeness:
    """Compare models by what they answer; without rows that fit them they can only be identical or not."""
    models = [found.scorer() if hasattr(found, "scorer") else found for found in (before, after)]
    if _shape(models[0].signature) != _shape(models[1].signature):
        return different("the signatures differ")
    golden = before.manifest.golden.rows if hasattr(before, "manifest") else []
    if golden:
        scores = [model.score_rows(golden) for model in models]
        return _answers(scores, len(golden), tolerance)
    for frame in rows:
        table = _polars(frame)
        try:
            scores = [model.score(table.head(_SCORED)) for model in models]
        except (TidewheelError, AttributeError):
            continue  # these rows are not what the model takes
        return _answers(scores, min(table.height, _SCORED), tolerance)
    return different("other bytes, and its step was given no rows to compare predictions on")


def _shape(signature: Any) -> tuple[Any, ...]:
    """Return what a model takes and gives; the ranges that it has seen are no part of that."""
    fields_taken = [(field.name, field.kind) for field in signature.fields]
    return (signature.task, fields_taken, signature.classes, signature.probabilities)


def _answers(scores: Sequence[Any], rows: int, tolerance: Tolerance) -> Likeness:
    names = ("prediction", "probabilities")
    parts = [{name: getattr(answer, name) for name in names} for answer in scores]
    found = _partwise(parts[0], parts[1], tolerance, ())
    if found.verdict is Verdict.IDENTICAL:
        return Likeness(verdict=Verdict.WITHIN, detail=f"other bytes, the same predictions on {rows} rows")
    return Likeness(
        verdict=found.verdict,
        detail=f"predictions on {rows} rows{found.detail and ': '}{found.detail}",
        largest=found.largest,
    )


def _equal(before: Any, after: Any) -> Likeness:
    try:
        same = bool(before == after)
    except Exception:  # noqa: BLE001 - a class may compare as it likes; then its bytes have said all there is
        same = False
    if same:
        return SAME
    if isinstance(before, str | bool | bytes):
        return different(f"{before!r:.60} became {after!r:.60}")
    return different(f"two objects of {type(before).__module__}.{type(before).__qualname__} differ")
