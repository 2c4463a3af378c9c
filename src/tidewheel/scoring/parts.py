"""Score a stretch of one file, part by part; each part appears whole or not at all, so a kill costs one part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from io import BytesIO
from pathlib import Path
from time import time_ns
from typing import Any

import numpy as np
import polars as pl

from tidewheel.errors import InvalidInput
from tidewheel.models.scorer import Scores
from tidewheel.models.signature import Signature, select
from tidewheel.predictions.log import LogWriter
from tidewheel.predictions.records import ANSWERED, Prediction, row_id
from tidewheel.scoring.loaded import Loaded, Portable
from tidewheel.scoring.sources import Source, Table

PREDICTION, VERSION, RUN, REQUEST = "prediction", "model_version", "run_id", "request_id"
LOGGED_ROWS = 1_000  # of one record of the log


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some rows of one file."""

    number: int  # place in the output
    offset: int  # rows of the file before it
    rows: int  # rows that it holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Parts of one file that follow on each other: what one process scores in one go."""

    source: Source  # what it is a part of
    table: Table  # the file
    parts: tuple[Part, ...]  # in order, without gaps
    keep: tuple[str, ...]  # columns that go through
    run: str  # id of the scoring
    log: str = ""  # folder of the prediction log; "": not logged

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(part.rows for part in self.parts)


def part_file(folder: Path, number: int) -> Path:
    """Return where a part is kept."""
    return folder / f"part-{number:06d}.parquet"


def score_to_files(
    model: Loaded | Portable, stretch: Stretch, folder: Path, tell: Callable[[int], None] = lambda _: None
) -> int:
    """Score a stretch into files of a folder; `tell` hears of the rows of each part. Returns the number of rows."""
    loaded = model if isinstance(model, Loaded) else model.unpack()
    for part, frame in answers(loaded, stretch):
        file = part_file(folder, part.number)
        partial = file.with_suffix(".partial")
        frame.write_parquet(partial, compression="lz4", statistics=False)
        partial.replace(file)
        tell(part.rows)
    return stretch.rows


def score_to_bytes(model: Loaded | Portable, stretch: Stretch) -> list[bytes]:
    """Score a stretch and return its parts as Parquet, for a process that shares no folder with the caller."""
    loaded = model if isinstance(model, Loaded) else model.unpack()
    found = []
    for _, frame in answers(loaded, stretch):
        buffer = BytesIO()
        frame.write_parquet(buffer, compression="lz4", statistics=False)
        found.append(buffer.getvalue())
    return found


def answers(loaded: Loaded, stretch: Stretch) -> Iterator[tuple[Part, pl.DataFrame]]:
    """Score part after part: kept columns, prediction, probabilities, and the ids of the log's rows where it is kept.

    Raises InvalidInput for answers that are not finite, and like the source's frames.
    """
    writer = LogWriter(Path(stretch.log), "score") if stretch.log else None
    needed = list(dict.fromkeys([*stretch.keep, *loaded.signature.names]))
    sizes = [part.rows for part in stretch.parts]
    frames = stretch.source.frames(stretch.table, stretch.parts[0].offset, sizes)
    try:
        for part, frame in zip(stretch.parts, frames, strict=False):
            rows = frame.select(needed)
            scores = loaded.score(rows)
            found = pl.DataFrame([*rows.select(stretch.keep), *answer_columns(loaded.signature, scores)])
            if writer is not None:
                ids = _log(writer, loaded, stretch, part, (rows, scores))
                found = found.with_columns(pl.Series(REQUEST, ids))
            yield part, found
    finally:
        if writer is not None:
            writer.close()


def answer_columns(signature: Signature, scores: Scores) -> list[pl.Series]:
    """Return prediction and one column per class of probabilities; InvalidInput when a number is not finite."""
    values = scores.prediction
    if signature.classes is None and not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise InvalidInput(f"The model answered {values[row]} to a row.", "Look for missing or infinite values in it.")
    columns = [pl.Series(PREDICTION, values.tolist() if values.dtype == object else values)]
    if scores.probabilities is not None:
        table = np.asarray(scores.probabilities)
        names = probability_names(signature)
        columns += [pl.Series(name, np.ascontiguousarray(table[:, place])) for place, name in enumerate(names)]
    return columns


def probability_names(signature: Signature) -> list[str]:
    """Return the columns of the probabilities, in the order of the classes."""
    return [f"probability_{label}" for label in signature.classes or ()] if signature.probabilities else []


def _log(
    writer: LogWriter, loaded: Loaded, stretch: Stretch, part: Part, scored: tuple[pl.DataFrame, Scores]
) -> list[str]:
    """Write a part to the prediction log and return the ids by which outcomes name its rows.

    The ids follow from run and part: a part that is scored again after a kill is logged again under the same ids.
    """
    rows, scores = scored
    features = [tuple(map(_plain, row)) for row in select(loaded.signature, rows).iter_rows()]
    output, table = scores.prediction.tolist(), scores.probabilities
    ids: list[str] = []
    for start in range(0, part.rows, LOGGED_ROWS):
        end = min(start + LOGGED_ROWS, part.rows)
        request = f"{stretch.run}-{part.number}-{start // LOGGED_ROWS}"
        ids += [row_id(request, row, end - start) for row in range(end - start)]
        writer.append(
            Prediction(
                id=request,
                at=time_ns() // 1_000,
                model=loaded.portable.name,
                version=loaded.portable.version,
                arm="champion",
                propensity=1.0,
                unit="",
                status=ANSWERED,
                features=features[start:end],
                output=output[start:end],
                probability=None if table is None else table[start:end].tolist(),
                route="pinned",
            )
        )
    writer.flush()
    return ids


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime | date) else value


def stretches(
    source: Source, part_rows: int, missing: Callable[[int], bool], longest: int
) -> Sequence[tuple[Table, tuple[Part, ...]]]:
    """Cut the source into parts, and return those that are missing as stretches of at most `longest` parts."""
    found: list[tuple[Table, tuple[Part, ...]]] = []
    number = 0
    for table in source.tables:
        run: list[Part] = []
        for offset in range(0, table.rows, part_rows):
            part = Part(number=number, offset=offset, rows=min(part_rows, table.rows - offset))
            number += 1
            if missing(part.number):
                run.append(part)
            if run and (not missing(part.number) or len(run) == longest):
                found.append((table, tuple(run)))
                run = []
        if run:
            found.append((table, tuple(run)))
    return found
