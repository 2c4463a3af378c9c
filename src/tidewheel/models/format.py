"""The seam between models and the bytes they are stored as."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from tidewheel.models.frames import Adapter
from tidewheel.models.model import Model
from tidewheel.models.scorer import Scorer
from tidewheel.models.signature import Signature


class ModelFormat(Protocol):
    """A way to store a model as bytes and to score from them."""

    @property
    def name(self) -> str:
        """Short name kept in the manifest: onnx, skops, pickle."""
        ...

    def candidates(self, model: Model) -> Iterator[bytes]:
        """Yield encodings of the model, the fastest to score first; the first that passes parity is kept.

        Raises UnsupportedFormat, with the reason, when there is none (or no further one).
        """
        ...

    def load(self, data: bytes, *, signature: Signature, adapter: Adapter) -> Scorer:
        """Return a scorer of the bytes; raises UnsupportedFormat when this installation cannot run them."""
        ...
