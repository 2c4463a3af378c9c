"""Archives whose bytes depend on their contents alone: fixed order, owners, modes and times."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that zip can say
_EXECUTABLE = (".so", ".sh")


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of files by name, compressed: the same files give the same bytes."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name])
    return found.getvalue()


def tar_bytes(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Return an uncompressed tar of files by path, with their folders, owned by root: same files, same bytes."""
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w", format=tarfile.PAX_FORMAT) as archive:
        made: set[str] = set()
        for path, data in sorted(files):
            for folder in [each for each in _folders(path) if each not in made]:
                made.add(folder)
                archive.addfile(_entry(folder, 0o755, folder=True))
            entry = _entry(path, 0o755 if path.endswith(_EXECUTABLE) else 0o644)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return found.getvalue()


def gzip_bytes(data: bytes) -> bytes:
    """Return gzip without a name and a time in it."""
    return gzip.compress(data, compresslevel=6, mtime=0)


def _folders(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: place + 1]) for place in range(len(parts))]


def _entry(path: str, mode: int, *, folder: bool = False) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.mode = mode
    entry.type = tarfile.DIRTYPE if folder else tarfile.REGTYPE
    return entry
