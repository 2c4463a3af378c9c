"""All versions answer together: the mean of what they say, or the class that most of them vote for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter_ns

from tidewheel.errors import ValidationFailed
from tidewheel.models.signature import Label
from tidewheel.predictions.records import Other
from tidewheel.registry.strategy import Ensemble
from tidewheel.serving.arms import Answer, Arm, Case, Choice, said
from tidewheel.serving.ask import Ask
from tidewheel.serving.batching import score_all

Voice = tuple[float, Answer]  # weight, and what a member said


class Together:
    """Scores every member; those that fail are left out, logged as failed, and the rest answers."""

    shadows: Sequence[Arm] = ()

    def __init__(self, strategy: Ensemble, arms: Mapping[int, Arm], champion: Arm) -> None:
        self.kind = strategy.kind
        self._champion = champion
        self._weights = strategy.weights
        self._others = [arms[version] for version in strategy.weights if version != champion.version]
        self._classes = champion.signature.classes
        self._vote = strategy.combine == "vote"
        self._choice = Choice(champion, 1.0)
        _check(strategy, [champion, *self._others])

    def choose(self, unit: str, ask: Ask) -> Choice:
        """Return the champion, under whose name all of them answer."""
        del unit, ask
        return self._choice

    def settle(self, cases: Sequence[Case], scored: Sequence[Answer | Exception]) -> Sequence[Answer | Exception]:
        """Ask all other members and put what they say together."""
        rounds: list[tuple[Arm, Sequence[Answer | Exception], int]] = [(self._champion, scored, 0)]
        for arm in self._others:
            started = perf_counter_ns()
            found = score_all([(arm, case.ask) for case in cases])
            rounds.append((arm, found, (perf_counter_ns() - started) // 1_000 // len(cases)))
        return [self._one(case, place, rounds) for place, case in enumerate(cases)]

    def _one(
        self, case: Case, place: int, rounds: Sequence[tuple[Arm, Sequence[Answer | Exception], int]]
    ) -> Answer | Exception:
        voices: list[Voice] = []
        for arm, found, latency in rounds:
            one = found[place]
            if isinstance(one, Answer):
                voices.append((self._weights[arm.version], one))
                part = Other(version=arm.version, output=one.output, probability=one.probability, latency_us=latency)
            else:
                part = Other(version=arm.version, error=said(one), latency_us=latency)
                case.failures = [*case.failures, (arm, one)]
            case.parts = [*case.parts, part]
        if not voices:
            case.failures = case.failures[1:]  # the champion's is returned, and logged with the request itself
            return rounds[0][1][place]
        if self._classes is None:
            return Answer(mean_numbers(voices), None)
        shares = vote_shares(voices, self._classes) if self._vote else mean_rows(voices)
        return Answer([self._classes[row.index(max(row))] for row in shares], shares)


def mean_numbers(voices: Sequence[Voice]) -> list[float]:
    """Return the weighted mean of the predictions, row by row.

    >>> mean_numbers([(1.0, Answer([1.0], None)), (3.0, Answer([2.0], None))])
    [1.75]
    """
    total = sum(weight for weight, _ in voices)
    rows = zip(*([weight * value for value in answer.output] for weight, answer in voices), strict=True)
    return [sum(row) / total for row in rows]


def mean_rows(voices: Sequence[Voice]) -> list[list[float]]:
    """Return the weighted mean of the probabilities, row by row and class by class."""
    total = sum(weight for weight, _ in voices)
    weights = [weight / total for weight, _ in voices]
    rows = zip(*(answer.probability or () for _, answer in voices), strict=True)  # what each member says of a row
    return [[_dot(weights, cell) for cell in zip(*row, strict=True)] for row in rows]


def vote_shares(voices: Sequence[Voice], classes: Sequence[Label]) -> list[list[float]]:
    """Return the share of the votes that each class gets, row by row; among equals the first class wins.

    >>> vote_shares([(1.0, Answer([1], None)), (1.0, Answer([0], None)), (2.0, Answer([1], None))], [0, 1])
    [[0.25, 0.75]]
    """
    total = sum(weight for weight, _ in voices)
    rows = zip(*(answer.output for _, answer in voices), strict=True)
    weights = [weight for weight, _ in voices]
    return [
        [sum(w for w, vote in zip(weights, row, strict=True) if vote == label) / total for label in classes]
        for row in rows
    ]


def _dot(weights: Sequence[float], values: Sequence[float]) -> float:
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def _check(strategy: Ensemble, arms: Sequence[Arm]) -> None:
    """Refuse members that cannot be put together; one that could not be loaded has the champion's signature."""
    first = arms[0].signature
    for arm in arms[1:]:
        if arm.signature.classes != first.classes:
            raise ValidationFailed(
                f"Versions {arms[0].version} and {arm.version} predict different classes.",
                "Put versions together that were trained on the same classes.",
            )
    if first.classes is None and strategy.combine == "vote":
        raise ValidationFailed("Numbers cannot be voted on.", "Set combine to mean.")
    if first.classes is not None and strategy.combine == "mean":
        silent = [str(arm.version) for arm in arms if not arm.signature.probabilities]
        if silent:
            raise ValidationFailed(
                f"Versions {', '.join(silent)} answer without probabilities.", "Set combine to vote."
            )
