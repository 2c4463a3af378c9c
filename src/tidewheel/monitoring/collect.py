"""Windows that are still open: counts that grow record by record and can be kept as JSON between two looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from tidewheel.models.baseline import output_columns
from tidewheel.models.signature import Signature
from tidewheel.monitoring.latency import Buckets, count_latencies, quantile_ms
from tidewheel.monitoring.losses import Answered, Loss
from tidewheel.monitoring.records import ArmTraffic
from tidewheel.predictions.join import LabelledRow
from tidewheel.predictions.records import ANSWERED, Prediction
from tidewheel.stats.profile import Profile, count_window

ROUNDING = 1e-6  # relative; that of 32-bit floats is 6e-8

FieldNames: TypeAlias = Callable[[int], Sequence[str]]
"""Model version (seq) to the names of its features, in order."""


class ArmCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What one arm did so far in an open window."""

    requests: int = 0  # given to it by the split, refused ones left out
    errors: int = 0  # of them failed
    refused: int = 0  # refused as the caller's mistake
    latencies: Buckets = {}  # of answered requests

    def closed(self) -> ArmTraffic:
        """Return the arm's line of the closed window."""
        return ArmTraffic(
            requests=self.requests,
            errors=self.errors,
            refused=self.refused,
            p50_ms=quantile_ms(self.latencies, 0.5),
            p95_ms=quantile_ms(self.latencies, 0.95),
            p99_ms=quantile_ms(self.latencies, 0.99),
        )


class OpenTraffic(msgspec.Struct, frozen=True, kw_only=True):
    """A traffic window that is still filling."""

    rows: int = 0  # predicted rows
    start: int = 0  # moment of its first record, microseconds since 1970; 0 before it
    end: int = 0  # moment of its last record
    cells: dict[str, list[int]] = {}  # by column, on the cells of the baseline
    arms: dict[str, ArmCounts] = {}  # by arm


class OpenLabels(msgspec.Struct, frozen=True, kw_only=True):
    """A window over labelled rows that is still filling."""

    rows: int = 0  # rows whose losses are summed
    unusable: int = 0  # rows whose label could not be used
    start: int = 0  # arrival of its first label, microseconds since 1970; 0 before it
    end: int = 0  # arrival of its last label
    sums: dict[str, float] = {}  # loss to its sum


def in_reign(record: Prediction, champion: int) -> bool:
    """Say whether a record belongs to the time of a champion: it answered, was asked too, or is being challenged."""
    beside = record.other is not None and record.other.version == champion
    return record.version == champion or beside or record.arm == "challenger"


def add_traffic(
    window: OpenTraffic,
    records: Sequence[Prediction],
    *,
    baseline: Profile,
    signature: Signature,
    champion: int,
    names: FieldNames,
) -> OpenTraffic:
    """Return the window with more records counted, in the order of the log."""
    if not records:
        return window
    answered = [record for record in records if record.status == ANSWERED]
    counted = dict(window.cells)
    for columns in (_features(answered, names), _answers(answered, signature, champion, baseline)):
        for name, counts in count_window(baseline, columns).items():
            before = counted.get(name)
            counted[name] = counts.tolist() if before is None else (np.asarray(before) + counts).tolist()
    return OpenTraffic(
        rows=window.rows + sum(len(record.output) for record in answered),
        start=window.start or records[0].at,
        end=max(window.end, records[-1].at),
        cells=counted,
        arms=_add_arms(window.arms, records),
    )


def add_losses(
    window: OpenLabels, rows: Sequence[LabelledRow], losses: Mapping[Loss, NDArray[Any]], *, watched: Loss
) -> OpenLabels:
    """Return the window with the losses of more rows added; a row whose watched loss is unknown is left out.

    Another loss that a usable row does not have (an answer came without probabilities) is left out of the window.
    """
    if not rows:
        return window
    usable = np.isfinite(losses[watched])
    sums = {}
    for loss, values in losses.items():
        before = window.sums.get(loss) if window.rows else 0.0
        if before is not None and np.isfinite(values[usable]).all():
            sums[str(loss)] = before + float(values[usable].sum())
    return OpenLabels(
        rows=window.rows + int(usable.sum()),
        unusable=window.unusable + int((~usable).sum()),
        start=window.start or rows[0].at,
        end=max(window.end, rows[-1].at),
        sums=sums,
    )


def arm_answers(rows: Sequence[LabelledRow], version: int, classes: Sequence[Any]) -> Answered:
    """Return what one model version said to labelled rows; each must hold its answer, see `holds_answer`."""
    predicted: list[Any] = []
    probability: list[Sequence[float] | None] = []
    for row in rows:
        record = row.prediction
        said = record if record.version == version or record.other is None else record.other
        predicted.append(said.output[row.row])
        probability.append(None if said.probability is None else said.probability[row.row])
    return Answered(truth=[row.label for row in rows], predicted=predicted, probability=probability, classes=classes)


def holds_answer(row: LabelledRow, version: int) -> bool:
    """Say whether a labelled row holds the answer of a model version, given by it or beside another one."""
    record = row.prediction
    if record.version == version:
        return row.row < len(record.output)
    return record.other is not None and record.other.version == version and row.row < len(record.other.output)


def _features(records: Sequence[Prediction], names: FieldNames) -> dict[str, Sequence[Any] | NDArray[Any]]:
    """Turn rows into columns by name; versions may order their features differently, and rules redact some."""
    columns: dict[str, list[Any]] = {}
    for version, redacted in dict.fromkeys((record.version, record.redacted) for record in records):
        fields = names(version)
        own = (record for record in records if (record.version, record.redacted) == (version, redacted))
        rows = [row for record in own for row in record.features if len(row) == len(fields)]
        for place, (name, values) in enumerate(zip(fields, zip(*rows, strict=True), strict=False)):
            if place not in redacted:
                columns.setdefault(name, []).extend(values)
    return dict(columns)


def _answers(
    records: Sequence[Prediction], signature: Signature, champion: int, baseline: Profile
) -> dict[str, Sequence[Any] | NDArray[Any]]:
    outputs: list[Any] = []
    shares: list[Sequence[float]] = []
    for record in records:
        said = record if record.version == champion else record.other
        if said is None or said.version != champion or not said.output:
            continue
        outputs.extend(said.output)
        shares.extend(said.probability or [])
    if not outputs:
        return {}
    table = output_columns(signature, outputs, shares if len(shares) == len(outputs) else None)
    return {
        name: _settled(table[name].to_numpy(), baseline.columns[name].edges)
        if dtype.is_float()
        else table[name].to_list()
        for name, dtype in table.schema.items()
        if name in baseline.columns
    }


def _settled(values: NDArray[Any], edges: Sequence[float]) -> NDArray[Any]:
    """Undo the rounding of a model that is served in 32 bits.

    The baseline was scored in 64: where many rows share one answer, an edge stands on it, and rounding would move all
    of them across.
    """
    lifted: NDArray[Any] = values + np.abs(values) * ROUNDING
    if not edges:
        return lifted
    at_end = np.abs(values - edges[-1]) <= abs(edges[-1]) * ROUNDING
    return np.where(at_end, edges[-1], lifted)


def _add_arms(arms: Mapping[str, ArmCounts], records: Sequence[Prediction]) -> dict[str, ArmCounts]:
    counted = dict(arms)
    for arm in dict.fromkeys(record.arm for record in records):
        before = counted.get(arm, ArmCounts())
        own = [record for record in records if record.arm == arm]
        split = [record for record in own if record.route == "split"]
        answered = [record.latency_us for record in split if record.status == ANSWERED]
        failed = sum(record.status >= 500 for record in split)
        counted[arm] = ArmCounts(
            requests=before.requests + len(answered) + failed,
            errors=before.errors + failed,
            refused=before.refused + sum(ANSWERED < record.status < 500 for record in own),
            latencies=count_latencies(before.latencies, answered),
        )
    return counted
