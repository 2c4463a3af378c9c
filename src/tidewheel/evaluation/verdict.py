"""What gates answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from tidewheel.evaluation.evidence import Evidence

Verdict: TypeAlias = Literal["pass", "fail", "not_enough_data"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """How one gate judged."""

    gate: str  # the gate as declared: "beats_champion(accuracy)"
    verdict: Verdict  # only "pass" lets a candidate through
    reason: str  # the verdict in words, with its figures
    numbers: Mapping[str, Any]  # the same figures for programs: numbers, texts, lists and mappings of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What all gates together say of a candidate."""

    passed: bool  # every gate passed
    results: tuple[GateResult, ...]  # one per gate, in their order

    @property
    def reason(self) -> str:
        """The reasons that stopped the candidate, or all of them when none did."""
        stopped = [result.reason for result in self.results if result.verdict != "pass"]
        return " ".join(stopped or [result.reason for result in self.results])


class Gate(Protocol):
    """A rule that a candidate must pass; any object with these two members is one."""

    @property
    def name(self) -> str:
        """The gate as declared."""
        ...

    def check(self, evidence: Evidence) -> GateResult:
        """Judge a candidate; a candidate that cannot be scored is a verdict, not an error."""
        ...
