"""Score a whole input into an online table, which then answers look-ups by id."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from tidewheel.clock import micros, new_id
from tidewheel.errors import InvalidInput, NotFound, StorageUnavailable
from tidewheel.lineage.store import Store
from tidewheel.scoring.batch import LONGEST, PART_ROWS, Progress
from tidewheel.scoring.loaded import Loaded
from tidewheel.scoring.online import Generation, OnlineStore
from tidewheel.scoring.parts import PREDICTION, Stretch, answers, probability_names, stretches
from tidewheel.scoring.recording import Trace, begin, conclude, fail
from tidewheel.scoring.sources import Source, digest_of_files, open_source

PUT_ROWS = 8_192  # entries handed to the store at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Precomputed:
    """What came of it."""

    run_id: str  # the execution in the graph
    table: str  # name of the model, under which look-ups find it
    version: str  # name:version that answered
    rows: int  # rows scored
    entries: int  # ids in the table: fewer than rows where an id came twice
    seconds: float  # that it took


def precompute(
    store: Store,
    online: OnlineStore,
    model: Loaded,
    given: str,
    *,
    key: str,
    tell: Callable[[Progress], None] = lambda _: None,
) -> Precomputed:
    """Score a file, URL or dataset, and let the answers be looked up by a column; of an id twice, the last one counts.

    The answers appear all at once when all are there; until then, and whenever this fails, those before them answer.

    Raises NotFound for an input or column that is missing, InvalidInput for rows without key or a key that is no text
    or whole number, Conflict when answers begun later are live already.
    """
    began, run, table = time.monotonic(), new_id(), model.portable.name
    scratch = Path(tempfile.mkdtemp(prefix="tidewheel-precompute-"))
    try:
        source = open_source(store, given, model.signature, scratch)
        _check_key(source, key)
        generation = Generation(id=run, version=model.reference, at=micros(store.clock.now()))
        begin(store, run, model.portable, source, parameters={"input": source.place, "key": key})
        try:
            _fill(online, model, source, generation, key=key, tell=tell)
            trace = Trace(
                run=run,
                model=model.portable,
                source=source,
                source_digest=digest_of_files(source),
                out=f"online:{table}",
                out_digest="",
                rows=source.rows,
            )
            live = online.swap(table, generation)
            conclude(store, trace)
        except BaseException as error:
            with suppress(StorageUnavailable):
                fail(store, run, error)
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Precomputed(
        run_id=run,
        table=table,
        version=model.reference,
        rows=source.rows,
        entries=live.rows,
        seconds=time.monotonic() - began,
    )


def _check_key(source: Source, key: str) -> None:
    for table in source.tables:
        schema = source.scan(table).collect_schema()
        if key not in schema:
            raise NotFound(f"column of {table.place}", key, schema.names(), "It is to be the key of the look-ups.")
        if not (schema[key].is_integer() or schema[key] in (pl.String, pl.Categorical, pl.Enum)):
            raise InvalidInput(
                f"The column {key!r} holds {schema[key]}, which is no id.", "Give text or whole numbers as ids."
            )


def _fill(
    online: OnlineStore,
    model: Loaded,
    source: Source,
    generation: Generation,
    *,
    key: str,
    tell: Callable[[Progress], None],
) -> None:
    began, rows = time.monotonic(), 0
    for table, parts in stretches(source, PART_ROWS, lambda _: True, LONGEST):
        stretch = Stretch(source=source, table=table, parts=parts, keep=(key,), run=generation.id)
        for part, frame in answers(model, stretch):
            if frame[key].null_count():
                raise InvalidInput(
                    f"{frame[key].null_count()} rows of {table.place} have no {key!r}.", "Leave them out, or fill it."
                )
            for piece in frame.iter_slices(PUT_ROWS):
                online.put_many(model.portable.name, generation, _values(model, piece, key))
            rows += part.rows
            tell(Progress(rows=rows, total=source.rows, resumed=0, seconds=time.monotonic() - began))


def _values(model: Loaded, frame: pl.DataFrame, key: str) -> dict[str, dict[str, Any]]:
    ids = frame[key].cast(pl.String).to_list()
    predictions = frame[PREDICTION].to_list()
    names = probability_names(model.signature)
    if not names:
        return {each: {"prediction": value} for each, value in zip(ids, predictions, strict=True)}
    tables = frame.select(names).rows()
    classes = model.signature.classes
    return {
        each: {"prediction": value, "probabilities": row, "classes": classes}
        for each, value, row in zip(ids, predictions, tables, strict=True)
    }
