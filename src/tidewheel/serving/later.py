"""Answers that are still to come when a front asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tidewheel.serving.response import Response

LATER = 0  # status of an answer that is still to come

Deliver = Callable[[Response], None]


class Later(Response, frozen=True):
    """An answer that is still to come; `subscribe` says who is given it, in whatever thread."""

    subscribe: Callable[[Deliver], None] = lambda _: None  # takes who is to be given the answer

    def then(self, change: Callable[[Response], Response]) -> Later:
        """Return this answer, changed once it is there."""
        return Later(LATER, (), b"", lambda deliver: self.subscribe(lambda found: deliver(change(found))))


async def arrived(response: Response) -> Response:
    """Return an answer once it is there."""
    if not isinstance(response, Later):
        return response
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Response] = loop.create_future()

    def settle(found: Response) -> None:
        if not future.done():  # the caller may have gone
            future.set_result(found)

    response.subscribe(lambda found: threadsafe(loop, settle, found))
    return await future


def threadsafe(loop: asyncio.AbstractEventLoop, deliver: Deliver, found: Response) -> None:
    """Give an answer to whoever waits in an event loop, from any thread."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(deliver, found)
