"""Send the stream: rows as requests in order, labels later, and wait for the conductor between two waves.

A row of the stream stands for minutes or hours of real time and a retraining for seconds, so the
feeder lets the conductor finish what it does before the next wave, as it would in reality. It never
waits the other way round: no label is sent, or used, before its arrival.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tidewheel.demo.client import Client
from tidewheel.demo.score import RunningScore
from tidewheel.demo.stream import Stream

WAVE_ROWS = 24
LONG_STREAM = 10_000  # rows from which waves are twice as long: fewer waits, and still ten waves to a monitor window


@dataclass(slots=True, kw_only=True)
class Scores:
    """Running scores on the same rows."""

    loop: RunningScore  # what callers were answered
    frozen: RunningScore  # what the first champion would have answered


@dataclass(slots=True, kw_only=True)
class Feeder:
    """The caller of the demo: asks, and later says what was right."""

    stream: Stream  # rows and labels in order
    client: Client  # the way to the server
    delay: int  # a label arrives after that many further rows
    frozen: Callable[[list[dict[str, Any]]], list[Any]]  # answers of the first champion, in this process
    scores: Scores  # running scores, changed by `run`
    wave_rows: int = WAVE_ROWS  # rows between two waits for the conductor
    last_id: str = ""  # id of the newest request
    _due: deque[tuple[int, str, Any]] = field(default_factory=deque)  # row number, request id, label
    sent_labels: int = 0  # labels sent so far

    def run(self, after_wave: Callable[[int], None]) -> None:
        """Send all rows; `after_wave(rows)` is called between waves and may wait for the conductor."""
        features = self.stream.frame.drop(self.stream.label)
        labels = self.stream.frame[self.stream.label]
        for start in range(self.stream.history, self.stream.frame.height, self.wave_rows):
            rows = features.slice(start, self.wave_rows).to_dicts()
            truths = labels.slice(start, self.wave_rows).to_list()
            self._wave(start, rows, truths)
            after_wave(start + len(rows) - self.stream.history)
        self._deliver(self.stream.frame.height + self.delay)
        after_wave(self.stream.live)

    def _wave(self, start: int, rows: list[dict[str, Any]], truths: list[Any]) -> None:
        guesses = self.frozen(rows)
        for offset, (row, truth, frozen) in enumerate(zip(rows, truths, guesses, strict=True)):
            number = start + offset
            self._deliver(number)
            self.last_id = f"{self.stream.name}-{number}"
            answer = self.client.predict(self.last_id, row)
            self.scores.loop.add(truth, answer["predictions"][0])
            self.scores.frozen.add(truth, frozen)
            self._due.append((number + self.delay, self.last_id, truth))

    def _deliver(self, number: int) -> None:
        """Send the labels that have arrived by the time of a row; one call for all of them."""
        if not self._due or (self._due[0][0] > number):
            return
        if number - self._due[0][0] < self.wave_rows // 2 and number < self.stream.frame.height:
            return  # labels travel in small parcels: later than they could, never earlier
        arrived = []
        while self._due and self._due[0][0] <= number:
            _, key, label = self._due.popleft()
            arrived.append((key, label))
        self.client.outcomes(arrived)
        self.sent_labels += len(arrived)
