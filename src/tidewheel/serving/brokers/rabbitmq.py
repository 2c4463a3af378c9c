"""RabbitMQ: quorum queues, which count deliveries; answers are published with confirms."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import aio_pika
import aio_pika.abc
import aio_pika.exceptions

from tidewheel.clock import new_id
from tidewheel.errors import NotReady
from tidewheel.serving.brokers.seam import REQUEST_ID, UNIT_ID, Delivery, Message, Places, away

AHEAD = 1_024  # requests that the server sends before the first is settled
CONNECT_SECONDS = 5.0


class RabbitBroker:
    """Queues by name; one that does not exist is made durable, as a quorum queue."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._connection: aio_pika.abc.AbstractConnection | None = None
        self._channel: aio_pika.abc.AbstractChannel | None = None
        self._arrived: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()

    async def open(self) -> None:
        """Connect and begin to consume."""
        async with self._translated():
            self._arrived = asyncio.Queue()
            self._connection = await aio_pika.connect(self._places.url, timeout=CONNECT_SECONDS)
            for name in (self._places.outlet, self._places.dead):
                await self._queue(name)
            self._channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
            await self._channel.set_qos(prefetch_count=AHEAD)
            await self._queue(self._places.inlet)
            queue = await self._channel.get_queue(self._places.inlet, ensure=False)
            await queue.consume(self._arrived.put)

    async def _queue(self, name: str) -> None:
        """Make a queue unless it exists, whatever it is; a refusal closes the channel it was made on."""
        if not name or self._connection is None:
            return
        channel = await self._connection.channel()
        try:
            await channel.declare_queue(name, passive=True)
        except aio_pika.exceptions.ChannelNotFoundEntity:
            channel = await self._connection.channel()
            await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
        finally:
            await channel.close()

    async def take(self, most: int, patience: float) -> Sequence[Delivery]:
        """Return what the server has sent."""
        if self._channel is None or self._channel.is_closed or self._connection is None or self._connection.is_closed:
            raise away(self._places.url, ConnectionError("the connection was lost"))
        try:
            found = [await asyncio.wait_for(self._arrived.get(), patience)]
        except TimeoutError:
            return []
        while len(found) < most and not self._arrived.empty():
            found.append(self._arrived.get_nowait())
        return [_delivery(message) for message in found]

    async def send(self, place: str, message: Message) -> None:
        """Publish to a queue and wait for the confirm; a queue of a sender that has gone is nobody's loss."""
        async with self._translated():
            if self._channel is None:
                raise ConnectionError("not connected")
            ours = place in (self._places.outlet, self._places.dead)
            ready = aio_pika.Message(
                message.body,
                headers=dict(message.headers),
                message_id=message.headers.get(REQUEST_ID),
                correlation_id=message.headers.get(REQUEST_ID),
                content_type="application/json",
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            )
            await self._channel.default_exchange.publish(ready, routing_key=place, mandatory=ours)

    async def settle(self, done: Sequence[Delivery], again: Sequence[Delivery]) -> None:
        """Acknowledge requests, or put them back."""
        async with self._translated():
            for each in done:
                await each.token.ack()
            for each in again:
                await each.token.nack(requeue=True)

    async def close(self) -> None:
        """Disconnect; the server puts back what was not acknowledged."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(aio_pika.exceptions.AMQPError, OSError, RuntimeError):
                await connection.close()

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except NotReady:
            raise
        except (aio_pika.exceptions.AMQPError, OSError, TimeoutError, RuntimeError) as error:
            raise away(self._places.url, error) from error


def _delivery(message: aio_pika.abc.AbstractIncomingMessage) -> Delivery:
    headers: dict[str, Any] = {str(name): value for name, value in (message.headers or {}).items()}
    given = headers.get(REQUEST_ID) or message.message_id or message.correlation_id
    count = headers.get("x-delivery-count")
    return Delivery(
        body=message.body,
        id=str(given) if given else new_id(),
        unit=str(headers.get(UNIT_ID, "")),
        reply=message.reply_to or "",
        attempt=int(count) + 1 if isinstance(count, int) else 1 + int(message.redelivered or False),
        token=message,
    )
