"""A pipeline with what starts it, declared beside it in the user's file."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.lineage.write import check_name
from tidewheel.pipelines.parameters import bind
from tidewheel.pipelines.pipeline import Pipeline
from tidewheel.triggers.arrivals import NewData
from tidewheel.triggers.monitored import OnAlert
from tidewheel.triggers.policy import Policy
from tidewheel.triggers.records import Either, Rule, leaves
from tidewheel.triggers.requested import Manual
from tidewheel.triggers.webhooks import Webhook


@dataclass(frozen=True, slots=True, kw_only=True)
class FromEvent:
    """A parameter that the cause of a run gives."""

    name: str  # under which the cause has it: file, files, object, objects, body, due ...
    default: Any = None  # where the cause has none of that name


@dataclass(frozen=True, slots=True)
class Schedule:
    """A pipeline that runs when one of its triggers is due.

    Raises InvalidInput when it has no trigger, when two triggers have one webhook with different secrets, and for
    triggers that a loop alone can answer; NotFound and InvalidInput for parameters that the pipeline does not take.
    """

    pipeline: Pipeline[Any, Any]  # what runs
    _: KW_ONLY
    on: Sequence[Rule]  # when; one of them is enough
    name: str = ""  # its own name; empty: the pipeline's
    parameters: Mapping[str, Any] = field(default_factory=dict)  # of the pipeline; `event(...)` takes its cause's
    policy: Policy = field(default_factory=Policy)  # what holds a run back
    attempts: int = 5  # processes that may die of one run before nobody takes it up any more

    def __post_init__(self) -> None:
        if not isinstance(self.pipeline, Pipeline):
            raise InvalidInput(
                f"The schedule was given a {type(self.pipeline).__name__}, not a pipeline.",
                "Mark the function with @pipeline from tidewheel.",
            )
        object.__setattr__(self, "name", check_name("schedule", self.name or self.pipeline.name))
        if self.attempts < 1:
            raise InvalidInput(f"attempts = {self.attempts} allows nothing.", "Give 1 or more.")
        self._check_rules()
        self._check_parameters()

    def _check_rules(self) -> None:
        odd = next((rule for rule in self.on if not isinstance(rule, Rule)), None)
        if not self.on or odd is not None:
            what = "has no trigger" if odd is None else f"was given {odd!r}, which is no trigger"
            raise InvalidInput(f"The schedule {self.name} {what}.", 'Give some: on=[triggers.cron("0 3 * * *"), ...].')
        for leaf in (leaf for rule in self.on for leaf in leaves(rule)):
            if isinstance(leaf, Manual):
                raise InvalidInput(
                    f"The schedule {self.name} waits for people, whom nothing stops from starting a run.",
                    f"Leave manual() out; start one with: tidewheel run FILE.py:{self.pipeline.name}",
                )
            if (isinstance(leaf, OnAlert) and not leaf.model) or (isinstance(leaf, NewData) and not leaf.data):
                raise InvalidInput(
                    f"{leaf.name} does not say of what: a schedule has neither model nor data of its own.",
                    'Name it: new_data("events", rows=100), drift(model="churn"), decay(model="churn").',
                )
        secrets: dict[str, str] = {}
        for hook in self.hooks:
            if secrets.setdefault(hook.hook, hook.secret) != hook.secret:
                raise InvalidInput(f"The webhook {hook.hook} has two secrets.", "Give it one, or another name.")

    def _check_parameters(self) -> None:
        """Check names, and the types of what is known now; what the cause gives is checked when a run begins."""
        declared = self.pipeline.signature.parameters
        given = {name for name, value in self.parameters.items() if isinstance(value, FromEvent)}
        if all(name in declared and declared[name].default is not inspect.Parameter.empty for name in given):
            bind(self.pipeline, {name: value for name, value in self.parameters.items() if name not in given})
            return
        open_ended = any(item.kind is inspect.Parameter.VAR_KEYWORD for item in declared.values())
        for name in given:
            if name not in declared and not open_ended:
                raise NotFound(f"parameter of {self.pipeline.name}", name, declared)

    @property
    def rule(self) -> Rule:
        """Its triggers as one."""
        return self.on[0] if len(self.on) == 1 else Either(parts=tuple(self.on))

    @property
    def hooks(self) -> list[Webhook]:
        """The webhooks among its triggers."""
        found = [leaf for rule in self.on for leaf in leaves(rule)]
        return [leaf for leaf in found if isinstance(leaf, Webhook)]

    def describe(self) -> dict[str, Any]:
        """Return what is declared, as JSON, for those who have not the file."""
        return {
            "pipeline": self.pipeline.name,
            "on": [rule.name for rule in self.on],
            "parameters": {name: repr(value)[:200] for name, value in self.parameters.items()},
            "policy": self.policy.describe(),
            "hooks": {hook.hook: hook.secret for hook in self.hooks},
        }


def event(name: str, default: Any = None) -> Any:
    """Stand for what the cause of a run holds: `parameters={"paths": triggers.event("files")}`.

    Causes have `due` (clock), `files` and `file`, `objects` and `object`, `body`, `bodies` and `deliveries` (webhook),
    `rows`, `version` and `data` (new data), `model`, `alias`, `version` and `version_id` (alias), `since` (absent).
    """
    return FromEvent(name=name, default=default)


def arguments(schedule: Schedule, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a run, those from its cause filled in."""
    return {
        name: numbers.get(value.name, value.default) if isinstance(value, FromEvent) else value
        for name, value in schedule.parameters.items()
    }
