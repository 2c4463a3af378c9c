"""A model in this process: frames in, the same kind of frame out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tidewheel.blobs.store import MemoryBlobs, checked
from tidewheel.errors import CorruptBlob, InvalidInput, NotFound
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import Bundle, load_bundle
from tidewheel.models.frames import frame_kind
from tidewheel.models.manifest import decode_manifest
from tidewheel.models.scorer import Matrix, Scorer, Scores
from tidewheel.models.signature import Signature, from_rows
from tidewheel.registry.versions import get_model

INDEX, MANIFEST = "model.json", "manifest.json"  # as `tidewheel ship` names them
FEW = 16  # rows for which the way over Python values is shorter than the one over columns
_PLAIN = frozenset({float, int, bool, type(None)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Portable:
    """All that another process needs to score: the manifest and one stored form, checked against their digests."""

    name: str  # name of the model, or the digest's start where it has none
    version: int  # number of the version; 0 without a registry
    digest: str  # of the bundle
    manifest: bytes  # as stored
    data: bytes  # the form that is scored
    version_id: str = ""  # id of the version in the graph, or ""
    trust: bool = False  # whether a pickle may be loaded

    def unpack(self) -> Loaded:
        """Load the model in this process; raises like `Bundle.scorer`."""
        blobs = MemoryBlobs()
        blobs.put(self.manifest)
        blobs.put(self.data)
        manifest = decode_manifest(checked(self.digest, self.manifest, MANIFEST))
        form = next(entry.name for entry in manifest.formats if blobs.exists(entry.digest))
        bundle = Bundle(
            digest=self.digest,
            manifest=manifest,
            size=len(self.manifest) + len(self.data),
            blobs=blobs,
            trust=self.trust,
        )
        return Loaded(self, bundle.scorer(form))


class Loaded:
    """A model version that answers in this process; also a Scorer, and it may be sent to other processes.

    `predict` and `predict_proba` take a Polars, pandas or Arrow frame, a NumPy matrix in the order of the fields, a
    mapping of columns, a list of rows (mappings), or one row (a mapping of single values), and answer in kind.
    """

    def __init__(self, portable: Portable, scorer: Scorer) -> None:
        self.portable = portable
        self.signature: Signature = scorer.signature
        self.score = scorer.score
        self.score_rows = scorer.score_rows
        names = self._names = self.signature.names
        self._numbers = self.signature.numeric
        self._values = itemgetter(*names) if len(names) > 1 else lambda row: (row[names[0]],)

    @property
    def reference(self) -> str:
        """Return `name:version`, or the digest of a model without a registry."""
        return f"{self.portable.name}:{self.portable.version}" if self.portable.version else self.portable.digest

    def predict(self, frame: Any) -> Any:
        """Return class labels, or numbers for regression, in the kind of the frame.

        Polars: a Series; pandas: a Series with the frame's index; Arrow: an array; NumPy: an array; rows and mappings
        of columns: a list; one row: one value.

        Raises NotFound for a missing column, InvalidInput for values of another type.
        """
        if isinstance(frame, Mapping) and _is_row(frame):
            return self._row(frame).prediction.tolist()[0]
        scores = self._score(frame)
        return _series(frame, scores.prediction, "prediction")

    def predict_proba(self, frame: Any) -> Any:
        """Return class probabilities, one column per class in the order of `signature.classes`, in kind.

        Polars, pandas and Arrow: a frame with a column per class; NumPy: a matrix; rows and mappings of columns: a
        list of lists; one row: one list.

        Raises InvalidInput for a model without probabilities, and like `predict`.
        """
        if not self.signature.probabilities:
            raise InvalidInput(f"{self.reference} gives no probabilities.", "Use predict.")
        single = isinstance(frame, Mapping) and _is_row(frame)
        scores = self._row(frame) if single else self._score(frame)
        table = scores.probabilities
        if table is None:
            raise InvalidInput(f"{self.reference} answered without probabilities.", "Use predict.")
        return (
            table[0].tolist() if single else _table(frame, table, [str(each) for each in self.signature.classes or ()])
        )

    def _score(self, frame: Any) -> Scores:
        if isinstance(frame, Sequence) and not isinstance(frame, str | bytes):
            return self._rows(frame)
        if self._numbers and isinstance(frame, pl.DataFrame) and frame.height <= FEW and frame.columns == self._names:
            values = frame.rows()
            if all(_PLAIN.issuperset(map(type, row)) for row in values):
                return self.score_rows(values)
        elif self._numbers and type(frame).__module__.startswith("pandas") and list(frame.columns) == self._names:
            matrix = frame.to_numpy()  # a frame of Polars in between costs a millisecond
            if matrix.dtype.kind in "fiub":
                return self.score(matrix)
        return self.score(frame)

    def _row(self, row: Mapping[str, Any]) -> Scores:
        return self._rows((row,))

    def _rows(self, rows: Sequence[Any]) -> Scores:
        """Score mappings of values; numbers go straight to the model, everything else is checked by a frame first."""
        try:
            values = list(map(self._values, rows))
        except KeyError as error:
            known: Mapping[str, Any] = next((row for row in rows if error.args[0] not in row), {})
            raise NotFound("column", str(error.args[0]), map(str, known), "The model needs it as input.") from error
        except (TypeError, IndexError) as error:
            raise InvalidInput(
                f"These rows cannot be read: {error}.", 'Give a list of mappings, such as [{"a": 1.0}].'
            ) from error
        if self._numbers and all(_PLAIN.issuperset(map(type, row)) for row in values):
            return self.score_rows(values)
        return self.score(from_rows(self.signature, values))

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpack, (self.portable,)

    def __repr__(self) -> str:
        return f"Loaded({self.reference}, {self.signature.task}, {len(self.signature.fields)} fields)"


def load_model(store: Store, reference: str, *, trust: bool = False) -> Loaded:
    """Return the model that `name`, `name:3`, `name@alias` or a bundle's digest (sha256:...) means, ready to answer.

    Raises NotFound, MissingBlob, CorruptBlob, UnsupportedFormat, ValidationFailed.
    """
    if reference.startswith("sha256:"):
        return pack(load_bundle(store, reference, trust=trust), reference[7:19], 0).unpack()
    found = get_model(store, reference)
    bundle = load_bundle(store, found.bundle_digest, trust=trust)
    return replace(pack(bundle, found.name, found.seq), version_id=found.version_id).unpack()


def pack(bundle: Bundle, name: str, version: int) -> Portable:
    """Return what another process needs to score a bundle."""
    entry = bundle.manifest.formats[0]
    return Portable(
        name=name,
        version=version,
        digest=bundle.digest,
        manifest=bundle.blobs.get(bundle.digest),
        data=bundle.blobs.get(entry.digest),
        trust=bundle.trust,
    )


def is_folder(reference: str | PathLike[str]) -> bool:
    """Say whether a reference means a folder that `tidewheel ship` wrote."""
    return isinstance(reference, PathLike) or (Path(reference) / INDEX).is_file()


def load_folder(folder: Path, *, trust: bool = False) -> Loaded:
    """Return the model of a shipped folder, without any store; every byte is checked against its digest.

    Raises NotFound for a folder without a model, CorruptBlob for altered files, UnsupportedFormat for a pickle
    without trust.
    """
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
        name, version, digest = str(index["name"]), int(index["version"]), str(index["digest"])
        manifest = checked(digest, (folder / MANIFEST).read_bytes(), str(folder / MANIFEST))
        entry = decode_manifest(manifest).formats[0]
        file = folder / f"model.{entry.name}"
        data = checked(entry.digest, file.read_bytes(), str(file))
    except FileNotFoundError as error:
        raise NotFound(
            "file of a shipped model", str(error.filename), mend="Name the folder that ship wrote."
        ) from error
    except CorruptBlob as error:
        raise CorruptBlob(error.what, "Ship the model again.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{folder / INDEX} is not what ship wrote: {error}.", "Ship the model again.") from error
    return Portable(name=name, version=version, digest=digest, manifest=manifest, data=data, trust=trust).unpack()


def _unpack(portable: Portable) -> Loaded:
    return portable.unpack()


def _is_row(frame: Mapping[str, Any]) -> bool:
    """Say whether a mapping holds single values, not columns."""
    first = next(iter(frame.values()), None)
    return not isinstance(first, list | tuple | np.ndarray | pl.Series)


def _series(frame: Any, values: Matrix, name: str) -> Any:
    """Return one value per row in the kind of a frame."""
    if isinstance(frame, list | tuple | Mapping):
        return values.tolist()
    kind = frame_kind(frame)
    if kind == "numpy":
        return values
    if kind == "pandas":
        import pandas as pd

        return pd.Series(values, index=frame.index, name=name)
    column = pl.Series(name, values.tolist() if values.dtype == object else values)
    return column.to_arrow() if kind == "arrow" else column


def _table(frame: Any, values: Matrix, names: list[str]) -> Any:
    """Return one row of probabilities per row in the kind of a frame."""
    if isinstance(frame, list | tuple | Mapping):
        return values.tolist()
    kind = frame_kind(frame)
    if kind == "numpy":
        return values
    if kind == "pandas":
        import pandas as pd

        return pd.DataFrame(values, index=frame.index, columns=names)
    table = pl.DataFrame({name: np.ascontiguousarray(values[:, place]) for place, name in enumerate(names)})
    return table.to_arrow() if kind == "arrow" else table
