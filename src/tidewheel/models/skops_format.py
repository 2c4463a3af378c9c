"""Fitted scikit-learn estimators as skops: loaded without running anybody's code, written byte for byte the same."""

from __future__ import annotations

import importlib
import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from tidewheel.errors import MissingExtra, UnsupportedFormat
from tidewheel.models.estimator import class_path, single_threaded
from tidewheel.models.frames import Adapter
from tidewheel.models.model import Model
from tidewheel.models.signature import Signature

# What scikit-learn's own preprocessing of categories holds; a partial can only bind a function that is trusted itself.
_HARMLESS = ("collections.OrderedDict", "functools.partial", "numpy.dtype", "sklearn.utils.validation.check_array")
_LIBRARIES = ("lightgbm", "xgboost")  # their boosters are read by their own parsers, without pickles
_SCHEMA = "schema.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip entry can carry


class SkopsFormat:
    """skops holds estimators, pipelines and arrays; only skops' own list and classes of scikit-learn are trusted."""

    name = "skops"

    def candidates(self, model: Model) -> Iterator[bytes]:
        """Yield one encoding; raises UnsupportedFormat for parts outside scikit-learn, SciPy and NumPy."""
        yield dump_estimator(model.estimator)

    def load(self, data: bytes, *, signature: Signature, adapter: Adapter) -> Model:
        """Return a scorer of the native estimator, on one thread."""
        estimator = single_threaded(load_estimator(data))
        return Model.restored(estimator, signature=signature, adapter=adapter)


def dump_estimator(estimator: Any) -> bytes:
    """Return an estimator as skops bytes that depend on its content alone, not on memory addresses or the time.

    Raises UnsupportedFormat when a part cannot be stored, or could not be loaded without trusting foreign code.
    """
    import skops.io

    try:
        raw = skops.io.dumps(estimator)
        foreign = _foreign(skops.io.get_untrusted_types(data=raw))
    except Exception as error:
        raise UnsupportedFormat(
            f"skops cannot store {class_path(estimator)}: {error}",
            "Give Model(..., trust=True) to allow a pickle, or use scikit-learn parts.",
        ) from error
    if foreign:
        raise UnsupportedFormat(
            f"{class_path(estimator)} holds parts that skops does not trust: {', '.join(foreign)}.",
            "Give Model(..., trust=True) to allow a pickle, or use scikit-learn parts.",
        )
    return _canonical(raw)


def untrusted_types(data: bytes) -> list[str]:
    """Return the types that whoever loads skops bytes has to name as trusted."""
    import skops.io

    return sorted(skops.io.get_untrusted_types(data=data))


def load_estimator(data: bytes) -> Any:
    """Return the estimator of skops bytes; raises UnsupportedFormat for untrusted or unreadable content."""
    import skops.io

    try:
        needed = skops.io.get_untrusted_types(data=data)
        foreign = _foreign(needed)
        if not foreign:
            return skops.io.loads(data, trusted=needed)
    except MissingExtra:
        raise
    except Exception as error:
        raise UnsupportedFormat(
            f"This skops file cannot be loaded: {error}",
            "Install the scikit-learn and skops of the bundle's lock, or save the bundle again.",
        ) from error
    raise UnsupportedFormat(
        f"This skops file holds untrusted parts: {', '.join(foreign)}.", "Save the model again from its training code."
    )


def _foreign(types: list[str]) -> list[str]:
    """Return those names that are neither classes of scikit-learn or a booster nor harmless; functions never pass."""
    return sorted(name for name in types if name not in _HARMLESS and not _is_known_class(name))


def _is_known_class(name: str) -> bool:
    library = name.partition(".")[0]
    if library not in ("sklearn", *_LIBRARIES):
        return False
    module, _, attribute = name.rpartition(".")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if library in _LIBRARIES and error.name == library:
            raise MissingExtra(library, library) from error
        return False
    return isinstance(getattr(found, attribute, None), type)


def _canonical(raw: bytes) -> bytes:
    """Write a skops archive anew with ids in order of appearance, a fixed time, and padding bytes zeroed."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        schema = json.loads(archive.read(_SCHEMA))
        names: dict[str, str] = {}
        schema = _renumbered(schema, {}, names)
        parts = {names.get(entry, entry): archive.read(entry) for entry in archive.namelist() if entry != _SCHEMA}
    parts = {name: _without_padding(data) if name.endswith(".npy") else data for name, data in parts.items()}
    parts[_SCHEMA] = json.dumps(schema, separators=(",", ":")).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in sorted(parts):
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, parts[name], compresslevel=1)
    return out.getvalue()


def _renumbered(node: Any, ids: dict[object, int], names: dict[str, str]) -> Any:
    if isinstance(node, list):
        return [_renumbered(item, ids, names) for item in node]
    if not isinstance(node, dict):
        return node
    result = {key: value for key, value in node.items() if key not in ("__id__", "file")}
    if "__id__" in node:
        # Constants are shared by identity or not as the interpreter likes: each gets a number of its own.
        key = object() if node.get("is_json") else node["__id__"]
        result["__id__"] = ids.setdefault(key, len(ids))
    if isinstance(node.get("file"), str):
        suffix = node["file"].rpartition(".")[2]
        result["file"] = names.setdefault(node["file"], f"{len(names)}.{suffix}")
    elif "file" in node:
        result["file"] = node["file"]
    return {key: _renumbered(value, ids, names) for key, value in result.items()}


def _without_padding(data: bytes) -> bytes:
    """Zero the bytes between the fields of structured arrays (tree nodes), which hold what the memory held before."""
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype.names is None:
        return data
    clean = np.zeros(array.shape, array.dtype)
    for name in array.dtype.names:
        clean[name] = array[name]
    out = io.BytesIO()
    np.save(out, clean, allow_pickle=False)
    return out.getvalue()
