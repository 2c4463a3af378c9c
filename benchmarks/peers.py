"""The same five steps in tidewheel, Prefect, Dagster, ZenML, Metaflow and Kedro: CPU seconds of a new process.

Each peer has an environment of its own, made with uv on the first call (some minutes) in the folder that
`TIDEWHEEL_PEERS` names, and its own empty home. Every run has a new argument, so that no cache answers it. The CPU is
that of the process tree, servers that a tool starts for its run included. Kedro journals nothing; it stands here as
the floor of those that do not.
"""

from __future__ import annotations

import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import cpu_seconds, show

CASES = Path(__file__).with_name("cases") / "peers"
ENVIRONMENTS = Path(os.environ.get("TIDEWHEEL_PEERS", Path.home() / ".cache" / "tidewheel-peers"))
ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A tool beside tidewheel."""

    name: str  # as printed
    case: str  # file of the pipeline
    pins: tuple[str, ...]  # what its environment is made of; () for our own
    durable: bool  # whether it keeps a journal of the run
    words: tuple[str, ...] = ("{home}", "{x}")  # arguments of the case
    variables: tuple[tuple[str, str], ...] = ()  # its home, and no reports to its makers


QUIET = (("DO_NOT_TRACK", "1"), ("HOME", "{home}"))
PEERS = (
    Peer(name="tidewheel", case="tidewheel_five", pins=(), durable=True),
    Peer(name="Kedro 1.7.0, in memory", case="kedro_five", pins=("kedro==1.7.0",), durable=False, variables=QUIET),
    Peer(
        name="Metaflow 2.19.39",
        case="metaflow_five",
        pins=("metaflow==2.19.39",),
        durable=True,
        words=("run", "--x", "{x}"),
        variables=(*QUIET, ("USERNAME", "bench"), ("METAFLOW_DATASTORE_SYSROOT_LOCAL", "{home}")),
    ),
    Peer(
        name="Dagster 1.13.27, in process",
        case="dagster_five",
        pins=("dagster==1.13.27",),
        durable=True,
        variables=(*QUIET, ("DAGSTER_HOME", "{home}"), ("DAGSTER_DISABLE_TELEMETRY", "yes")),
    ),
    Peer(
        name="Dagster 1.13.27, as it comes",
        case="dagster_five",
        pins=("dagster==1.13.27",),
        durable=True,
        words=("{home}", "{x}", "multiprocess"),
        variables=(*QUIET, ("DAGSTER_HOME", "{home}"), ("DAGSTER_DISABLE_TELEMETRY", "yes")),
    ),
    Peer(
        name="ZenML 0.98.0",
        case="zenml_five",
        pins=("zenml[local]==0.98.0",),
        durable=True,
        variables=(*QUIET, ("ZENML_CONFIG_PATH", "{home}"), ("ZENML_ANALYTICS_OPT_IN", "false")),
    ),
    Peer(
        name="Prefect 3.8.8",
        case="prefect_five",
        pins=("prefect==3.8.8", "fastapi==0.139.0"),  # with newer ones its server does not start
        durable=True,
        variables=(
            *QUIET,
            ("PREFECT_HOME", "{home}"),
            ("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120"),
            ("PREFECT_SERVER_ANALYTICS_ENABLED", "false"),
        ),
    ),
)


def main() -> None:
    """Measure and print."""
    figures = measured()
    ours = figures["tidewheel"]
    rows = [(name, f"{figure:.3f} s", f"{figure / ours:.1f} x tidewheel") for name, figure in figures.items()]
    show("Five steps in a new process, CPU of its tree (median)", rows)
    durable = {peer.name: figures[peer.name] for peer in PEERS if peer.durable and peer.pins and peer.name in figures}
    if durable:
        leanest = min(durable, key=lambda name: durable[name])
        print(f"  leanest that keeps a journal: {leanest}, {durable[leanest] / ours:.1f} x tidewheel; goal 5 x")


def measured() -> dict[str, float]:
    """Return the median CPU seconds of each tool that could be installed; they take turns."""
    starts = itertools.count(1_000, 10)
    seen: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        present = {peer: interpreter for peer in PEERS if (interpreter := _interpreter(peer))}
        homes = {peer: Path(folder) / str(place) for place, peer in enumerate(present)}
        for turn, peer in itertools.product(range(ROUNDS + 1), present):
            home = homes[peer]
            home.mkdir(exist_ok=True)
            command = _command(peer, present[peer], home, next(starts))
            seconds = cpu_seconds(command, cwd=str(home), environment=_environment(peer, home))
            if turn:
                seen.setdefault(peer.name, []).append(seconds)
    return {name: statistics.median(values) for name, values in seen.items()}


def _command(peer: Peer, interpreter: str, home: Path, x: int) -> Sequence[str]:
    return [interpreter, str(CASES / f"{peer.case}.py"), *(word.format(home=home, x=x) for word in peer.words)]


def _environment(peer: Peer, home: Path) -> dict[str, str]:
    return {name: value.format(home=home) for name, value in peer.variables}


def _interpreter(peer: Peer) -> str | None:
    """Return the Python of a peer's environment, made now if it is not there; None when it cannot be made."""
    if not peer.pins:
        return sys.executable
    folder = ENVIRONMENTS / "+".join(peer.pins).replace("[", "-").replace("]", "").replace("==", "-")
    found = folder / "bin" / "python"
    if (folder / ".ready").exists():
        return str(found)
    shutil.rmtree(folder, ignore_errors=True)
    commands = (
        ["uv", "venv", "--quiet", "--python", "3.11", str(folder)],
        ["uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", str(found), *peer.pins],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"  {peer.name} is left out: {done.stderr.strip().splitlines()[-1]}")
            return None
    (folder / ".ready").touch()
    return str(found)


if __name__ == "__main__":
    main()
