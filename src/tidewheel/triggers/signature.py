"""Signatures of calls from outside, as the Standard Webhooks specification 1.0 (2023) has them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from tidewheel.errors import Unauthorized

TOLERANCE = 300  # seconds by which the sender's clock may differ
_PREFIX = "whsec_"  # of a secret that is written in base64


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What a sender says about a call."""

    id: str  # tells deliveries apart: header webhook-id
    timestamp: int  # seconds since 1970: header webhook-timestamp
    signatures: tuple[str, ...]  # one fits: header webhook-signature


def sign(secret: str, delivery: str, timestamp: int, body: bytes) -> str:
    """Return the header `webhook-signature` of a call: HMAC-SHA256 over id, time and body.

    >>> secret, delivery = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek"
    >>> sign(secret, delivery, 1614265330, b'{"test": 2432232314}')
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    message = f"{delivery}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(_key(secret), message, hashlib.sha256).digest()).decode()


def signed(headers: Mapping[str, str]) -> Signed:
    """Read the three headers; raises Unauthorized when one is missing or is not understood."""
    lower = {name.lower(): value for name, value in headers.items()}
    found = [lower.get(f"webhook-{name}", "").strip() for name in ("id", "timestamp", "signature")]
    delivery, timestamp, signatures = found
    if not all(found) or not (timestamp.isascii() and timestamp.isdigit()) or len(delivery) > 200:
        raise Unauthorized(
            "The call does not say who sent it, or not so that it is understood.",
            "Send the headers webhook-id, webhook-timestamp (seconds) and webhook-signature (v1,...).",
        )
    return Signed(id=delivery, timestamp=int(timestamp[:15]), signatures=tuple(signatures.split()))


def verify(secret: str, said: Signed, body: bytes, now: float) -> None:
    """Raise Unauthorized for a call that is too old, of the future, or signed with another secret."""
    if abs(now - said.timestamp) > TOLERANCE:
        raise Unauthorized(
            f"The call is {abs(now - said.timestamp):.0f} seconds away from the time here; {TOLERANCE} are allowed.",
            "Set the sender's clock, and sign each try anew.",
        )
    wanted = sign(secret, said.id, said.timestamp, body).encode()
    # Each is compared in constant time, and all of them: how long it takes tells nothing.
    fits = [hmac.compare_digest(wanted, each.encode()) for each in said.signatures[:10]]
    if not any(fits):
        raise Unauthorized("The signature does not fit the call.", "Sign id.timestamp.body with the shared secret.")


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        return secret.encode()
