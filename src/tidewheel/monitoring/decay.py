"""Decay: has the champion's risk risen above what is tolerated, judged at every label by the risk detector."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from tidewheel.models.signature import Signature
from tidewheel.monitoring.collect import OpenLabels
from tidewheel.monitoring.losses import (
    Floats,
    Loss,
    as_metric,
    fitting_loss,
    loss_ceiling,
    mean_loss,
    tolerated_loss,
    usual_metric,
)
from tidewheel.monitoring.policy import MonitorPolicy
from tidewheel.monitoring.records import Performance
from tidewheel.stats.detector import RiskDetector, risk_detector

LEARNING_ROWS = 100  # labelled rows from which a reference is taken when the registry holds none
ONE_SIDED_95 = 1.645  # a learned reference is raised by so many standard errors, as it may be too good


class DecayWatch(msgspec.Struct, frozen=True, kw_only=True):
    """What the champion is held to, and the evidence so far."""

    metric: str  # the metric that is watched
    loss: Loss  # the loss behind it
    worse_by: float  # the policy's tolerance
    run_length: float  # the policy's run length
    source: Literal["holdout", "first labels"]  # where the reference comes from
    reference: float | None = None  # mean loss the champion is held to; None while it is being learned
    learned: tuple[float, ...] = ()  # losses of the first labelled rows, while the reference is being learned
    detector: RiskDetector | None = None  # None while the reference is being learned

    @property
    def alarmed(self) -> bool:
        """Whether the risk has risen above what is tolerated."""
        return self.detector is not None and self.detector.alarmed


def watch_decay(policy: MonitorPolicy, signature: Signature, metrics: Mapping[str, float]) -> DecayWatch:
    """Return a watch that has seen no label; `metrics` are those the champion was registered with."""
    metric = policy.decay or usual_metric(signature.task)
    loss = fitting_loss(metric, probabilities=signature.probabilities, classes=len(signature.classes or ()))
    reference = mean_loss(loss, metrics)
    watch = DecayWatch(
        metric=metric,
        loss=loss,
        worse_by=policy.worse_by,
        run_length=policy.run_length,
        source="first labels" if reference is None else "holdout",
    )
    return watch if reference is None else _held_to(watch, reference)


def follows(watch: DecayWatch, policy: MonitorPolicy, signature: Signature) -> bool:
    """Say whether a watch was begun under this policy."""
    wanted = (policy.decay or usual_metric(signature.task), policy.worse_by, policy.run_length)
    return (watch.metric, watch.worse_by, watch.run_length) == wanted


def see_losses(watch: DecayWatch, losses: Floats) -> DecayWatch:
    """Return the watch after more losses of the champion, in the order in which the labels arrived."""
    usable = losses[np.isfinite(losses)]
    if watch.detector is None:
        learned = (*watch.learned, *(float(loss) for loss in usable))
        watch = msgspec.structs.replace(watch, learned=learned[:LEARNING_ROWS])
        if len(learned) < LEARNING_ROWS:
            return watch
        usable = np.asarray(learned[LEARNING_ROWS:])
        watch = _held_to(watch, _cautious_mean(watch.learned))
    if watch.detector is None or not len(usable):
        return watch
    ceiling = watch.detector.ceiling
    return msgspec.structs.replace(watch, detector=watch.detector.update(np.minimum(usable, ceiling)))


def restarted(watch: DecayWatch) -> DecayWatch:
    """Return the watch with its reference kept and its evidence forgotten."""
    return watch if watch.reference is None else _held_to(watch, watch.reference)


def performance_of(window: OpenLabels, watch: DecayWatch) -> Performance:
    """Return the figures of a full window over labels."""
    means = {loss: total / window.rows for loss, total in window.sums.items()}
    shown = dict(as_metric(loss, mean) for loss, mean in means.items())  # type: ignore[arg-type]
    reference = None if watch.reference is None else as_metric(watch.loss, watch.reference)[1]
    tolerated = None if watch.detector is None else as_metric(watch.loss, watch.detector.tolerated)[1]
    metric, value = as_metric(watch.loss, means[watch.loss])
    return Performance(
        metric=metric, value=value, reference=reference, tolerated=tolerated, metrics=shown, unusable=window.unusable
    )


def is_calm(window: OpenLabels, watch: DecayWatch, exit_ratio: float) -> bool:
    """Say whether a full window is back within a share of the tolerance."""
    if watch.reference is None or watch.detector is None:
        return True
    limit = watch.reference + exit_ratio * (watch.detector.tolerated - watch.reference)
    return window.sums[watch.loss] / window.rows <= limit


def decay_evidence(watch: DecayWatch, recent: OpenLabels) -> dict[str, Any]:
    """Return the numbers behind a decay verdict, as JSON."""
    detector = watch.detector
    if detector is None or watch.reference is None:
        return {}
    metric, reference = as_metric(watch.loss, watch.reference)
    return {
        "metric": metric,
        "watched": watch.metric,
        "reference": reference,
        "reference_from": watch.source,
        "tolerated": as_metric(watch.loss, detector.tolerated)[1],
        "recent": as_metric(watch.loss, recent.sums[watch.loss] / recent.rows)[1] if recent.rows else None,
        "labelled_rows": detector.count,
        "alarm_at_row": detector.alarm_at,
        "rise_began_at_row": detector.rise_began,
        "log_statistic": round(detector.log_statistic, 3),
        "log_threshold": round(math.log(detector.run_length), 3),
        "expected_rows_to_false_alarm": detector.run_length,
    }


def decay_reason(evidence: Mapping[str, Any]) -> str:
    """Return a decay verdict in words."""
    recent = evidence.get("recent")
    seen = f"{evidence['metric']} is {recent:.4g}" if recent is not None else f"{evidence['metric']} has become worse"
    return f"{seen}, {evidence['reference']:.4g} was shown and {evidence['tolerated']:.4g} is tolerated"


def losses_to_sum(watch: DecayWatch, signature: Signature) -> Sequence[Loss]:
    """Return the losses whose means a labels window shows, the watched one among them."""
    if signature.task == "regression":
        usual: tuple[Loss, ...] = ("squared", "absolute")
    elif signature.probabilities:
        usual = ("error", "surprise", "brier") if len(signature.classes or ()) == 2 else ("error", "surprise")
    else:
        usual = ("error",)
    return tuple(dict.fromkeys((*usual, watch.loss)))


def _held_to(watch: DecayWatch, reference: float) -> DecayWatch:
    tolerated = tolerated_loss(watch.loss, reference, watch.worse_by)
    detector = risk_detector(tolerated, ceiling=loss_ceiling(watch.loss, tolerated), run_length=watch.run_length)
    return msgspec.structs.replace(watch, reference=reference, learned=(), detector=detector)


def _cautious_mean(losses: Sequence[float]) -> float:
    values = np.asarray(losses)
    return float(values.mean() + ONE_SIDED_95 * values.std() / math.sqrt(len(values)))
