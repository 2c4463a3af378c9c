"""The goal: is the candidate's loss no worse, is it worse, on rows whose truth is known.

Where both arms scored a request, the difference of their losses on the same row is bet on, in [-1, 1]: differences of
errors and Brier scores as they are, others divided by a scale that is fixed from the first rows (which then do not
count) and clipped. Where only one arm scored each request, the difference of inverse-propensity weighted means is
followed by an asymptotic confidence sequence.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from tidewheel.models.signature import Signature
from tidewheel.monitoring.collect import arm_answers, holds_answer
from tidewheel.monitoring.losses import Floats, Loss, as_metric, fitting_loss, row_losses
from tidewheel.predictions.join import LabelledRow
from tidewheel.rollout.rollouts import Canary, goal_margin
from tidewheel.stats.eprocess import BettingProcess, betting_process
from tidewheel.stats.mean_sequence import MeanSequence, weighted_differences

SCALE_ROWS = 20  # rows from which the scale of an unbounded loss is fixed
SCALE_QUANTILE = 0.9  # of the champion's losses on them: a few wild rows do not set the scale
SCALE_TIMES = 3.0  # beyond so many times that quantile a difference is clipped
BOUNDED: frozenset[Loss] = frozenset({"error", "brier"})


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """Who is compared, and by which loss."""

    champion: int  # version that serves
    candidate: int  # version on trial
    loss: Loss | None  # loss behind the goal; None without a goal
    classes: list[Any] = []  # class labels in the order of the champion's probabilities
    candidate_classes: list[Any] = []  # in the order of the candidate's


class GoalEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What labels have shown so far."""

    rows: int = 0  # labelled rows that count
    unusable: int = 0  # labelled rows that could not be used
    champion_loss: float = 0.0  # sum of the champion's losses
    champion_rows: int = 0  # over so many rows
    candidate_loss: float = 0.0  # sum of the candidate's losses, failures left out
    candidate_rows: int = 0  # over so many rows
    first: tuple[tuple[float, float], ...] = ()  # losses (champion, candidate) until the scale is fixed
    scale: float | None = None  # what a difference is divided by
    null: float = 0.0  # difference at which the candidate counts as worse, divided by the scale; at most 0
    proof: BettingProcess | None = None  # against "worse by more than the margin"
    harm: BettingProcess | None = None  # against "not worse"
    means: MeanSequence = MeanSequence()  # of weighted differences, without pairs

    @property
    def log_proof(self) -> float:
        """Evidence that the candidate is not worse by more than the margin, as the logarithm of an e-value."""
        if self.proof is not None:
            return self.proof.log_e
        return self.means.log_e(self.null) if self.means.count else 0.0

    @property
    def log_harm(self) -> float:
        """Evidence that the candidate is worse."""
        if self.harm is not None:
            return self.harm.log_e
        return msgspec.structs.replace(self.means, mean=-self.means.mean).log_e(0.0) if self.means.count else 0.0


def goal_subject(config: Canary, champion: int, candidate: int, signatures: tuple[Signature, Signature]) -> Subject:
    """Return who is compared by which loss; `signatures` are those of champion and candidate."""
    mine, theirs = signatures
    loss = None
    if config.goal is not None:
        both = mine.probabilities and theirs.probabilities
        loss = fitting_loss(config.goal, probabilities=both, classes=len(mine.classes or ()))
    return Subject(
        champion=champion,
        candidate=candidate,
        loss=loss,
        classes=list(mine.classes or ()),
        candidate_classes=list(theirs.classes or ()),
    )


def see_pairs(goal: GoalEvidence, rows: Sequence[LabelledRow], subject: Subject, config: Canary) -> GoalEvidence:
    """Return the evidence after more labelled rows that both arms were asked about."""
    asked = [row for row in rows if _was_paired(row, subject)]
    if not asked or subject.loss is None:
        return goal
    champion = _losses_of(asked, subject.champion, subject.loss, subject.classes)
    candidate = _losses_of(asked, subject.candidate, subject.loss, subject.candidate_classes)
    usable = ~np.isnan(champion) & ~np.isnan(candidate)
    goal = _count(goal, champion[usable], candidate[usable], unusable=int((~usable).sum()))
    if subject.loss in BOUNDED:  # a failure is the greatest loss there is
        champion, candidate = np.minimum(champion, 1.0), np.minimum(candidate, 1.0)
    return _bet(goal, champion[usable], candidate[usable], subject.loss, config)


def see_split(
    goal: GoalEvidence, rows: Sequence[LabelledRow], subject: Subject, config: Canary, *, share: float
) -> GoalEvidence:
    """Return the evidence after more labelled rows that one arm each was asked about; `share` is the candidate's."""
    loss = subject.loss
    if loss is None:
        return goal
    own = [row for row in rows if row.prediction.route in ("split", "fallback")]
    failed = [row.prediction.route == "fallback" for row in own]
    in_arm = np.array(
        [fell or row.prediction.version == subject.candidate for row, fell in zip(own, failed, strict=True)], dtype=bool
    )
    champion = _losses_of(own, subject.champion, loss, subject.classes)
    candidate = _losses_of(own, subject.candidate, loss, subject.candidate_classes)
    losses = np.where(in_arm, candidate, champion)
    usable = ~np.isnan(losses)
    losses, in_arm = losses[usable], in_arm[usable]
    goal = _count(goal, losses[~in_arm], losses[in_arm], unusable=0)
    if not len(losses):
        return goal
    chance = [_chance(row, share) for row, fits in zip(own, usable, strict=True) if fits]
    known = losses[np.isfinite(losses)]
    ceiling = 1.0 if loss in BOUNDED else max(goal.scale or 0.0, float(known.max(initial=0.0)))
    bounded = np.minimum(losses, ceiling)  # a failure weighs as much as the worst answer
    means = goal.means.update(-weighted_differences(bounded, in_arm, chance))
    reference = goal.champion_loss / goal.champion_rows if goal.champion_rows else 0.0
    margin = goal_margin(config, bounded=loss in BOUNDED)
    null = -margin if loss in BOUNDED else -margin * reference
    return msgspec.structs.replace(goal, means=means, null=null, scale=ceiling, rows=means.count)


def goal_numbers(goal: GoalEvidence, loss: Loss) -> dict[str, Any]:
    """Return the evidence as JSON: rows, the metric of either arm, the logarithms of the e-values."""
    numbers: dict[str, Any] = {
        "rows": goal.rows,
        "unusable": goal.unusable,
        "log_e_not_worse": round(goal.log_proof, 3),
        "log_e_worse": round(goal.log_harm, 3),
    }
    for arm, total, rows in (
        ("champion", goal.champion_loss, goal.champion_rows),
        ("candidate", goal.candidate_loss, goal.candidate_rows),
    ):
        if rows:
            name, value = as_metric(loss, total / rows)
            numbers |= {"metric": name, arm: round(value, 6)}
    return numbers


def _was_paired(row: LabelledRow, subject: Subject) -> bool:
    record = row.prediction
    if record.route == "fallback":  # the candidate failed, the champion answered
        return record.version == subject.champion
    if record.route != "split" or record.other is None:
        return False
    return {record.version, record.other.version} == {subject.champion, subject.candidate}


def _losses_of(rows: Sequence[LabelledRow], version: int, loss: Loss, classes: Sequence[Any]) -> Floats:
    """Return the losses of one version; infinite where it failed, not-a-number where nothing can be said."""
    losses = np.full(len(rows), np.inf)
    held = [place for place, row in enumerate(rows) if holds_answer(row, version)]
    answered = arm_answers([rows[place] for place in held], version, classes)
    losses[held] = row_losses(loss, answered)
    return losses


def _count(goal: GoalEvidence, champion: Floats, candidate: Floats, *, unusable: int) -> GoalEvidence:
    mine, theirs = champion[np.isfinite(champion)], candidate[np.isfinite(candidate)]
    return msgspec.structs.replace(
        goal,
        unusable=goal.unusable + unusable,
        champion_loss=goal.champion_loss + float(mine.sum()),
        champion_rows=goal.champion_rows + len(mine),
        candidate_loss=goal.candidate_loss + float(theirs.sum()),
        candidate_rows=goal.candidate_rows + len(theirs),
    )


def _bet(goal: GoalEvidence, champion: Floats, candidate: Floats, loss: Loss, config: Canary) -> GoalEvidence:
    margin = goal_margin(config, bounded=loss in BOUNDED)
    if goal.scale is None and loss in BOUNDED:
        goal = _begin_bets(goal, 1.0, -margin)
    elif goal.scale is None:
        first = (*goal.first, *zip(champion.tolist(), candidate.tolist(), strict=True))
        if len(first) < SCALE_ROWS:
            return msgspec.structs.replace(goal, first=first)
        scale, mean = _scale(np.array(first[:SCALE_ROWS], dtype=np.float64))
        goal = _begin_bets(goal, scale, max(-margin * mean / scale, -0.99))
        rest = np.array(first[SCALE_ROWS:], dtype=np.float64).reshape(-1, 2)
        champion, candidate = rest[:, 0], rest[:, 1]
    if goal.scale is None or goal.proof is None or goal.harm is None:
        return goal
    gain = np.clip(_gap(champion, candidate) / goal.scale, -1.0, 1.0)
    return msgspec.structs.replace(
        goal, proof=goal.proof.update(gain), harm=goal.harm.update(-gain), rows=goal.rows + len(gain)
    )


def _begin_bets(goal: GoalEvidence, scale: float, null: float) -> GoalEvidence:
    return msgspec.structs.replace(
        goal,
        first=(),
        scale=scale,
        null=null,
        proof=betting_process(null, low=-1.0, high=1.0),
        harm=betting_process(0.0, low=-1.0, high=1.0),
    )


def _gap(champion: Floats, candidate: Floats) -> Floats:
    """Return by how much the candidate is better; for a loss without bound a failure is an infinite loss."""
    both_failed = np.isinf(champion) & np.isinf(candidate)
    with np.errstate(invalid="ignore"):
        return np.where(both_failed, 0.0, champion - candidate)


def _scale(first: Floats) -> tuple[float, float]:
    """Return the scale of differences and the champion's mean loss, clipped at the scale."""
    known = [side[np.isfinite(side)] for side in (first[:, 0], first[:, 1])]
    scales = [SCALE_TIMES * float(np.quantile(side, SCALE_QUANTILE)) if len(side) else 0.0 for side in known]
    scale = scales[0] or scales[1] or 1.0
    mean = float(np.minimum(known[0], scale).mean()) if len(known[0]) else 0.0
    # A perfect champion leaves no margin; a thousandth of the scale keeps the question answerable.
    return scale, max(mean, scale * 1e-3)


def _chance(row: LabelledRow, share: float) -> float:
    """Return the chance with which the row's unit was given to the candidate."""
    record = row.prediction
    if record.route == "fallback":
        return share
    chance = record.propensity if record.arm == "challenger" else 1.0 - record.propensity
    return chance if 0 < chance < 1 and not math.isnan(chance) else share
