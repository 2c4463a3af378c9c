"""What a run happened in: Python, platform, installed distributions."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from tidewheel.fingerprint.place import installed, normalised


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The facts that let a run be repeated."""

    digest: str  # of python, platform and packages; the commit is not part of it
    python: str  # full version: 3.11.7
    platform: str  # system and processor: linux-x86_64
    packages: Mapping[str, str]  # distribution to version, by normalised name

    def lock(self) -> str:
        """Return the packages as lines `name==version`, as pip reads them."""
        return "".join(f"{name}=={version}\n" for name, version in self.packages.items())


@cache
def capture_environment() -> Environment:
    """Read the environment of this process; read once, because it cannot change under a running process.

    >>> capture_environment().python == ".".join(map(str, sys.version_info[:3]))
    True
    """
    python = ".".join(map(str, sys.version_info[:3]))
    platform = f"{sys.platform}-{os.uname().machine}" if hasattr(os, "uname") else sys.platform
    packages = installed()
    text = "\n".join([python, platform, *(f"{name}=={version}" for name, version in packages.items())])
    return Environment(
        digest=hashlib.blake2b(text.encode(), digest_size=32).hexdigest(),
        python=python,
        platform=platform,
        packages=MappingProxyType(packages),
    )


@cache
def local_distributions() -> tuple[str, ...]:
    """Return the distributions that are installed from a folder of this machine (editable or not), by name."""
    found: list[str] = []
    for folder in sys.path:
        for record in _direct_urls(Path(folder)):
            text = record.read_text("utf-8", "replace")
            if '"file://' in text:
                found.append(normalised(record.parent.name.partition("-")[0]))
    return tuple(sorted(set(found)))


def _direct_urls(folder: Path) -> list[Path]:
    """Return the records of distributions that came from elsewhere than an index."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(".dist-info")]  # noqa: PTH208 - as in place.py
    except OSError:
        return []
    return [folder / name / "direct_url.json" for name in names if os.path.exists(f"{folder}/{name}/direct_url.json")]  # noqa: PTH110 - four times faster
