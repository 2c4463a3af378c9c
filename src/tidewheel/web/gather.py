"""Read the state of the loops through the rooms' own functions: nothing is decided here, and nothing written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from tidewheel.errors import NotFound
from tidewheel.lineage.read import find_entity, list_events
from tidewheel.lineage.records import Event
from tidewheel.lineage.store import Store
from tidewheel.loop.declared import describe_loop, stored_declaration
from tidewheel.loop.loop import Loop
from tidewheel.loop.state import load_state
from tidewheel.loop.status import LoopStatus, status
from tidewheel.monitoring.alerts import list_alerts, open_alerts
from tidewheel.monitoring.windows import list_windows
from tidewheel.pipelines.records import Run
from tidewheel.pipelines.runs import get_run, list_runs
from tidewheel.registry.aliases import CHAMPION, alias_history, current_aliases
from tidewheel.registry.describe import described
from tidewheel.registry.traffic import Traffic, current_traffic
from tidewheel.registry.versions import list_models, list_versions
from tidewheel.rollout.records import Rollout
from tidewheel.rollout.stored import get_rollout
from tidewheel.web.records import (
    Activity,
    AlertLine,
    DecisionLine,
    Evidence,
    LoopLine,
    LoopState,
    Mark,
    MarkKind,
    Reign,
    RolloutLine,
    RunLine,
    ShareLine,
    Status,
    TrafficLine,
    TriggerLine,
    VersionLine,
)
from tidewheel.web.windows import charts_of

WINDOWS = 120  # newest windows of each kind that are charted
RUNS, VERSIONS, EVENTS, DECISIONS = 10, 10, 300, 12
RUNS_SEARCHED = 60  # newest runs among which those of a model are looked for
MARKS: dict[str, MarkKind] = {
    "trigger.fired": "retrained",
    "model.deployed": "promoted",
    "rollout.promoted": "promoted",
    "gate.refused": "refused",
    "rollout.rolled_back": "rolled back",
}
TESTS = {
    "errors": "fails more often",
    "slower": "is slower",
    "goal worse": "predicts worse",
    "errors not higher": "fails no more often",
    "goal not worse": "predicts no worse",
}
TOLD = ("trigger.", "gate.", "rollout.", "model.deployed", "run.failed")


def read_status(store: Store, loops: Sequence[Loop] = (), model: str | None = None) -> Status:
    """Return the state of everything, with one model in full: the named one, or the first.

    Loops that were passed add what only their declaration knows: the rules that start a run.
    Raises NotFound with near names for a model that does not exist.
    """
    turning = {item.model: item for item in status(store)}
    names = sorted({*turning, *(loop.model for loop in loops), *list_models(store)})
    if model is not None and model not in names:
        raise NotFound("model", model, names)
    lines = tuple(_loop_line(store, name, turning.get(name)) for name in names)
    shown = model or next(iter(names), None)
    return Status(
        at=store.clock.now(),
        home=f"{store.home.parent.name}/{store.home.name}",
        loops=lines,
        shown=_state(store, loops, turning.get(shown), shown) if shown else None,
    )


def _loop_line(store: Store, model: str, turning: LoopStatus | None) -> LoopLine:
    traffic = _traffic(store, model)
    return LoopLine(
        model=model,
        activity=_activity(store, model, traffic),
        alerts=len(turning.alerts if turning else open_alerts(store, model)),
    )


def _activity(store: Store, model: str, traffic: Traffic | None) -> Activity:
    if traffic is not None and traffic.challenger is not None:
        return "deciding"
    with store.database.reading() as tx:
        training = load_state(tx, model).state.running is not None
    if training:
        return "training"
    return "watching" if traffic is not None else "empty"


def _traffic(store: Store, model: str) -> Traffic | None:
    with suppress(NotFound):
        return current_traffic(store, model)
    return None


def _state(store: Store, loops: Sequence[Loop], turning: LoopStatus | None, model: str) -> LoopState:
    traffic = _traffic(store, model)
    loop = next((loop for loop in loops if loop.model == model), None)
    declared = describe_loop(loop) if loop else stored_declaration(store, model)
    versions = _versions(store, model)
    runs = _runs(store, model, {version.run_id for version in versions})
    events = _events(store, model)
    newest_first = list_windows(store, model, WINDOWS, kind="traffic") + list_windows(
        store, model, WINDOWS, kind="labels"
    )
    windows = sorted(newest_first, key=lambda window: window.end)
    psi_limit = declared["psi"] if declared else None
    return LoopState(
        model=model,
        pipeline=runs[0].pipeline if runs else "",
        doing=turning.doing if turning else "",
        activity=_activity(store, model, traffic),
        running=tuple(_counted(store, run) for run in runs if run.ended is None and run.state != "LOST"),
        traffic=_traffic_line(traffic) if traffic else None,
        rollout=_rollout(store, model) if traffic else None,
        triggers=_triggers(declared) if declared else (),
        alerts=tuple(
            AlertLine(kind=alert.kind, opened=alert.opened, evidence=alert.reason)
            for alert in reversed(open_alerts(store, model))
        ),
        charts=charts_of(windows, list_alerts(store, model), psi_limit=psi_limit),
        marks=tuple(reversed([mark for event in events for mark in _marks(event)])),
        reigns=_reigns(store, model) if versions else (),
        runs=runs,
        versions=versions,
        decisions=_decisions(events),
    )


def _traffic_line(traffic: Traffic) -> TrafficLine:
    return TrafficLine(
        champion=traffic.champion,
        challenger=traffic.challenger,
        share=traffic.share,
        paired=traffic.paired,
        since=traffic.at,
        reason=traffic.reason,
        strategy=traffic.strategy.kind if traffic.strategy is not None else "",
        parts=tuple(
            ShareLine(version=each.version, part=each.part, share=each.share) for each in described(traffic).arms
        )
        if traffic.strategy is not None
        else (),
    )


def _rollout(store: Store, model: str) -> RolloutLine | None:
    """Return the rollout that is being decided, if one is."""
    newest = get_rollout(store, model)
    return _rollout_line(newest) if newest is not None and newest.state == "running" else None


def _rollout_line(rollout: Rollout) -> RolloutLine:
    return RolloutLine(
        challenger=rollout.candidate,
        steps=(*(stage for stage in rollout.config.stages if stage < 1), 1.0),
        step=rollout.step,
        since=rollout.started,
        requests=rollout.requests,
        evidence=tuple(
            Evidence(name=TESTS.get(test.name, test.name), guard=test.guard, value=test.log_e, limit=test.limit)
            for test in rollout.tests
        ),
        verdict=rollout.reason,
    )


def _versions(store: Store, model: str) -> tuple[VersionLine, ...]:
    try:
        versions = list_versions(store, model, limit=VERSIONS)
    except NotFound:
        return ()
    held: dict[int, list[str]] = {}
    for alias, seq in current_aliases(store, model).items():
        held.setdefault(seq, []).append(alias)
    return tuple(
        VersionLine(
            seq=version.seq,
            aliases=tuple(sorted(held.get(version.seq, ()))),
            metrics=version.metrics,
            at=version.at,
            run_id=version.run_id,
        )
        for version in versions
    )


def _runs(store: Store, model: str, made: set[str]) -> tuple[RunLine, ...]:
    """Return the newest runs that a loop started for the model, or that made one of its versions."""
    found = [run for run in list_runs(store, limit=RUNS_SEARCHED) if run.cause.get("model") == model or run.id in made]
    return tuple(_run_line(run) for run in found[:RUNS])


def _run_line(run: Run) -> RunLine:
    kind, reason = str(run.cause.get("kind", "")), str(run.cause.get("reason", ""))
    return RunLine(
        id=run.id,
        pipeline=run.pipeline,
        state=str(run.state),
        cause=": ".join(part for part in (kind.replace("_", " "), reason) if part) or "by hand",
        started=run.started,
        ended=run.ended,
        steps_done=sum(step.ended is not None for step in run.steps),
        error=run.error or "",
    )


def _counted(store: Store, run: RunLine) -> RunLine:
    """Return a run with its steps counted, which lists leave out."""
    return _run_line(get_run(store, run.id))


def _events(store: Store, model: str) -> list[Event]:
    with store.database.reading() as tx:
        try:
            subject = find_entity(tx, "model", model).id
        except NotFound:
            return []
        return list_events(tx, subject_id=subject, limit=EVENTS, newest_first=True)


def _marks(event: Event) -> list[Mark]:
    if event.type not in MARKS:
        return []
    version = event.body.get("version", event.body.get("candidate"))
    text = str(event.body.get("text", event.type))
    label = f"v{version}" if version is not None else ""
    return [Mark(at=event.at, kind=MARKS[event.type], label=label, note=f"{text[:1].upper()}{text[1:]}.")]


def _decisions(events: Sequence[Event]) -> tuple[DecisionLine, ...]:
    told = [event for event in events if event.type.startswith(TOLD) and "text" in event.body]
    return tuple(DecisionLine(at=event.at, text=str(event.body["text"])) for event in told[:DECISIONS])


def _reigns(store: Store, model: str) -> tuple[Reign, ...]:
    held = alias_history(store, model, CHAMPION)
    return tuple(
        Reign(seq=item.seq, begins=item.valid_from, ends=item.valid_to)
        for item in reversed(held)
        if item.seq is not None
    )


def _triggers(declared: Mapping[str, Any]) -> tuple[TriggerLine, ...]:
    named = (name.partition("(") for name in declared["on"])
    return tuple(TriggerLine(kind=kind, rule=rule.removesuffix(")")) for kind, _, rule in named)
