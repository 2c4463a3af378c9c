"""`tidewheel demo`, `up`, `serve`, `web`: the commands that run processes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tidewheel.cli.opened import changed, opened, settings_for
from tidewheel.cli.show import Command, HomeOption, JsonFlag
from tidewheel.errors import InvalidInput

Port = Annotated[int, typer.Option(help="TCP port; 0 chooses a free one; default: as the settings say.")]
Host = Annotated[str, typer.Option(help="Address to listen on; default: as the settings say.")]


def demo(
    *,
    data: Annotated[
        Path | None, typer.Option("--data", help="A table in order of time, instead of the handwritten digits.")
    ] = None,
    time: Annotated[str, typer.Option("--time", help="Column of the table that says when.")] = "",
    label: Annotated[str, typer.Option("--label", help="Column of the table to be predicted.")] = "",
    history: Annotated[int, typer.Option("--history", help="How many first rows are history.", min=50)] = 500,
    drop: Annotated[str, typer.Option("--drop", help="Columns to leave out, separated by commas.")] = "",
    label_delay: Annotated[
        int, typer.Option("--label-delay", help="After how many further rows a label arrives.", min=1)
    ] = 24,
    sabotage: Annotated[
        str, typer.Option("--sabotage", help="labels: shuffle them in one retraining; serving: a candidate that fails.")
    ] = "",
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Run the whole loop on real data: train, serve, watch, retrain, canary, promote or refuse."""
    from tidewheel.demo.demo import run_demo
    from tidewheel.demo.records import DemoOptions

    if sabotage not in ("", "labels", "serving"):
        raise InvalidInput(f"--sabotage {sabotage!r} is not known.", "Use labels or serving.")
    if data is not None and not (time and label):
        raise InvalidInput("--data needs --time and --label.", "Name the column of the time and that of the label.")
    options = DemoOptions(
        data=data,
        time=time,
        label=label,
        history=history,
        drop=tuple(name.strip() for name in drop.split(",") if name.strip()),
        label_delay=label_delay,
        sabotage=sabotage,
        home=Path(home).expanduser().resolve() if home else None,
    )
    raise typer.Exit(run_demo(options, as_json=json))


def up(
    *,
    target: Annotated[list[str], typer.Argument(help="One or more FILE.py or FILE.py:NAME of loops and schedules.")],
    host: Host = "",
    port: Port = -1,
    web_port: Annotated[int, typer.Option(help="TCP port of the page; 0 chooses a free one.")] = -1,
    home: HomeOption = "",
) -> None:
    """Run conductor, scheduler, prediction server and page of loops and schedules on this machine, until stopped."""
    from tidewheel.servers import up as run_all

    run_all(settings_for(home), target, host=host, port=port, web_port=web_port, say=print)


def serve(
    *,
    model: Annotated[list[str] | None, typer.Argument(help="Names of the models; default: all deployed ones.")] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Folder of a shipped model to take in and serve first.")
    ] = None,
    host: Host = "",
    port: Port = -1,
    workers: Annotated[str, typer.Option(help="Processes that answer, or auto; default: as the settings say.")] = "",
    front: Annotated[str, typer.Option(help="uvicorn, or fast; default: as the settings say.")] = "",
    grpc_port: Annotated[int, typer.Option(help="TCP port on which gRPC is spoken as well; 0: none.")] = -1,
    tls_cert: Annotated[Path | None, typer.Option(help="File with the certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="File with its private key, PEM.")] = None,
    repository: Annotated[bool, typer.Option("--repository", help="Let callers load and unload models.")] = False,
    reload: Annotated[
        bool, typer.Option("--reload", help="Restart the workers of the server on this port one by one, and return.")
    ] = False,
    home: HomeOption = "",
) -> None:
    """Answer predictions over HTTP; follows promotions and rollbacks without a restart."""
    from tidewheel.servers import ask_workers_anew, take_in
    from tidewheel.servers import serve as run_server

    settings = settings_for(home)
    if reload:
        print(f"process {ask_workers_anew(settings, port)} restarts its workers one by one")
        return
    words = {"workers": workers, "front": front, "tls_cert": _file(tls_cert), "tls_key": _file(tls_key)}
    words["grpc_port"] = str(grpc_port) if grpc_port >= 0 else ""
    settings = changed(settings, {f"serve_{name}": text for name, text in words.items() if text})
    if bundle is not None:
        model = [*(model or []), take_in(settings, bundle)]
    run_server(settings, model or None, host=host, port=port, repository=repository, say=_say)


def _file(path: Path | None) -> str:
    return str(path.expanduser().resolve()) if path is not None else ""


def _say(text: str) -> None:
    print(text, flush=True)


def web(*, host: Host = "", port: Port = -1, home: HomeOption = "") -> None:
    """Show the page alone."""
    from tidewheel.servers import check_free, listen_address
    from tidewheel.supervisor import die_with_parent
    from tidewheel.web.serve import serve_web

    die_with_parent()
    settings = settings_for(home)
    address = listen_address(host or settings.web_host, port if port >= 0 else settings.web_port)
    check_free(address)
    with opened(home) as store:
        print(f"page: http://{address.host}:{address.port}/", flush=True)
        serve_web(store, host=address.host, port=address.port)


COMMANDS = (
    Command(function=demo, example="tidewheel demo --data bikes.csv --time event_time --label cnt --history 4000"),
    Command(function=up, example="tidewheel up bikes.py:loop"),
    Command(function=serve, example="tidewheel serve bikes --port 8600"),
    Command(function=web, example="tidewheel web --port 8601"),
)
