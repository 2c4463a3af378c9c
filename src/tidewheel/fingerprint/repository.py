"""What git knows about a working tree, asked for with one process."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from tidewheel.errors import StorageUnavailable

if TYPE_CHECKING:
    import subprocess

PATIENCE = 20.0  # seconds that git may take; on a network drive it can take minutes
_STATUS = ("status", "--porcelain=v2", "-z", "--branch", "--no-ahead-behind", "--no-renames", "--untracked-files=all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The state of a working tree."""

    root: Path  # folder of the working tree
    commit: str  # what is checked out; "" before the first commit, or when git did not answer
    changed: tuple[str, ...] = ()  # tracked files that differ from it, relative to the root
    untracked: tuple[str, ...] = ()  # files that git neither tracks nor ignores
    trouble: str = ""  # why git could not be asked, "" when it was

    @property
    def dirty(self) -> bool:
        """Whether tracked files differ from the commit."""
        return bool(self.changed)


def repository_of(folder: Path) -> Path | None:
    """Return the working tree that a folder is in, without starting git; None outside one."""
    for place in (folder, *folder.parents):
        if (place / ".git").exists():
            return place
    return None


class Look:
    """A question to git that is answered while this process does something else."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._trouble = ""
        self._process = self._started()

    def tree(self) -> Tree:
        """Return the state of the working tree; waits for git for as long as `PATIENCE`."""
        import subprocess

        if self._process is None:
            return Tree(root=self._root, commit="", trouble=self._trouble)
        try:
            out, complaint = self._process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return Tree(root=self._root, commit="", trouble=f"git took longer than {PATIENCE:g} seconds")
        if self._process.returncode:
            said = complaint.decode("utf-8", "replace").strip().splitlines()
            return Tree(root=self._root, commit="", trouble=said[0] if said else "git failed")
        return _tree(self._root, out.decode("utf-8", "surrogateescape"))

    def _started(self) -> subprocess.Popen[bytes] | None:
        import subprocess

        try:
            return subprocess.Popen(  # noqa: S603
                _command(self._root, *_STATUS), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment()
            )
        except OSError as error:
            self._trouble = f"git cannot be started: {error.strerror or error}"
            return None


def patch_of(tree: Tree, leave_out: tuple[str, ...] = ()) -> bytes:
    """Return the difference of a working tree from its commit, as `git apply` reads it."""
    excluded = [f":(top,exclude,literal){path}" for path in leave_out]
    words = ("diff", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", tree.commit)
    return _answer(tree.root, *words, "--", ":(top)", *excluded)


def tracked_among(root: Path, paths: tuple[str, ...]) -> frozenset[str]:
    """Return those of some paths that git tracks."""
    if not paths:
        return frozenset()
    found = _answer(root, "ls-files", "-z", "--", *(f":(top,literal){path}" for path in paths))
    return frozenset(found.decode("utf-8", "surrogateescape").split("\0")) - {""}


def has_commit(root: Path, commit: str) -> bool:
    """Say whether a repository still has a commit."""
    try:
        _answer(root, "cat-file", "-e", f"{commit}^{{commit}}")
    except StorageUnavailable:
        return False
    return True


def archive_of(root: Path, commit: str) -> bytes:
    """Return all files of a commit as a tar archive."""
    return _answer(root, "archive", "--format=tar", commit)


def apply_patch(folder: Path, patch: Path) -> None:
    """Apply a patch to a folder that is no repository of its own; raises StorageUnavailable when it does not fit."""
    # Inside another repository git would look for the paths in that one; a ceiling makes the folder its own world.
    _answer(folder, "apply", "--whitespace=nowarn", str(patch), ceiling=folder.parent)


def origin_of(root: Path) -> str:
    """Return the address of a repository's remote `origin` without credentials; "" when it has none."""
    from configparser import Error, RawConfigParser

    config = RawConfigParser(strict=False, allow_no_value=True)
    try:
        config.read_string((_common(root) / "config").read_text("utf-8", "replace").replace("\t", ""))
    except (OSError, Error):
        return ""
    return _without_credentials(config.get('remote "origin"', "url", fallback=""))


def _common(root: Path) -> Path:
    """Return the folder with a repository's configuration; a linked working tree only points to it."""
    marker = root / ".git"
    if marker.is_dir():
        return marker
    folder = Path(root, marker.read_text("utf-8").partition("gitdir:")[2].strip())
    shared = folder / "commondir"
    return (folder / shared.read_text("utf-8").strip()).resolve() if shared.is_file() else folder


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    if not parts.scheme or "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _tree(root: Path, answer: str) -> Tree:
    commit, changed, untracked = "", [], []
    for line in answer.split("\0"):
        if line.startswith("# branch.oid ") and not line.endswith("(initial)"):
            commit = line.rpartition(" ")[2]
        elif line.startswith("1 "):
            changed.append(line.split(" ", 8)[8])
        elif line.startswith("u "):
            changed.append(line.split(" ", 10)[10])
        elif line.startswith("? "):
            untracked.append(line[2:])
    return Tree(root=root, commit=commit, changed=tuple(changed), untracked=tuple(untracked))


def _command(root: Path, *words: str) -> list[str]:
    return ["git", "-C", str(root), "-c", "core.quotePath=off", *words]


def _environment(ceiling: Path | None = None) -> dict[str, str]:
    # Without optional locks a status does not write the index, so it never stands in the way of the user's git.
    found = {name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE")}
    found |= {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    return found | ({"GIT_CEILING_DIRECTORIES": str(ceiling)} if ceiling else {})


def _answer(root: Path, *words: str, ceiling: Path | None = None) -> bytes:
    import subprocess

    try:
        done = subprocess.run(  # noqa: S603
            _command(root, *words), capture_output=True, timeout=10 * PATIENCE, check=False, env=_environment(ceiling)
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StorageUnavailable(
            f"git {words[0]} in {root} failed: {error}.", "Install git, or look at the disk."
        ) from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise StorageUnavailable(f"git {words[0]} in {root} failed: {said}.", "Look at the repository with git status.")
    return done.stdout
