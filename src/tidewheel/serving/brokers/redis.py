"""Redis streams: a consumer group; what a dead consumer took is claimed by others after a while."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import redis.asyncio
import redis.exceptions

from tidewheel.clock import new_id
from tidewheel.errors import NotReady
from tidewheel.serving.brokers.seam import ATTEMPTS, REPLY_TO, REQUEST_ID, UNIT_ID, Delivery, Message, Places, away

BODY = "body"  # field of an entry that holds the request or the answer; the others are its headers
CLAIMING = 0.25  # share of the waiting time between two looks for what dead consumers have left


class RedisBroker:
    """Streams by key (Redis 6.2 or newer); an entry has its JSON in the field `body`."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._name = f"tidewheel-{new_id()}"
        self._client: Any = None
        self._claimed = 0.0  # when it was last looked for what others have left

    async def open(self) -> None:
        """Connect and make the group."""
        async with self._translated():
            # One connection: the answers of a turn, each on a connection of its own, would exceed the pool.
            self._client = redis.asyncio.Redis.from_url(self._places.url, single_connection_client=True)
            self._claimed = 0.0
            try:
                await self._client.xgroup_create(self._places.inlet, self._places.group, id="0", mkstream=True)
            except redis.exceptions.ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    async def take(self, most: int, patience: float) -> Sequence[Delivery]:
        """Return what nobody answered for a while, else what is new."""
        async with self._translated():
            left = await self._left(most)
            if left:
                return left
            place, group = self._places.inlet, self._places.group
            wait = max(int(patience * 1_000), 1)
            found = await self._client.xreadgroup(group, self._name, {place: ">"}, count=most, block=wait)
            entries = [entry for _, some in _pairs(found) for entry in some]
            return [_delivery(place, entry, 1) for entry in entries]

    async def _left(self, most: int) -> list[Delivery]:
        place, group, idle = self._places.inlet, self._places.group, int(self._places.wait_seconds * 1_000)
        if time.monotonic() - self._claimed < self._places.wait_seconds * CLAIMING:
            return []
        claimed = await self._client.xautoclaim(place, group, self._name, idle, count=most)
        entries = [entry for entry in claimed[1] if entry[1]]
        if len(entries) < most:
            self._claimed = time.monotonic()
        if not entries:
            return []
        low, high = entries[0][0], entries[-1][0]
        pending = await self._client.xpending_range(
            place, group, low, high, count=len(entries), consumername=self._name
        )
        counts = {each["message_id"]: int(each["times_delivered"]) for each in pending}
        return [_delivery(place, entry, counts.get(entry[0], 2)) for entry in entries]

    async def send(self, place: str, message: Message) -> None:
        """Append to a stream."""
        async with self._translated():
            await self._client.xadd(place, {BODY: message.body, **message.headers})

    async def settle(self, done: Sequence[Delivery], again: Sequence[Delivery]) -> None:
        """Acknowledge requests; one that is to come again is appended anew, with its id and the number of its tries."""
        async with self._translated():
            steps = self._client.pipeline(transaction=True)
            for each in again:
                headers = {REQUEST_ID: each.id, UNIT_ID: each.unit, REPLY_TO: each.reply, ATTEMPTS: str(each.attempt)}
                steps.xadd(self._places.inlet, {BODY: each.body, **headers})
            if tokens := [each.token for each in (*done, *again)]:
                steps.xack(self._places.inlet, self._places.group, *tokens)
                await steps.execute()

    async def close(self) -> None:
        """Disconnect; what was taken is claimed by others when its time is up."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(redis.exceptions.RedisError, OSError):
                await client.aclose()

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except NotReady:
            raise
        except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
            raise away(self._places.url, error) from error


def _pairs(found: Any) -> list[tuple[Any, Any]]:
    return list(found.items()) if isinstance(found, dict) else list(found or [])


def _delivery(place: str, entry: tuple[bytes, dict[bytes, bytes]], times: int) -> Delivery:
    token, fields = entry
    headers = {name.decode("latin-1"): value.decode("utf-8", "replace") for name, value in fields.items()}
    return Delivery(
        body=fields.get(BODY.encode(), b""),
        id=headers.get(REQUEST_ID) or f"{place}-{token.decode()}",
        unit=headers.get(UNIT_ID, ""),
        reply=headers.get(REPLY_TO, ""),
        attempt=times + int(headers.get(ATTEMPTS, "0")),
        token=token,
    )
