"""`tidewheel`: each command translates its words to one call; errors are shown without a traceback."""

from __future__ import annotations

import os
import sys

import typer

from tidewheel.cli import (
    approve,
    data,
    gc,
    journal,
    keys,
    log,
    logs,
    loop,
    model_facts,
    model_reports,
    models,
    outbox,
    reproduce,
    rerun,
    runs,
    score,
    servers,
    ship,
    sweep,
    traffic,
    triggers,
)
from tidewheel.errors import TidewheelError


def _empty() -> typer.Typer:
    return typer.Typer(
        name="tidewheel",
        help="Continuous training: data, pipelines, registry, serving, monitoring, rollout, retraining, in one loop.",
        epilog="Example: tidewheel demo    (the whole loop on real data, in about a minute)",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


COMMANDS = (
    *servers.COMMANDS,
    *ship.COMMANDS,
    *score.COMMANDS,
    *runs.COMMANDS,
    *approve.COMMANDS,
    *journal.COMMANDS,
    *logs.COMMANDS,
    *sweep.COMMANDS,
    *rerun.COMMANDS,
    *reproduce.COMMANDS,
    *gc.COMMANDS,
    *triggers.COMMANDS,
)
cli = _empty()
for command in COMMANDS:
    cli.command(epilog=f"Example: {command.example}")(command.function)
cli.add_typer(data.group, name="data")
for command in traffic.COMMANDS:
    models.group.command(epilog=f"Example: {command.example}")(command.function)
for command in (*model_facts.COMMANDS, *model_reports.COMMANDS):
    models.group.command(command.function.__name__.rstrip("_"), epilog=f"Example: {command.example}")(command.function)
cli.add_typer(models.group, name="models")
cli.add_typer(keys.group, name="keys")
cli.add_typer(log.group, name="log")
cli.add_typer(loop.group, name="loop")
cli.add_typer(outbox.group, name="outbox")
cli.add_typer(triggers.group, name="triggers")


def narrowed(word: str) -> typer.Typer:
    """Return the command line with one command alone; of all of them for any other word.

    Typer builds every command that it is given at each start, which took as long as a run of one step.
    """
    named = {item.function.__name__.replace("_", "-"): item for item in COMMANDS}
    if word not in named:
        return cli
    alone = _empty()
    alone.callback()(_among_others)
    alone.command(epilog=f"Example: {named[word].example}")(named[word].function)
    return alone


def _among_others() -> None:
    """Keep Typer from taking the one command for the whole line."""


def run() -> None:
    """Run the command line and exit: 0 done, 1 an error that says how to mend it, 2 wrong words, 130 interrupted."""
    try:
        narrowed(sys.argv[1] if len(sys.argv) > 1 else "")()
    except TidewheelError as error:
        fail(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except SystemExit as end:
        if end.code == 1 and type(sys.stdout).__name__ == "PacifyFlushWrapper":
            sys.exit(0)  # Typer has met the broken pipe of `| head` before us and calls it a failure
        raise
    except Exception as error:
        if os.environ.get("TIDEWHEEL_TRACEBACK"):
            raise
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        print("  This was not foreseen. See where with TIDEWHEEL_TRACEBACK=1, and report it.", file=sys.stderr)
        sys.exit(70)
    finally:
        _let_go()


def _let_go() -> None:
    """Write out what is left; a reader who has gone (`| head`) is no error, also not at the interpreter's end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def fail(error: TidewheelError) -> None:
    """Print what happened and how to mend it, as JSON when the caller asked for JSON, and exit with 1."""
    if "--json" in sys.argv:
        import orjson

        print(orjson.dumps({"error": error.what, "mend": error.mend, "kind": type(error).__name__}).decode())
    else:
        print(f"error: {error}", file=sys.stderr)
    sys.exit(1)
