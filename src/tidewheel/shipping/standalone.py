"""Score a shipped ONNX model with NumPy and ONNX Runtime alone.

This file is copied as it stands into wheels, function archives and images; it imports nothing of tidewheel.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
}
_KINDS: dict[str, tuple[type, ...]] = {"float": (int, float), "int": (int, float), "bool": (bool,), "string": (str,)}


_TOLERANCE = 1e-4  # relative; float32 graphs answer float64 estimators to about six digits


class Refused(ValueError):
    """Rows that the model does not take; the text says which value and why."""


class Standalone:
    """A model read from the folder that `tidewheel ship` wrote; `predict` is for one thread at a time."""

    def __init__(self, folder: str | Path) -> None:
        place = Path(folder)
        index = json.loads((place / "model.json").read_text("utf-8"))
        manifest = _checked(place, index["digest"], "manifest.json")
        self.name: str = index["name"]
        self.version: int = index["version"]
        self.manifest: dict[str, Any] = json.loads(manifest)
        self.fields: list[dict[str, Any]] = self.manifest["signature"]["fields"]
        self.classes: list[Any] | None = self.manifest["signature"].get("classes")
        stored = {entry["name"]: entry["digest"] for entry in self.manifest["formats"]}
        if "onnx" not in stored:
            raise Refused(f"{self.name}:{self.version} holds no ONNX; score it with tidewheel itself.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            _checked(place, stored["onnx"], "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [(each.name, each.type) for each in self._session.get_inputs()]
        wanted = 2 if self.manifest["signature"].get("probabilities") else 1
        self._outputs = [each.name for each in self._session.get_outputs()][:wanted]

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return {"predictions": [...], "probabilities": [[...]], "classes": [...]} for rows of values by name.

        Raises Refused for a missing or unknown column, a missing value where training saw none, or another type.
        """
        if not rows:
            raise Refused("There is no row to score.")
        columns = [[self._value(row, field, place) for place, row in enumerate(rows)] for field in self.fields]
        known = {field["name"] for field in self.fields}
        for place, row in enumerate(rows):
            for name in row:
                if name not in known:
                    raise Refused(
                        f"rows[{place}].{name} is no column of {self.name}; it takes {', '.join(sorted(known))}."
                    )
        answer = self._session.run(self._outputs, self._feed(columns))
        labels = answer[0].reshape(-1).tolist()
        found: dict[str, Any] = {"predictions": labels if self.classes is None else [self._label(x) for x in labels]}
        if len(answer) > 1:
            found["probabilities"] = answer[1].tolist()
            found["classes"] = self.classes
        return found

    def verify(self) -> int:
        """Score the rows that the bundle carries with answers, and count them; raises Refused where one differs."""
        golden = self.manifest["golden"]
        names = [field["name"] for field in self.fields]
        rows = [dict(zip(names, row, strict=True)) for row in golden["rows"]]
        found = self.predict(rows)
        pairs = zip(found["predictions"], golden["prediction"], strict=True)
        close = [_same(one, other) for one, other in pairs]
        if not all(close):
            raise Refused(f"Row {close.index(False)} of the golden samples is answered otherwise here.")
        return len(rows)

    def _value(self, row: Mapping[str, Any], field: Mapping[str, Any], place: int) -> Any:
        name, where = field["name"], f"rows[{place}].{field['name']}"
        if name not in row:
            raise Refused(f"{where} is missing.")
        value = row[name]
        if value is None:
            if not field.get("nullable"):
                raise Refused(f"{where} is missing a value, which training never saw.")
            return None
        wanted = _KINDS.get(field["kind"], (str,))
        if not isinstance(value, wanted) or (bool not in wanted and isinstance(value, bool)):
            raise Refused(f"{where} = {value!r} is not of type {field['kind']}.")
        return value

    def _feed(self, columns: list[list[Any]]) -> dict[str, Any]:
        if [name for name, _ in self._inputs] == ["rows"]:
            return {"rows": np.array(columns, dtype=_TYPES[self._inputs[0][1]]).T.copy()}
        names = [field["name"] for field in self.fields]
        return {name: _column(columns[names.index(name)], kind) for name, kind in self._inputs}

    def _label(self, value: Any) -> Any:
        """Return a class as it was trained: ONNX knows whole numbers and text alone."""
        for known in self.classes or ():
            if known == value or str(known) == str(value):
                return known
        return value


def _column(values: list[Any], kind: str) -> Any:
    if kind == "tensor(string)":
        return np.array([["" if value is None else value] for value in values], dtype=object)
    return np.array([[np.nan if value is None else value] for value in values], dtype=_TYPES[kind])


def _checked(folder: Path, digest: str, name: str) -> bytes:
    data = (folder / name).read_bytes()
    found = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if found != digest:
        raise Refused(f"{name} was altered: its digest is {found}, not {digest}.")
    return data


def _same(one: Any, other: Any) -> bool:
    if isinstance(other, float):
        return bool(abs(one - other) <= _TOLERANCE * max(1.0, abs(other)))
    return bool(one == other)
