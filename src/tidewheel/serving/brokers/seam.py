"""The seam of message brokers: requests come at least once, answers are handed over before requests are let go of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from tidewheel.errors import InvalidInput, MissingExtra, NotReady

REQUEST_ID, UNIT_ID, REPLY_TO = "x-request-id", "x-unit-id", "reply-to"  # headers that a request may have
ERROR, STATUS, ATTEMPTS = "x-error", "x-status", "x-attempts"  # headers of a dead letter


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where requests come from and answers go to."""

    url: str  # of the broker: nats://, amqp://, redis:// or kafka://
    inlet: str  # subject, queue, stream or topic of the requests
    outlet: str  # of the answers; "": only to those that requests name in reply-to
    dead: str  # of what cannot be answered
    group: str = "tidewheel"  # consumers of one name share the requests
    wait_seconds: float = 30.0  # after which what a consumer took and never answered is given to another


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A request as the broker hands it out."""

    body: bytes  # as sent
    id: str  # request id: the sender's, else one that stays the same when it is delivered again
    unit: str = ""  # what the split is keyed on
    reply: str = ""  # where the sender wants the answer besides
    attempt: int = 1  # how often it was handed out
    token: Any = None  # the broker's own


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """An answer or a dead letter."""

    body: bytes  # JSON, or the request as it came
    headers: dict[str, str]  # request id and more


class Broker(Protocol):
    """A connection to a broker, for one consumer. What it cannot do now, because the broker is away, is NotReady."""

    async def open(self) -> None:
        """Connect, and make the places that do not exist yet, so that they keep what is sent."""
        ...

    async def take(self, most: int, patience: float) -> Sequence[Delivery]:
        """Return what has arrived, at most so many; wait so many seconds for the first, and for no other."""
        ...

    async def send(self, place: str, message: Message) -> None:
        """Hand a message over; returns when the broker has it."""
        ...

    async def settle(self, done: Sequence[Delivery], again: Sequence[Delivery]) -> None:
        """Let go of requests that were answered, and give back those that are to be delivered again."""
        ...

    async def close(self) -> None:
        """Disconnect; what was taken and not settled is delivered again, to anybody."""
        ...


def open_broker(places: Places) -> Broker:
    """Return the broker of a URL, not yet connected.

    Raises InvalidInput for a URL of none, MissingExtra when its client is not installed.
    """
    openers: Mapping[str, Callable[[Places], Broker]] = {
        "nats": _nats,
        "amqp": _rabbit,
        "amqps": _rabbit,
        "redis": _redis,
        "rediss": _redis,
        "kafka": _kafka,
    }
    scheme = places.url.split("://", 1)[0]
    if scheme not in openers:
        raise InvalidInput(
            f"{places.url!r} names no broker.",
            f"Use a URL that begins with {', '.join(f'{one}://' for one in openers)}.",
        )
    names = [name for name in (places.inlet, places.outlet, places.dead) if name]
    if not places.inlet or not places.dead or len(set(names)) < len(names):
        raise InvalidInput(
            f"Requests come from {places.inlet!r}, answers go to {places.outlet!r}, dead letters to {places.dead!r}.",
            "Give each a place of its own (--in, --out, --dead).",
        )
    try:
        return openers[scheme](places)
    except ImportError as error:
        raise MissingExtra(str(error.name), "broker") from error


def _nats(places: Places) -> Broker:
    from tidewheel.serving.brokers.nats import NatsBroker

    return NatsBroker(places)


def _rabbit(places: Places) -> Broker:
    from tidewheel.serving.brokers.rabbitmq import RabbitBroker

    return RabbitBroker(places)


def _redis(places: Places) -> Broker:
    from tidewheel.serving.brokers.redis import RedisBroker

    return RedisBroker(places)


def _kafka(places: Places) -> Broker:
    from tidewheel.serving.brokers.kafka import KafkaBroker

    return KafkaBroker(places)


def away(url: str, error: BaseException) -> NotReady:
    """Return the error for a broker that does not answer."""
    said = (str(error) or type(error).__name__).splitlines()[0][:200]
    return NotReady(f"The broker {url.rpartition('@')[2]} is away: {said}.", "Start it, or check its address.")
