"""How a candidate takes over: the shares it goes through, what must be proven, what ends it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

import msgspec

from tidewheel.errors import InvalidInput
from tidewheel.monitoring.losses import loss_of

SHARE_MARGIN = 0.02  # points of accuracy or of the Brier score
RELATIVE_MARGIN = 0.05  # share of the champion's mean loss, for losses without a bound

AtDeadline = Literal["roll_back", "hold"]


class Canary(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout in steps, decided by evidence that may be looked at at any time."""

    steps: tuple[float, ...] = (5.0, 25.0, 100.0)  # percent of the units that the candidate answers, rising
    goal: str | None = None  # metric that labels decide; None: errors and latency alone decide
    alpha: float = 0.05  # chance of a false rollback over the whole rollout, and of a false promotion
    margin: float | None = None  # how much worse the goal's loss may be and still be "not worse"; None: see canary()
    error_margin: float = 0.02  # points by which the error rate may be higher and still be "not worse"
    latency_ratio: float | None = (
        1.5  # a request this many times slower than the champion's p95 is slow; None: unwatched
    )
    min_requests: int = 100  # requests that the candidate scores at each step, at least
    deadline: float = 604_800.0  # seconds after which it is inconclusive
    most_requests: int | None = (
        None  # requests that the candidate scores after which it is inconclusive; None: no limit
    )
    at_deadline: AtDeadline = "roll_back"  # what happens when it is inconclusive; hold: traffic stays for a person
    paired: bool = False  # every request is scored by both arms, so that each label counts for both

    @property
    def stages(self) -> tuple[float, ...]:
        """The shares, 0 to 1, at which evidence is gathered; after the last one the candidate is promoted."""
        below = tuple(step / 100 for step in self.steps if step < 100)
        return below or (1.0,)


def canary(
    steps: Sequence[float] = (5, 25, 100),
    *,
    goal: str | None = None,
    alpha: float = 0.05,
    margin: float | None = None,
    error_margin: float = 0.02,
    latency_ratio: float | None = 1.5,
    min_requests: int = 100,
    deadline: timedelta = timedelta(days=7),
    most_requests: int | None = None,
    at_deadline: AtDeadline = "roll_back",
    paired: bool | None = None,
) -> Canary:
    """Give the candidate a growing share of the traffic; promote it when it is proven not worse, else roll it back.

    `steps` are percent of the units, rising; 100 is the promotion itself. `goal` is the metric that labels decide; its
    loss is compared on requests that both arms scored (`paired`, on with a goal, off without: it doubles the scoring).
    `margin` is in points for losses from 0 to 1 (accuracy and its kin: 0.02) and a share of the champion's mean loss
    for others (rmse, log loss: 0.05). A failed request of the candidate counts as its greatest loss. Without a goal
    it is promoted when its error rate is proven to be at most `error_margin` points higher; with one, both are needed.
    Raises InvalidInput for values that cannot work, NotFound for an unknown metric.

    >>> canary([5, 25, 100], goal="rmse").stages
    (0.05, 0.25)
    """
    config = Canary(
        steps=tuple(float(step) for step in steps),
        goal=goal,
        alpha=alpha,
        margin=margin,
        error_margin=error_margin,
        latency_ratio=latency_ratio,
        min_requests=min_requests,
        deadline=deadline.total_seconds(),
        most_requests=most_requests,
        at_deadline=at_deadline,
        paired=goal is not None if paired is None else paired,
    )
    _check(config)
    return config


def goal_margin(config: Canary, *, bounded: bool) -> float:
    """Return the margin of the goal: points for a loss from 0 to 1 (`bounded`), else a share of the champion's."""
    if config.margin is not None:
        return config.margin
    return SHARE_MARGIN if bounded else RELATIVE_MARGIN


def _check(config: Canary) -> None:
    rising = list(config.steps) == sorted(set(config.steps))
    if not config.steps or not rising or not 0 < config.steps[0] <= config.steps[-1] <= 100:
        raise InvalidInput(
            f"The steps {list(config.steps)} cannot be walked.", "Give rising percentages up to 100, like (5, 25, 100)."
        )
    margin = 0.01 if config.margin is None else config.margin
    for name, share in (("alpha", config.alpha), ("error_margin", config.error_margin), ("margin", margin)):
        if not 0 < share < 1:
            raise InvalidInput(f"{name} is {share}.", "Give a number between 0 and 1.")
    if config.latency_ratio is not None and not config.latency_ratio >= 1:
        raise InvalidInput(f"latency_ratio is {config.latency_ratio}.", "Give 1 or more, or None to not watch it.")
    if config.min_requests < 1 or (config.most_requests is not None and config.most_requests < config.min_requests):
        raise InvalidInput(
            f"min_requests is {config.min_requests}, most_requests is {config.most_requests}.",
            "Give at least 1, and a limit that is not below it.",
        )
    if not config.deadline > 0:
        raise InvalidInput(f"The deadline is {config.deadline} seconds.", "Give a positive duration.")
    if config.goal is not None:
        loss_of(config.goal)
