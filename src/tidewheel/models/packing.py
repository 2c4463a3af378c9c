"""A model as one run of bytes, native and exact: what a pipeline keeps between two steps."""

from __future__ import annotations

import msgspec

from tidewheel.blobs.store import digest_of
from tidewheel.errors import InvalidInput, UnsupportedFormat
from tidewheel.models.frames import Adapter
from tidewheel.models.model import Model
from tidewheel.models.networks import is_network
from tidewheel.models.pickle_format import dump_object, load_object
from tidewheel.models.pt2_format import dump_network, load_network
from tidewheel.models.signature import Signature
from tidewheel.models.skops_format import dump_estimator, load_estimator

MEDIA_TYPE = "application/vnd.tidewheel.model+msgpack"


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """A model on the wire."""

    signature: Signature  # inputs and outputs
    adapter: Adapter  # frame kind the estimator takes
    format: str  # skops, pt2 for networks, or pickle
    trust: bool  # whether the user allowed a pickle in bundles of this model
    estimator: bytes  # the estimator in that format


def pack(model: Model) -> bytes:
    """Return a model as bytes, as skops (a network as .pt2) where possible; the same model gives the same bytes.

    Raises UnsupportedFormat when they cannot hold it and the model does not carry trust=True.
    """
    return model.packed(_pack)


def _pack(model: Model) -> bytes:
    try:
        network = is_network(model.estimator)
        form, estimator = ("pt2", dump_network(model)) if network else ("skops", dump_estimator(model.estimator))
    except UnsupportedFormat:
        if not model.trust:
            raise
        form, estimator = "pickle", dump_object(model.estimator)
    packed = Packed(
        signature=model.signature, adapter=model.adapter, format=form, trust=model.trust, estimator=estimator
    )
    return msgspec.msgpack.encode(packed)


def unpack(data: bytes, *, trust: bool = False) -> Model:
    """Return the model of packed bytes.

    Raises InvalidInput for other bytes, UnsupportedFormat for a pickle without trust=True.
    """
    try:
        packed = msgspec.msgpack.decode(data, type=Packed)
    except msgspec.MsgspecError as error:
        raise InvalidInput(
            f"These bytes are not a packed model: {error}.", "Give what pack(model) returned."
        ) from error
    if packed.format == "pickle" and not trust:
        raise UnsupportedFormat(
            "This model is a pickle, which runs code when it is loaded.", "Say trust=True if you trust its maker."
        )
    load = {"skops": load_estimator, "pt2": load_network}.get(packed.format, load_object)
    estimator = load(packed.estimator)
    return Model.restored(estimator, signature=packed.signature, adapter=packed.adapter, trust=packed.trust)


def digest_of_model(model: Model) -> str:
    """Return the digest of the packed model; a pickle serves where skops cannot, whether trusted or not."""
    try:
        return digest_of(pack(model))
    except UnsupportedFormat:
        trusted = Model.restored(model.estimator, signature=model.signature, adapter=model.adapter, trust=True)
        return digest_of(pack(trusted))
