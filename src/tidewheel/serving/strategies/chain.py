"""Versions that are asked one after the other: a cascade, where each may be unsure, and a chain of fallbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tidewheel.predictions.records import Other
from tidewheel.serving.arms import Answer, Arm, Case, Choice
from tidewheel.serving.ask import Ask
from tidewheel.serving.batching import score_all


class Chain:
    """Asks the next version as long as nobody gave an answer that is good enough.

    A version that fails is logged as failed, and the next one is asked. Where the last ones fail, or are unsure as
    well, the last answer that there was stands.
    """

    shadows: Sequence[Arm] = ()

    def __init__(self, kind: str, arms: Sequence[Arm], enough: Callable[[Answer], bool]) -> None:
        self.kind = kind
        self._arms = arms
        self._enough = enough
        self._choice = Choice(arms[0], 1.0)

    def choose(self, unit: str, ask: Ask) -> Choice:
        """Return the first version."""
        del unit, ask
        return self._choice

    def settle(self, cases: Sequence[Case], scored: Sequence[Answer | Exception]) -> Sequence[Answer | Exception]:
        """Ask further versions about those requests whose answer is missing or unsure, all of them in one call."""
        found = list(scored)
        waiting = [place for place, each in enumerate(found) if not self._good(each)]
        for arm in self._arms[1:]:
            if not waiting:
                break
            again = score_all([(arm, cases[place].ask) for place in waiting])
            for place, said in zip(waiting, again, strict=True):
                found[place] = _turn(cases[place], found[place], arm, said)
            waiting = [place for place, said in zip(waiting, again, strict=True) if not self._good(said)]
        return found

    def _good(self, found: Answer | Exception) -> bool:
        return isinstance(found, Answer) and self._enough(found)


def sure(threshold: float, measure: str) -> Callable[[Answer], bool]:
    """Return what tells whether an answer is sure in every row, by its highest probability or by the margin.

    >>> sure(0.8, "top")(Answer([1], [[0.1, 0.9]])), sure(0.9, "margin")(Answer([1], [[0.1, 0.9]]))
    (True, False)
    """

    def enough(answer: Answer) -> bool:
        rows = answer.probability or ()
        return bool(rows) and all(_confidence(row, measure) >= threshold for row in rows)

    return enough


def answered(answer: Answer) -> bool:
    """Every answer is good enough."""
    del answer
    return True


def _confidence(row: Sequence[float], measure: str) -> float:
    if measure == "top" or len(row) < 2:
        return max(row)
    second, first = sorted(row)[-2:]
    return first - second


def _turn(case: Case, held: Answer | Exception, arm: Arm, said: Answer | Exception) -> Answer | Exception:
    """Take in what the next version said; return what stands now."""
    if isinstance(said, Answer):
        if isinstance(held, Answer):
            part = Other(version=case.arm.version, output=held.output, probability=held.probability)
            case.parts = [*case.parts, part]
        else:
            case.failures = [*case.failures, (case.arm, held)]
        case.arm = arm
        return said
    if isinstance(held, Answer):
        case.failures = [*case.failures, (arm, said)]
        return held
    case.failures = [*case.failures, (case.arm, held)]
    case.arm = arm
    return said
