"""The logs of one endpoint: what was answered, and the outcomes that came."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from tidewheel.errors import StorageUnavailable
from tidewheel.predictions.log import LogWriter
from tidewheel.predictions.records import Outcome, Prediction
from tidewheel.serving.metrics import Counters

logger = logging.getLogger("tidewheel.serving")


class Journal:
    """Writes records before their answers leave.

    A disk that does not take a prediction costs the record, which is counted, never the answer. A disk that does not
    take outcomes is the caller's to know: StorageUnavailable.
    """

    def __init__(self, folder: Path, writer: str, counters: Counters, *, strict: bool) -> None:
        self.folder = folder
        self.trouble = ""  # why the last record was given up; "" when the last one was written
        self._counters = counters
        self._predictions = LogWriter(folder, writer, strict=strict)
        self._outcomes = LogWriter(folder, writer, kind=Outcome, strict=strict)

    def write(self, *records: Prediction) -> None:
        """Write the records of one request with one write."""
        for record in records:
            self._predictions.append(record)
        try:
            self._predictions.flush()
        except StorageUnavailable as error:
            self._counters.dropped += len(records)
            if error.what != self.trouble:
                logger.warning("predictions go out without being logged: %s", error.what)
            self.trouble = error.what
        else:
            self.trouble = ""

    def write_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Write outcomes, all or none. Raises StorageUnavailable when the disk does not take them."""
        for outcome in outcomes:
            self._outcomes.append(outcome)
        try:
            self._outcomes.flush()
        except StorageUnavailable:
            self._counters.outcomes_refused += len(outcomes)
            raise
        self._counters.outcomes += len(outcomes)

    def sync(self) -> None:
        """Force both logs onto the disk; a disk that fails is reported, not raised: the next sync tries again."""
        for log in (self._predictions, self._outcomes):
            try:
                log.sync()
            except StorageUnavailable as error:
                logger.warning("the log could not be synced: %s", error.what)

    def close(self) -> None:
        """Sync and let go of both logs."""
        for log in (self._predictions, self._outcomes):
            try:
                log.close()
            except StorageUnavailable as error:
                logger.warning("the log could not be closed: %s", error.what)
