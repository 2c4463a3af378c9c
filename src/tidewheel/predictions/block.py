"""Rows of numbers that are one matrix: taken, scored and logged without a Python object per value."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, overload

import msgspec
import numpy as np

Row = tuple[Any, ...]

_CELLS = {"bool": "V1", "int": ">i8"}  # msgpack: one byte; a tag and 8 bytes big-endian
_INT64, _FLOAT32, _FLOAT64, _FALSE = 0xD3, 0xCA, 0xCB, 0xC2  # msgpack's tags
_NARROW = np.dtype(np.float32)


class Block(Sequence[Row]):
    """Rows [n, fields] as a matrix of 32-bit or 64-bit floats, read as rows of values wherever rows are read.

    `kinds` are the fields' (float, int or bool): what is handed out and logged is of that kind. NaN is a missing value
    and comes as None.

    >>> Block(np.array([[1.0, 2.0]]), ("float", "int"))[0]
    (1.0, 2)
    """

    __slots__ = ("__dict__", "kinds", "matrix")

    def __init__(self, matrix: np.ndarray[Any, Any], kinds: Sequence[str]) -> None:
        self.matrix = matrix
        self.kinds = tuple(kinds)

    def __len__(self) -> int:
        return len(self.matrix)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> Block: ...
    def __getitem__(self, place: int | slice) -> Row | Block:
        if isinstance(place, slice):
            return Block(self.matrix[place], self.kinds)
        return self.rows[place]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:  # noqa: FBT001 - numpy's protocol
        return np.array(self.matrix, dtype=dtype, copy=bool(copy) or None)

    @cached_property
    def rows(self) -> list[Row]:
        """The rows as values of their kinds; costs about 20 ns per value, once."""
        columns = [_values(self.matrix[:, place], kind) for place, kind in enumerate(self.kinds)]
        return list(zip(*columns, strict=True))

    def take(self, columns: Sequence[int]) -> Block:
        """Return some columns, in the order given."""
        return Block(self.matrix[:, list(columns)], [self.kinds[place] for place in columns])

    def packed(self) -> msgspec.Raw | list[Row]:
        """Return the rows as msgpack writes a list of lists; they are rows again where a value is missing."""
        count, width = self.matrix.shape
        if width > 0xFFFF or np.isnan(self.matrix).any():
            return self.rows
        head, tag = _header(width), _FLOAT32 if self.matrix.dtype == _NARROW else _FLOAT64
        number = ">f4" if tag == _FLOAT32 else ">f8"
        cells: list[Any] = [("head", f"V{len(head)}")]
        for place, kind in enumerate(self.kinds):
            cells += (
                [(f"t{place}", "u1")]
                if kind == "bool"
                else [(f"t{place}", "u1"), (f"v{place}", _CELLS.get(kind, number))]
            )
        packed = np.empty(count, dtype=cells)
        packed["head"] = np.void(head)
        for place, kind in enumerate(self.kinds):
            column = self.matrix[:, place]
            if kind == "bool":
                packed[f"t{place}"] = column + _FALSE
            else:
                packed[f"t{place}"] = _INT64 if kind == "int" else tag
                packed[f"v{place}"] = column
        return msgspec.Raw(_header(count) + packed.tobytes())


def pack_block(value: object) -> msgspec.Raw | list[Row]:
    """Tell msgspec how a block is written; raises TypeError for anything else, as msgspec wants it."""
    if isinstance(value, Block):
        return value.packed()
    raise TypeError(f"Objects of type {type(value).__name__} are not stored")


def _values(column: np.ndarray[Any, Any], kind: str) -> list[Any]:
    missing = np.isnan(column)
    if missing.any():
        whole = {"int": int, "bool": bool}.get(kind, float)
        return [None if gone else whole(value) for value, gone in zip(column.tolist(), missing.tolist(), strict=True)]
    typed = {"int": np.int64, "bool": np.bool_}.get(kind)
    values: list[Any] = (column if typed is None else column.astype(typed)).tolist()
    return values


def _header(count: int) -> bytes:
    """Return how msgpack begins an array of so many items."""
    if count < 16:
        return bytes([0x90 | count])
    return struct.pack(">BH", 0xDC, count) if count <= 0xFFFF else struct.pack(">BI", 0xDD, count)
