"""Numbers that came as arrays: one matrix for the model where all of it fits, else the values to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tidewheel.models.signature import Field
from tidewheel.predictions.block import Block
from tidewheel.serving.problems import FLOAT_LIMIT

FEW = 8  # rows up to which a list costs less than a matrix, and is scored together with other requests
EXACT = 2.0**53  # whole numbers up to here are exact as 64-bit floats

Array = np.ndarray[Any, Any]
_NUMBERS = ("float", "int", "bool")


def fit_matrix(matrix: Array, fields: Sequence[Field]) -> Block | None:
    """Return a matrix [n, fields] as rows; None when it does not fit, or only a look at each value can tell."""
    if not all(field.kind in _NUMBERS for field in fields):
        return None
    if matrix.dtype.kind == "b" and any(field.kind != "bool" for field in fields):
        return None
    if matrix.dtype.kind != "f" or matrix.dtype.itemsize < 4:
        if matrix.dtype.itemsize == 8 and _beyond(matrix, EXACT):
            return None
        matrix = matrix.astype(np.float32 if matrix.dtype.itemsize <= 2 else np.float64)
    if _beyond(matrix, FLOAT_LIMIT):
        return None
    missing = np.asarray(np.isnan(matrix).any(axis=0))
    for place, field in enumerate(fields):
        if (missing[place] and not field.nullable) or not _of_kind(matrix[:, place], field.kind):
            return None
    return Block(matrix, [field.kind for field in fields])


def fit_columns(columns: Sequence[Array], fields: Sequence[Field]) -> Block | None:
    """Return one array per field as rows; None as `fit_matrix` does."""
    for column, field in zip(columns, fields, strict=True):
        kind = column.dtype.kind
        if (kind == "b" and field.kind != "bool") or (kind in "iu" and _beyond(column, EXACT)):
            return None
    narrow = all(column.dtype.kind == "f" and column.dtype.itemsize <= 4 for column in columns)
    matrix = np.empty((len(columns[0]), len(columns)), np.float32 if narrow else np.float64)
    for place, column in enumerate(columns):
        matrix[:, place] = column
    return fit_matrix(matrix, fields)


def listed(array: Array, field: Field) -> list[Any]:
    """Return the elements of an array as Python's; NaN is a missing value where the field may be null."""
    values: list[Any] = array.tolist()
    if field.nullable and array.dtype.kind == "f" and np.isnan(array).any():
        return [None if value != value else value for value in values]  # noqa: PLR0124 - only NaN differs from itself
    return values


def as_kind(values: Sequence[Any], field: Field) -> Sequence[Any]:
    """Return numbers as the numbers a field wants, where nothing is lost; anything else as it is."""
    if field.kind == "float":
        return [float(value) if type(value) is int else value for value in values]
    if field.kind == "int":
        return [int(value) if type(value) is float and value.is_integer() else value for value in values]
    if field.kind == "bool":
        return [bool(value) if type(value) in (int, float) and value in (0, 1) else value for value in values]
    return values


def _beyond(array: Array, limit: float) -> bool:
    """Whether a number is larger than a limit in either direction; NaN is not."""
    if not array.size:
        return False
    if array.dtype.kind == "f":
        return bool((np.abs(array) > limit).any())
    return int(array.max()) > limit or int(array.min()) < -limit


def _of_kind(column: Array, kind: str) -> bool:
    if kind == "float":
        return True
    if kind == "bool":
        return bool(((column == 0) | (column == 1) | np.isnan(column)).all())
    whole = (np.floor(column) == column) & (np.abs(column) <= EXACT)
    return bool((whole | np.isnan(column)).all())
