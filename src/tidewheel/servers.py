"""Run what runs for long: prediction server, conductor, scheduler, page, or all of them at once."""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tidewheel.app import open_store
from tidewheel.errors import Conflict, InvalidInput
from tidewheel.settings import Settings

if TYPE_CHECKING:
    from tidewheel.lineage.store import Store
    from tidewheel.loop.tick import TickReport
    from tidewheel.triggers.listed import TriggerRow
    from tidewheel.triggers.tick import TickReport as ScheduleReport

LETTING_GO = 5.0  # seconds in which the children of an `up` that was killed let go of their ports
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
