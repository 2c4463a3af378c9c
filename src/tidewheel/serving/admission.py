"""Refuse at the door what could not be answered in time: by requests that wait, and by the work that they are."""

from __future__ import annotations

from math import ceil

from tidewheel.errors import Overloaded
from tidewheel.serving.limits import DEFAULTS, Limits

LEARNED = 0.1  # weight of the newest call in what a row is taken to cost
FIRST_US = 20.0  # what a row is taken to cost before any was scored
HEAVY_US = 50_000.0  # most that one call may teach about a row: a swap or a busy machine is no habit


class Admission:
    """Counts what waits within one server and says when that is too much. For one thread.

    A lone request is always let in, however large: there is nobody whose time it could take.

    >>> door = Admission(Limits(waiting=2, budget_ms=1_000))
    >>> door.enter(1), door.enter(1)
    (None, None)
    >>> door.refusal().seconds
    1
    """

    def __init__(self, limits: Limits = DEFAULTS) -> None:
        self.refused = 0  # requests that were turned away
        self.row_us = FIRST_US  # learned cost of one row, microseconds
        self.request_us = FIRST_US  # learned cost of one request, microseconds
        self._most_requests = limits.waiting
        self._budget_us = limits.budget_ms * 1_000.0
        self._requests = 0
        self._rows = 0

    def refusal(self) -> Overloaded | None:
        """Return why nothing more is let in now, None when there is room."""
        return self._judge(self._requests, self._rows * self.row_us) if self._requests else None

    def crowded(self, requests: int) -> Overloaded | None:
        """Return why a request is not let in behind `requests` that a server has read and not answered yet."""
        return self._judge(requests, requests * self.request_us)

    def _judge(self, requests: int, work_us: float) -> Overloaded | None:
        if requests < self._most_requests and work_us <= self._budget_us:
            return None
        self.refused += 1
        what = f"{requests:,} requests wait, which takes about {work_us / 1_000:,.0f} ms."
        return Overloaded(
            what, "Try again later, or give the server more workers.", seconds=max(1, ceil(work_us / 1e6))
        )

    def enter(self, rows: int) -> None:
        """Count a request that now waits."""
        self._requests += 1
        self._rows += rows

    def done(self, requests: int, rows: int, took_us: float) -> None:
        """Count requests that were answered by one call, and learn from it what a row costs."""
        self._requests -= requests
        self._rows -= rows
        self.learn(requests, rows, took_us)

    def learn(self, requests: int, rows: int, took_us: float) -> None:
        """Learn from a call what a row and a request cost."""
        if rows and requests:
            self.row_us += LEARNED * (min(took_us / rows, HEAVY_US) - self.row_us)
            self.request_us += LEARNED * (min(took_us / requests, HEAVY_US) - self.request_us)
