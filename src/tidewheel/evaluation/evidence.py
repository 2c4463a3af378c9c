"""What gates judge by: the candidate, the champion and the held-out rows, scored once for all gates."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import polars as pl

from tidewheel.data.records import Finding
from tidewheel.errors import InvalidInput, NotFound, TidewheelError, UnusableScores
from tidewheel.evaluation.answers import Answers, Labels, align, missing_labels
from tidewheel.evaluation.compare import align_both
from tidewheel.models.scorer import Scorer, Scores
from tidewheel.models.signature import Task

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class GateContext:
    """What is judged, and on what."""

    task: Task  # what is predicted
    rows: pl.DataFrame  # held-out rows with features and label; rows whose label has not arrived are left out
    label: str  # label column
    candidate: Scorer  # the new model
    champion: Scorer | None = None  # the model in service, None before the first
    findings: Sequence[Finding] = ()  # what validation found in the data the candidate was trained on
    seed: int = 0  # of the bootstrap: the same context is judged the same way
    timer: Callable[[], int] = time.perf_counter_ns  # nanoseconds, for the latency gate


class Evidence:
    """A context and what follows from it: labelled rows and both models' answers, computed on first use.

    Raises NotFound when the label column is not there, InvalidInput when the candidate has another task.
    """

    def __init__(self, context: GateContext) -> None:
        if context.label not in context.rows.columns:
            raise NotFound("label column", context.label, context.rows.columns)
        task = context.candidate.signature.task
        if task != context.task:
            raise InvalidInput(
                f"The candidate is a {task} model, the gate context says {context.task}.",
                "Give the task of the loop's model.",
            )
        absent = missing_labels(context.rows[context.label].to_numpy())
        self.context = context
        self.rows = context.rows.filter(~pl.Series(absent))
        self.unlabelled = int(absent.sum())

    @cached_property
    def candidate_scores(self) -> Scores:
        """The candidate's answers to the labelled rows; raises UnusableScores when it cannot answer."""
        candidate = self.context.candidate
        return answered("The candidate", self.rows.height, lambda: candidate.score(self.rows))

    @cached_property
    def champion_scores(self) -> Scores | None:
        """The champion's answers, None when there is none; raises UnusableScores when it cannot answer."""
        champion = self.context.champion
        if champion is None:
            return None
        return answered("The champion", self.rows.height, lambda: champion.score(self.rows))

    @cached_property
    def candidate(self) -> Answers:
        """Labels and the candidate's answers alone; raises InvalidInput when they cannot be judged."""
        classes = self.context.candidate.signature.classes
        return align(self._truth, self.candidate_scores, task=self.context.task, classes=classes)

    @cached_property
    def both(self) -> tuple[Answers, Answers] | None:
        """Answers of candidate and champion coded alike, None without champion; raises InvalidInput."""
        champion = self.context.champion
        if champion is None or self.champion_scores is None:
            return None
        return align_both(
            self._truth,
            (self.candidate_scores, self.champion_scores),
            task=self.context.task,
            classes=(self.context.candidate.signature.classes, champion.signature.classes),
        )

    @property
    def _truth(self) -> Labels:
        return self.rows[self.context.label].to_numpy()


def answered(who: str, rows: int, call: Callable[[], T]) -> T:
    """Return what a call of a scorer returns; whatever it raises becomes UnusableScores, which a verdict can name."""
    try:
        return call()
    except TidewheelError as error:
        raise UnusableScores(f"{who} cannot score {rows} rows: {error.what}", error.mend) from error
    except Exception as error:  # an estimator of a user may raise anything
        raise UnusableScores(
            f"{who} cannot score {rows} rows: {type(error).__name__}: {error}.",
            "Look at how the model was trained and which columns it needs.",
        ) from error
