"""The champion as monitoring sees it: its baseline, its signature, and what it scored when it was chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tidewheel.errors import CorruptBlob, MissingBlob, NotFound
from tidewheel.lineage.read import current_alias, find_entity, get_version, resolve
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import load_bundle
from tidewheel.models.signature import Signature
from tidewheel.stats.profile import Profile

CHAMPION = "champion"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A model version that production is compared with."""

    entity_id: str  # of the model
    seq: int  # number of the version
    metrics: Mapping[str, float]  # holdout metrics recorded when it was registered
    baseline: Profile  # features and answers over the rows it was made from
    signature: Signature  # inputs and outputs


def find_champion(store: Store, model: str) -> Watched | None:
    """Return the version that the alias champion names; None when it names none.

    Raises NotFound, with near names, for a model that is not registered, CorruptBlob or MissingBlob when its bundle is
    damaged or gone.
    """
    with store.database.reading() as tx:
        entity = find_entity(tx, "model", model)
        alias = current_alias(tx, entity.id, CHAMPION)
        if alias is None or alias.version_id is None:
            return None
        version = get_version(tx, alias.version_id)
    try:
        manifest = load_bundle(store, version.digest).manifest
    except (CorruptBlob, MissingBlob) as error:
        raise type(error)(
            f"The champion {model}:{version.seq} cannot be loaded, so nothing can be compared with it: {error.what}",
            f"{error.mend} Or go back to the version before: tidewheel models rollback {model}",
        ) from error
    metrics = version.facets.get("metrics") or {}
    return Watched(
        entity_id=entity.id,
        seq=version.seq,
        metrics={name: float(value) for name, value in metrics.items() if isinstance(value, int | float)},
        baseline=manifest.baseline,
        signature=manifest.signature,
    )


def field_names(store: Store, model: str, champion: Watched) -> Callable[[int], Sequence[str]]:
    """Return a look-up from version number to the names of its features; one that is gone has the champion's."""
    known: dict[int, Sequence[str]] = {champion.seq: champion.signature.names}

    def names(seq: int) -> Sequence[str]:
        if seq not in known:
            known[seq] = _names_of(store, model, seq, champion)
        return known[seq]

    return names


def _names_of(store: Store, model: str, seq: int, champion: Watched) -> Sequence[str]:
    try:
        with store.database.reading() as tx:
            version = resolve(tx, "model", f"{model}:{seq}")
        return load_bundle(store, version.digest).manifest.signature.names
    except (NotFound, MissingBlob, CorruptBlob):
        return champion.signature.names  # another arm's damage is no reason to stop watching the champion
