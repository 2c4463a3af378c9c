"""What a run happened in: Python, platform, installed distributions, commit."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from tidewheel.fingerprint.place import installed


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The facts that let a run be repeated."""

    digest: str  # of python, platform and packages; the commit is not part of it
    python: str  # full version: 3.11.7
    platform: str  # system and processor: linux-x86_64
    packages: Mapping[str, str]  # distribution to version, by normalised name
    commit: str  # git commit of the working folder, "" outside a repository
    dirty: bool  # whether tracked files differ from that commit

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
    commit, dirty = _git(Path.cwd())
    return Environment(
        digest=hashlib.blake2b(text.encode(), digest_size=32).hexdigest(),
        python=python,
        platform=platform,
        packages=MappingProxyType(packages),
        commit=commit,
        dirty=dirty,
    )


def _git(folder: Path) -> tuple[str, bool]:
    """Return commit and dirtiness; git is started only where a repository is."""
    if not any((place / ".git").exists() for place in (folder, *folder.parents)):
        return "", False
    commit = _answer(folder, "rev-parse", "HEAD")
    return (commit, bool(_answer(folder, "status", "--porcelain", "--untracked-files=no"))) if commit else ("", False)


def _answer(folder: Path, *words: str) -> str:
    import subprocess

    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""  # no git, or one that hangs on a network drive: the run goes on without a commit
    return done.stdout.strip() if done.returncode == 0 else ""
