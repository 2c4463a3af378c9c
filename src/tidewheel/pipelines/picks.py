"""Pick an input from the store, once per run, and read what was picked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.fingerprint.value import value_digest
from tidewheel.lineage.read import current_alias, find_entity, get_version, list_versions, resolve
from tidewheel.lineage.records import Version
from tidewheel.lineage.store import Store
from tidewheel.pipelines.calls import Output
from tidewheel.pipelines.handle import Handle
from tidewheel.pipelines.stored import Shelf
from tidewheel.pipelines.wish import Input


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """An input as it was picked; a resumed run reads the same."""

    kind: str  # dataset or model
    reference: str  # name:seq
    version_id: str  # the version in the graph
    digest: str  # of the version's content
    rows: int | None  # only that many newest rows; None: all

    @property
    def content(self) -> str:
        """Digest of what a step is given: equal for equal versions and windows."""
        return value_digest(["pin", self.kind, self.digest, self.rows])

    def as_json(self) -> dict[str, Any]:
        """Return the pin as a JSON object."""
        return asdict(self)


def pick(store: Store, wanted: Input) -> Pin:
    """Find the version that an input means now.

    Raises NotFound, with near names, for an unknown dataset or model and for one without that alias or age.
    """
    with store.database.reading() as tx:
        if wanted.kind == "model":
            return _pinned(wanted, _model(tx, wanted), None)
        if wanted.at is None:
            found = resolve(tx, "dataset", wanted.name)
        else:
            versions = list_versions(tx, find_entity(tx, "dataset", wanted.name).id)
            found = _as_known(wanted, versions, wanted.at)
        return _pinned(wanted, found, _rows(tx, wanted, found))


def read(store: Store, pin: Pin) -> Any:
    """Return what a pin stands for: a Polars frame, or a model's bundle."""
    if pin.kind == "model":
        from tidewheel.models.bundle import load_bundle

        return load_bundle(store, pin.digest)
    from tidewheel.data import datasets

    return datasets.read(store, pin.reference, last=pin.rows)


def handle(store: Store, shelf: Shelf, pin: Pin) -> Any:
    """Return a handle for a picked input; it is read when it is wanted."""
    output = Output(shelf)
    output.settle_lazily(pin.content, pin.version_id, lambda: read(store, pin))
    return Handle(output)


def version_named(store: Store, reference: str) -> str:
    """Return the id of the version that a pin names: an id, or a dataset's `name`, `name:3`."""
    with store.database.reading() as tx:
        if len(reference) == 36 and reference.count("-") == 4:
            return get_version(tx, reference).id
        return resolve(tx, "dataset", reference).id


def _model(tx: Any, wanted: Input) -> Version:
    if wanted.at is None:
        return resolve(tx, "model", f"{wanted.name}@{wanted.alias}")
    held = current_alias(tx, find_entity(tx, "model", wanted.name).id, wanted.alias, as_of=wanted.at)
    if held is None or held.version_id is None:
        raise NotFound(f"{wanted.alias} of model {wanted.name!r} at that time", wanted.at.isoformat())
    return get_version(tx, held.version_id)


def _as_known(wanted: Input, versions: list[Version], at: datetime) -> Version:
    found = next((version for version in versions if version.at <= at), None)
    if found is None:
        first = versions[-1].at.isoformat() if versions else "never"
        raise NotFound(f"version of dataset {wanted.name!r} at that time", at.isoformat(), mend=f"The first: {first}.")
    return found


def _rows(tx: Any, wanted: Input, found: Version) -> int | None:
    """Return how many of the newest rows are wanted; versions are counted back from the one that was found."""
    if wanted.rows is not None or wanted.last is None:
        return wanted.rows
    before = found.seq - wanted.last
    if before < 1:
        return None
    older = next((version for version in list_versions(tx, found.entity_id) if version.seq == before), None)
    total, old = _row_count(found), _row_count(older)
    if total is None or old is None:
        raise InvalidInput(
            f"The versions of {wanted.name!r} do not say how many rows they have.",
            f"Use window({wanted.name!r}, rows=...) instead.",
        )
    return max(total - old, 1)


def _row_count(version: Version | None) -> int | None:
    count = version.facets.get("rows") if version else None
    return int(count) if count is not None else None


def _pinned(wanted: Input, found: Version, rows: int | None) -> Pin:
    name = wanted.name.partition(":")[0].partition("@")[0]
    return Pin(kind=wanted.kind, reference=f"{name}:{found.seq}", version_id=found.id, digest=found.digest, rows=rows)
