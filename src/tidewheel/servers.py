"""Run what runs for long: prediction server, conductor, scheduler, page, or all of them at once."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tidewheel.app import open_store
from tidewheel.errors import Conflict, InvalidInput
from tidewheel.settings import Settings, size_of

if TYPE_CHECKING:
    from tidewheel.lineage.store import Store
    from tidewheel.loop.tick import TickReport
    from tidewheel.serving.manner import Manner
    from tidewheel.serving.terms import Terms
    from tidewheel.triggers.listed import TriggerRow
    from tidewheel.triggers.tick import TickReport as ScheduleReport

LETTING_GO = 5.0  # seconds in which the children of an `up` that was killed let go of their ports
COMPACT_SECONDS = 600.0  # pause between two looks whether a log is to be compacted
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a server listens."""

    host: str  # name or number
    port: int  # TCP port, never 0


def listen_address(host: str, port: int, *, public: bool = False) -> Address:
    """Return where to listen, a free port chosen for 0; other machines are let in only when the settings say so."""
    if host not in LOOPBACK and not public:
        raise InvalidInput(
            f"{host} can be reached from other machines, and the settings do not say that it may.",
            "Set public = true in tidewheel.toml; predictions then need an API key: tidewheel keys create NAME",
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


def terms_of(settings: Settings) -> Terms:
    """Return the terms that settings and environment set; the secret comes from TIDEWHEEL_API_KEY alone."""
    from tidewheel.serving.gate import VARIABLE
    from tidewheel.serving.terms import Terms

    return Terms(
        secret=os.environ.get(VARIABLE, ""),
        anonymous=settings.anonymous,
        access_log=settings.access_log,
        otel=settings.otel,
        log=settings.log,
    )


def keep_compacting(settings: Settings) -> None:
    """Compact the logs again and again from a thread of this process, each time in a process of low priority."""

    def run() -> None:
        while True:
            time.sleep(COMPACT_SECONDS)
            child = start_compaction(settings)
            if child is not None:
                child.wait()

    threading.Thread(target=run, name="tidewheel-compact", daemon=True).start()


def start_compaction(settings: Settings) -> subprocess.Popen[bytes] | None:
    """Start a process that compacts the logs of this home, unless there is nothing to do for it."""
    from tidewheel.predictions.compact import is_due
    from tidewheel.predictions.rules import rules_for
    from tidewheel.predictions.segments import log_folder, logged_models
    from tidewheel.supervisor import tidewheel_command

    now = datetime.now(UTC)
    names = logged_models(settings.home)
    if not any(is_due(log_folder(settings.home, name), now, rules_for(settings.log, name).days) for name in names):
        return None
    command = tidewheel_command("log", "compact", "--home", str(settings.home))
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # noqa: S603 - our own argv
    with suppress(OSError):  # it has ended already
        os.setpriority(os.PRIO_PROCESS, child.pid, 10)
    return child


def serve(
    settings: Settings,
    models: Sequence[str] | None,
    *,
    host: str,
    port: int,
    repository: bool = False,
    say: Callable[[str], None],
) -> None:
    """Run the prediction server until SIGTERM, then drain: this process keeps its workers alive, they answer.

    `repository` lets callers load and unload models.
    """
    import msgspec

    from tidewheel.serving.listening import listen, url_of
    from tidewheel.serving.terms import check_exposed
    from tidewheel.serving.workers import Workers, folder_of
    from tidewheel.supervisor import die_with_parent

    die_with_parent()
    address = listen_address(
        host or settings.serve_host, port if port >= 0 else settings.serve_port, public=settings.public
    )
    manner, terms = manner_of(settings), terms_of(settings)
    manner.tls()  # a mistake shows here, once, not in each worker
    if manner.grpc_port:
        from tidewheel.serving.grpc_front import check_grpc  # it knows frames, which take longer than a start may

        check_grpc()
        check_free(Address(host=address.host, port=manner.grpc_port), patience=LETTING_GO)
    store = open_store(settings)  # the tables are made once, before several processes want them
    try:
        if address.host not in LOOPBACK:
            check_exposed(store, terms, address.host)
    finally:
        store.close()
    listening = listen(address.host, address.port, patience=LETTING_GO)
    plan = _Plan(settings=settings, models=tuple(models) if models is not None else None, repository=repository)
    keep_compacting(settings)
    with listening:
        Workers(
            (sys.executable, "-c", "from tidewheel.servers import work; work()"),
            listening,
            os.cpu_count() or 1 if settings.serve_workers == "auto" else int(settings.serve_workers),
            folder=folder_of(settings.home, address.port),
            plan=msgspec.json.encode(plan, enc_hook=str).decode(),
            limits=manner.limits,
            on_ready=lambda: say(f"predictions: {url_of(listening, address.host, manner.scheme)}/docs"),
            on_change=say,
        ).run()


def ask_workers_anew(settings: Settings, port: int) -> int:
    """Let the prediction server on a port restart its workers one after the other; return its process id."""
    from tidewheel.serving.workers import ask_to_reload

    return ask_to_reload(settings.home, port if port > 0 else settings.serve_port)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What a worker is told to serve."""

    settings: Settings  # as the parent has them
    models: tuple[str, ...] | None  # names of the models; None: all that are deployed
    repository: bool  # whether callers may load and unload models


def work() -> None:
    """Run one worker: argv holds the descriptors of the listening socket and of the line to its parent."""
    import logging

    import msgspec

    from tidewheel.serving.lean import load_later

    load_later("polars", "narwhals", "scipy", "sklearn", "cloudpickle")
    from tidewheel.serving.link import Link
    from tidewheel.serving.worker import work as run_worker

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    listening, line = (socket.socket(fileno=int(each)) for each in sys.argv[1:3])
    link = Link(line)
    plan = msgspec.json.decode(link.order.plan, type=_Plan, dec_hook=lambda kind, text: kind(text))
    settings = plan.settings
    store = open_store(settings)
    try:
        terms = replace(terms_of(settings), repository=plan.repository)
        run_worker(store, listening, link, models=plan.models, manner=manner_of(settings), terms=terms)
    finally:
        store.close()


def manner_of(settings: Settings) -> Manner:
    """Return how the settings want HTTP to be spoken."""
    from tidewheel.serving.limits import Limits
    from tidewheel.serving.manner import Manner

    limits = Limits(
        head_seconds=settings.serve_head_seconds,
        body_seconds=settings.serve_body_seconds,
        idle_seconds=settings.serve_idle_seconds,
        waiting=settings.serve_waiting,
        budget_ms=settings.serve_budget_ms,
        timeout_seconds=settings.serve_timeout,
        poll_seconds=settings.serve_poll_seconds,
        drain_seconds=settings.serve_drain_seconds,
        spare_bytes=size_of(settings.serve_memory) if settings.serve_versions == "any" else 0,
    )
    return Manner(
        front=settings.serve_front,
        limits=limits,
        tls_cert=settings.serve_tls_cert,
        tls_key=settings.serve_tls_key,
        grpc_port=settings.serve_grpc_port,
        origins=settings.serve_origins,
    )


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
    from tidewheel.serving.terms import check_exposed
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
        store = open_store(settings)  # the tables are made once, before three processes want them
        try:
            if serving.host not in LOOPBACK:
                check_exposed(store, terms_of(settings), serving.host)
        finally:
            store.close()
        say(f"predictions: http://{serving.host}:{serving.port}/docs")
        say(f"page:        http://{page.host}:{page.port}/")
        say(f"logs:        {settings.home / 'logs'}")
        supervise(
            services,
            log_folder=settings.home / "logs",
            stop=stop or stopped,
            on_change=lambda name, what: say(f"{name} {what}"),
        )
