"""Boosters as the files of their own libraries: exact, readable by any program that has the library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tidewheel.errors import InvalidInput, MissingExtra, UnsupportedFormat
from tidewheel.models.boosters import Library, ask_booster, dump_booster, library_of, load_booster, to_codes
from tidewheel.models.estimator import class_path
from tidewheel.models.frames import Adapter
from tidewheel.models.model import Model
from tidewheel.models.scorer import Matrix, Rows, Scores
from tidewheel.models.signature import Signature, select


@dataclass(frozen=True, slots=True, kw_only=True)
class BoosterFormat:
    """LightGBM's text model or XGBoost's UBJ; XGBoost's JSON is read as well."""

    name: Library  # the library whose file it is

    def candidates(self, model: Model) -> Iterator[bytes]:
        """Yield the library's own file; UnsupportedFormat for a model of another library."""
        if library_of(model.estimator) != self.name:
            raise UnsupportedFormat(
                f"{class_path(model.estimator)} is no {self.name} model.", "Another format holds it, or a pickle."
            )
        yield dump_booster(model.estimator)

    def load(self, data: bytes, *, signature: Signature, adapter: Adapter) -> BoosterScorer:
        """Return a scorer on one thread; MissingExtra without the library, UnsupportedFormat for other bytes."""
        try:
            booster = load_booster(self.name, data)
        except MissingExtra:
            raise
        except Exception as error:
            raise UnsupportedFormat(
                f"{self.name} cannot read this model: {str(error).strip().splitlines()[0][:200]}",
                f"Install the {self.name} of the bundle's lock, or save the bundle again.",
            ) from error
        return BoosterScorer(booster, signature, adapter)


class BoosterScorer:
    """Scores by the library itself: 25 µs for one row with LightGBM, 100 with XGBoost."""

    def __init__(self, booster: Any, signature: Signature, adapter: Adapter) -> None:
        self.booster = booster
        self.signature = signature
        self._adapter = adapter
        self._codes: Mapping[int, Mapping[Any, float]] = {
            position: {_as_kind(level, field.kind): float(code) for code, level in enumerate(levels)}
            for position, field in enumerate(signature.fields)
            if (levels := adapter.categories.get(field.name)) is not None
        }

    def score(self, rows: Rows) -> Scores:
        """Score columns by name, or a matrix in the order of the fields."""
        return self._run(to_codes(self.signature, select(self.signature, rows), self._adapter.categories))

    def score_rows(self, rows: Sequence[Sequence[Any]]) -> Scores:
        """Score rows of values in the order of the fields; None is a missing value."""
        names = ", ".join(self.signature.names)
        for row in rows:
            if len(row) != len(self.signature.fields):
                raise InvalidInput(
                    f"A row has {len(row)} values, the model takes {len(self.signature.fields)}.",
                    f"Give one value per field, in this order: {names}.",
                )
        if self._codes:
            rows = [[self._coded(position, value) for position, value in enumerate(row)] for row in rows]
        try:
            matrix = np.array(rows, dtype=np.float64).reshape(len(rows), len(self.signature.fields))
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                f"These rows do not fit the model: {error}.", f"Give one value per field, in this order: {names}."
            ) from error
        return self._run(matrix)

    def _coded(self, position: int, value: Any) -> Any:
        levels = self._codes.get(position)
        return value if levels is None else levels.get(value, np.nan)

    def _run(self, matrix: Matrix) -> Scores:
        return ask_booster(self.booster, matrix, self.signature, self._adapter)


def _as_kind(level: str, kind: str) -> Any:
    if kind == "string":
        return level
    return level == "True" if kind == "bool" else float(level)
