"""What one server lets a caller do, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of both fronts; the settings `serve_*` fill them in."""

    head_bytes: int = 64 << 10  # of one request's line and headers
    header_count: int = 100  # headers of one request
    head_seconds: float = 15.0  # within which a head must be whole
    body_seconds: float = 30.0  # within which a body must be whole
    idle_seconds: float = 75.0  # after which a connection without a request is closed
    write_seconds: float = 30.0  # for which a caller may leave its answers unread
    waiting: int = 2_000  # requests that may wait for their answers
    budget_ms: float = 1_000.0  # of predicted work that may wait; what comes beyond is refused with 429
    timeout_seconds: float = 30.0  # after which a scoring call that does not return ends its process
    spare_bytes: int = 0  # of versions that are not deployed and loaded because a caller asked; 0: none may be asked
    poll_seconds: float = 0.25  # between two looks at the traffic table
    drain_seconds: float = 10.0  # for which a server that stops waits for what is under way


DEFAULTS = Limits()
