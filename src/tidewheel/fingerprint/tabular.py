"""The parts of arrays and frames that make up their content, without any library being imported for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a value consists of: bytes count as they are, other parts are digested in their turn."""

    tag: str  # the kind of value
    parts: list[object]  # bytes or views of bytes, or values for the encoder


def tabular_parts(value: Any) -> Parts | None:
    """Take an array or a frame of numpy, Polars, pandas or Arrow apart; None for anything else.

    Equal content gives equal parts: chunks, memory order and bytes behind nulls do not count; types and names do.
    """
    for kind in type(value).__mro__:
        found = _KINDS.get((kind.__module__.partition(".")[0], kind.__name__))
        if found is not None:
            return found(value)
    return None


def _array(value: Any) -> Parts:
    import numpy as np

    head: list[object] = [type(value).__name__, str(value.dtype.descr), list(value.shape)]
    if isinstance(value, np.ma.MaskedArray):
        return Parts(tag="masked", parts=[*head, np.asarray(value.filled()), np.ma.getmaskarray(value)])
    if value.dtype.names:  # field by field: a record's padding bytes are not content
        return Parts(tag="records", parts=[*head, *(np.asarray(value)[name] for name in value.dtype.names)])
    if value.dtype.hasobject:
        return Parts(tag="objects", parts=[*head, np.asarray(value).ravel().tolist()])
    return Parts(tag="array", parts=[*head, _bytes_of(value)])


def _bytes_of(value: Any) -> memoryview:
    """Return the bytes of an array in C order, without a copy where they lie so already."""
    import numpy as np

    return np.ascontiguousarray(value).reshape(-1).view(np.uint8).data


def _number(value: Any) -> Parts:
    return Parts(tag="number", parts=[str(value.dtype.descr), value.tobytes()])


def _polars_frame(value: Any) -> Parts:
    return Parts(tag="polars.DataFrame", parts=[value.height, value.columns, *value.get_columns()])


def _polars_lazy(value: Any) -> Parts:
    return Parts(tag="polars.LazyFrame", parts=[value.collect()])


def _polars_series(value: Any) -> Parts:
    import polars as pl

    head: list[object] = [value.name, str(value.dtype), len(value), value.is_null().to_numpy()]
    dtype = value.dtype
    if dtype == pl.Boolean:
        return Parts(tag="polars.bool", parts=[*head, value.fill_null(value=False).to_numpy()])
    if dtype.is_temporal():
        return Parts(tag="polars.time", parts=[*head, value.to_physical().fill_null(0).to_numpy()])
    if dtype.is_float() or (dtype.is_integer() and dtype not in (pl.Int128, pl.UInt128)):
        return Parts(tag="polars.number", parts=[*head, value.fill_null(0).to_numpy()])
    if isinstance(dtype, pl.Enum):
        head.append(dtype.categories.to_list())
    if dtype in (pl.String, pl.Categorical, pl.Enum, pl.Int128, pl.UInt128) or dtype.is_decimal():
        texts = value.cast(pl.String).fill_null("")
        return Parts(tag="polars.text", parts=[*head, texts.str.len_bytes().to_numpy(), texts.str.join("").item()])
    if isinstance(dtype, pl.Struct):
        return Parts(tag="polars.struct", parts=[*head, *value.struct.unnest().get_columns()])
    if isinstance(dtype, pl.List):
        lengths = value.list.len().fill_null(0)
        return Parts(tag="polars.list", parts=[*head, lengths.to_numpy(), value.filter(lengths > 0).explode()])
    return Parts(tag="polars.objects", parts=[*head, value.to_list()])


def _pandas_frame(value: Any) -> Parts:
    columns = [value.iloc[:, place] for place in range(value.shape[1])]
    return Parts(tag="pandas.DataFrame", parts=[list(value.shape), value.index, value.columns, *columns])


def _pandas_series(value: Any) -> Parts:
    return Parts(tag="pandas.Series", parts=[value.name, value.index, *_pandas_values(value)])


def _pandas_index(value: Any) -> Parts:
    if value.nlevels > 1:
        levels = [value.get_level_values(level) for level in range(value.nlevels)]
        return Parts(tag="pandas.MultiIndex", parts=levels)
    return Parts(tag="pandas.Index", parts=[type(value).__name__, value.name, *_pandas_values(value)])


def _pandas_values(value: Any) -> list[object]:
    import numpy as np

    dtype = value.dtype
    if isinstance(dtype, np.dtype):
        return [str(dtype), value.to_numpy()]
    if hasattr(value, "cat") or hasattr(value, "categories"):
        held = value.cat if hasattr(value, "cat") else value
        return [str(dtype), held.categories, bool(held.ordered), np.asarray(held.codes)]
    nulls = np.asarray(value.isna())
    filled = [None if null else item for item, null in zip(value.tolist(), nulls.tolist(), strict=True)]
    return [str(dtype), nulls, [item for item in filled if item is not None]]


def _arrow_table(value: Any) -> Parts:
    import polars as pl

    metadata = sorted((value.schema.metadata or {}).items())
    return Parts(tag="pyarrow.Table", parts=[str(value.schema), metadata, pl.from_arrow(value)])


_KINDS: dict[tuple[str, str], Callable[[Any], Parts]] = {
    ("numpy", "ndarray"): _array,
    ("numpy", "generic"): _number,
    ("polars", "DataFrame"): _polars_frame,
    ("polars", "LazyFrame"): _polars_lazy,
    ("polars", "Series"): _polars_series,
    ("pandas", "DataFrame"): _pandas_frame,
    ("pandas", "Series"): _pandas_series,
    ("pandas", "Index"): _pandas_index,
    ("pyarrow", "Table"): _arrow_table,
}
