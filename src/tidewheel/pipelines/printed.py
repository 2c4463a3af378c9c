"""What steps have printed, as it is kept: at once, or followed while the run goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tidewheel.errors import NotFound
from tidewheel.lineage.store import Store
from tidewheel.pipelines.liveness import mark_lost
from tidewheel.pipelines.logs import log_file
from tidewheel.pipelines.records import Run
from tidewheel.pipelines.runs import get_run
from tidewheel.pipelines.transitions import ALIVE_RUN

BODY = "run"  # label of the log that has the traceback of a pipeline's body
_PIECE = 1 << 20  # bytes of a log that are read at once
_PAUSE = 0.5  # seconds between two looks at logs that are followed


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """A piece of what a step has printed."""

    step: str  # label of the call: fit, fit-2
    text: str  # some lines, or a part of one


def read_logs(store: Store, run_id: str, step: str = "") -> Iterator[Printed]:
    """Yield what the steps of a run have printed so far, in the order of their calls.

    `run_id` may be that of a step, or enough of either; `step` is a label (`fit-2`) or a name, for all its calls.

    Raises NotFound for an unknown run or step.
    """
    run = get_run(store, run_id)
    for label in _labels(run, run_id, step):
        read = _Reader(label, log_file(store.home, run.id, label))
        yield from read.news()
        yield from read.rest()


def follow_logs(
    store: Store, run_id: str, step: str = "", *, pause: Callable[[float], None] = time.sleep
) -> Iterator[Printed]:
    """Yield what the steps of a run have printed, and what they print from now on, until the run has ended.

    A step that is named may begin later. A run whose process has died has ended.

    Raises NotFound for an unknown run.
    """
    readers: dict[str, _Reader] = {}
    while True:
        mark_lost(store)
        run = get_run(store, run_id)
        over = run.state not in ALIVE_RUN
        for label in _labels(run, run_id, step, all_known=over):
            reader = readers.setdefault(label, _Reader(label, log_file(store.home, run.id, label)))
            yield from reader.news()
        if over:
            break
        pause(_PAUSE)
    for reader in readers.values():
        yield from reader.rest()


class _Reader:
    """Reads on in one log."""

    def __init__(self, label: str, path: Path) -> None:
        self._label = label
        self._path = path
        self._at = 0
        self._begun = b""  # a line, or a letter, that is not whole yet

    def news(self) -> Iterator[Printed]:
        """Yield the whole lines that have come."""
        try:
            file = self._path.open("rb")
        except OSError:
            return  # nothing was printed yet, or the folder is out of reach
        with file:
            file.seek(self._at)
            while data := file.read(_PIECE):
                self._at += len(data)
                whole, mark, self._begun = (self._begun + data).rpartition(b"\n")
                if mark:
                    yield self._piece(whole + mark)

    def rest(self) -> Iterator[Printed]:
        """Yield a last line that does not end."""
        if self._begun:
            data, self._begun = self._begun, b""
            yield self._piece(data + b"\n")

    def _piece(self, data: bytes) -> Printed:
        return Printed(step=self._label, text=data.decode("utf-8", "replace"))


def _labels(run: Run, asked: str, step: str, *, all_known: bool = True) -> list[str]:
    """Return the labels of the calls that are meant."""
    labels = [*dict.fromkeys(each.name for each in run.steps), BODY]
    if not step:
        own = [] if _is_short(asked, run.id) else [each.name for each in run.steps if _is_short(asked, each.id)]
        return own or labels
    found = [each for each in labels if each == step or (each.rpartition("-")[0] == step and _is_number(each))]
    if not found and all_known:
        raise NotFound("step of this run", step, labels)
    return found


def _is_short(asked: str, whole: str) -> bool:
    return whole.startswith(asked) or whole.endswith(asked)


def _is_number(label: str) -> bool:
    return label.rpartition("-")[2].isdigit()
