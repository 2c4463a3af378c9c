"""The pipeline that is killed: each step notes, under its idempotency key, that it was executed."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tidewheel.pipelines.active import step_context
from tidewheel.pipelines.approving import approve
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


@step
def square(x: int, book: str) -> int:
    """One item of a map."""
    note(book, "square")
    return x * x


@step(on="threads")
def beside(x: int, book: str) -> int:
    """In a thread."""
    note(book, "beside")
    return x + 1


@step(on="process")
def away(x: int, book: str) -> bytes:
    """In a child process, with an output that is a blob."""
    note(book, "away")
    return x.to_bytes(8) * 500


@pipeline
def surge(start: int, blob: bytes, book: str) -> list[int]:
    """Map, threads, child process, retry, a question, and a call like one before."""
    squares = square.map([start, start + 1, start + 2], book=book)
    near = [beside(item, book) for item in squares[:2]]
    far = away(near[0], book)
    last = stumbles(near[1], book)
    agreed = approve("Go on?")
    again = square(start, book)
    return [squares[2], near[0], len(far), last, again, int(bool(agreed)), len(blob)]


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


def expected(start: int, name: str = "tide") -> list[int]:
    """Return what `tide` or `surge` gives."""
    if name == "surge":
        return [(start + 2) ** 2, start**2 + 1, 4000, (start + 1) ** 2 + 1, start**2, 1, 3000]
    return [start + 1, 4000, 4001, start + 2, 2000, 3000]
