"""`tidewheel score`, `precompute` and `consume`: a model over files, ahead of time, and behind a broker."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from tidewheel.cli.opened import opened
from tidewheel.cli.show import Command, HomeOption, JsonFlag, json_out

if TYPE_CHECKING:
    from tidewheel.scoring.batch import Progress

PAUSE = 0.2  # seconds between two pictures of the progress
LINE_PAUSE = 10.0  # seconds between two lines of it where nobody looks


def score(
    *,
    model: Annotated[str, typer.Argument(help="Model: bikes, bikes:3, bikes@champion or a bundle's digest.")],
    data: Annotated[str, typer.Argument(help="File, folder, glob, URL (s3://...) or dataset.")],
    out: Annotated[str, typer.Argument(help="File or URL to write: .parquet, .csv, .ndjson or .arrow.")],
    keep: Annotated[list[str] | None, typer.Option("--keep", help="Column of the input to keep; repeatable.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", help="Processes that score.")] = 1,
    on: Annotated[str, typer.Option("--on", help="Where to score: here or ray.")] = "here",
    ray_address: Annotated[str, typer.Option("--ray-address", help="Address of the Ray cluster.")] = "auto",
    log: Annotated[bool, typer.Option("--log", help="Write every row to the prediction log, to be monitored.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    trust: Annotated[bool, typer.Option("--trust", help="Load a pickle, which runs its maker's code.")] = False,
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Score data of any size into a file; given again after a kill, it goes on where it was."""
    from tidewheel.scoring.batch import Wishes, score_files
    from tidewheel.scoring.loaded import load_model

    wishes = Wishes(keep=tuple(keep or ()), jobs=jobs, on=on, ray_address=ray_address, log=log, overwrite=overwrite)
    with opened(home) as store, shown() as tell:
        done = score_files(store, load_model(store, model, trust=trust), data, out, wishes=wishes, tell=tell)
    if json:
        json_out(done)
        return
    went_on = f" ({done.resumed:,} were scored before)" if done.resumed else ""
    print(f"{done.rows:,} rows scored by {done.model} into {done.out}{went_on}: run {done.run_id}")


def precompute(
    *,
    model: Annotated[str, typer.Argument(help="Model: bikes, bikes:3 or bikes@champion.")],
    data: Annotated[str, typer.Argument(help="File, folder, glob, URL (s3://...) or dataset.")],
    key: Annotated[str, typer.Option("--key", help="Column by whose values the answers are looked up.")],
    forget_days: Annotated[
        float, typer.Option("--forget-days", help="Forget answers computed longer ago than so many days; 0: keep.")
    ] = 0.0,
    trust: Annotated[bool, typer.Option("--trust", help="Load a pickle, which runs its maker's code.")] = False,
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Score a whole input into the online table, which answers GET /lookup/{model}/{id}."""
    from datetime import timedelta

    from tidewheel.clock import micros
    from tidewheel.scoring.loaded import load_model
    from tidewheel.scoring.online import open_online
    from tidewheel.scoring.precompute import precompute as fill

    with opened(home) as store, shown() as tell:
        online = open_online(store.online_url, store.home)
        done = fill(store, online, load_model(store, model, trust=trust), data, key=key, tell=tell)
        if forget_days:
            online.expire(micros(store.clock.now() - timedelta(days=forget_days)))
    if json:
        json_out(done)
        return
    print(f"{done.entries:,} ids answer under /lookup/{done.table}/ID, by {done.version}: run {done.run_id}")


def consume(
    *,
    model: Annotated[str, typer.Argument(help="Model whose requests are answered.")],
    broker: Annotated[str, typer.Option("--broker", help="URL: nats://, amqp://, redis:// or kafka://.")],
    inlet: Annotated[str, typer.Option("--in", help="Subject, queue, stream or topic of the requests.")],
    dead: Annotated[str, typer.Option("--dead", help="Where goes what cannot be answered.")],
    outlet: Annotated[str, typer.Option("--out", help="Where answers go; none: only to reply-to.")] = "",
    group: Annotated[str, typer.Option("--group", help="Consumers of one name share the requests.")] = "tidewheel",
    attempts: Annotated[int, typer.Option("--attempts", help="Tries before a request becomes a dead letter.")] = 5,
    wait: Annotated[
        float, typer.Option("--wait", help="Seconds after which what a dead consumer took is given to another.")
    ] = 30.0,
    trust: Annotated[bool, typer.Option("--trust", help="Load a pickle, which runs its maker's code.")] = False,
    home: HomeOption = "",
) -> None:
    """Answer the requests of a message broker, at least once, until SIGTERM or Ctrl-C."""
    from tidewheel.serving.brokers.consume import consume as answer
    from tidewheel.serving.brokers.seam import Places

    places = Places(url=broker, inlet=inlet, outlet=outlet, dead=dead, group=group, wait_seconds=wait)
    with opened(home) as store:
        done = answer(store, model, places, attempts=attempts, trust=trust, say=_say)
    print(f"{done.answered:,} requests answered in {done.turns:,} turns, {done.dead:,} dead letters")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def shown() -> Iterator[Callable[[Progress], None]]:
    """Show the progress on the screen: one line that changes, or a line now and then where it goes to a file."""
    told = time.monotonic()
    live = sys.stderr.isatty()

    def tell(progress: Progress) -> None:
        nonlocal told
        last = progress.rows == progress.total
        if not last and time.monotonic() - told < (PAUSE if live else LINE_PAUSE):
            return
        told = time.monotonic()
        print(_line(progress), end="\r" if live and not last else "\n", file=sys.stderr, flush=True)

    yield tell


def _line(progress: Progress) -> str:
    share = progress.rows / max(progress.total, 1)
    left = (progress.total - progress.rows) / progress.rate if progress.rate else 0.0
    return (
        f"scored {progress.rows:,} of {progress.total:,} rows ({share:.0%}), {progress.rate:,.0f} per second,"
        f" {left:.0f} s left  "
    )


COMMANDS = (
    Command(function=score, example="tidewheel score bikes@champion rides.parquet scored.parquet --keep id"),
    Command(function=precompute, example="tidewheel precompute bikes@champion rides --key id"),
    Command(
        function=consume,
        example="tidewheel consume bikes --broker nats://127.0.0.1 --in ask.bikes --out said.bikes --dead dead.bikes",
    ),
)
