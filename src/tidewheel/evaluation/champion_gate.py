"""The gate against the champion on the same rows; against the best constant answer before there is a champion."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, TypeAlias

import numpy as np

from tidewheel.errors import InvalidInput
from tidewheel.evaluation.answers import Answers
from tidewheel.evaluation.compare import Comparison, compare_answers
from tidewheel.evaluation.evidence import Evidence
from tidewheel.evaluation.metrics import find_metric
from tidewheel.evaluation.no_information import constant_answers, metric_against_constants
from tidewheel.evaluation.slices import LEAST_ROWS
from tidewheel.evaluation.verdict import GateResult, Verdict

Demand: TypeAlias = Literal["better", "not_worse"]

# Nothing vouches for a first model but these rows. Of candidates fitted on shuffled digits, judged on 100 to 500 rows,
# a confidence of 0.8 lets 12 to 24 % through, 0.95 none to 20 % [measured]; the lucky ones do beat the constant.
FIRST_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatsChampion:
    """Made by `beats_champion`, which says what it demands."""

    metric: str  # what is compared
    slices: tuple[str, ...]  # columns whose slices must not get worse
    margin: float  # how much worse is still acceptable, in units of the metric
    confidence: float  # one-sided, 0.5 to below 1
    demand: Demand  # whether the candidate must be better, or must not be worse

    @property
    def name(self) -> str:
        """The gate as declared."""
        return f"beats_champion({self.metric})"

    def check(self, evidence: Evidence) -> GateResult:
        """Compare the candidate with the champion on the labelled rows."""
        rows = evidence.rows.height
        if rows < LEAST_ROWS:
            return self._result(
                "not_enough_data",
                f"{rows} labelled rows are too few to judge by; {LEAST_ROWS} are needed.",
                {"n": rows},
            )
        try:
            candidate = evidence.candidate
        except InvalidInput as error:
            return self._result("fail", f"The candidate cannot be judged. {error.what}", {"n": rows})
        try:
            both = evidence.both
        except InvalidInput as error:
            return self._against_constant(candidate, f"{error.what} So it is held against a constant answer. ")
        if both is None:
            return self._against_constant(candidate, "First model. ")
        return self._against_champion(evidence, both)

    def _against_champion(self, evidence: Evidence, both: tuple[Answers, Answers]) -> GateResult:
        result = compare_answers(
            find_metric(self.metric, evidence.context.task),
            both,
            rows=evidence.rows,
            slices=self.slices,
            seed=evidence.context.seed,
            level=self._level,
        )
        if isinstance(result, str):
            return self._result("not_enough_data", f"{self.metric} cannot be compared: {result}.", {})
        verdict, words = self._decide(result)
        worse = [name for name, part in result.slices.items() if part.high < -self.margin]
        if worse:
            verdict = "fail"
            words += f" It is worse on {_slices_in_words(result, worse)}."
        return self._result(verdict, _figures(result, "the champion") + words, _numbers(result))

    def _decide(self, result: Comparison) -> tuple[Verdict, str]:
        sure = f"with {self.confidence:.0%} confidence"
        if not (isfinite(result.low) and isfinite(result.high)):
            return "not_enough_data", " These rows do not allow an interval."
        if self.demand == "not_worse":
            if result.high < -self.margin:
                return "fail", f" It is worse by {-result.high:.4g} or more {sure}."
            return "pass", f" It is not worse by more than {self.margin:g} {sure}."
        if result.difference <= 0:
            return "fail", " It is not better." if result.changed else " Both answer every row alike."
        if result.low > -self.margin:
            return "pass", f" It is better by {result.low:.4g} or more {sure}."
        words = f" That may be chance: the difference may be as low as {result.low:.4g}; more labelled rows would tell."
        return "not_enough_data", words

    def _against_constant(self, candidate: Answers, preface: str) -> GateResult:
        if np.ptp(candidate.truth) == 0:
            return self._result(
                "not_enough_data",
                f"{preface}All {len(candidate.truth)} labels are alike: nothing can be told from them.",
                {"n": len(candidate.truth)},
            )
        metric = metric_against_constants(find_metric(self.metric, candidate.task))
        level = max(self._level, 2 * FIRST_CONFIDENCE - 1)
        result = compare_answers(metric, (candidate, constant_answers(metric, candidate)), level=level)
        if isinstance(result, str):
            return self._result("not_enough_data", f"{preface}{metric.name} cannot be compared: {result}.", {})
        verdict: Verdict
        if result.difference <= 0:
            verdict, words = "fail", " It has learnt nothing."
        elif result.low <= 0:
            verdict, words = "not_enough_data", " More labelled rows would tell whether it has learnt anything."
        else:
            verdict, words = "pass", ""
        return self._result(verdict, preface + _figures(result, "the best constant answer") + words, _numbers(result))

    @property
    def _level(self) -> float:
        # One-sided confidence c is the lower end of a two-sided interval of 2c - 1.
        return max(2 * self.confidence - 1, 1e-9)

    def _result(self, verdict: Verdict, reason: str, numbers: dict[str, Any]) -> GateResult:
        rule = {"confidence": self.confidence, "margin": self.margin, "demand": self.demand}
        return GateResult(gate=self.name, verdict=verdict, reason=reason, numbers=numbers | rule)


def _figures(result: Comparison, other: str) -> str:
    return f"{result.metric} {result.candidate:.4g} against {result.champion:.4g} of {other} on {result.n} rows."


def _slices_in_words(result: Comparison, names: list[str]) -> str:
    parts = (
        f"{name} ({result.slices[name].candidate:.4g} against {result.slices[name].champion:.4g}, "
        f"{result.slices[name].n} rows)"
        for name in names[:5]
    )
    return ", ".join(parts) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _numbers(result: Comparison) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "metric": result.metric,
        "n": result.n,
        "changed": result.changed,
        "candidate": result.candidate,
        "champion": result.champion,
        "difference": result.difference,
        "low": result.low if isfinite(result.low) else None,
        "high": result.high if isfinite(result.high) else None,
        "better_share": result.better_share,
    }
    if result.slices or result.skipped:
        figures["slices"] = {name: _numbers(part) for name, part in result.slices.items()}
        figures["skipped"] = dict(result.skipped)
    return figures
