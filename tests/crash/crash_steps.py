"""The pipeline that is killed: each step notes, under its idempotency key, that it was executed."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tidewheel.pipelines.active import step_context
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.step import step


def note(book: str, name: str) -> None:
    """Add one line in one write, which a kill cannot cut in two."""
    line = f"{name} {step_context().idempotency_key} {os.getpid()}\n"
    handle = os.open(book, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode())
    os.close(handle)


@step
def add(x: int, book: str) -> int:
    """Small output: kept in the row."""
    note(book, "add")
    return x + 1


@step
def payload(x: int, book: str) -> bytes:
    """Large output: kept as a blob."""
    note(book, "payload")
    return x.to_bytes(8) * 500


@step
def pair(data: bytes, book: str) -> tuple[int, bytes]:
    """Two outputs."""
    note(book, "pair")
    return len(data), data[:2000]


@step(side_effect=True)
def announce(text: str, book: str) -> str:
    """Never cached."""
    note(book, "announce")
    return text


@step(retries=1, backoff=0)
def stumbles(x: int, book: str) -> int:
    """Fail at the first try."""
    note(book, "stumbles")
    if Path(book).read_text().count("stumbles") < 2:
        raise ValueError("the first try")
    return x


@pipeline
def tide(start: int, blob: bytes, book: str) -> list[int]:
    """Chain, fan-out, branch, side effect, retry, a parameter that is an artifact."""
    first = add(start, book)
    data = payload(first, book)
    size, rest = pair(data, book)
    sums = [add(size, book), add(first, book)]
    if size > 0:
        announce(f"{start}", book)
    last = stumbles(sums[1], book)
    return [first, size, sums[0], last, len(rest), len(blob)]


@step(side_effect=True)
def held(book: str, gate: str) -> int:
    """Go on until a file is there."""
    note(book, "held")
    while not Path(gate).exists():
        time.sleep(0.005)
    return 1


@pipeline
def wait(start: int, blob: bytes, book: str) -> int:
    """A step that lasts as long as the test wants: until the file `<book>.gate` is there."""
    return held(f"{book}", f"{book}.gate") + start + 0 * len(blob)


def expected(start: int) -> list[int]:
    """Return what `tide` gives."""
    return [start + 1, 4000, 4001, start + 2, 2000, 3000]
