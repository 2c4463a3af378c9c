"""What a model expects and answers: named, typed, nullable fields with ranges and categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

import msgspec
import numpy as np
import polars as pl

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.models.frames import to_polars

Task = Literal["binary", "multiclass", "regression"]
Kind = Literal["float", "int", "bool", "string", "datetime"]
Label = bool | int | float | str
Columns = Mapping[str, Sequence[Any] | np.ndarray[Any, Any]]

MAX_CATEGORIES = 64


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One input column of a model."""

    name: str  # column name
    kind: Kind  # type of its values
    nullable: bool = False  # whether rows without a value were seen
    categories: list[str] | None = None  # sorted distinct values of a string column, when at most 64
    low: float | None = None  # smallest finite value seen, for numbers
    high: float | None = None  # largest finite value seen, for numbers


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """Inputs and outputs of a model."""

    task: Task  # what is predicted: one of two classes, one of several, or a number
    fields: list[Field]  # inputs, in the order of the matrix
    classes: list[Label] | None = None  # class labels in the order of the probabilities; None for regression
    probabilities: bool = False  # whether the model answers with class probabilities
    target: str = ""  # name of the label column, when known

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return [field.name for field in self.fields]

    @property
    def numeric(self) -> bool:
        """Whether every field fits into one numeric matrix."""
        return all(field.kind in ("float", "int", "bool") for field in self.fields)


def infer_fields(frame: Any) -> list[Field]:
    """Describe the columns of an example frame (pandas, Polars, Arrow, NumPy or a mapping of columns).

    >>> [(f.name, f.kind, f.nullable) for f in infer_fields({"a": [1, None], "b": ["x", "y"]})]
    [('a', 'int', True), ('b', 'string', False)]

    Raises InvalidInput for an empty frame, repeated names, or a column type no model takes.
    """
    table = to_polars(frame)
    if not table.width:
        raise InvalidInput("The example has no columns.", "Give the feature columns the model was fitted on.")
    return [_field(column) for column in table]


def widen(signature: Signature, frame: pl.DataFrame) -> Signature:
    """Return the signature with nullability, ranges and categories widened by real rows; kinds stay.

    An example of a few rows rarely shows every null and every level; the rows a bundle is saved with do.
    """
    fields = [_widened(field, frame[field.name]) for field in signature.fields]
    return msgspec.structs.replace(signature, fields=fields)


def select(signature: Signature, frame: Any) -> pl.DataFrame:
    """Return the model's columns, in order, in the signature's types; other columns are left out.

    Raises NotFound with near names for a missing column, InvalidInput for values of another type.
    """
    table = _named(signature, frame)
    for field in signature.fields:
        if field.name not in table.columns:
            raise NotFound("column", field.name, table.columns, "The model needs it as input.")
    return pl.DataFrame([_cast(table[field.name], field) for field in signature.fields])


def from_rows(signature: Signature, rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """Build the model's frame from rows of values in the order of the fields.

    >>> s = Signature(task="regression", fields=[Field(name="a", kind="float")])
    >>> from_rows(s, [[1], [2.5]])["a"].to_list()
    [1.0, 2.5]
    """
    for row in rows:
        if len(row) != len(signature.fields):
            raise InvalidInput(
                f"A row has {len(row)} values, the model takes {len(signature.fields)}.",
                f"Give them in this order: {', '.join(signature.names)}.",
            )
    columns = zip(*rows, strict=True) if rows else ([] for _ in signature.fields)
    pairs = zip(signature.fields, columns, strict=True)
    return pl.DataFrame([_from_values(field, list(values)) for field, values in pairs])


def to_matrix(signature: Signature, frame: pl.DataFrame, dtype: type[np.generic] = np.float64) -> np.ndarray[Any, Any]:
    """Return numeric columns as a matrix [rows, fields]; null becomes NaN, booleans 0 and 1."""
    matrix = np.empty((frame.height, len(signature.fields)), dtype=dtype)
    for position, name in enumerate(signature.names):
        matrix[:, position] = frame[name].cast(pl.Float64).to_numpy()
    return matrix


def _field(column: pl.Series) -> Field:
    kind = _kind(column)
    nullable = column.null_count() > 0 or (column.dtype.is_float() and bool(column.is_nan().any()))
    low, high = _range(column) if kind in ("float", "int") else (None, None)
    categories = _categories(column) if kind == "string" else None
    return Field(name=column.name, kind=kind, nullable=nullable, categories=categories, low=low, high=high)


def _kind(column: pl.Series) -> Kind:
    dtype = column.dtype
    if dtype.is_integer():
        return "int"
    if dtype.is_numeric() or dtype == pl.Null:
        return "float"
    if dtype == pl.Boolean:
        return "bool"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "string"
    if dtype in (pl.Datetime, pl.Date):
        return "datetime"
    raise InvalidInput(
        f"The column {column.name!r} holds {dtype}, which no model takes as a feature.",
        "Turn it into numbers, booleans, text or datetimes, or drop it.",
    )


def _range(column: pl.Series) -> tuple[float | None, float | None]:
    values = column.drop_nulls().cast(pl.Float64)
    finite = values.filter(values.is_finite())
    if not finite.len():
        return None, None
    low, high = finite.to_numpy().min(), finite.to_numpy().max()
    return float(low), float(high)


def _categories(column: pl.Series) -> list[str] | None:
    distinct = column.cast(pl.String).drop_nulls().unique().sort().to_list()
    return distinct if len(distinct) <= MAX_CATEGORIES else None


def _widened(field: Field, column: pl.Series) -> Field:
    seen = _field(column)
    lows = [value for value in (field.low, seen.low) if value is not None]
    highs = [value for value in (field.high, seen.high) if value is not None]
    levels: list[str] | None = None
    if field.categories is not None and seen.categories is not None:
        levels = sorted({*field.categories, *seen.categories})
        levels = levels if len(levels) <= MAX_CATEGORIES else None
    return Field(
        name=field.name,
        kind=field.kind,
        nullable=field.nullable or seen.nullable,
        categories=levels,
        low=min(lows, default=None),
        high=max(highs, default=None),
    )


def _named(signature: Signature, frame: Any) -> pl.DataFrame:
    if not isinstance(frame, np.ndarray) or frame.dtype.names is not None:
        return to_polars(frame)
    if frame.ndim != 2 or frame.shape[1] != len(signature.fields):
        raise InvalidInput(
            f"An array of shape {frame.shape} was given, the model takes {len(signature.fields)} columns.",
            f"Give them in this order: {', '.join(signature.names)}.",
        )
    table = to_polars(frame)
    return table.rename(dict(zip(table.columns, signature.names, strict=True)))


def _cast(column: pl.Series, field: Field) -> pl.Series:
    wanted, seen = _dtype(field.kind), column.dtype
    # Numbers are left as they are: an integer column that comes as float may hold NaN, and no bit is lost.
    if (
        seen == wanted
        or (field.kind == "int" and seen.is_float())
        or (field.kind == "datetime" and seen == pl.Datetime)
    ):
        return column
    if seen != pl.Null and not _fits(seen, field.kind):
        raise InvalidInput(_mistyped(column, field), f"Give values of type {field.kind}.")
    return column.cast(wanted)


@cache
def _dtype(kind: Kind) -> pl.DataType:
    known: Mapping[str, pl.DataType] = {
        "float": pl.Float64(),
        "int": pl.Int64(),
        "bool": pl.Boolean(),
        "string": pl.String(),
        "datetime": pl.Datetime("us"),
    }
    return known[kind]


def _fits(seen: pl.DataType, kind: Kind) -> bool:
    if kind == "string":
        return seen in (pl.String, pl.Categorical, pl.Enum)
    if kind == "datetime":
        return seen == pl.Date
    return seen.is_numeric() or seen == pl.Boolean


def _mistyped(column: pl.Series, field: Field) -> str:
    seen = ", ".join(repr(value) for value in column.drop_nulls().head(3).to_list())
    return f"The column {field.name!r} is {field.kind} for this model, but holds {column.dtype} ({seen})."


def _from_values(field: Field, values: list[Any]) -> pl.Series:
    if field.kind == "datetime":
        text = [value if value is None or isinstance(value, str) else value.isoformat() for value in values]
        return pl.Series(field.name, text, dtype=pl.String).str.to_datetime(time_unit="us")
    try:
        series = pl.Series(field.name, values, strict=False)
        return _cast(series, field) if series.dtype != pl.Null else pl.Series(field.name, values, _dtype(field.kind))
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise InvalidInput(
            f"The column {field.name!r} is {field.kind} for this model: {error}.", f"Give values of type {field.kind}."
        ) from error
