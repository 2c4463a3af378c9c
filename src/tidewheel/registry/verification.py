"""Check that versions still are what was registered: rows, digests, every stored form, golden samples."""

from __future__ import annotations

from dataclasses import dataclass

from tidewheel.errors import TidewheelError
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import load_bundle
from tidewheel.registry.versions import get_model, list_versions


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What became of checking one version."""

    model: str  # name of the model
    version: int  # number of the version
    formats: tuple[str, ...]  # forms that were loaded and answered the golden samples as recorded
    problems: tuple[str, ...]  # what is wrong, and how to mend it
    skipped: tuple[str, ...]  # forms that were not loaded, and why

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify_versions(store: Store, reference: str, *, trust: bool = False) -> list[Verified]:
    """Check one version (`bikes:3`, `bikes@champion`), or with a bare name all of a model, newest first.

    Every byte is checked against its digest, every form is loaded and must answer the golden samples as recorded. A
    pickle, which runs code, is loaded with `trust` alone; its bytes are checked all the same.

    Raises NotFound for an unknown model or version.
    """
    whole = not {":", "@"} & set(reference)
    versions = [each.reference for each in list_versions(store, reference)] if whole else [reference]
    return [_verified(store, each, trust=trust) for each in versions]


def _verified(store: Store, reference: str, *, trust: bool) -> Verified:
    sound: list[str] = []
    problems: list[str] = []
    skipped: list[str] = []
    name, _, rest = reference.replace("@", ":").partition(":")
    seq = int(rest) if rest.isdigit() else 0
    try:
        version = get_model(store, reference, deleted=True)
        seq = version.seq
        bundle = load_bundle(store, version.bundle_digest, trust=trust)
    except TidewheelError as error:
        return Verified(model=name, version=seq, formats=(), problems=(_said(error),), skipped=())
    for entry in bundle.manifest.formats:
        try:
            store.blobs.get(entry.digest)
            if entry.trust and not trust:
                skipped.append(f"{entry.name}: a pickle is loaded with --trust alone")
                continue
            bundle.scorer(entry.name)
            sound.append(entry.name)
        except TidewheelError as error:
            problems.append(f"{entry.name}: {_said(error)}")
    return Verified(model=name, version=seq, formats=tuple(sound), problems=tuple(problems), skipped=tuple(skipped))


def _said(error: TidewheelError) -> str:
    return f"{error.what} {error.mend}"
