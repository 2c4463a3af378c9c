"""What requests have shown so far: failures and slowness of both arms, exposure, and whether the split is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from zlib import crc32

import msgspec
import numpy as np

from tidewheel.predictions.records import ANSWERED, Prediction
from tidewheel.rollout.goal import GoalEvidence, Subject
from tidewheel.rollout.rollouts import Canary
from tidewheel.stats.arm_errors import ArmErrors, Tally
from tidewheel.stats.eprocess import BettingProcess, betting_process
from tidewheel.stats.sample_ratio import SampleRatio

WARM_UP = 50  # answers of the champion from which the limit of a slow request is fixed
SLOW_QUANTILE = 0.95
SLACK_US = 5_000  # a request is not called slow for less than this beyond the champion's quantile
UNIT_BITS = 1 << 14  # size of the table of units seen; further units are no longer counted when it is full
PROOF_STAKES = (0.95, 0.6, 0.25)  # a candidate that never fails is proven fastest by large bets


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides a rollout; kept as JSON between two looks."""

    requests: int = 0  # requests that the split led to either arm
    scored: int = 0  # of them scored by the candidate, answering or beside the champion
    step_scored: int = 0  # scored by the candidate since the present step began
    errors: ArmErrors = ArmErrors()  # against "the candidate fails at most as often"
    error_proof: BettingProcess  # against "its error rate is higher by more than the margin"
    waiting: Tally = Tally()  # attempts that wait for one of the other arm, without pairs
    latency: ArmErrors = ArmErrors()  # against "the candidate is slow at most as often"
    slow_us: int | None = None  # the champion's request is slow beyond this; None while it is being learned
    warming: tuple[int, ...] = ()  # the champion's first latencies, microseconds
    ratio: SampleRatio = SampleRatio()  # against "units fall into the arms as the split says"
    units: bytes = b""  # which units have been counted, one bit each
    goal: GoalEvidence = GoalEvidence()  # what labels have shown


@dataclass(slots=True)
class Seen:
    """Attempts of a batch of records, sorted out."""

    requests: int = 0  # led to an arm by the split
    pairs: list[tuple[bool, bool]] = field(default_factory=list)  # (champion failed, candidate failed)
    attempts: list[tuple[bool, bool]] = field(default_factory=list)  # (candidate's, failed), in order
    latencies: list[tuple[bool, int]] = field(default_factory=list)  # (candidate's, microseconds)
    assigned: list[tuple[str, bool, float]] = field(default_factory=list)  # (unit, candidate's, its share)


def no_evidence(config: Canary) -> Evidence:
    """Return the evidence of a rollout that begins."""
    proof = betting_process(-config.error_margin, low=-1.0, high=1.0, stakes=PROOF_STAKES)
    return Evidence(error_proof=proof)


def next_step(evidence: Evidence) -> Evidence:
    """Return the evidence with the exposure of a new step begun; everything else is kept."""
    return msgspec.structs.replace(evidence, step_scored=0)


def sort_records(records: Sequence[Prediction], subject: Subject) -> Seen:
    """Sort out what a batch says about either arm; requests refused as the caller's mistake say nothing."""
    seen = Seen()
    for record in records:
        if record.version not in (subject.champion, subject.candidate) or ANSWERED < record.status < 500:
            continue
        failed = record.status >= 500
        mine = record.version == subject.candidate
        if record.route == "fallback" and not mine:
            seen.pairs.append((failed, True))  # the candidate's failure stands in a record of its own
        elif record.route == "split":
            _sort_split(seen, record, subject, mine=mine, failed=failed)
    return seen


def see_requests(evidence: Evidence, seen: Seen, config: Canary) -> Evidence:
    """Return the evidence after a batch."""
    if not seen.requests and not seen.pairs:
        return evidence
    if config.paired:
        scored, tally = len(seen.pairs), _paired_tally(seen.pairs)
        gains = [float(mine) - float(theirs) for mine, theirs in seen.pairs]
        waiting = evidence.waiting
    else:
        scored, tally = sum(mine for mine, _ in seen.attempts), _split_tally(seen.attempts)
        gains, waiting = _grouped_gains(evidence.waiting, seen.attempts)
    evidence = msgspec.structs.replace(
        evidence,
        requests=evidence.requests + seen.requests,
        scored=evidence.scored + scored,
        step_scored=evidence.step_scored + scored,
        errors=evidence.errors.update(tally),
        error_proof=evidence.error_proof.update(np.asarray(gains)),
        waiting=waiting,
    )
    return _see_units(_see_latencies(evidence, seen.latencies, config), seen.assigned)


def _sort_split(seen: Seen, record: Prediction, subject: Subject, *, mine: bool, failed: bool) -> None:
    seen.requests += 1
    seen.attempts.append((mine, failed))
    if not failed:
        seen.latencies.append((mine, record.latency_us))
    if 0 < record.propensity < 1:
        share = record.propensity if mine else 1.0 - record.propensity
        seen.assigned.append((record.unit or record.id, mine, round(share, 4)))
    other = record.other
    if other is not None and {record.version, other.version} == {subject.champion, subject.candidate}:
        beside = bool(other.error)
        seen.pairs.append((beside, failed) if mine else (failed, beside))
    elif failed and not mine:
        seen.pairs.append((True, True))  # nobody asked the candidate; that it would have coped is not claimed


def _paired_tally(pairs: Sequence[tuple[bool, bool]]) -> Tally:
    return Tally(
        attempts=len(pairs),
        errors=sum(theirs for _, theirs in pairs),
        other_attempts=len(pairs),
        other_errors=sum(mine for mine, _ in pairs),
    )


def _split_tally(attempts: Sequence[tuple[bool, bool]]) -> Tally:
    own = [failed for mine, failed in attempts if mine]
    others = [failed for mine, failed in attempts if not mine]
    return Tally(attempts=len(own), errors=sum(own), other_attempts=len(others), other_errors=sum(others))


def _grouped_gains(waiting: Tally, attempts: Sequence[tuple[bool, bool]]) -> tuple[list[float], Tally]:
    """Return differences of failure shares over groups that end as soon as both arms have an attempt in them.

    Where a group ends depends on who was asked, never on who failed, so each difference has the mean of the two rates.
    """
    gains = []
    for mine, failed in attempts:
        if mine:
            waiting += Tally(attempts=1, errors=int(failed))
        else:
            waiting += Tally(other_attempts=1, other_errors=int(failed))
        if waiting.attempts and waiting.other_attempts:
            gains.append(waiting.other_errors / waiting.other_attempts - waiting.errors / waiting.attempts)
            waiting = Tally()
    return gains, waiting


def _see_latencies(evidence: Evidence, latencies: Sequence[tuple[bool, int]], config: Canary) -> Evidence:
    if config.latency_ratio is None or not latencies:
        return evidence
    if evidence.slow_us is None:
        warming = (*evidence.warming, *(micros for mine, micros in latencies if not mine))[:WARM_UP]
        slow = int(np.quantile(warming, SLOW_QUANTILE)) if len(warming) == WARM_UP else None
        return msgspec.structs.replace(evidence, warming=() if slow is not None else warming, slow_us=slow)
    limit = max(evidence.slow_us * config.latency_ratio, evidence.slow_us + SLACK_US)
    own = [micros > limit for mine, micros in latencies if mine]
    others = [micros > evidence.slow_us for mine, micros in latencies if not mine]
    tally = Tally(attempts=len(own), errors=sum(own), other_attempts=len(others), other_errors=sum(others))
    return msgspec.structs.replace(evidence, latency=evidence.latency.update(tally))


def _see_units(evidence: Evidence, assigned: Sequence[tuple[str, bool, float]]) -> Evidence:
    if not assigned:
        return evidence
    known = bytearray(evidence.units or bytes(UNIT_BITS // 8))
    counts: dict[float, list[int]] = {}
    for unit, mine, share in assigned:
        place = crc32(unit.encode()) % UNIT_BITS
        if known[place >> 3] & (1 << (place & 7)) or not 0 < share < 1:
            continue
        known[place >> 3] |= 1 << (place & 7)
        counts.setdefault(share, [0, 0])[not mine] += 1
    ratio = evidence.ratio
    for share, (units, others) in counts.items():
        ratio = ratio.update(share, units=units, other_units=others)
    return msgspec.structs.replace(evidence, ratio=ratio, units=bytes(known))
