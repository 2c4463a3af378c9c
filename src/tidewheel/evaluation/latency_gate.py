"""The gate on the time of single-row calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
import polars as pl

from tidewheel.errors import UnusableScores
from tidewheel.evaluation.evidence import Evidence, answered
from tidewheel.evaluation.verdict import GateResult, Verdict
from tidewheel.models.scorer import Scorer
from tidewheel.models.signature import select

CALLS = 400  # one in a hundred of them is four calls
WARM_UP = 50
ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Made by `latency`, which says what it demands."""

    p99_ms: float  # milliseconds that 99 of 100 single-row calls may take at most

    @property
    def name(self) -> str:
        """The gate as declared."""
        return f"latency(p99 <= {self.p99_ms:g} ms)"

    def check(self, evidence: Evidence) -> GateResult:
        """Time calls on real rows after a warm-up; a busy machine only ever adds time, so the best round counts."""
        scorer, frame = evidence.context.candidate, evidence.context.rows
        if not frame.height:
            return self._result("not_enough_data", "There is no row to time the candidate on.", {})
        try:
            p50, p99 = answered("The candidate", 1, lambda: self._best_round(scorer, frame, evidence.context.timer))
        except UnusableScores as error:
            return self._result("fail", error.what, {})
        numbers = {"p50_ms": p50, "p99_ms": p99, "limit_ms": self.p99_ms, "calls": CALLS}
        words = f"99 of 100 single-row calls take at most {p99:.3g} ms (median {p50:.3g} ms)"
        if p99 <= self.p99_ms:
            return self._result("pass", f"{words}; {self.p99_ms:g} ms are allowed.", numbers)
        return self._result("fail", f"{words}; only {self.p99_ms:g} ms are allowed.", numbers)

    def _best_round(self, scorer: Scorer, frame: pl.DataFrame, timer: Callable[[], int]) -> tuple[float, float]:
        rows = select(scorer.signature, frame.head(CALLS)).rows()
        _time_calls(scorer, list(islice(cycle(rows), WARM_UP)), timer)
        best = (np.inf, np.inf)
        for _ in range(ROUNDS):
            spent = _time_calls(scorer, list(islice(cycle(rows), CALLS)), timer)
            p50, p99 = (float(share) for share in np.quantile(spent, [0.5, 0.99], method="higher"))
            best = min(best, (p50, p99), key=lambda seen: seen[1])
            if best[1] <= self.p99_ms:
                break
        return best

    def _result(self, verdict: Verdict, reason: str, numbers: dict[str, Any]) -> GateResult:
        return GateResult(gate=self.name, verdict=verdict, reason=reason, numbers=numbers)


def _time_calls(scorer: Scorer, rows: Sequence[Any], timer: Callable[[], int]) -> list[float]:
    spent = []
    for row in rows:
        begun = timer()
        scorer.score_rows([row])
        spent.append((timer() - begun) / 1e6)
    return spent
