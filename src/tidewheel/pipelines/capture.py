"""Keep the code a run happens with: commit, patch and new files of a repository, or the files themselves.

The record is a blob, so a run costs one digest. What is read is remembered twice: in this process by the digest of the
pipeline's code, and in the home folder by a signature of names, times and sizes, so that a patch is made once per
changed tree. Files that look like secrets, and what git ignores, are never taken.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tidewheel.blobs.store import BlobStore
from tidewheel.database.values import from_json, to_json
from tidewheel.errors import CorruptBlob, MissingBlob
from tidewheel.fingerprint.environment import local_distributions
from tidewheel.fingerprint.machine import this_machine
from tidewheel.fingerprint.place import module_place
from tidewheel.fingerprint.repository import Look, Tree, origin_of, patch_of, repository_of, tracked_among
from tidewheel.fingerprint.secrecy import looks_secret
from tidewheel.lineage.records import Execution
from tidewheel.pipelines.modules import Imported, imported_modules

LARGEST_FILE = 1_000_000  # bytes of one kept file
LARGEST_SUM = 20_000_000  # bytes of all kept files of a run
LARGEST_PATCH = 20_000_000  # bytes of a patch
MOST_FILES = 2_000  # new files of a repository that are looked at
_LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pyproject.toml", "setup.cfg", "requirements*.txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """The code that a run happens with, as it is kept."""

    digest: str  # blob of the record; "" when there is none
    commit: str  # git commit, "" outside a repository
    dirty: bool  # whether tracked files differ from that commit


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The record itself, as `reproduce` reads it."""

    root: str  # folder of the repository or project, where it was
    repository: bool  # whether a commit holds most of it
    commit: str  # that commit, "" outside a repository
    origin: str  # address of the repository's remote without credentials, "" without one
    patch: str  # blob of the difference from the commit, "" when there is none
    files: Mapping[str, str]  # path below the root to blob: new files, or all that were imported
    tracked: Mapping[str, str]  # imported files of the repository to blob: for when it has lost the commit
    outside: Mapping[str, str]  # path below `outside/` to blob: imported from elsewhere
    import_roots: tuple[str, ...]  # folders that belong on sys.path, relative to the root or below `outside/`
    imported: tuple[str, ...]  # project files below the root that were loaded when the run began
    target: Mapping[str, str]  # module, name and file of the pipeline
    local: tuple[str, ...]  # distributions that are installed from a folder: their code is here, not in an index
    machine: Mapping[str, Any]  # this_machine()
    omitted: Mapping[str, str]  # path to why it was not kept


def read_sources(blobs: BlobStore, digest: str) -> Sources:
    """Return the record of a digest; raises MissingBlob when it was collected."""
    found = from_json(blobs.get(digest).decode())
    tuples = {name: tuple(found[name]) for name in ("import_roots", "imported", "local")}
    return Sources(**{**found, **tuples})


def source_place(blobs: BlobStore, run: Execution) -> dict[str, str]:
    """Return where the code of a run stands, for others: address, path and commit; {} where it has no address."""
    try:
        sources = read_sources(blobs, run.facets["captured"]) if run.facets.get("captured") else None
    except (MissingBlob, CorruptBlob):
        return {}
    if sources is None or not sources.origin or not sources.commit:
        return {}
    return {
        "url": sources.origin,
        "repoUrl": sources.origin,
        "path": sources.target["file"],
        "version": sources.commit,
    }


def seeds_in(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that seed random numbers, by name.

    >>> seeds_in({"depth": 6, "seed": 3, "split_seed": 4, "random_state": 5})
    {'seed': 3, 'split_seed': 4, 'random_state': 5}
    """
    named = {name: item for name, item in arguments.items() if name == "random_state" or name.endswith("seed")}
    return {name: item for name, item in named.items() if isinstance(item, int | float | str)}


class Capture:
    """Begun when a run begins; git answers while the run makes itself ready."""

    def __init__(self, function: Callable[..., Any], home: Path) -> None:
        self._home = home
        self._function = function
        self._file = _file_of(function)
        installed = module_place(function.__module__).kind == "distribution"
        self._root = None if installed else repository_of((self._file or Path.cwd() / "x").parent)
        self._look = Look(self._root) if self._root and not _memory().get(str(self._root)) else None

    def keep(self, blobs: BlobStore, code: str) -> Captured:
        """Return what is kept of the sources, for the digest of the pipeline's code."""
        seen = _memory().setdefault(str(self._root), {})
        known = seen.get(f"{code} {self._function.__module__}")
        if known is not None and (not known.digest or blobs.exists(known.digest)):
            return known
        found = self._kept(blobs)
        seen[f"{code} {self._function.__module__}"] = found
        return found

    def _kept(self, blobs: BlobStore) -> Captured:
        tree = (self._look or Look(self._root)).tree() if self._root else None
        self._look = None
        modules = imported_modules()
        survey = _survey(tree, self._file, modules, self._home)
        signature = survey.signature(self._function)
        note = self._home / "captured" / signature
        digest = _noted(note)
        if not digest or not blobs.exists(digest):
            digest = blobs.put(to_json(_record(survey, self._function, blobs)).encode())
            _note(note, digest)
        return Captured(digest=digest, commit=tree.commit if tree else "", dirty=bool(tree and tree.dirty))


@cache
def _memory() -> dict[str, dict[str, Captured]]:
    """Return what this process has captured, by repository and code; code that is loaded does not change by itself."""
    return {}


def forget() -> None:
    """Forget what this process has captured; for tests that change a repository behind loaded code."""
    _memory().clear()


@dataclass(slots=True, kw_only=True)
class _Survey:
    """What there is to keep, before any of it is read."""

    root: Path
    tree: Tree | None
    file: Path | None
    inside: list[str] = field(default_factory=list)  # files below the root to keep
    outside: dict[str, Path] = field(default_factory=dict)  # path below `outside/` to file
    import_roots: list[str] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)
    omitted: dict[str, str] = field(default_factory=dict)

    def signature(self, function: Callable[..., Any]) -> str:
        """Digest names, times and sizes of all that would be read."""
        changed = self.tree.changed if self.tree else ()
        facts: list[object] = [str(self.root), self.tree.commit if self.tree else "", self.imported, self.import_roots]
        facts += [function.__module__, function.__qualname__, this_machine().as_json(), local_distributions()]
        files = [self.root / path for path in (*changed, *self.inside)] + list(self.outside.values())
        facts += [[str(path), *_times(path)] for path in files]
        return hashlib.blake2b(to_json(facts).encode(), digest_size=20).hexdigest()


def _survey(tree: Tree | None, file: Path | None, modules: Iterable[Imported], home: Path) -> _Survey:
    modules = list(modules)
    in_git = tree is not None and bool(tree.commit)
    root = tree.root if tree and in_git else _project_root(file, modules)
    survey = _Survey(root=root, tree=tree if in_git else None, file=file)
    if tree and not in_git:
        survey.omitted["."] = tree.trouble or "the repository has no commit yet"
    places: dict[Path, str] = {}
    for module in modules:
        if module.file.is_relative_to(root):
            path = module.file.relative_to(root).as_posix()
            survey.imported.append(path)
            places.setdefault(module.root, module.root.relative_to(root).as_posix() if module.root != root else ".")
            continue
        place = places.setdefault(module.root, f"outside/{len(places)}")
        survey.outside[f"{place}/{module.file.relative_to(module.root).as_posix()}"] = module.file
    survey.import_roots = list(places.values())
    survey.imported.sort()
    if survey.tree:
        survey.inside = _new_files(survey.tree, home, survey.omitted)
    else:
        found = {path.relative_to(root).as_posix() for pattern in _LOCKS for path in root.glob(pattern)}
        survey.inside = sorted({*survey.imported, *found})
    return survey


def _new_files(tree: Tree, home: Path, omitted: dict[str, str]) -> list[str]:
    """Return the new files of a repository, its sources first; the home of tidewheel is none of them."""
    own = home.resolve()
    found = [path for path in tree.untracked if not (tree.root / path).is_relative_to(own)]
    if len(found) < len(tree.untracked):
        _note(own / ".gitignore", "*\n")  # git need not list every blob the next time
    found.sort(key=lambda path: (not path.endswith((".py", ".toml", ".sql", ".yaml", ".yml", ".json")), path))
    if len(found) > MOST_FILES:
        omitted["new files"] = f"there are {len(found)}; the first {MOST_FILES} were looked at"
    return found[:MOST_FILES]


def _record(survey: _Survey, function: Callable[..., Any], blobs: BlobStore) -> dict[str, Any]:
    omitted = dict(survey.omitted)
    budget = _Budget(omitted)
    files = {path: budget.take(path, survey.root / path, blobs) for path in survey.inside}
    outside = {path: budget.take(path, file, blobs) for path, file in survey.outside.items()}
    known = tracked_among(survey.root, tuple(survey.imported)) if survey.tree else frozenset()
    tracked = {path: budget.take(path, survey.root / path, blobs) for path in sorted(known)}
    return {
        "root": str(survey.root),
        "repository": survey.tree is not None,
        "commit": survey.tree.commit if survey.tree else "",
        "origin": origin_of(survey.tree.root) if survey.tree else "",
        "patch": _patch(survey.tree, blobs, omitted) if survey.tree and survey.tree.changed else "",
        "files": {path: digest for path, digest in files.items() if digest},
        "tracked": {path: digest for path, digest in tracked.items() if digest},
        "outside": {path: digest for path, digest in outside.items() if digest},
        "import_roots": survey.import_roots,
        "imported": survey.imported,
        "target": _target(survey, function),
        "local": local_distributions(),
        "machine": this_machine().as_json(),
        "omitted": omitted,
    }


def _patch(tree: Tree, blobs: BlobStore, omitted: dict[str, str]) -> str:
    secret = tuple(path for path in tree.changed if looks_secret(path))
    omitted |= dict.fromkeys(secret, "it looks like a secret; its change was not kept")
    patch = patch_of(tree, secret)
    if len(patch) > LARGEST_PATCH:
        omitted["the patch"] = f"{len(patch)} bytes, more than {LARGEST_PATCH}"
        return ""
    if looks_secret("", patch):
        omitted["the patch"] = "something in it looks like a secret"
        return ""
    return blobs.put(patch)


class _Budget:
    """Takes files as long as they are small enough, and says why not where they are not taken."""

    def __init__(self, omitted: dict[str, str]) -> None:
        self._omitted = omitted
        self._left = LARGEST_SUM

    def take(self, name: str, file: Path, blobs: BlobStore) -> str:
        """Keep a file; return its digest, "" when it is left out."""
        if looks_secret(name):
            self._omitted[name] = "its name looks like a secret"
            return ""
        try:
            size = file.stat().st_size
            if size > min(LARGEST_FILE, self._left):
                self._omitted[name] = f"{size} bytes: too large for the sources of a run"
                return ""
            data = file.read_bytes()
        except OSError as error:
            self._omitted[name] = f"it cannot be read: {error.strerror}"
            return ""
        if looks_secret(name, data):
            self._omitted[name] = "something in it looks like a secret"
            return ""
        self._left -= len(data)
        return blobs.put(data)


def _target(survey: _Survey, function: Callable[..., Any]) -> dict[str, str]:
    file = survey.file
    inside = file is not None and file.is_relative_to(survey.root)
    path = file.relative_to(survey.root).as_posix() if file and inside else ""
    if file and not inside:
        path = next((name for name, kept in survey.outside.items() if kept == file), "")
    module = function.__module__
    if module == "__main__":
        module = file.stem if file else ""
    return {"module": module, "name": function.__qualname__, "file": path}


def _project_root(file: Path | None, modules: Iterable[Imported]) -> Path:
    """Return the folder that stands for a project outside git: where the pipeline's own imports begin."""
    own = next((module.root for module in modules if module.file == file), None)
    return own or (file.parent if file else Path.cwd())


def _file_of(function: Callable[..., Any]) -> Path | None:
    """Return the file of a function; None for one that was typed into a prompt or a notebook."""
    loaded = getattr(sys.modules.get(function.__module__), "__file__", None)
    found = Path(loaded or function.__code__.co_filename)
    return found.resolve() if found.is_file() else None


def _times(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, -1)  # a tracked file that was deleted
    return (found.st_mtime_ns, found.st_size)


def _noted(note: Path) -> str:
    try:
        return note.read_text("ascii")
    except OSError:
        return ""


def _note(note: Path, digest: str) -> None:
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(digest, "ascii")
    except OSError:
        return  # the note only saves work; the record itself is kept
