"""Turn a traffic row into loaded, checked arms."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from tidewheel.lineage.store import Store
from tidewheel.models.bundle import load_bundle
from tidewheel.models.signature import Signature
from tidewheel.registry.traffic import Traffic
from tidewheel.registry.versions import get_model
from tidewheel.serving.arms import Arm, Deployed, extra_fields, places_of, said, share_places
from tidewheel.serving.rows import RowCodec
from tidewheel.serving.strategies.way import make_way
from tidewheel.serving.tensors import TensorCodec

logger = logging.getLogger("tidewheel.serving")


def deploy(store: Store, traffic: Traffic, live: Deployed | None = None, *, trust: bool = False) -> Deployed:
    """Load what a traffic row names, check it on its golden samples, and return it ready to be swapped in.

    Versions that are `live` already are taken over as they are. A champion that cannot be loaded raises, so that the
    old deployment keeps serving. A challenger that cannot be loaded takes its share all the same: the champion answers
    for it, and each request is logged as its failure, which is what ends its rollout.

    Raises NotFound for a version that is not registered, CorruptBlob, MissingBlob, UnsupportedFormat or
    ValidationFailed for a bundle that cannot be used.
    """
    loaded = {arm.version: arm for arm in live.arms() if arm.scorer is not None} if live is not None else {}
    champion = _arm(store, traffic.model, traffic.champion, loaded, trust=trust)
    challenger = _challenger(store, traffic, champion.signature, loaded, trust=trust)
    others = _others(store, traffic, champion.signature, loaded, trust=trust)
    beside = [*others, *([] if challenger is None else [challenger])]
    rows = RowCodec(champion.signature.fields, extra_fields(champion.signature, *(arm.signature for arm in beside)))
    if challenger is not None:
        challenger = replace(
            challenger,
            name="challenger",
            columns=places_of(challenger.signature, rows),
            fault=traffic.fault,
            salt=traffic.salt,
        )
    first, *rest = (_fitted(arm, traffic, rows) for arm in (champion, *others))
    return Deployed(
        traffic=traffic,
        champion=first,
        challenger=challenger,
        rows=rows,
        tensors=TensorCodec(rows),
        places=share_places(traffic),
        way=make_way(traffic, {arm.version: arm for arm in (first, *rest)}, rows),
        others=rest,
    )


def _fitted(arm: Arm, traffic: Traffic, rows: RowCodec) -> Arm:
    """Return an arm with the places of its columns, and with the faults that a strategy gives it."""
    fault = traffic.strategy.faults.get(arm.version, 0.0) if traffic.strategy is not None else 0.0
    # Each version fails on requests of its own, so that a fallback is not hit by the fault of the one before.
    return replace(
        arm, columns=places_of(arm.signature, rows), fault=fault, salt=f"{traffic.salt} {arm.version}" if fault else ""
    )


def _arm(store: Store, model: str, version: int, loaded: Mapping[int, Arm], *, trust: bool) -> Arm:
    if version in loaded:
        return replace(loaded[version], name="champion", columns=None, fault=0.0, salt="")  # its part before is over
    digest = get_model(store, f"{model}:{version}").bundle_digest
    bundle = load_bundle(store, digest, trust=trust)
    opened = bundle.open()
    return Arm(
        name="champion",
        version=version,
        digest=digest,
        signature=bundle.manifest.signature,
        scorer=opened.scorer,
        form=opened.form,
        golden=bundle.manifest.golden.rows[:1],
    )


def _challenger(
    store: Store, traffic: Traffic, signature: Signature, loaded: Mapping[int, Arm], *, trust: bool
) -> Arm | None:
    if traffic.challenger is None:
        return None
    return _other(store, traffic, traffic.challenger, (signature, loaded), trust=trust)


def _others(
    store: Store, traffic: Traffic, signature: Signature, loaded: Mapping[int, Arm], *, trust: bool
) -> list[Arm]:
    """Return the arms of the strategy beside the champion."""
    if traffic.strategy is None:
        return []
    versions = [version for version in traffic.strategy.members() if version != traffic.champion]
    return [_other(store, traffic, version, (signature, loaded), trust=trust) for version in versions]


def _other(
    store: Store, traffic: Traffic, version: int, known: tuple[Signature, Mapping[int, Arm]], *, trust: bool
) -> Arm:
    """Return an arm beside the champion; one that cannot be loaded says why and fails on every request."""
    signature, loaded = known
    try:
        return replace(_arm(store, traffic.model, version, loaded, trust=trust), name="challenger")
    except Exception as error:  # noqa: BLE001 - a bundle may fail in any way; the arm carries why
        trouble = said(error)
        logger.warning("challenger %s:%d cannot be loaded: %s", traffic.model, version, trouble)
        return Arm(name="challenger", version=version, digest="", signature=signature, scorer=None, trouble=trouble)
