"""Gates: what a candidate must show before it may serve, judged on confidence bounds where it can be."""

from __future__ import annotations

from collections.abc import Sequence

from tidewheel.errors import InvalidInput
from tidewheel.evaluation.absolute_gates import DataValid, Threshold
from tidewheel.evaluation.champion_gate import BeatsChampion, Demand
from tidewheel.evaluation.evidence import Evidence, GateContext
from tidewheel.evaluation.latency_gate import Latency
from tidewheel.evaluation.metrics import find_metric
from tidewheel.evaluation.verdict import Gate, Judgement


def judge(gates: Sequence[Gate], context: GateContext) -> Judgement:
    """Return the verdict of every gate on a candidate; both models score the rows once.

    A candidate that cannot be scored fails; no gates, no objection.
    Raises NotFound for a label or slice column that does not exist, InvalidInput for a metric of another task.
    """
    evidence = Evidence(context)
    results = tuple(gate.check(evidence) for gate in gates)
    return Judgement(passed=all(result.verdict == "pass" for result in results), results=results)


def beats_champion(
    metric: str,
    *,
    slices: Sequence[str] = (),
    margin: float = 0.0,
    confidence: float = 0.8,
    demand: Demand = "better",
) -> BeatsChampion:
    """Demand that the candidate does better than the champion on the same held-out rows.

    demand="better": the difference must be above 0, and above -`margin` (units of the metric) with one-sided
    `confidence`. demand="not_worse": it passes unless it is worse by more than `margin` with that confidence.
    On every slice of the named columns it must not be worse by more than `margin` (the doubt is shared among them).
    Without a champion, or when the champion cannot score these rows, it must beat the best constant
    answer with a confidence of at least 0.95.
    Fewer than 30 rows, or a difference that they cannot tell from none, is not enough data.
    Raises NotFound for an unknown metric, InvalidInput for a confidence outside [0.5, 1) or a negative margin.
    """
    find_metric(metric)
    if not 0.5 <= confidence < 1.0:
        raise InvalidInput(f"A confidence of {confidence} was asked for.", "Give one from 0.5 (none) to below 1.")
    if margin < 0:
        raise InvalidInput(f"The margin {margin} is negative.", "Give how much worse is still acceptable, 0 or more.")
    if demand not in ("better", "not_worse"):
        raise InvalidInput(f"There is no demand {demand!r}.", 'Use "better" or "not_worse".')
    return BeatsChampion(metric=metric, slices=tuple(slices), margin=margin, confidence=confidence, demand=demand)


def threshold(
    metric: str, *, at_least: float | None = None, at_most: float | None = None, slices: Sequence[str] = ()
) -> Threshold:
    """Demand that a metric of the candidate lies within bounds, on all rows and on every slice of 30 rows or more.

    Raises NotFound for an unknown metric, InvalidInput without a bound.
    """
    find_metric(metric)
    if at_least is None and at_most is None:
        raise InvalidInput(f"threshold({metric!r}) has no bound.", "Give at_least=, at_most= or both.")
    return Threshold(metric=metric, at_least=at_least, at_most=at_most, slices=tuple(slices))


def latency(p99_ms: float) -> Latency:
    """Demand that 99 of 100 single-row calls of the candidate take at most `p99_ms` milliseconds on this machine.

    Raises InvalidInput for a limit that is not positive.
    """
    if not p99_ms > 0:
        raise InvalidInput(f"A latency limit of {p99_ms} ms was given.", "Give a positive number of milliseconds.")
    return Latency(p99_ms=p99_ms)


def data_valid(*, warnings: bool = False) -> DataValid:
    """Demand that validation found no error in the candidate's data; with `warnings` no warning either."""
    return DataValid(warnings=warnings)
