"""NATS JetStream: a durable push consumer shared by a group; an answer is acknowledged by the stream that keeps it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import nats
import nats.errors
import nats.js.api
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.client import JetStreamContext

from tidewheel.errors import NotReady
from tidewheel.serving.brokers.seam import REPLY_TO, REQUEST_ID, UNIT_ID, Delivery, Message, Places, away

AHEAD = 1_024  # requests that the server sends before the first is settled
CONNECT_SECONDS = 5
NAK_SECONDS = 0.2  # times the attempt: before a request that failed comes again


class NatsBroker:
    """Subjects of JetStream; a subject that no stream keeps gets a stream of its own."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._client: Client | None = None
        self._stream: JetStreamContext | None = None
        self._arrived: asyncio.Queue[Msg] = asyncio.Queue()

    async def open(self) -> None:
        """Connect and subscribe."""
        async with self._translated():
            self._arrived = asyncio.Queue()
            # Without a bound the client tries a server that is away for two minutes before it says so.
            self._client = await nats.connect(
                self._places.url,
                connect_timeout=CONNECT_SECONDS,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                error_cb=_quiet,
            )
            self._stream = self._client.jetstream()
            for subject in (self._places.inlet, self._places.outlet, self._places.dead):
                await self._keep(subject)
            await self._stream.subscribe(
                self._places.inlet,
                queue=self._places.group,
                durable=self._places.group,
                cb=self._arrived.put,
                manual_ack=True,
                config=nats.js.api.ConsumerConfig(ack_wait=self._places.wait_seconds, max_ack_pending=AHEAD),
            )

    async def _keep(self, subject: str) -> None:
        if not subject or self._stream is None:
            return
        try:
            await self._stream.find_stream_name_by_subject(subject)
        except nats.js.errors.NotFoundError:
            name = re.sub(r"[^A-Za-z0-9_-]+", "_", subject)
            await self._stream.add_stream(name=name, subjects=[subject])

    async def take(self, most: int, patience: float) -> Sequence[Delivery]:
        """Return what the server has sent."""
        if self._client is None or not self._client.is_connected:
            raise away(self._places.url, ConnectionError("the connection was lost"))
        try:
            found = [await asyncio.wait_for(self._arrived.get(), patience)]
        except TimeoutError:
            return []
        while len(found) < most and not self._arrived.empty():
            found.append(self._arrived.get_nowait())
        return [_delivery(message) for message in found]

    async def send(self, place: str, message: Message) -> None:
        """Publish, and wait until a stream has it; a place that is no stream (an inbox) is only published to."""
        async with self._translated():
            if self._stream is None or self._client is None:
                raise ConnectionError("not connected")
            if place in (self._places.outlet, self._places.dead):
                await self._stream.publish(place, message.body, headers=message.headers)
            else:
                await self._client.publish(place, message.body, headers=message.headers)

    async def settle(self, done: Sequence[Delivery], again: Sequence[Delivery]) -> None:
        """Acknowledge requests, or ask for them once more in a while."""
        async with self._translated():
            for each in done:
                await each.token.ack()
            for each in again:
                await each.token.nak(delay=NAK_SECONDS * each.attempt)

    async def close(self) -> None:
        """Give back what was sent ahead, and disconnect."""
        client, self._client = self._client, None
        if client is None:
            return
        with suppress(nats.errors.Error, OSError, asyncio.TimeoutError):
            while not self._arrived.empty():
                await self._arrived.get_nowait().nak()
            await client.flush()
        with suppress(nats.errors.Error, OSError, asyncio.TimeoutError):
            await client.close()

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except NotReady:
            raise
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise away(self._places.url, error) from error


async def _quiet(error: Exception) -> None:
    del error  # each operation tells of its own


def _delivery(message: Msg) -> Delivery:
    told = message.metadata
    headers: dict[str, Any] = message.headers or {}
    return Delivery(
        body=message.data,
        id=headers.get(REQUEST_ID) or headers.get("Nats-Msg-Id") or f"{told.stream}-{told.sequence.stream}",
        unit=headers.get(UNIT_ID, ""),
        reply=headers.get(REPLY_TO, ""),
        attempt=told.num_delivered or 1,
        token=message,
    )
