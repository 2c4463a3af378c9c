"""A broker in memory: the twin for tests; what is not settled when it closes is delivered again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from msgspec.structs import replace

from tidewheel.serving.brokers.seam import Delivery, Message


class MemoryBroker:
    """Requests in a queue, messages in lists by place."""

    def __init__(self) -> None:
        self.sent: dict[str, list[Message]] = {}  # place -> what was handed over
        self._waiting: deque[Delivery] = deque()
        self._taken: dict[str, Delivery] = {}
        self._arrived = asyncio.Event()

    def put(self, body: bytes, request_id: str, *, reply: str = "") -> None:
        """Let a request arrive."""
        self._waiting.append(Delivery(body=body, id=request_id, reply=reply))
        self._arrived.set()

    @property
    def unsettled(self) -> int:
        """Number of requests that wait or are out."""
        return len(self._waiting) + len(self._taken)

    async def open(self) -> None:
        """Do nothing."""

    async def take(self, most: int, patience: float) -> Sequence[Delivery]:
        """Return what has arrived."""
        if not self._waiting:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), patience)
            except TimeoutError:
                return []
        found = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        self._taken |= {each.id: each for each in found}
        return found

    async def send(self, place: str, message: Message) -> None:
        """Keep a message."""
        self.sent.setdefault(place, []).append(message)

    async def settle(self, done: Sequence[Delivery], again: Sequence[Delivery]) -> None:
        """Let go of requests, or put them back."""
        for each in (*done, *again):
            del self._taken[each.id]
        self._waiting.extend(replace(each, attempt=each.attempt + 1) for each in again)

    async def close(self) -> None:
        """Put back what was taken."""
        self._waiting.extend(replace(each, attempt=each.attempt + 1) for each in self._taken.values())
        self._taken.clear()
