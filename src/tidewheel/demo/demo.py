"""The main job: the whole loop on real data, with real processes over real HTTP."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidewheel.demo.records import DemoOptions, Result
from tidewheel.errors import Conflict, StorageUnavailable

if TYPE_CHECKING:
    from tidewheel.demo.feeder import Feeder
    from tidewheel.demo.journal import Journal
    from tidewheel.demo.stream import Stream
    from tidewheel.demo.view import Picture, Screen
    from tidewheel.lineage.store import Store
    from tidewheel.loop.status import LoopStatus
    from tidewheel.servers import Address
    from tidewheel.settings import Settings

READY_SECONDS = 120.0  # until the first champion answers
CATCH_UP_SECONDS = 60.0  # a wave goes on after that even if the conductor is still busy
TICK_SECONDS = "0.02"
PROJECT = '''"""The loop that the demo turns; start it again with: tidewheel up {path}:loop --home {home}"""

from tidewheel.demo.project import make_loop

loop = make_loop(
    name={name!r},
    label={label!r},
    task={task!r},
    history={history},
    spread={spread!r},
    sabotage={sabotage!r},
)
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """What the parts of the demo share while it runs."""

    store: Store  # the demo's own store
    stream: Stream  # the table
    options: DemoOptions  # what was asked for
    serving: Address  # where predictions are answered
    screen: Screen  # the view
    alive: Callable[[], None]  # raises when the processes have died


def run_demo(options: DemoOptions, *, as_json: bool) -> int:
    """Run the demo and print its summary; returns the exit code."""
    from tidewheel.demo.stream import digits_stream, table_stream

    if options.data is None:
        stream = digits_stream(options.history)
    else:
        stream = table_stream(
            options.data, time=options.time, label=options.label, history=options.history, drop=options.drop
        )
    settings = _settings(options)
    result = _turn(stream, settings, options)
    from tidewheel.demo.summary import print_summary

    print_summary(stream, result, settings=settings, as_json=as_json)
    return 0


def _settings(options: DemoOptions) -> Settings:
    from tidewheel.settings import load_settings

    settings = load_settings()
    home = options.home or settings.home / time.strftime("demo-%Y%m%d-%H%M%S")
    if (home / "project.py").exists():
        raise Conflict(f"{home} holds an earlier demo.", "Choose another --home, or leave it out for a new one.")
    return replace(settings, home=home, database_url="", blob_url="")


def _turn(stream: Stream, settings: Settings, options: DemoOptions) -> Result:
    from tidewheel.app import open_store
    from tidewheel.demo.view import Picture, screen
    from tidewheel.servers import listen_address

    began = time.monotonic()
    serving, page = (listen_address("127.0.0.1", 0) for _ in range(2))
    picture = Picture(
        title=f"tidewheel demo: {stream.name}   http://{page.host}:{page.port}/",
        metric=stream.metric,
        total=stream.live,
        doing=f"keeping {stream.history:,} rows of history",
    )
    store = open_store(settings)
    try:
        with screen(picture) as shown:
            shown.draw()
            project = _prepare(store, stream, settings, options)
            picture.doing = "training and deploying the first champion"
            shown.draw()
            with _processes(project, settings, serving, page) as alive:
                stage = _Stage(store=store, stream=stream, options=options, serving=serving, screen=shown, alive=alive)
                feeder, journal = _feed(stage)
            result = _result(store, stream, feeder, journal, seconds=time.monotonic() - began)
    finally:
        store.close()
    return result


def _prepare(store: Store, stream: Stream, settings: Settings, options: DemoOptions) -> Path:
    from tidewheel.data.datasets import register

    register(store, stream.name, stream.frame.head(stream.history), label=stream.label, by="demo")
    project = settings.home / "project.py"
    project.write_text(
        PROJECT.format(
            path=project,
            home=settings.home,
            name=stream.name,
            label=stream.label,
            task=stream.task,
            history=stream.history,
            spread=stream.spread,
            sabotage=options.sabotage,
        )
    )
    return project


@contextmanager
def _processes(project: Path, settings: Settings, serving: Address, page: Address) -> Iterator[Callable[[], None]]:
    """Run `tidewheel up` on the project; gives a check that raises when it has died."""
    from tidewheel.supervisor import PARENT_VARIABLE, tidewheel_command

    words = ("up", f"{project}:loop", "--home", str(settings.home))
    command = tidewheel_command(*words, "--port", str(serving.port), "--web-port", str(page.port))
    environment = os.environ | {
        PARENT_VARIABLE: str(os.getpid()),
        "TIDEWHEEL_TICK_SECONDS": TICK_SECONDS,
        "OMP_NUM_THREADS": "1",  # two cores are shared by four processes
        "POLARS_MAX_THREADS": "1",
    }
    log = settings.home / "logs"
    log.mkdir(parents=True, exist_ok=True)
    with (log / "up.log").open("ab") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)  # noqa: S603

    def alive() -> None:
        if process.poll() is not None:
            how = f"ended with {process.returncode}" if process.returncode else "was told to stop by somebody else"
            raise StorageUnavailable(
                f"tidewheel up {how}; it last said: {_tail(log / 'up.log')}", f"Look into {log}, then start again."
            )

    try:
        yield alive
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def _tail(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _feed(stage: _Stage) -> tuple[Feeder, Journal]:
    from tidewheel.demo.client import Client
    from tidewheel.demo.feeder import LONG_STREAM, WAVE_ROWS, Feeder, Scores
    from tidewheel.demo.journal import Journal
    from tidewheel.demo.score import RunningScore

    stream = stage.stream
    client = Client(stage.serving.host, stage.serving.port, stream.name)
    client.wait_until_ready(READY_SECONDS, stage.alive)
    journal = Journal(stage.store, stream.name)
    feeder = Feeder(
        stream=stream,
        client=client,
        delay=stage.options.label_delay,
        wave_rows=WAVE_ROWS if stream.live < LONG_STREAM else 2 * WAVE_ROWS,
        frozen=_frozen(stage.store, stream.name),
        scores=Scores(loop=RunningScore(stream.metric), frozen=RunningScore(stream.metric)),
    )

    def after_wave(done: int) -> None:
        stage.screen.picture.done = done
        _catch_up(stage, feeder, journal)

    try:
        feeder.run(after_wave)
    finally:
        client.close()
    return feeder, journal


def _catch_up(stage: _Stage, feeder: Feeder, journal: Journal) -> None:
    picture = stage.screen.picture
    deadline = time.monotonic() + CATCH_UP_SECONDS
    while time.monotonic() < deadline:
        state = journal.state()
        for decision in journal.news():
            picture.decide(decision.text)
        if state is not None:
            _draw_state(picture, state, feeder)
            if state.labelled >= feeder.sent_labels and not state.busy:
                journal.follow_deployment(feeder.client)
                break
        stage.screen.draw()
        stage.alive()
        time.sleep(0.01)
    stage.screen.draw()


def _draw_state(picture: Picture, state: LoopStatus, feeder: Feeder) -> None:
    picture.doing = "retraining" if state.busy else "answering, watching"
    picture.champion = f"version {state.champion}"
    picture.challenger = f"version {state.challenger} with {state.share:.0%}" if state.challenger else ""
    picture.loop = feeder.scores.loop.recent_value
    picture.frozen = feeder.scores.frozen.recent_value


def _frozen(store: Store, model: str) -> Callable[[list[dict[str, Any]]], list[Any]]:
    """Return the first champion as a function of rows, scored in this very process."""
    from tidewheel.models.bundle import load_bundle
    from tidewheel.registry.versions import get_model

    scorer = load_bundle(store, get_model(store, f"{model}:1").bundle_digest).scorer()

    def answer(rows: list[dict[str, Any]]) -> list[Any]:
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        guesses: list[Any] = scorer.score(columns).prediction.tolist()
        return guesses

    return answer


def _result(store: Store, stream: Stream, feeder: Feeder, journal: Journal, *, seconds: float) -> Result:
    from tidewheel.demo.journal import trace
    from tidewheel.demo.score import no_change

    labels = stream.frame[stream.label].slice(stream.history - 1).to_list()
    state = journal.state()
    counters = state.counters if state else {}
    return Result(
        metric=stream.metric,
        loop=feeder.scores.loop.value,
        frozen=feeder.scores.frozen.value,
        no_change=no_change(labels, stream.metric),
        triggers=counters.get("triggers", 0),
        runs=counters.get("runs", 0),
        promotions=counters.get("promotions", 0),
        refusals=counters.get("refusals", 0),
        rollbacks=counters.get("rollbacks", 0),
        failed_requests=feeder.client.failed,
        seconds=round(seconds, 1),
        trace=trace(store, stream.name, feeder.last_id),
    )
