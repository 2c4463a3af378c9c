"""Read the settings, name the concrete backends, hand out what the rooms need.

Every function here is one operation that the command line and the page share; the rules stand in
the rooms below.
"""

from __future__ import annotations

import errno
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tidewheel.errors import Conflict, InvalidInput, NotFound, TidewheelError
from tidewheel.settings import Settings, load_settings

if TYPE_CHECKING:
    import polars as pl

    from tidewheel.data.records import DatasetVersion
    from tidewheel.lineage.chain import ChainReport
    from tidewheel.lineage.graph import Graph
    from tidewheel.lineage.outbox import Sinks, Waiting
    from tidewheel.lineage.store import Store
    from tidewheel.loop.loop import Loop
    from tidewheel.loop.tick import TickReport
    from tidewheel.models.scorer import Scorer
    from tidewheel.pipelines.approving import Approval
    from tidewheel.pipelines.collect import Collection
    from tidewheel.pipelines.pipeline import Pipeline
    from tidewheel.pipelines.plan import Plan
    from tidewheel.pipelines.reproduce import Reproduction, Wish
    from tidewheel.pipelines.runs import Run, RunEvent
    from tidewheel.pipelines.sweep import Ranking, Sweep
    from tidewheel.pipelines.why import Why
    from tidewheel.triggers.listed import TriggerRow
    from tidewheel.triggers.tick import TickReport as ScheduleReport

ROOMS_WITH_TABLES = ("lineage", "data", "pipelines", "monitoring", "registry", "rollout", "triggers", "loop")
LETTING_GO = 5.0  # seconds in which the children of an `up` that was killed let go of their ports
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server listens."""

    host: str  # name or number
    port: int  # TCP port, never 0


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


class App:
    """tidewheel in a notebook or a program: one store, the verbs of the command line.

    >>> import tidewheel, tempfile
    >>> app = tidewheel.open(tempfile.mkdtemp())
    >>> app.datasets()
    []
    >>> app.close()
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = open_store(settings)

    def register(self, name: str, source: Any, *, time: str | None = None, label: str | None = None) -> DatasetVersion:
        """Keep a file or frame as version 1 of a new dataset."""
        from tidewheel.data import datasets

        return datasets.register(self.store, name, source, time=time, label=label)

    def append(self, name: str, source: Any) -> DatasetVersion:
        """Check rows against the schema and keep them as the next version."""
        from tidewheel.data import datasets

        return datasets.append(self.store, name, source)

    def read(self, reference: str) -> pl.DataFrame:
        """Return the rows of `name` or `name:3`."""
        from tidewheel.data import datasets

        return datasets.read(self.store, reference)

    def datasets(self) -> list[DatasetVersion]:
        """Return the newest version of every dataset."""
        from tidewheel.data import datasets

        return datasets.list_datasets(self.store)

    def run(self, pipeline: str | Pipeline[Any, Any], **parameters: Any) -> Run:
        """Run a pipeline: the decorated function itself or `FILE.py:NAME`."""
        from tidewheel.pipelines.notebook import notebook_watcher

        watcher, where = notebook_watcher(), self.settings.executor
        return run_pipeline(self.store, pipeline, parameters, executor=where, on_event=watcher)

    def sweep(
        self,
        pipeline: str | Pipeline[Any, Any],
        *,
        grid: Mapping[str, Sequence[Any]],
        parameters: Mapping[str, Any] | None = None,
        jobs: int | None = None,
        by: str | None = None,
        largest: bool = False,
    ) -> Sweep:
        """Run a pipeline once for each point of a grid, over parameters that all share; `by` names what ranks."""
        from tidewheel.pipelines.sweep import Ranking

        order, where = Ranking(by=by, largest=largest), self.settings.executor
        return sweep_pipeline(self.store, pipeline, grid, parameters or {}, jobs=jobs, ranking=order, executor=where)

    def plan(self, pipeline: str | Pipeline[Any, Any], **parameters: Any) -> Plan:
        """Say which steps would run or come from the cache, without running them."""
        return plan_pipeline(self.store, pipeline, parameters)

    def why(self, run_or_step: str) -> Why:
        """Say why a run or step happened and what changed since the last time."""
        from tidewheel.pipelines.why import why

        return why(self.store, run_or_step)

    def reproduce(self, run: str, *, here: bool = False, rtol: float = 1e-6, atol: float = 1e-9) -> Reproduction:
        """Run an old run again from its lock, sources and inputs, and compare each output."""
        from tidewheel.pipelines.likeness import Tolerance
        from tidewheel.pipelines.reproduce import Wish

        tolerance = Tolerance(relative=rtol, absolute=atol)
        wish = Wish(here=here, tolerance=tolerance, executor=self.settings.executor)
        return reproduce_run(self.settings, run, wish)

    def load(self, model: str) -> Scorer:
        """Return the scorer of `name@champion`, `name:3` or the newest `name`, for use in this process."""
        from tidewheel.models.bundle import load_bundle
        from tidewheel.registry.versions import get_model

        return load_bundle(self.store, get_model(self.store, model).bundle_digest).scorer()

    def lineage(self, name: str, *, kind: str = "") -> Graph:
        """Return where a thing comes from and what hangs on it."""
        return lineage_of(self.store, name, kind=kind)

    def tick(self, loop: Loop) -> TickReport:
        """Let a loop look once and act."""
        from tidewheel.loop.tick import tick

        return tick(self.store, loop, executor=self.settings.executor)

    def close(self) -> None:
        """Give the connections back."""
        self.store.close()


def open_app(home: str | Path | None = None, *, environment: str | None = None) -> App:
    """Open tidewheel on a folder (default: as `tidewheel.toml` says, else `.tidewheel` here)."""
    from dataclasses import replace

    settings = load_settings(None, environment)
    return App(replace(settings, home=Path(home).expanduser().resolve()) if home else settings)


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


def listen_address(host: str, port: int, *, public: bool = False) -> Address:
    """Return where to listen, a free port chosen for 0; other machines are let in only when the settings say so."""
    if host not in LOOPBACK and not public:
        raise InvalidInput(
            f"{host} can be reached from other machines, and predictions are not yet protected by keys.",
            "Put a proxy that asks for credentials in front and set public = true in tidewheel.toml.",
        )
    if port:
        return Address(host=host, port=port)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return Address(host=host, port=int(probe.getsockname()[1]))


def check_free(address: Address, *, patience: float = 0.0) -> None:
    """Raise Conflict when somebody else listens there, still after `patience` seconds.

    What else is wrong with an address is the server's to say.
    """
    give_up = time.monotonic() + patience
    while _is_taken(address):
        if time.monotonic() >= give_up:
            raise Conflict(
                f"Port {address.port} on {address.host} is taken, perhaps by another tidewheel.",
                "Stop what holds it, or choose another (--port, --web-port); 0 takes a free one.",
            )
        time.sleep(0.1)


def _is_taken(address: Address) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def take_in(settings: Settings, folder: Path) -> str:
    """Take in a shipped model and let it answer, unless it does already; return its name."""
    from tidewheel.shipping.payload import import_folder

    store = open_store(settings)
    try:
        return import_folder(store, folder, by="serve", promoted=True).name
    finally:
        store.close()


def serve(
    settings: Settings, models: Sequence[str] | None, *, host: str, port: int, say: Callable[[str], None]
) -> None:
    """Run the prediction server in this process until SIGTERM, then drain."""
    from tidewheel.serving.front import serve as run_server
    from tidewheel.supervisor import die_with_parent

    die_with_parent()
    address = listen_address(
        host or settings.serve_host, port if port >= 0 else settings.serve_port, public=settings.public
    )
    store = open_store(settings)
    try:
        run_server(
            store,
            models=models,
            host=address.host,
            port=address.port,
            on_ready=lambda url: say(f"predictions: {url}/docs"),
        )
    finally:
        store.close()


def conduct(settings: Settings, targets: Sequence[str], *, say: Callable[[str], None]) -> None:
    """Run the conductor of some loops in this process until SIGTERM."""
    from tidewheel.loop.conductor import conduct as run_conductor
    from tidewheel.loop.declared import load_declared
    from tidewheel.supervisor import die_with_parent, stop_on_signals

    die_with_parent()
    loops = load_declared(targets).loops
    store = open_store(settings)
    say(f"conducting: {', '.join(loop.model for loop in loops)}")
    try:
        with stop_on_signals() as stop:
            run_conductor(store, loops, stop=stop, seconds=settings.tick_seconds, executor=settings.executor)
    finally:
        store.close()


def conduct_schedules(settings: Settings, targets: Sequence[str], *, say: Callable[[str], None]) -> None:
    """Look at the schedules of some files in this process, and do their runs, until SIGTERM."""
    from tidewheel.loop.declared import load_declared
    from tidewheel.supervisor import die_with_parent, stop_on_signals
    from tidewheel.triggers.conduct import conduct_schedules as run_schedules

    die_with_parent()
    schedules = load_declared(targets).schedules
    store = open_store(settings)
    say(f"schedules: {', '.join(schedule.name for schedule in schedules)}")
    try:
        with stop_on_signals() as stop:
            run_schedules(
                store, schedules, stop=stop, seconds=max(settings.tick_seconds, 1.0), executor=settings.executor
            )
    finally:
        store.close()


def tick_file(
    store: Store, targets: Sequence[str], *, executor: str = "inline", works: bool = True
) -> list[TickReport | ScheduleReport]:
    """Look once at every loop and schedule of some files, and do the runs that wait."""
    from tidewheel.loop.declared import load_declared
    from tidewheel.loop.tick import tick
    from tidewheel.triggers.tick import tick as tick_schedules

    declared = load_declared(targets)
    found: list[TickReport | ScheduleReport] = [tick(store, loop, executor=executor) for loop in declared.loops]
    return found + tick_schedules(store, declared.schedules, executor=executor, works=works)


def list_triggers(store: Store, targets: Sequence[str] = ()) -> list[TriggerRow]:
    """Return what is declared in some files, or in the store when none is named, with the newest verdicts."""
    from tidewheel.loop.declared import declare_loop, load_declared
    from tidewheel.triggers.listed import listed
    from tidewheel.triggers.state import declare

    if not targets:
        return listed(store)
    declared = load_declared(targets)
    names = [declare_loop(store, loop).name for loop in declared.loops]
    names += [declare(store, each.name, "schedule", each.describe()).name for each in declared.schedules]
    return [row for row in listed(store) if row.name in names]


def up(
    settings: Settings,
    targets: Sequence[str],
    *,
    host: str = "",
    port: int = -1,
    web_port: int = -1,
    say: Callable[[str], None],
    stop: threading.Event | None = None,
) -> None:
    """Run conductor, prediction server and page of some loops, until SIGTERM or Ctrl-C."""
    from tidewheel.loop.declared import load_declared
    from tidewheel.supervisor import (
        Service,
        die_with_parent,
        only_one,
        stop_on_signals,
        supervise,
        tidewheel_command,
    )

    die_with_parent()
    declared = load_declared(targets)  # a mistake shows here, not in a child's log
    serving = listen_address(
        host or settings.serve_host, port if port >= 0 else settings.serve_port, public=settings.public
    )
    page = listen_address(settings.web_host, web_port if web_port >= 0 else settings.web_port, public=settings.public)
    home = ("--home", str(settings.home))
    services = [
        Service(
            name="serving",
            command=tidewheel_command("serve", "--host", serving.host, "--port", str(serving.port), *home),
        ),
        Service(name="web", command=tidewheel_command("web", "--host", page.host, "--port", str(page.port), *home)),
    ]
    if declared.loops:
        services.insert(0, Service(name="conductor", command=tidewheel_command("loop", "run", *targets, *home)))
    if declared.schedules:
        services.insert(0, Service(name="scheduler", command=tidewheel_command("triggers", "run", *targets, *home)))
    with only_one(settings.home), stop_on_signals() as stopped:
        # A child would die of a taken port again and again, and the address told below would be somebody else's.
        for address in (serving, page):
            check_free(address, patience=LETTING_GO)
        open_store(settings).close()  # the tables are made once, before three processes want them
        say(f"predictions: http://{serving.host}:{serving.port}/docs")
        say(f"page:        http://{page.host}:{page.port}/")
        say(f"logs:        {settings.home / 'logs'}")
        supervise(
            services,
            log_folder=settings.home / "logs",
            stop=stop or stopped,
            on_change=lambda name, what: say(f"{name} {what}"),
        )
