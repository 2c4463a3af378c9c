"""The loop of one model, declared as one object: pipeline, triggers, gates, rollout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import timedelta
from typing import Any

from tidewheel.errors import InvalidInput
from tidewheel.evaluation.verdict import Gate
from tidewheel.lineage.write import check_name
from tidewheel.loop.triggers import ALARMS, OnAlert, Trigger
from tidewheel.monitoring.policy import MonitorPolicy
from tidewheel.pipelines.pipeline import Pipeline
from tidewheel.rollout.rollouts import Canary


@dataclass(frozen=True, slots=True, kw_only=True)
class GameDay:
    """What goes wrong on purpose, once, so that a team sees what happens then."""

    fault: float = 0.0  # share of its requests that the first candidate on trial fails on, 0 to 1
    shuffle_labels: bool = False  # whether the first retraining learns from shuffled labels


@dataclass(frozen=True, slots=True)
class Loop:
    """Pipeline, triggers, gates and rollout of one model.

    The pipeline gets the parameter `rows` without the newest part; the gates judge the candidate
    against the champion on that held-out part; a recipe that passed is fitted once more on all
    rows (`refit`), and that model goes through the rollout.
    """

    pipeline: Pipeline[Any, Any]  # makes a Model from `rows`
    _: KW_ONLY
    model: str  # name of the model and of its endpoint
    data: str  # name of the dataset it learns from
    label: str  # column to be predicted
    on: Sequence[Trigger] = ()  # when to retrain; by hand is always possible
    gates: Sequence[Gate] = ()  # what a candidate must show
    rollout: Canary | None = None  # how a candidate takes over; None: at once
    holdout: float = 0.25  # share of the rows, the newest, that candidates are judged on
    holdout_rows: tuple[int, int] = (30, 2_000)  # fewest and most held-out rows
    train_rows: int | None = None  # only so many of the newest rows are used; None: all
    refit: bool = True  # whether a recipe that passed is fitted again on all rows
    cooldown: timedelta = timedelta(0)  # least time between two retrainings
    cooldown_rows: int = 0  # least labelled rows between two retrainings
    budget: int | None = None  # most retrainings a day (UTC); None: no limit
    give_up_after: int | None = 20  # retrainings in a row refused or failed, after which only people start one
    ladder: Sequence[int] = ()  # labelled rows after an alarm at which to retrain again
    ladder_on: Sequence[str] = ("drift", "decay")  # which alarms begin a ladder
    collect: bool = True  # whether labelled predictions become rows of the dataset
    collect_rows: int = 100  # they are kept in parts of at least so many, or before a retraining
    monitor: MonitorPolicy | None = None  # what is watched beside what drift and decay triggers ask for
    parameters: Mapping[str, Any] = field(default_factory=dict)  # further parameters of the pipeline
    game_day: GameDay = GameDay()  # failures on purpose, to rehearse a refusal or a rollback

    def __post_init__(self) -> None:
        check_name("model", self.model)
        self._check_pipeline()
        if not 0 < self.holdout < 1:
            raise InvalidInput(f"holdout = {self.holdout} leaves nothing.", "Give a share between 0 and 1, like 0.25.")
        if not 0 < self.holdout_rows[0] <= self.holdout_rows[1]:
            raise InvalidInput(
                f"holdout_rows = {self.holdout_rows} is not a range.", "Give (fewest, most), like (30, 2000)."
            )
        if list(self.ladder) != sorted(set(self.ladder)) or any(rung < 1 for rung in self.ladder):
            raise InvalidInput(
                f"ladder = {list(self.ladder)} does not rise.", "Give rising row counts, like (200, 400)."
            )
        if set(self.ladder_on) - set(ALARMS):
            raise InvalidInput(f"ladder_on = {list(self.ladder_on)} names no alarm.", 'Use "drift", "decay" or both.')
        for name in ("budget", "give_up_after", "train_rows", "collect_rows"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise InvalidInput(f"{name} = {count} allows nothing.", "Give 1 or more, or leave it out.")
        if self.cooldown < timedelta(0) or self.cooldown_rows < 0:
            raise InvalidInput(
                f"cooldown = {self.cooldown}, cooldown_rows = {self.cooldown_rows}.", "Give nothing below zero."
            )

    def _check_pipeline(self) -> None:
        if not isinstance(self.pipeline, Pipeline):
            raise InvalidInput(
                f"The loop of {self.model} was given a {type(self.pipeline).__name__}, not a pipeline.",
                "Mark the function with @pipeline from tidewheel.",
            )
        if "rows" in self.parameters:
            raise InvalidInput("The loop itself gives the pipeline its rows.", "Leave rows out of parameters.")
        declared = self.pipeline.signature.parameters.values()
        if not any(item.name == "rows" or item.kind is item.VAR_KEYWORD for item in declared):
            raise InvalidInput(
                f"The pipeline {self.pipeline.name}{self.pipeline.signature} has no parameter rows.",
                "The pipeline of a loop takes the rows to learn from: def NAME(rows: pl.DataFrame) -> Model.",
            )

    @property
    def policy(self) -> MonitorPolicy:
        """What the monitor watches: `monitor`, with what drift and decay triggers ask for laid over it."""
        wanted: dict[str, Any] = {}
        for trigger in self.on:
            if isinstance(trigger, OnAlert) and not trigger.model:
                wanted |= trigger.settings
        if "metric" in wanted:
            wanted["decay"] = wanted.pop("metric")
        return replace(self.monitor or MonitorPolicy(psi=None), **wanted)
