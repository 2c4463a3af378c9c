"""Digests of files and folders by content, with a cache keyed by what stat says."""

from __future__ import annotations

import hashlib
import os
import time
from functools import lru_cache
from pathlib import Path

_SETTLED = 2.0  # seconds; a file changed more recently could change again without its stat showing it


def path_digest(path: Path) -> str:
    """Return the digest of a file's bytes or of a folder's files and their names; a missing path has its own.

    The name of the path itself does not count, so a file may move.

    >>> path_digest(Path("/nowhere/at/all"))[:8]
    'missing:'
    """
    if path.is_dir():
        return _folder_digest(path)
    try:
        return "file:" + _file_digest(path)
    except FileNotFoundError:
        return f"missing:{path}"


def _folder_digest(path: Path) -> str:
    whole = hashlib.blake2b(digest_size=32)
    for folder, names, files in os.walk(path):
        names.sort()
        for name in sorted(files):
            inner = Path(folder, name)
            label = inner.relative_to(path).as_posix().encode()
            whole.update(len(label).to_bytes(8) + label + bytes.fromhex(_file_digest(inner)))
    return "folder:" + whole.hexdigest()


def _file_digest(path: Path) -> str:
    seen = path.stat()
    if time.time() - max(seen.st_mtime, seen.st_ctime) < _SETTLED:
        return _read(str(path))
    return _remembered(str(path), seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


@lru_cache(maxsize=4096)
def _remembered(path: str, inode: int, size: int, mtime: int, ctime: int) -> str:
    del inode, size, mtime, ctime  # they are the cache's key: what stat says about these bytes
    return _read(path)


def _read(path: str) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()
