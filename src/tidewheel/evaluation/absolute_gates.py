"""Gates that look at the candidate alone: a metric's bounds, and the findings in its data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tidewheel.errors import InvalidInput
from tidewheel.evaluation.answers import Answers
from tidewheel.evaluation.evidence import Evidence
from tidewheel.evaluation.metrics import Metric, find_metric, measure
from tidewheel.evaluation.slices import LEAST_ROWS, cut
from tidewheel.evaluation.verdict import GateResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Made by `threshold`, which says what it demands."""

    metric: str  # what is measured
    at_least: float | None  # lower bound, in units of the metric
    at_most: float | None  # upper bound
    slices: tuple[str, ...]  # columns whose slices must keep the bounds too

    @property
    def name(self) -> str:
        """The gate as declared."""
        return f"threshold({self.metric})"

    def check(self, evidence: Evidence) -> GateResult:
        """Measure the candidate on the labelled rows."""
        rows = evidence.rows.height
        if not rows:
            return GateResult(gate=self.name, verdict="not_enough_data", reason="No row is labelled.", numbers={"n": 0})
        try:
            answers = evidence.candidate
        except InvalidInput as error:
            reason = f"The candidate cannot be judged. {error.what}"
            return GateResult(gate=self.name, verdict="fail", reason=reason, numbers={"n": rows})
        metric = find_metric(self.metric, evidence.context.task)
        silent = metric.undefined(answers)
        if silent:
            reason = f"{self.metric} cannot be computed: {silent}."
            return GateResult(gate=self.name, verdict="not_enough_data", reason=reason, numbers={"n": rows})
        return self._measured(evidence, metric, answers)

    def _measured(self, evidence: Evidence, metric: Metric, answers: Answers) -> GateResult:
        value = measure(metric, answers)
        parts = [part for part in cut(evidence.rows, self.slices) if len(part.rows) >= LEAST_ROWS]
        on_slices = {
            part.name: measure(metric, answers.take(part.rows))
            for part in parts
            if not metric.undefined(answers.take(part.rows))
        }
        outside = [name for name, seen in on_slices.items() if not self._keeps(seen)]
        reason = f"{self.metric} is {value:.4g} on {len(answers.truth)} rows; {self._bounds()} is demanded."
        if outside:
            shown = ", ".join(f"{name} ({on_slices[name]:.4g})" for name in outside[:5])
            reason += f" {len(outside)} slices are outside: {shown}."
        numbers: dict[str, Any] = {
            "metric": self.metric,
            "n": len(answers.truth),
            "candidate": value,
            "at_least": self.at_least,
            "at_most": self.at_most,
            "slices": on_slices,
        }
        passed = self._keeps(value) and not outside
        return GateResult(gate=self.name, verdict="pass" if passed else "fail", reason=reason, numbers=numbers)

    def _keeps(self, value: float) -> bool:
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def _bounds(self) -> str:
        low = [] if self.at_least is None else [f"at least {self.at_least:g}"]
        high = [] if self.at_most is None else [f"at most {self.at_most:g}"]
        return " and ".join(low + high)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataValid:
    """Made by `data_valid`, which says what it demands."""

    warnings: bool  # whether a warning stops the candidate too

    @property
    def name(self) -> str:
        """The gate as declared."""
        return "data_valid"

    def check(self, evidence: Evidence) -> GateResult:
        """Look at what validation found."""
        findings = evidence.context.findings
        errors = sum(finding.severity == "error" for finding in findings)
        warnings = len(findings) - errors
        stopping = [one for one in findings if self.warnings or one.severity == "error"]
        reason = f"Validation found {errors} errors and {warnings} warnings."
        if stopping:
            reason += " " + " ".join(one.message for one in stopping[:3])
            reason += f" And {len(stopping) - 3} more." if len(stopping) > 3 else ""
        numbers = {"errors": errors, "warnings": warnings}
        return GateResult(gate=self.name, verdict="fail" if stopping else "pass", reason=reason, numbers=numbers)
