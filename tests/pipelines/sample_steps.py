"""Steps and pipelines as a user writes them; tests load this file by its path, child processes too."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from tidewheel.pipelines.active import step_context
from tidewheel.pipelines.inputs import latest, window
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.step import step

OFFSET = 1


def write(book: str, line: str) -> None:
    """Add a line to a file; one system call, so that processes do not mix."""
    with Path(book).open("a") as file:
        file.write(line + "\n")


@step
def noted(x: int, book: str, by: int = 1) -> int:
    """Add, and leave a note that it was executed."""
    write(book, f"noted {x}")
    return x + by


@step(side_effect=True)
def announce(text: str, book: str) -> str:
    """Change the world outside, under a key that says which change it is."""
    write(book, f"announce {text} {step_context().idempotency_key}")
    return text.upper()


@step
def split(rows: pl.DataFrame, head: int = 2) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Two artifacts."""
    return rows.head(head), rows.slice(head)


@step
def total(rows: pl.DataFrame, factor: float = 1.0) -> float:
    """One number."""
    return float(rows["a"].sum()) * factor


@step
def biggest(items: list[float], rows: pl.DataFrame) -> float:
    """Handles inside a list are inputs too."""
    return max(items) + rows.height


@pipeline
def tide(rows: pl.DataFrame, depth: int = 2, *, book: str = "") -> float:
    """Branch on a value, map over a list, pass handles on."""
    head, rest = split(rows)
    totals = [total(head, float(factor)) for factor in (depth, depth + 1)]
    best = biggest(totals, rest)
    if book and best > 0:
        announce("done", book)
    return best


@pipeline
def chain(n: int, book: str, start: int = 0) -> int:
    """`n` steps, one after the other."""
    x = start
    for _ in range(n):
        x = noted(x, book)
    return x


@pipeline
def twice_the_same(book: str) -> list[int]:
    """Two calls with one key."""
    return [noted(1, book), noted(1, book)]


@step(retries=2, backoff=0)
def flaky(book: str, succeed_at: int) -> int:
    """Fail until it was tried often enough."""
    write(book, f"flaky {step_context().attempt}")
    tries = Path(book).read_text().count("flaky")
    if tries < succeed_at:
        raise ValueError(f"not yet: try {tries}")
    return tries


@pipeline
def stubborn(book: str, succeed_at: int = 3) -> int:
    """One flaky step."""
    return flaky(book, succeed_at)


@step
def breaks(x: int) -> int:
    """Raise, after saying something."""
    print("about to divide", x)
    print("on standard error", file=sys.stderr)
    return x // 0


@pipeline
def broken(book: str) -> int:
    """A good step, a bad one, one that needs the bad one, and one that does not."""
    good = noted(1, book)
    bad = breaks(good)
    noted(bad, book)
    noted(100, book)
    return good


@pipeline
def tolerant(book: str) -> int:
    """The body deals with the failure itself."""
    bad = breaks(1)
    try:
        return bad + 1
    except RuntimeError:
        return noted(7, book)


@pipeline
def body_raises(book: str) -> int:
    """The body itself is wrong."""
    return noted(1, book) + int("x")


@step(timeout=0.5)
def hangs(book: str) -> int:
    """Hang, together with a child of its own."""
    child = os.fork()
    if child == 0:
        time.sleep(600)
    write(book, f"child {child}")
    time.sleep(600)
    return 1


@pipeline
def hanging(book: str) -> int:
    """One step that does not end."""
    return hangs(book)


@step(retries=1, backoff="1h", on="inline")
def tries_again_later() -> int:
    """Fail, and wait for long."""
    raise ValueError("come back later")


@pipeline
def ends_early(folder: str) -> int:
    """The body raises while one step runs and another waits for its next try."""
    meets("left", "right", folder)
    tries_again_later()
    while not (Path(folder) / "left").exists():
        time.sleep(0.01)
    raise ValueError("enough")


@step(on="process")
def kills_itself(number: int = signal.SIGKILL) -> int:
    """Die of a signal, as a process does that the kernel ends for want of memory."""
    os.kill(os.getpid(), number)
    time.sleep(600)
    return 1


@pipeline
def dying() -> int:
    """One step whose process is killed."""
    return kills_itself()


@step(on="process")
def exits(code: int) -> int:
    """Leave the process behind everyone's back."""
    os._exit(code)


@pipeline
def leaving() -> int:
    """One step whose process leaves."""
    return exits(7)


@step
def meets(name: str, other: str, folder: str) -> str:
    """Wait until the other one runs as well: only possible side by side."""
    (Path(folder) / name).touch()
    deadline = time.monotonic() + 60
    while not (Path(folder) / other).exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the other one never began")
        time.sleep(0.01)
    return name


@pipeline
def side_by_side(folder: str) -> list[str]:
    """Two independent steps."""
    return [meets("left", "right", folder), meets("right", "left", folder)]


@step
def takes(thing: Any) -> str:
    """Take anything."""
    return type(thing).__name__


@pipeline
def takes_a_lock() -> str:
    """A value that no other process can be given."""
    return takes(threading.Lock())


@step
def returns_a_lock() -> Any:
    """A value that cannot be kept."""
    return threading.Lock()


@pipeline
def gives_a_lock() -> Any:
    """One step with such an output."""
    return returns_a_lock()


@step
def wrong_count() -> tuple[int, int]:
    """Return other than what is annotated."""
    return (1, 2, 3)  # type: ignore[return-value]


@pipeline
def miscounted() -> int:
    """One step that does not keep its word."""
    first, _ = wrong_count()
    return first


@step
def changes(rows: list[int]) -> list[int]:
    """Change its input in place, as careless code does."""
    rows.append(99)
    return rows


@step
def counts(rows: list[int]) -> int:
    """Count."""
    return len(rows)


@step
def numbers() -> list[int]:
    """Three of them."""
    return [1, 2, 3]


@pipeline
def careless() -> tuple[int, int]:
    """One step changes what another one is given."""
    rows = numbers()
    changed = changes(rows)
    return counts(rows), counts(changed)


@dataclass(frozen=True)
class Report:
    """A record with a frame in it."""

    name: str
    rows: pl.DataFrame


@step
def report(rows: pl.DataFrame) -> Report:
    """A record."""
    return Report("first", rows)


@step
def name_of(found: Report) -> str:
    """Take the record."""
    return f"{found.name} {found.rows.height}"


@pipeline
def reporting(rows: pl.DataFrame) -> dict[str, Any]:
    """Return handles inside a dict."""
    made = report(rows)
    return {"name": name_of(made), "report": made, "rows": made.rows.height}


@pipeline
def newest(rows: pl.DataFrame = latest("bikes"), part: pl.DataFrame = window("bikes", rows=2)) -> float:  # noqa: B008
    """Inputs that the store picks."""
    return total(rows) + total(part)


@pipeline
def picks_inside(name: str) -> float:
    """An input that the body asks for."""
    return total(latest(name))


@pipeline
def outer(book: str) -> int:
    """A pipeline that calls another one."""
    return noted(chain(2, book), book)


@step
def doubles_inside(x: int, book: str) -> int:
    """A step that calls a step: a plain call."""
    return noted(x, book) * 2


@pipeline
def nested_steps(book: str) -> int:
    """Only the outer step is journaled."""
    return doubles_inside(3, book)


@step
def mapped(x: int, by: int) -> int:
    """For `.map`."""
    return x * by


@pipeline
def mapping(n: int) -> int:
    """Many calls at once."""
    return sum(mapped.map(range(n), by=2))


@step
def writes_file(folder: str) -> Path:
    """Return a path."""
    path = Path(folder) / "model.bin"
    path.write_bytes(b"weights")
    return path


@step
def reads_file(path: Path) -> str:
    """Take a path."""
    return path.read_text()


@pipeline
def files(folder: str) -> str:
    """A file as an artifact."""
    return reads_file(writes_file(folder))


@step
def fills_the_disk(size: int) -> bytes:
    return os.urandom(size)


@pipeline
def filling(size: int) -> int:
    """One step with a large output."""
    return len(fills_the_disk(size))


@step
def größe(x: int) -> int:  # noqa: PLC2401 - a name that Python allows
    """For names in the graph."""
    return x


@pipeline
def sizes() -> int:
    """One step with such a name."""
    return größe(1)


@step
def offset(x: int) -> int:
    """Reach a constant of the module."""
    return x + OFFSET


@pipeline
def shifted(x: int) -> int:
    """For `why`: the constant is a part of the key."""
    return offset(x)


@step
def prints(folder: str) -> str:
    """Say something."""
    print("in", folder)
    return folder


@pipeline
def writes_and_prints(folder: str) -> str:
    """One step with a log."""
    return prints(folder)
