"""A small model as source: one file of Python or C that needs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tidewheel.blobs.store import MemoryBlobs
from tidewheel.models.bundle import Bundle
from tidewheel.models.sources import export_c, export_python
from tidewheel.shipping.payload import Payload


def write_source(payload: Payload, folder: Path, language: Literal["py", "c"]) -> Path:
    """Write `<name>_model.py` or `<name>_model.c` into a folder and return the file.

    Raises UnsupportedFormat, with the reason, for a model that cannot be written as source.
    """
    blobs = MemoryBlobs()
    for data in payload.files.values():
        blobs.put(data)
    bundle = Bundle(digest=payload.digest, manifest=payload.manifest, size=0, blobs=blobs)
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{payload.module}.{language}"
    place.write_text(export_python(bundle) if language == "py" else export_c(bundle), "utf-8")
    return place
