"""A small disk that tests can fill up and make read-only."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534
SMALL = 6 << 20


class Disk:
    """A folder on a file system of its own where that can be mounted; otherwise the process is held to small files."""

    def __init__(self, path: Path, *, mounted: bool) -> None:
        self.path = path
        self.mounted = mounted

    @contextmanager
    def full(self) -> Iterator[None]:
        """Leave no room while the block lasts."""
        if not self.mounted:
            with _only_small_files():
                yield
            return
        filler = self.path / "filler"
        _write_until_full(filler)
        try:
            yield
        finally:
            filler.unlink()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Refuse every write while the block lasts; no file may be open for writing when it begins."""
        if self.mounted:
            subprocess.run(["mount", "-o", "remount,ro", self.path], check=True)
            try:
                yield
            finally:
                subprocess.run(["mount", "-o", "remount,rw", self.path], check=True)
            return
        with _without_rights(self.path):
            yield


@contextmanager
def _only_small_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, hard))  # Python ignores SIGXFSZ: writes fail with EFBIG
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def _without_rights(path: Path) -> Iterator[None]:
    # Root may write anywhere, whatever the mode says: so for a while this process is somebody else.
    places = [path, *path.rglob("*")]
    modes = [place.stat().st_mode for place in places]
    for place in places:
        place.chmod(0o555 if place.is_dir() else 0o444)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)
        for place, mode in zip(places, modes, strict=True):
            place.chmod(mode)


def _write_until_full(filler: Path) -> None:
    handle = os.open(filler, os.O_CREAT | os.O_WRONLY)
    try:
        while os.write(handle, b"\0" * 4_096):
            pass
    except OSError:
        pass  # this is what it is for
    finally:
        os.close(handle)


def _mount(path: Path) -> bool:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(path)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture(params=["mounted", "limited"])
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    """A small disk: a file system of 4 MB where one can be mounted, and limits on this process in any case."""
    path = Path(tempfile.mkdtemp(prefix="tidewheel-disk-"))
    path.chmod(0o755)
    mounted = request.param == "mounted" and _mount(path)
    if mounted:
        path.chmod(0o755)
    try:
        yield Disk(path, mounted=mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "-l", path], check=True)
        shutil.rmtree(path, ignore_errors=True)
