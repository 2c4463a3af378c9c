"""Steps that several processes want at once; each note in the book is one execution."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.step import step


def note(book: str, text: str) -> None:
    """Add one line in one write."""
    handle = os.open(book, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{text} {os.getpid()}\n".encode())
    os.close(handle)


@step
def slow(x: int, book: str) -> int:
    """Go on until the gate beside the book is opened."""
    note(book, f"slow-{x}")
    while not Path(f"{book}.open").exists():
        time.sleep(0.01)
    return x + 1


@step
def fails(x: int, book: str) -> int:
    """Fail the first time, after the gate was opened."""
    note(book, f"fails-{x}")
    while not Path(f"{book}.open").exists():
        time.sleep(0.01)
    if Path(book).read_text().count("fails-") == 1:
        raise ValueError("the first one fails")
    return x


@pipeline
def one(book: str, x: int = 1) -> int:
    """One step that others want too."""
    return slow(x, book)


@pipeline
def failing(book: str, x: int = 1) -> int:
    """The one that fails first."""
    return fails(x, book)


@pipeline
def forth(book: str) -> list[int]:
    """Two keys in one order."""
    return [slow(1, book), slow(2, book)]


@pipeline
def back(book: str) -> list[int]:
    """The same two keys in the other order."""
    return [slow(2, book), slow(1, book)]


@pipeline
def both(book: str) -> list[int]:
    """The same key twice in one run."""
    return [slow(1, book), slow(1, book)]
