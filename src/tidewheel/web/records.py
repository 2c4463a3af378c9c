"""What the page shows: the state of the loops at one moment, as plain values.

The HTML and `/api/status` are two renderings of these records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Activity = Literal["empty", "watching", "training", "deciding"]
MarkKind = Literal["retrained", "promoted", "refused", "rolled back"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopLine:
    """One loop, or one model without a loop, in the list of what there is."""

    model: str  # name of the model
    activity: Activity  # what is going on
    alerts: int  # how many alerts are open


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """One run of a pipeline."""

    id: str  # execution id
    pipeline: str  # name of the pipeline
    state: str  # QUEUED, RUNNING, WAITING, SUCCEEDED, FAILED, CANCELLED or LOST
    cause: str  # why it started, in words
    started: datetime  # when it started
    ended: datetime | None  # when it ended; None while it runs
    steps_done: int  # steps that have been answered, by running or from the cache
    error: str  # what went wrong; empty otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionLine:
    """One version of the model."""

    seq: int  # number of the version, from 1
    aliases: tuple[str, ...]  # aliases that point at it now
    metrics: Mapping[str, float]  # what the evaluation measured
    at: datetime  # when it was registered
    run_id: str  # execution that made it; empty when registered by hand


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareLine:
    """What one version has to do under a strategy."""

    version: int  # its number
    part: str  # champion, arm, stage, member, standby, shadow or next
    share: float  # share of the units that is led to it first, 0 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficLine:
    """Who answers requests now."""

    champion: int  # version that answers by default
    challenger: int | None  # version under trial
    share: float  # share of units that the challenger answers, 0 to 1
    paired: bool  # every request is scored by both, so that each label counts twice
    since: datetime  # when the split was set
    reason: str  # why it was set
    strategy: str = ""  # kind of the strategy; empty: champion, and challenger if any
    parts: tuple[ShareLine, ...] = ()  # its versions with their shares, the champion first


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One running test of a rollout."""

    name: str  # what is tested, in words
    guard: bool  # a guard rolls back when its evidence is complete, a proof promotes
    value: float  # evidence so far, as a natural logarithm of the e-value
    limit: float  # where it decides, on the same scale


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutLine:
    """A decision that is being made about a candidate."""

    challenger: int  # version under trial
    steps: tuple[float, ...]  # shares of traffic to go through, 0 to 1
    step: int  # index of the step in force
    since: datetime  # when the rollout began
    requests: int  # requests seen since then
    evidence: tuple[Evidence, ...]  # tests that decide it
    verdict: str  # what the last look concluded, in words


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerLine:
    """One rule that starts a run."""

    kind: str  # manual, cron, new_data, drift or decay
    rule: str  # the rule, in words


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertLine:
    """One alert that is open."""

    kind: str  # drift, decay, errors, latency or schema
    opened: datetime  # when it opened
    evidence: str  # what was seen, in words


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One value of a chart."""

    at: datetime  # end of the window
    value: float | None  # None: not measured in this window
    note: str  # what a reader gets when pointing at it


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One line over time."""

    id: str  # name in the page and the JSON
    title: str  # what is shown
    unit: Literal["number", "percent", "ms"]  # how values are written
    points: tuple[Point, ...]  # in order of time
    limit: float | None  # value that a policy compares with
    limit_name: str  # what the limit means
    zero: bool  # the scale begins at zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment at which the loop did something."""

    at: datetime  # when
    kind: MarkKind  # what
    label: str  # short, such as v4
    note: str  # in a sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Reign:
    """A stretch of time in which one version was champion."""

    seq: int  # the version
    begins: datetime  # when it became champion
    ends: datetime | None  # when it was replaced; None: it still serves


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionLine:
    """One thing that the loop decided."""

    at: datetime  # when
    text: str  # what and why, in words


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopState:
    """Everything about one model."""

    model: str  # name of the model
    pipeline: str  # name of the pipeline that made its newest version; empty before the first run
    doing: str  # what its loop is doing, in words; empty without a loop
    activity: Activity  # what is going on
    running: tuple[RunLine, ...]  # runs that have not ended
    traffic: TrafficLine | None  # None: nothing is deployed
    rollout: RolloutLine | None  # None: nothing is being decided
    triggers: tuple[TriggerLine, ...]  # what would start the next run
    alerts: tuple[AlertLine, ...]  # newest first
    charts: tuple[Chart, ...]  # all over the same stretch of time
    marks: tuple[Mark, ...]  # in order of time
    reigns: tuple[Reign, ...]  # in order of time
    runs: tuple[RunLine, ...]  # newest first
    versions: tuple[VersionLine, ...]  # newest first
    decisions: tuple[DecisionLine, ...]  # newest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of everything at one moment."""

    at: datetime  # when it was read
    home: str  # last two folders of the path of the home
    loops: tuple[LoopLine, ...]  # every loop and model, by name
    shown: LoopState | None  # the one that was asked for; None when there is none
