"""Where the log of a model stands on disk, and how its segments are named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tidewheel.predictions.records import Outcome, Prediction, Shadowed

SUFFIX = ".seg"
KINDS: Mapping[type[Prediction | Outcome | Shadowed], str] = {
    Prediction: "predictions",
    Outcome: "outcomes",
    Shadowed: "shadows",
}


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Segment:
    """One file of a log; segments sort in the order in which they were begun."""

    number: int  # counts up over all writers of a folder and kind
    writer: str  # name of the process that writes it
    kind: str  # "predictions", "outcomes" or "shadows"

    @property
    def file_name(self) -> str:
        """Name of the file: kind, number, writer.

        >>> Segment(number=3, writer="w0", kind="outcomes").file_name
        'outcomes-00000003-w0.seg'
        """
        return f"{self.kind}-{self.number:08d}-{self.writer}{SUFFIX}"


def log_folder(home: Path, model: str) -> Path:
    """Return the folder that holds a model's prediction log; any model name makes a plain folder name.

    >>> log_folder(Path("h"), "a/b").as_posix()
    'h/log/a%2Fb'
    """
    name = quote(model, safe="")
    return home / "log" / (name if not name.startswith(".") else "%2E" + name[1:])


def list_segments(folder: Path, kind: str) -> list[Segment]:
    """Return the segments of one kind in order; a folder that is not there holds none."""
    try:
        names = [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return []
    return sorted(segment for name in names if (segment := _parse(name)) is not None and segment.kind == kind)


def _parse(name: str) -> Segment | None:
    kind, _, rest = name.removesuffix(SUFFIX).partition("-")
    number, _, writer = rest.partition("-")
    if not name.endswith(SUFFIX) or not number.isdigit():
        return None
    return Segment(number=int(number), writer=writer, kind=kind)
