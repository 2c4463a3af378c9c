"""Lay out the sources of a run in a folder of their own, as they were: never from the user's working tree."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tidewheel.blobs.store import BlobStore
from tidewheel.errors import InvalidInput, StorageUnavailable
from tidewheel.fingerprint.repository import apply_patch, archive_of, has_commit
from tidewheel.pipelines.capture import Sources

OUTSIDE = "outside"  # folder for what was imported from elsewhere than the project


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """The laid out sources of a run."""

    project: Path  # what the repository or project folder was
    import_path: tuple[Path, ...]  # folders that belong on sys.path, in order
    from_commit: bool  # whether the repository still had the commit
    missing: tuple[str, ...]  # files that were imported then and are not here, each with the reason


def unpack(blobs: BlobStore, sources: Sources, folder: Path) -> Workspace:
    """Lay out commit, patch and kept files below a folder.

    The commit is read from the repository where it was captured; when that is gone or has lost it, the files that the
    run had imported are laid out from the store.

    Raises MissingBlob when kept files were collected, StorageUnavailable when git or the disk fails.
    """
    project = folder / "project"
    project.mkdir(parents=True)
    from_commit = sources.repository and _check_out(sources, project)
    if from_commit and sources.patch:
        patch = folder / "change.patch"
        patch.write_bytes(blobs.get(sources.patch))
        apply_patch(project, patch)
    elif not from_commit:
        _write(blobs, sources.tracked, project)
    _write(blobs, sources.files, project)
    _write(blobs, sources.outside, folder)
    roots = [folder / root if root.startswith(f"{OUTSIDE}/") else project / root for root in sources.import_roots]
    absent = [path for path in sources.imported if not (project / path).is_file()]
    reasons = [f"{path} ({sources.omitted.get(path, 'git ignores it')})" for path in absent]
    reasons += [f"{path} ({sources.omitted[path]})" for path in sources.omitted if path.startswith(f"{OUTSIDE}/")]
    return Workspace(project=project, import_path=tuple(roots), from_commit=from_commit, missing=tuple(reasons))


def _check_out(sources: Sources, project: Path) -> bool:
    """Lay out the commit; False when the repository is gone or has lost it."""
    root = Path(sources.root)
    if not root.is_dir() or not has_commit(root, sources.commit):
        return False
    try:
        with tarfile.open(fileobj=io.BytesIO(archive_of(root, sources.commit))) as archive:
            archive.extractall(project, filter="data")
    except (tarfile.TarError, OSError) as error:
        raise StorageUnavailable(
            f"The commit {sources.commit[:12]} cannot be laid out in {project}: {error}.", "Free room and try again."
        ) from error
    return True


def _write(blobs: BlobStore, files: Mapping[str, str], folder: Path) -> None:
    for path, digest in files.items():
        target = (folder / path).resolve()
        if not target.is_relative_to(folder.resolve()):
            raise InvalidInput(f"The recorded path {path!r} leads out of its folder.", "Do not reproduce this run.")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(blobs.get(digest))
