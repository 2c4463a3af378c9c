"""Where messages go: an HTTP address, a file with a line for each, the standard output."""

from __future__ import annotations

import hashlib
import hmac
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from tidewheel.database.values import to_json
from tidewheel.errors import InvalidInput
from tidewheel.lineage.outbox import DeliveryFailed, Sink

LINEAGE_PATH = "/api/v1/lineage"  # where a receiver of OpenLineage listens unless its address says otherwise
_PATIENCE = 10.0  # seconds for an answer
_REFUSED = frozenset({400, 404, 405, 406, 413, 415, 422})  # the receiver will not change its mind about this message


class HttpSink:
    """An address that takes JSON by POST: a bearer key where one is given, an HMAC signature where a secret is."""

    def __init__(self, url: str, *, key: str = "", secret: str = "") -> None:
        self._url = url
        self._key = key
        self._secret = secret.encode()

    def send(self, message: Mapping[str, Any], key: str) -> None:
        """Post a message; anything but an answer of 200 to 299 is a failure."""
        body = to_json(message).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": key, "User-Agent": "tidewheel"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        if self._secret:
            headers["X-Tidewheel-Signature"] = "sha256=" + hmac.new(self._secret, body, hashlib.sha256).hexdigest()
        request = urllib.request.Request(self._url, data=body, headers=headers, method="POST")  # noqa: S310 - checked in sink_at
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:  # noqa: S310 - checked in sink_at
                answer.read(1_024)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(500).decode("utf-8", "replace")
            raise DeliveryFailed(f"{error.code} {error.reason}: {said}", poison=error.code in _REFUSED) from error
        except OSError as error:
            raise DeliveryFailed(f"{self._url} does not answer: {getattr(error, 'reason', error)}") from error


class FileSink:
    """A file that gets one line of JSON for each message."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, message: Mapping[str, Any], key: str) -> None:
        """Append a line, in one write, so that senders do not mix."""
        del key
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                file.write(to_json(message).encode() + b"\n")
                os.fsync(file.fileno())
        except OSError as error:
            raise DeliveryFailed(f"{self._path} cannot be written: {error.strerror}") from error


class ConsoleSink:
    """The standard output."""

    def send(self, message: Mapping[str, Any], key: str) -> None:
        """Print a line."""
        del key
        sys.stdout.write(to_json(message) + "\n")
        sys.stdout.flush()


def sink_at(address: str, *, path: str = "", key: str = "", secret: str = "") -> Sink:
    """Return the sink that an address names: `http(s)://...`, `file:///...` or `console`.

    `path` is added to an HTTP address that has none. Raises InvalidInput for anything else.
    """
    parts = urlsplit(address)
    if parts.scheme in ("http", "https") and parts.netloc:
        whole = parts._replace(path=path) if parts.path in ("", "/") and path else parts
        return HttpSink(whole.geturl(), key=key, secret=secret)
    if parts.scheme == "file" and parts.path:
        return FileSink(Path(url2pathname(parts.path)))
    if address == "console":
        return ConsoleSink()
    raise InvalidInput(f"{address!r} is no place for events.", "Use http(s)://host, file:///path or console.")
