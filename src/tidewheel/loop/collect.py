"""Labelled predictions become rows of the dataset, each exactly once."""

from __future__ import annotations

from collections.abc import Sequence

from tidewheel.data import datasets
from tidewheel.errors import ValidationFailed
from tidewheel.lineage.store import Store
from tidewheel.loop.cells import Sorted, sort_rows
from tidewheel.loop.decisions import decide
from tidewheel.loop.loop import Loop
from tidewheel.loop.state import Claim
from tidewheel.models.bundle import load_bundle
from tidewheel.predictions.join import Joiner, LabelledRow
from tidewheel.predictions.segments import log_folder
from tidewheel.registry.versions import get_model

OUTCOMES_AT_ONCE = 20_000  # bounds memory when a long log is read for the first time


class Collector:
    """Holds the labelled rows that were seen and wait to be kept.

    What waits is in memory alone and belongs to the cursor that is stored: whoever begins at that cursor finds the
    same rows, so a crash loses nothing. When somebody else has moved the cursor, what waits here is theirs, kept
    already, and is forgotten.
    """

    def __init__(self, store: Store, loop: Loop) -> None:
        self._store, self._loop = store, loop
        self._joiner = Joiner(log_folder(store.home, loop.model))
        self._waiting: list[LabelledRow] = []
        self._stored: dict[str, int] | None = None  # the stored cursor that the waiting rows begin at
        self._reached: dict[str, int] = {}  # where they end
        self._fields: dict[int, Sequence[str]] = {}  # names of the features of a model version

    @property
    def waiting(self) -> int:
        """Labelled rows seen and not kept yet."""
        return len(self._waiting)

    def follows(self, claim: Claim) -> bool:
        """Say whether what waits begins where the stored cursor stands."""
        return self._stored == claim.state.cursor

    def look(self, claim: Claim) -> bool:
        """Take in labels that have arrived since the last look; say whether there are more than one look takes."""
        if not self.follows(claim):
            self._stored = self._reached = claim.state.cursor
            self._waiting = []
        found = self._joiner.labelled(self._reached, limit=OUTCOMES_AT_ONCE)
        self._waiting += [row for row in found.rows if row.kept]
        self._reached = found.cursor
        return found.more

    def keep(self, claim: Claim) -> None:
        """Append the waiting rows to the dataset and move the cursor, in one transaction.

        Rows that do not fit the dataset are left out, with a decision in the journal that says why: a loop must not
        stand still because of a bad label. Where the loop does not collect, only the cursor moves.
        """
        if not self._waiting:
            return
        if not self._loop.collect:
            with claim.moving(**self._moved(claim)):
                pass
        else:
            self._append(claim, self._sorted())
        self._stored = claim.state.cursor
        self._waiting = []

    def _append(self, claim: Claim, rows: Sorted) -> None:
        data, by = self._loop.data, f"loop of {self._loop.model}"
        if rows.refused.height:
            datasets.keep_refusal(self._store, data, rows.refused, by=by)
        try:
            with claim.moving(**self._moved(claim)) as tx:
                if rows.frame.height:
                    # Not strict: what is served was judged, and other columns may be empty.
                    datasets.append_in(tx, self._store, data, rows.frame, by=by, strict=False)
                if rows.lost:
                    text = f"{rows.lost} of {self.waiting} labelled rows refused: {'; '.join(rows.problems)}"
                    decide(tx, self._store, claim.model, "collect.refused", text, numbers={"rows": rows.lost})
        except ValidationFailed as error:
            with claim.moving(**self._moved(claim)) as tx:
                text = f"{self.waiting} labelled rows refused: {error.what}"
                decide(tx, self._store, claim.model, "collect.refused", text, numbers={"rows": self.waiting})

    def _moved(self, claim: Claim) -> dict[str, object]:
        return {"cursor": self._reached, "labelled": claim.state.labelled + self.waiting}

    def _sorted(self) -> Sorted:
        versions = {row.prediction.version for row in self._waiting}
        names = {version: self._names(version) for version in versions}
        return sort_rows(self._waiting, names, datasets.schema_of(self._store, self._loop.data), self._loop.label)

    def _names(self, version: int) -> Sequence[str]:
        if version not in self._fields:
            digest = get_model(self._store, f"{self._loop.model}:{version}").bundle_digest
            self._fields[version] = load_bundle(self._store, digest).manifest.signature.names
        return self._fields[version]
