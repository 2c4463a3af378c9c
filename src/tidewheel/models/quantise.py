"""ONNX graphs with 8-bit weights: a quarter of the size, and a loss that is measured before anything is served."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from tidewheel.blobs.store import digest_of
from tidewheel.errors import UnsupportedFormat
from tidewheel.models.encode import QUANTISED, Encoded, format_named
from tidewheel.models.golden import golden_samples
from tidewheel.models.manifest import FormatEntry, Quantisation
from tidewheel.models.model import Model
from tidewheel.models.parity import compare_scores, sample
from tidewheel.models.scorer import Scores

AGREEMENT = 0.99  # share of decisions that must stay the same, unless another is stated
CLOSE = 0.01  # of the range of the original's numbers: what counts as the same decision for regression


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """What came of quantising a model."""

    loss: Quantisation  # the measured loss, for the manifest
    encoded: Encoded | None = None  # the form to serve; None when too much is lost


def quantise_model(model: Model, frame: pl.DataFrame, forms: Sequence[Encoded], wanted: float) -> Quantised:
    """Quantise the model's ONNX graph dynamically and compare it with the original on real rows.

    `wanted` is the share of decisions that must stay the same; 1.0 is what `quantise=True` gives and means 0.99.
    """
    wanted = AGREEMENT if wanted == 1.0 else wanted
    source = next((each for each in forms if each.entry.name == "onnx"), None)
    if source is None:
        return Quantised(loss=_refused(wanted, 0, "The model is not stored as ONNX."))
    try:
        data = quantise_graph(source.data)
        scorer = format_named(QUANTISED).load(data, signature=model.signature, adapter=model.adapter)
    except UnsupportedFormat as refusal:
        return Quantised(loss=_refused(wanted, len(source.data), refusal.what))
    rows = sample(frame)
    original, other = model.score(rows), scorer.score(rows)
    loss = measure_loss(original, other, wanted=wanted, size=len(data), of=len(source.data))
    if not loss.served:
        return Quantised(loss=loss)
    entry = FormatEntry(
        name=QUANTISED,
        digest=digest_of(data),
        size=len(data),
        parity=msgspec.structs.replace(compare_scores(original, other), passed=True),
        reason=f"{loss.agreement:.2%} of decisions are those of the original, {wanted:.2%} were asked for.",
        golden=golden_samples(scorer, frame),
    )
    return Quantised(loss=loss, encoded=Encoded(entry=entry, data=data))


def quantise_graph(data: bytes) -> bytes:
    """Return an ONNX graph with 8-bit weights.

    Raises UnsupportedFormat for a graph without matrix products: trees have nothing to quantise.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load_from_string(data)
    if not any(node.op_type in ("MatMul", "Gemm", "Conv") for node in graph.graph.node):
        raise UnsupportedFormat(
            "The graph has no matrix product, so there is nothing to quantise.",
            "Quantise networks and linear models; trees stay as they are.",
        )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "quantised.onnx"
        root = logging.getLogger()
        before = root.level
        root.setLevel(logging.ERROR)  # it advises to preprocess, through the root logger
        try:
            quantize_dynamic(graph, out, weight_type=QuantType.QInt8)
        except Exception as error:
            raise UnsupportedFormat(f"onnxruntime cannot quantise this graph: {error}", "Serve it as it is.") from error
        finally:
            root.setLevel(before)
        made = onnx.load(out)
    quantised: bytes = made.SerializeToString(deterministic=True)
    return quantised


def measure_loss(original: Scores, other: Scores, *, wanted: float, size: int, of: int) -> Quantisation:
    """Compare the answers of a quantised graph with the original's to the same rows."""
    count = len(original.prediction)
    if original.probabilities is None and original.prediction.dtype.kind == "f":
        differences = np.abs(original.prediction.astype(np.float64) - other.prediction)
        close = CLOSE * float(np.ptp(original.prediction))
        agreed = int(np.count_nonzero(differences <= close))
    else:
        agreed = int(np.count_nonzero(np.asarray(original.prediction == other.prediction)))
        one, two = original.probabilities, other.probabilities
        differences = np.zeros(1) if one is None or two is None else np.abs(one - two)
    agreement = agreed / count
    served = agreement >= wanted
    return Quantisation(
        served=served,
        agreement=agreement,
        wanted=wanted,
        rows=count,
        largest=float(differences.max()),
        mean=float(differences.mean()),
        size=size,
        of=of,
        reason="" if served else f"{agreement:.2%} of decisions stay the same, {wanted:.2%} were asked for.",
    )


def _refused(wanted: float, of: int, reason: str) -> Quantisation:
    return Quantisation(
        served=False, agreement=0.0, wanted=wanted, rows=0, largest=0.0, mean=0.0, size=0, of=of, reason=reason
    )
