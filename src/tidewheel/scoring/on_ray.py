"""Score on a Ray cluster: stretches are tasks, their answers are kept here, so that a kill is survived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tidewheel.errors import MissingExtra, ModelFailed, NotReady, TidewheelError
from tidewheel.scoring.loaded import Portable
from tidewheel.scoring.parts import Stretch, part_file, score_to_bytes

AHEAD = 2  # tasks for each core: one scores, one waits


def score_on_ray(
    portable: Portable,
    work: Sequence[Stretch],
    folder: Path,
    *,
    address: str = "auto",
    tell: Callable[[int], None] = lambda _: None,
) -> None:
    """Score stretches on the cluster at an address ("auto": the one of this machine, "local": a new one).

    The nodes read the input themselves: its path must lead to the same files there. Raises MissingExtra, NotReady
    when there is no cluster, ModelFailed when a task dies again and again.
    """
    ray = connect(address)
    task = ray.remote(num_cpus=1, max_retries=3)(score_to_bytes)
    model = ray.put(portable)
    left = list(reversed(work))
    running: dict[Any, Stretch] = {}
    ahead = max(int(ray.cluster_resources().get("CPU", 1)) * AHEAD, 1)
    try:
        while left or running:
            while left and len(running) < ahead:
                stretch = left.pop()
                running[task.remote(model, stretch)] = stretch
            done, _ = ray.wait(list(running), num_returns=1)
            tell(_kept(ray, done[0], running.pop(done[0]), folder))
    finally:
        for each in running:
            ray.cancel(each, force=True)


def connect(address: str) -> Any:
    """Return the ray module, connected; a connection that is there already is used."""
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("ray", "ray") from error
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, include_dashboard=False if address == "local" else None)
        except (ConnectionError, RuntimeError) as error:
            raise NotReady(
                f"There is no Ray cluster at {address!r}: {error}",
                "Start one: ray start --head; or --ray-address local.",
            ) from error
    return ray


def _kept(ray: Any, done: Any, stretch: Stretch, folder: Path) -> int:
    try:
        answers = ray.get(done)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, TidewheelError):
            raise error.cause from error
        raise ModelFailed(f"A task on Ray failed: {error.cause!r}", "Look at the node's log.") from error
    except ray.exceptions.RayError as error:
        raise ModelFailed(
            f"A task on Ray was lost: {error}", "Give the command again: what was scored is kept."
        ) from error
    for part, data in zip(stretch.parts, answers, strict=True):
        file = part_file(folder, part.number)
        partial = file.with_suffix(".partial")
        partial.write_bytes(data)
        partial.replace(file)
    return stretch.rows
