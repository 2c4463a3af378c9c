"""Build the environment of a lock anew: an isolated one made by uv, kept by the digest of what is in it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from tidewheel.errors import EnvironmentUnavailable, MissingExtra
from tidewheel.fingerprint.place import normalised
from tidewheel.pipelines.executors.environments import find_uv

_PATIENCE = 1800.0  # seconds for a download of everything
_FRAME = re.compile(r"[\u2500-\u257f\u25b6\u00d7]+")  # lines and arrows that uv draws around its messages
_ENGINE = "tidewheel"  # runs in the version at hand, because the store has its schema
_MISSING = re.compile(r"Because there (?:is|are) no version(?:s)? of ([A-Za-z0-9._-]+)==(\S+)")
_ABSENT = re.compile(r"([A-Za-z0-9._-]+) was not found in the (?:package registry|provided package locations|cache)")
_UNBUILT = re.compile(r"Failed to (?:build|download|fetch)[^`]*`([A-Za-z0-9._-]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Distributions:
    """How an environment differs from the recorded one."""

    missing: tuple[str, ...]  # recorded, not present: name==version
    changed: tuple[str, ...]  # present in another version: name recorded -> present
    added: tuple[str, ...]  # present, not recorded: name==version

    @property
    def same(self) -> bool:
        """Whether every recorded distribution is present as it was."""
        return not self.missing and not self.changed


def compare_distributions(recorded: Mapping[str, str], present: Mapping[str, str]) -> Distributions:
    """Say which distributions differ.

    >>> compare_distributions({"polars": "1.20", "numpy": "2.0"}, {"polars": "1.21"}).changed
    ('polars 1.20 -> 1.21',)
    """
    both = sorted(recorded.keys() & present.keys())
    return Distributions(
        missing=tuple(f"{name}=={recorded[name]}" for name in sorted(recorded.keys() - present.keys())),
        changed=tuple(
            f"{name} {recorded[name]} -> {present[name]}" for name in both if recorded[name] != present[name]
        ),
        added=tuple(f"{name}=={present[name]}" for name in sorted(present.keys() - recorded.keys())),
    )


def build_environment(folder: Path, python: str, packages: Mapping[str, str], local: Sequence[str] = ()) -> Path:
    """Return the interpreter of an environment with exactly these packages, made below `folder` when it is new.

    `python` is the recorded version, of which the minor one counts; `local` names distributions that were installed
    from a folder: their code comes with the sources, not from an index. tidewheel itself is left out.

    Raises MissingExtra without uv, EnvironmentUnavailable when the Python or a package cannot be had any more.
    """
    left_out = {_ENGINE, *map(normalised, local)}
    lock = "".join(f"{name}=={version}\n" for name, version in sorted(packages.items()) if name not in left_out)
    minor = ".".join(python.split(".")[:2])
    place = folder / hashlib.sha256(f"python {minor}\n{lock}".encode()).hexdigest()[:24]
    interpreter = place / "bin" / "python"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{place.name}.lock"):
        if not (place / "ready").is_file():
            shutil.rmtree(place, ignore_errors=True)  # half made by a process that died
            _make(place, minor)
            (place / "lock.txt").write_text(lock, "utf-8")
            _install(place, interpreter)
            (place / "ready").touch()
    os.utime(place / "ready")  # when it was used last, for whoever clears up
    return interpreter


def _make(place: Path, minor: str) -> None:
    same = minor == "{}.{}".format(*sys.version_info)
    done = _uv("venv", "--quiet", "--no-project", "--python", sys.executable if same else minor, str(place))
    if done.returncode:
        raise EnvironmentUnavailable(
            f"Python {minor}, with which the run was made, is not available: {_last(done.stderr)}",
            f"Install it with: uv python install {minor}    or use the present one with --here.",
        )


def _install(place: Path, interpreter: Path) -> None:
    # Without dependencies: the lock is complete, and what it leaves out was not there.
    words = ("pip", "install", "--quiet", "--no-deps", "--python", str(interpreter), "-r", str(place / "lock.txt"))
    done = _uv(*words)
    if done.returncode:
        shutil.rmtree(place, ignore_errors=True)
        name = _named(done.stderr)
        what = f"The package {name} of the lock" if name else "The lock of the run"
        raise EnvironmentUnavailable(
            f"{what} cannot be installed any more: {_last(done.stderr)}",
            "Give uv an index that has it (UV_INDEX_URL, UV_FIND_LINKS), or use the present packages with --here.",
        )


def _named(complaint: str) -> str:
    text = " ".join(complaint.split())
    found = _MISSING.search(text)
    if found:
        return f"{found[1]}=={found[2].rstrip('.,')}"
    found = _ABSENT.search(text) or _UNBUILT.search(text)
    return found[1] if found else ""


def _last(complaint: str) -> str:
    lines = [_FRAME.sub("", line).strip() for line in complaint.splitlines()]
    return " ".join(line for line in lines if line)[:600]


def _uv(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    uv = find_uv()
    if uv is None:
        raise MissingExtra("uv", "isolate")
    return subprocess.run(  # noqa: S603
        [uv, *words], capture_output=True, text=True, timeout=_PATIENCE, check=False, env=environment
    )
