"""Which calls can begin: those whose inputs are there, and those whose time to try again has come."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence

from tidewheel.pipelines.calls import Call, Output


class Frontier:
    """Calls between the body and the executors; every operation costs the same however many calls there are."""

    def __init__(self) -> None:
        self._ready: dict[str, deque[Call]] = {}
        self._retries: list[tuple[float, int, Call]] = []

    @property
    def places(self) -> list[str]:
        """The executors for which there are calls that can begin."""
        return [place for place, ready in self._ready.items() if ready]

    def add(self, call: Call, inputs: Sequence[Output]) -> Call | None:
        """Take a new call; return one of its inputs' calls that has failed, if any: then it can never begin."""
        for given in inputs:
            if given.call is None or given.call.succeeded:
                continue
            if given.call.error is not None:
                return given.call
            given.call.dependents.append(call)
            call.missing += 1
        if not call.missing:
            self._offer(call)
        return None

    def take(self, place: str) -> Call | None:
        """Return the next call that can begin at a place."""
        ready = self._ready.get(place)
        return ready.popleft() if ready else None

    def release(self, done: Call) -> None:
        """Let the calls that waited for one go on."""
        for call in done.dependents:
            call.missing -= 1
            if not call.missing and call.error is None:
                self._offer(call)
        done.dependents.clear()

    def again_at(self, call: Call) -> None:
        """Offer a call again once its `retry_at` has come."""
        heapq.heappush(self._retries, (call.retry_at, call.ordinal, call))

    def again(self, call: Call) -> None:
        """Offer a call again at once, before the others."""
        self._ready.setdefault(call.place, deque()).appendleft(call)

    def wake(self, now: float) -> float | None:
        """Offer what is due again at monotonic time `now`; return the seconds until the next one is due."""
        while self._retries and self._retries[0][0] <= now:
            self.again(heapq.heappop(self._retries)[2])
        return self._retries[0][0] - now if self._retries else None

    def _offer(self, call: Call) -> None:
        self._ready.setdefault(call.place, deque()).append(call)
