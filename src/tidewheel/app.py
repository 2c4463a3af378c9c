"""Read the settings, name the concrete backends, hand out what the rooms need.

Every function here is one operation that the command line and the page share; the rules stand in
the rooms below.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tidewheel.errors import Conflict, InvalidInput, NotFound, TidewheelError
from tidewheel.settings import Settings, load_settings

if TYPE_CHECKING:
    import polars as pl

    from tidewheel.explaining.records import Explanation
    from tidewheel.lineage.chain import ChainReport
    from tidewheel.lineage.graph import Graph
    from tidewheel.lineage.outbox import Sinks, Waiting
    from tidewheel.lineage.store import Store
    from tidewheel.loop.loop import Loop
    from tidewheel.loop.tick import TickReport
    from tidewheel.pipelines.approving import Approval
    from tidewheel.pipelines.collect import Collection
    from tidewheel.pipelines.pipeline import Pipeline
    from tidewheel.pipelines.plan import Plan
    from tidewheel.pipelines.reproduce import Reproduction, Wish
    from tidewheel.pipelines.runs import Run, RunEvent
    from tidewheel.pipelines.sweep import Ranking, Sweep
    from tidewheel.predictions.compact import Compaction

ROOMS_WITH_TABLES = ("lineage", "data", "pipelines", "monitoring", "registry", "serving", "rollout", "triggers", "loop")


def import_tables() -> None:
    """Import every room's tables, so that the one MetaData knows them all."""
    for room in ROOMS_WITH_TABLES:
        import_module(f"tidewheel.{room}.tables")


def open_store(settings: Settings | None = None) -> Store:
    """Open the store that the settings name, its tables made or migrated."""
    from tidewheel.blobs.open import open_blobs
    from tidewheel.clock import SystemClock
    from tidewheel.database.database import open_database
    from tidewheel.database.migrate import prepare
    from tidewheel.lineage.store import Store as Opened

    settings = settings or load_settings()
    database = open_database(settings.database)
    prepare(database, import_tables)
    sinks = outbox_sinks(settings) if settings.openlineage or settings.webhook else {}
    database.sinks = tuple(sinks)
    return Opened(
        database=database,
        blobs=open_blobs(settings.blobs),
        clock=SystemClock(),
        home=settings.home,
        online_url=settings.online_url,
        secrets=Path(settings.secrets) if settings.secrets else None,
        lease_seconds=settings.lease_seconds,
        storage_patience=settings.storage_patience,
        executors=settings.executors,
        sinks=sinks,
    )


def outbox_sinks(settings: Settings) -> Sinks:
    """Return who outside is told what runs do, as the settings say."""
    from importlib.metadata import version

    from tidewheel.blobs.open import open_blobs
    from tidewheel.lineage.openlineage import Teller, plain
    from tidewheel.lineage.sinks import LINEAGE_PATH, sink_at
    from tidewheel.pipelines.capture import source_place
    from tidewheel.pipelines.secrets import find_secrets

    folder = Path(settings.secrets) if settings.secrets else None

    def secret(name: str, sink: str) -> str:
        return find_secrets([name], folder, wanted_by=f"The setting {sink}").revealed()[name] if name else ""

    found: dict[str, Any] = {}
    if settings.openlineage:
        key = secret(settings.openlineage_key, "openlineage_key")
        blobs = open_blobs(settings.blobs)
        teller = Teller(f"tidewheel.{settings.environment}", version("tidewheel"), lambda run: source_place(blobs, run))
        found["openlineage"] = (sink_at(settings.openlineage, path=LINEAGE_PATH, key=key), teller)
    if settings.webhook:
        signed = secret(settings.webhook_secret, "webhook_secret")
        found["webhook"] = (sink_at(settings.webhook, secret=signed), plain)
    return found


def load_pipeline(target: str | Pipeline[Any, Any]) -> Pipeline[Any, Any]:
    """Return the pipeline that `FILE.py:NAME` or `module:NAME` names; a loop's pipeline counts too."""
    from tidewheel.pipelines.pipeline import Pipeline as PipelineType
    from tidewheel.pipelines.target import load_target

    found = load_target(target) if isinstance(target, str) else target
    loops = sys.modules.get("tidewheel.loop.loop")  # who made a loop has imported it; a run without one need not
    if loops is not None and isinstance(found, loops.Loop):
        return cast("Loop", found).pipeline
    if not isinstance(found, PipelineType):
        raise InvalidInput(
            f"{target} is a {type(found).__name__}, not a pipeline.", "Mark the function with @pipeline from tidewheel."
        )
    return found


def load_loop(target: str) -> Loop:
    """Return the loop that `FILE.py:NAME` names."""
    from tidewheel.loop.loop import Loop as LoopType
    from tidewheel.pipelines.target import load_target

    found = load_target(target)
    if not isinstance(found, LoopType):
        raise InvalidInput(f"{target} is a {type(found).__name__}, not a loop.", "Name a tidewheel.Loop(...).")
    return found


def run_pipeline(
    store: Store,
    target: str | Pipeline[Any, Any],
    parameters: Mapping[str, Any],
    *,
    executor: str = "inline",
    on_event: Callable[[RunEvent], None] | None = None,
    leave: bool = False,
) -> Run:
    """Run a pipeline; text parameters are read as the types that its signature names.

    With `leave` a run that waits for nothing but an approval is left, and returned as WAITING.
    """
    from tidewheel.pipelines.runs import start_run

    return start_run(
        store,
        load_pipeline(target),
        parameters,
        cause={"kind": "manual", "reason": "asked for on the command line or from Python"},
        executor=executor,
        on_event=on_event,
        leave=leave,
    )


def sweep_pipeline(
    store: Store,
    target: str | Pipeline[Any, Any],
    grid: Mapping[str, Sequence[Any]],
    parameters: Mapping[str, Any],
    *,
    jobs: int | None = None,
    ranking: Ranking | None = None,
    executor: str = "inline",
    on_event: Callable[[RunEvent], None] | None = None,
) -> Sweep:
    """Run a pipeline once for each point of a grid; one that was not finished is gone on with."""
    from tidewheel.pipelines.sweep import run_sweep

    return run_sweep(
        store,
        load_pipeline(target),
        grid,
        parameters,
        jobs=jobs,
        ranking=ranking,
        executor=executor,
        on_event=on_event,
    )


def plan_pipeline(store: Store, target: str | Pipeline[Any, Any], parameters: Mapping[str, Any]) -> Plan:
    """Plan a pipeline without running a step."""
    from tidewheel.pipelines.plan import plan_run

    return plan_run(store, load_pipeline(target), parameters)


def resume_pipeline(
    store: Store,
    run_id: str,
    target: str,
    *,
    executor: str = "inline",
    on_event: Callable[[RunEvent], None] | None = None,
    leave: bool = False,
) -> Run:
    """Go on with a run that was killed, failed, or left waiting for an approval that is given now."""
    from tidewheel.pipelines.runs import resume_run

    return resume_run(store, run_id, load_pipeline(target), executor=executor, on_event=on_event, leave=leave)


def rerun_pipeline(
    store: Store,
    run_id: str,
    target: str,
    *,
    start: str = "",
    executor: str = "inline",
    on_event: Callable[[RunEvent], None] | None = None,
) -> Run:
    """Run a run again as a new one, from a step on."""
    from tidewheel.pipelines.rerun import rerun_run

    return rerun_run(store, run_id, load_pipeline(target), start=start, executor=executor, on_event=on_event)


def reproduce_run(settings: Settings, run_id: str, wish: Wish | None = None) -> Reproduction:
    """Run an old run again from its lock, sources and inputs, and compare each output."""
    from tidewheel.pipelines import reproduce

    store = open_store(settings)
    # The process of the rebuilt environment opens the same store, whatever the settings beside its sources say.
    variables = {"home": settings.home, "database_url": settings.database_url, "blob_url": settings.blobs}
    named = {f"TIDEWHEEL_{name.upper()}": str(value) for name, value in variables.items() if str(value)}
    try:
        return reproduce.reproduce_run(store, run_id, wish or reproduce.Wish(), named)
    finally:
        store.close()


def replay_run(settings: Settings, run_id: str, wish: Wish, report: str) -> None:
    """Be the process of a rebuilt environment: execute the old run again and write down what came of it."""
    from tidewheel.pipelines.replay import replay
    from tidewheel.pipelines.reproduce import as_json, write_report

    store = open_store(settings)
    try:
        write_report(Path(report), as_json(replay(store, run_id, wish)))
    except TidewheelError as error:
        write_report(Path(report), {"error": error.what, "mend": error.mend})
    finally:
        store.close()


def collect_garbage(
    settings: Settings,
    *,
    dry: bool = False,
    keep_days: float | None = None,
    keep_runs: int | None = None,
    by: str = "",
) -> Collection:
    """Delete what the rules no longer keep, or with `dry` say what that would be."""
    from tidewheel.pipelines.collect import collect
    from tidewheel.pipelines.retention import Retention

    days = settings.keep_days if keep_days is None else keep_days
    runs = settings.keep_runs if keep_runs is None else keep_runs
    rules = Retention(keep_days=days, keep_runs=runs)
    store = open_store(settings)
    try:
        return collect(store, rules, dry=dry, by=by)
    finally:
        store.close()


def outbox_waiting(store: Store) -> list[Waiting]:
    """Return the events that were not delivered yet."""
    from tidewheel.lineage.outbox import waiting

    with store.database.reading() as tx:
        return waiting(tx)


def outbox_retry(store: Store, seq: int | None = None) -> int:
    """Take parked events up again."""
    from tidewheel.lineage.outbox import retry

    with store.database.transaction() as tx:
        return retry(tx, seq)


def answer_run(
    store: Store, settings: Settings, run_or_question: str, *, by: str = "", granted: bool, reason: str = ""
) -> Approval:
    """Answer the question that a run waits with, as somebody or as the user of this process."""
    import getpass

    from tidewheel.pipelines.approvals import answer_question

    name = by or getpass.getuser()
    return answer_question(store, run_or_question, by=name, granted=granted, reason=reason, groups=settings.approvers)


def lineage_of(
    store: Store, name: str, *, kind: str = "", up: bool = True, down: bool = True, depth: int = 20
) -> Graph:
    """Return the part of the graph around a model, dataset, run or id.

    Raises NotFound with near names, Conflict when a name is both a model and a dataset.
    """
    from tidewheel.lineage.graph import graph

    with store.database.reading() as tx:
        return graph(tx, _node_id(tx, name, kind), up=up, down=down, depth=depth)


def _node_id(tx: Any, name: str, kind: str) -> str:
    from tidewheel.lineage.read import get_execution, list_entities, resolve

    found: dict[str, str] = {}
    missed: list[NotFound] = []
    bare = re.split("[:@]", name, maxsplit=1)[0]
    for candidate in (kind,) if kind else ("model", "dataset", "artifact"):
        try:
            found[candidate] = resolve(tx, candidate, name).id
        except NotFound as error:
            if kind or any(entity.name == bare for entity in list_entities(tx, candidate)):
                missed.append(error)  # the name is known, its version or alias is not
    if len(found) > 1:
        raise Conflict(f"{name!r} is a {' and a '.join(found)}.", f"Say which with --kind {next(iter(found))}.")
    if found:
        return next(iter(found.values()))
    if missed:
        raise missed[0]
    try:
        return get_execution(tx, name).id
    except NotFound:
        known = [entity.name for each in ("model", "dataset") for entity in list_entities(tx, each)]
        raise NotFound("dataset, model or run", name, known) from None


def check_audit(store: Store) -> ChainReport:
    """Walk the hash chain of the audit log."""
    from tidewheel.lineage.chain import verify_chain

    with store.database.reading() as tx:
        return verify_chain(tx)


def tick_loop(store: Store, target: str, *, executor: str = "inline") -> TickReport:
    """Let a loop look once and act."""
    from tidewheel.loop.tick import tick

    return tick(store, load_loop(target), executor=executor)


def log_of(store: Store, model: str) -> Path:
    """Return the folder of a model's prediction log; NotFound, with near names, where nothing was logged."""
    from tidewheel.predictions.segments import log_folder, logged_models

    if model not in logged_models(store.home):
        raise NotFound("log of a model", model, logged_models(store.home), "A model is logged once it was asked.")
    return log_folder(store.home, model)


def compact_logs(store: Store, settings: Settings, model: str = "") -> dict[str, Compaction]:
    """Compact the log of one model, or of all, and delete what their rules call too old; return what was done."""
    from tidewheel.predictions.compact import compact
    from tidewheel.predictions.rules import rules_for
    from tidewheel.predictions.segments import logged_models

    folders = {name: log_of(store, name) for name in ([model] if model else logged_models(store.home))}
    now = store.clock.now()
    return {name: compact(folder, now=now, days=rules_for(settings.log, name).days) for name, folder in folders.items()}


def export_log(store: Store, model: str, place: Path, *, labels: bool = False) -> int:
    """Write a model's log as a table and return how many rows it has."""
    from functools import cache

    from tidewheel.models.bundle import load_bundle
    from tidewheel.predictions.export import export_log as export
    from tidewheel.registry.versions import get_model

    @cache
    def names(version: int) -> Sequence[str]:
        return load_bundle(store, get_model(store, f"{model}:{version}").bundle_digest).manifest.signature.names

    return export(log_of(store, model), place, names, labels=labels)


def read_rows(file: str) -> pl.DataFrame:
    """Return the rows of a CSV, Parquet, JSON, JSON lines or Arrow file."""
    from tidewheel.data.sources import load

    return load(file).frame


def explain_version(
    store: Store,
    reference: str,
    rows: pl.DataFrame,
    *,
    background: pl.DataFrame | None = None,
    budget_ms: float | None = None,
    trust: bool = False,
) -> Explanation:
    """Say what each feature of some rows contributes to the answers of a version."""
    from tidewheel.explaining.explain import explain
    from tidewheel.models.bundle import load_bundle
    from tidewheel.registry.versions import get_model

    bundle = load_bundle(store, get_model(store, reference).bundle_digest, trust=trust)
    return explain(bundle, rows, background=background, budget_ms=budget_ms)
