"""Where the log of a model stands on disk, and how its segments are named, compacted ones too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from tidewheel.predictions.records import Outcome, Prediction, Shadowed

SUFFIX = ".seg"
COMPACTED = "parquet"  # folder of the compacted segments, and the suffix of their files
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """A segment that was rewritten as Parquet, one file for each day of its records."""

    end: int  # bytes that the segment had: a cursor this far has read all of it
    files: tuple[Path, ...]  # in order of the days; those that were deleted by age are missing


def log_folder(home: Path, model: str) -> Path:
    """Return the folder that holds a model's prediction log; any model name makes a plain folder name.

    >>> log_folder(Path("h"), "a/b").as_posix()
    'h/log/a%2Fb'
    """
    name = quote(model, safe="")
    return home / "log" / (name if not name.startswith(".") else "%2E" + name[1:])


def logged_models(home: Path) -> list[str]:
    """Return the models that have a log."""
    names = (unquote(name) for name in _names(home / "log") if not name.startswith("."))
    return sorted(name for name in names if log_folder(home, name).is_dir())


def list_segments(folder: Path, kind: str) -> list[Segment]:
    """Return the segments of one kind in order, compacted or not; a folder that is not there holds none."""
    # A segment is deleted after its compacted files are in place, so that looked for in this order it is not missed.
    names = {*_names(folder), *list_compacted(folder, kind)}
    return sorted(segment for name in names if (segment := parse_name(name)) is not None and segment.kind == kind)


def list_compacted(folder: Path, kind: str) -> dict[str, Compacted]:
    """Return the compacted segments of one kind by the names that they had."""
    found: dict[str, Compacted] = {}
    for day in sorted(_names(folder / COMPACTED)):
        for name in _names(folder / COMPACTED / day):
            stem, _, rest = name.partition(".")
            end, _, suffix = rest.partition(".")
            if suffix != COMPACTED or not end.isdigit() or not stem.startswith(f"{kind}-"):
                continue
            before = found.get(stem + SUFFIX)
            files = (*(before.files if before else ()), folder / COMPACTED / day / name)
            found[stem + SUFFIX] = Compacted(end=int(end), files=files)
    return found


def compacted_file(folder: Path, segment: str, day: str, end: int) -> Path:
    """Return where the records of one day of a segment stand once it is compacted.

    >>> compacted_file(Path("f"), "outcomes-00000003-w0.seg", "2026-11-20", 512).as_posix()
    'f/parquet/day=2026-11-20/outcomes-00000003-w0.512.parquet'
    """
    return folder / COMPACTED / f"day={day}" / f"{segment.removesuffix(SUFFIX)}.{end}.{COMPACTED}"


def parse_name(name: str) -> Segment | None:
    """Return the segment that a file name means; None for another file."""
    kind, _, rest = name.removesuffix(SUFFIX).partition("-")
    number, _, writer = rest.partition("-")
    if not name.endswith(SUFFIX) or not number.isdigit():
        return None
    return Segment(number=int(number), writer=writer, kind=kind)


def _names(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
