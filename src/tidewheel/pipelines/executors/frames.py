"""Messages of bytes between two processes, over a socket; what `multiprocessing` has, without its cost at start-up."""

from __future__ import annotations

import selectors
import socket
import struct
from collections.abc import Sequence
from typing import Any

_HEAD = struct.Struct("!Q")  # length of a message in bytes
_PIECE = 1 << 20  # bytes that are read at once


class Frames:
    """One end of a connection; `pair` makes both.

    >>> ours, theirs = pair()
    >>> ours.send_bytes(b"ebb"); ours.send_bytes(b"")
    >>> theirs.recv_bytes(), theirs.recv_bytes()
    (b'ebb', b'')
    >>> ours.close(); theirs.close()
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def fileno(self) -> int:
        """Return its descriptor."""
        return self._end.fileno()

    def send_bytes(self, data: bytes) -> None:
        """Send one message; raises OSError when the other end is closed."""
        self._end.sendall(_HEAD.pack(len(data)) + data)

    def recv_bytes(self) -> bytes:
        """Wait for one message; raises EOFError when the other end is closed."""
        return self._exactly(_HEAD.unpack(self._exactly(_HEAD.size))[0])

    def poll(self) -> bool:
        """Say whether something has come, be it the end."""
        return self.fileno() >= 0 and bool(ready_of([self], 0.0))

    def close(self) -> None:
        """Close this end."""
        self._end.close()

    def _exactly(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            data = self._end.recv(min(_PIECE, size - len(found)))
            if not data:
                raise EOFError
            found += data
        return bytes(found)


def pair() -> tuple[Frames, Frames]:
    """Return both ends of a connection."""
    ours, theirs = socket.socketpair()
    return Frames(ours), Frames(theirs)


def ready_of(sources: Sequence[Any], timeout: float) -> list[Any]:
    """Wait for sockets and connections, at most so many seconds; return those that can be read."""
    with selectors.DefaultSelector() as selector:
        for source in sources:
            selector.register(source, selectors.EVENT_READ)
        return [key.fileobj for key, _ in selector.select(timeout)]
