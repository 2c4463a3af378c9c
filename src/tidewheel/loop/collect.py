"""Labelled predictions become rows of the dataset, each exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import polars as pl

from tidewheel.data import datasets
from tidewheel.errors import TidewheelError, ValidationFailed
from tidewheel.lineage.read import find_entity
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import append_event
from tidewheel.loop.loop import Loop
from tidewheel.loop.state import Held, save_state
from tidewheel.models.bundle import load_bundle
from tidewheel.predictions.join import Joiner, Labelled, LabelledRow
from tidewheel.registry.versions import get_model


class Collector:
    """Holds the labelled rows that were seen and wait to be kept; a new one finds the same rows from the cursor."""

    def __init__(self, store: Store, loop: Loop) -> None:
        self._store, self._loop = store, loop
        self._joiner = Joiner(store.home / "log" / loop.model)
        self._waiting: list[LabelledRow] = []
        self._cursor: dict[str, int] | None = None  # where the waiting rows end
        self._fields: dict[int, Sequence[str]] = {}  # names of the features of a model version

    @property
    def waiting(self) -> int:
        """Labelled rows seen and not kept yet."""
        return len(self._waiting)

    def look(self, held: Held) -> None:
        """Take in the labels that have arrived since the last look."""
        if self._cursor is None:
            self._waiting = []
        found: Labelled = self._joiner.labelled(held.state.cursor if self._cursor is None else self._cursor)
        self._waiting += found.rows
        self._cursor = found.cursor

    def keep(self, held: Held) -> Held:
        """Append the waiting rows to the dataset and move the cursor, in one transaction.

        Rows that do not fit the dataset's schema are refused whole, with their findings kept, and
        passed over: a loop must not stand still because of one bad label.
        """
        if not self._waiting or self._cursor is None:
            return held
        frame, rows = self._frame(), len(self._waiting)
        state = msgspec.structs.replace(
            held.state, cursor=self._cursor, labelled=held.state.labelled + rows, seen=held.state.labelled + rows
        )
        try:
            with self._store.database.transaction() as tx:
                datasets.append_in(tx, self._store, self._loop.data, frame, by=f"loop of {self._loop.model}")
                kept = save_state(tx, self._loop.model, held, state, store=self._store)
        except ValidationFailed as error:
            kept = self._refused(held, state, frame, error)
        self._waiting = []
        return kept

    def _refused(self, held: Held, state: Any, frame: pl.DataFrame, error: TidewheelError) -> Held:
        datasets.keep_refusal(self._store, self._loop.data, frame, by=f"loop of {self._loop.model}")
        with self._store.database.transaction() as tx:
            subject = find_entity(tx, "dataset", self._loop.data)
            body = {
                "model": self._loop.model,
                "rows": frame.height,
                "text": f"{frame.height} labelled rows refused: {error.what}",
            }
            append_event(tx, "collect.refused", body, at=self._store.clock.now(), subject_id=subject.id, by="loop")
            return save_state(tx, self._loop.model, held, state, store=self._store)

    def _frame(self) -> pl.DataFrame:
        records = []
        for row in self._waiting:
            names = self._names(row.prediction.version)
            values = row.prediction.features[row.row]
            records.append(dict(zip(names, values, strict=True)) | {self._loop.label: row.label})
        return pl.DataFrame(records, infer_schema_length=None)

    def _names(self, version: int) -> Sequence[str]:
        if version not in self._fields:
            digest = get_model(self._store, f"{self._loop.model}:{version}").bundle_digest
            self._fields[version] = load_bundle(self._store, digest).manifest.signature.names
        return self._fields[version]
