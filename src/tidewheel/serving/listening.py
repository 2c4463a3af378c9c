"""The socket that a server listens on."""

from __future__ import annotations

import errno
import socket
import time

from tidewheel.errors import Conflict, InvalidInput

BACKLOG = 2_048  # connections that wait to be accepted


def url_of(listening: socket.socket, host: str, scheme: str) -> str:
    """Return the address that callers use."""
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{listening.getsockname()[1]}"


def listen(host: str, port: int, *, patience: float = 0.0) -> socket.socket:
    """Return a socket that listens; one that is taken is tried again for `patience` seconds.

    Raises Conflict when the port is taken, InvalidInput for an address that is not this machine's.
    """
    give_up = time.monotonic() + patience
    while True:
        try:
            return _listen(host, port)
        except Conflict:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)


def _listen(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except PermissionError as error:
        listening.close()
        raise InvalidInput(f"Port {port} needs privileges.", "Choose one above 1023, or 0 for a free one.") from error
    except OSError as error:
        listening.close()
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise InvalidInput(f"{host!r} is no address of this machine.", "Use 127.0.0.1 or 0.0.0.0.") from error
        raise Conflict(
            f"Port {port} on {host} is taken: {error.strerror}.", "Stop what holds it, or choose another with --port."
        ) from error
    return listening
