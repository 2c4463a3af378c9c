"""Kafka: a consumer group that commits what was answered; counts of tries live in the process, Kafka keeps none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiokafka
import aiokafka.errors

from tidewheel.errors import NotReady
from tidewheel.serving.brokers.seam import REPLY_TO, REQUEST_ID, UNIT_ID, Delivery, Message, Places, away


class KafkaBroker:
    """Topics by name, made as the broker's own settings say."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._server = places.url.removeprefix("kafka://")
        self._consumer: Any = None
        self._producer: Any = None
        self._tries: dict[tuple[str, int, int], int] = {}  # (topic, partition, offset) -> deliveries that failed

    async def open(self) -> None:
        """Join the group."""
        async with self._translated():
            self._producer = aiokafka.AIOKafkaProducer(
                bootstrap_servers=self._server, acks="all", enable_idempotence=True
            )
            await self._producer.start()
            self._consumer = aiokafka.AIOKafkaConsumer(
                self._places.inlet,
                bootstrap_servers=self._server,
                group_id=self._places.group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
            )
            await self._consumer.start()

    async def take(self, most: int, patience: float) -> Sequence[Delivery]:
        """Return what has arrived."""
        async with self._translated():
            found = await self._consumer.getmany(timeout_ms=max(int(patience * 1_000), 1), max_records=most)
        return [self._delivery(record) for records in found.values() for record in records]

    async def send(self, place: str, message: Message) -> None:
        """Produce, and wait until all replicas have it."""
        async with self._translated():
            headers = [(name, value.encode()) for name, value in message.headers.items()]
            key = message.headers.get(REQUEST_ID, "").encode()
            await self._producer.send_and_wait(place, message.body, key=key, headers=headers)

    async def settle(self, done: Sequence[Delivery], again: Sequence[Delivery]) -> None:
        """Commit up to the first request that is to come again, and go back to it; those behind it come again too."""
        async with self._translated():
            back: dict[Any, int] = {}
            for each in again:
                place = aiokafka.TopicPartition(each.token.topic, each.token.partition)
                back[place] = min(back.get(place, each.token.offset), each.token.offset)
                self._tries[_position(each.token)] = each.attempt
            offsets: dict[Any, int] = {}
            for each in done:
                place = aiokafka.TopicPartition(each.token.topic, each.token.partition)
                offsets[place] = max(offsets.get(place, 0), each.token.offset + 1)
                self._tries.pop(_position(each.token), None)
            offsets |= back
            if offsets:
                await self._consumer.commit(offsets)
            for place, offset in back.items():
                self._consumer.seek(place, offset)

    async def close(self) -> None:
        """Leave the group."""
        for each in (self._consumer, self._producer):
            if each is not None:
                with suppress(aiokafka.errors.KafkaError, OSError):
                    await each.stop()
        self._consumer = self._producer = None

    def _delivery(self, record: Any) -> Delivery:
        headers = {name: value.decode("utf-8", "replace") for name, value in record.headers}
        return Delivery(
            body=record.value or b"",
            id=headers.get(REQUEST_ID) or f"{record.topic}-{record.partition}-{record.offset}",
            unit=headers.get(UNIT_ID, ""),
            reply=headers.get(REPLY_TO, ""),
            attempt=self._tries.get(_position(record), 0) + 1,
            token=record,
        )

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            yield
        except NotReady:
            raise
        except (aiokafka.errors.KafkaError, OSError, TimeoutError) as error:
            raise away(self._places.url, error) from error


def _position(record: Any) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset
