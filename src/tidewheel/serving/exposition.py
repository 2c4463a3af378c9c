"""What /metrics shows beside the counters of each model: what is live, what was refused, what was turned away."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from tidewheel.serving.admission import Admission
from tidewheel.serving.endpoint import Endpoint
from tidewheel.serving.gate import Gate
from tidewheel.serving.metrics import Family, families
from tidewheel.serving.shelf import Shelf


def model_families(endpoints: Mapping[str, Endpoint]) -> Iterator[Family]:
    """Yield the metrics of the models of a server."""
    yield from families({name: endpoint.counters for name, endpoint in endpoints.items()})
    yield Family(
        name="tidewheel_model_info",
        kind="gauge",
        help="Versions that are live, with the share of the units that each gets.",
        samples=[
            ("", (("model", name), ("version", arm.version), ("arm", arm.name), ("bundle", arm.digest)), share)
            for name, endpoint in endpoints.items()
            if endpoint.deployed is not None
            for arm, share in endpoint.deployed.shares()
        ],
    )
    yield Family(
        name="tidewheel_deployment_refused",
        kind="gauge",
        help="1 while the deployment that is wanted could not be loaded.",
        samples=[("", (("model", name),), int(bool(e.trouble))) for name, e in endpoints.items()],
    )
    yield Family(
        name="tidewheel_fallback_champion",
        kind="gauge",
        help="1 while an earlier champion answers because the wanted one could not be loaded.",
        samples=[("", (("model", name),), int(bool(e.fallback))) for name, e in endpoints.items()],
    )


def server_families(admission: Admission, gate: Gate, shelf: Shelf | None, poll_failures: int) -> Iterator[Family]:
    """Yield the metrics of the server itself."""
    yield Family(
        name="tidewheel_spare_bytes",
        kind="gauge",
        help="Memory of versions that are not deployed and were loaded because somebody asked for them.",
        samples=[("", (), shelf.used if shelf is not None else 0)],
    )
    yield Family(
        name="tidewheel_overloaded_total",
        kind="counter",
        help="Requests turned away with 429 because too much work waited.",
        samples=[("", (), admission.refused)],
    )
    yield Family(
        name="tidewheel_keys_refused_total",
        kind="counter",
        help="Requests turned away because of their API key, by reason.",
        samples=[("", (("reason", reason),), count) for reason, count in list(gate.refused.items())],
    )
    yield Family(
        name="tidewheel_poll_failures_total",
        kind="counter",
        help="Looks at the traffic table that failed.",
        samples=[("", (), poll_failures)],
    )
    yield Family(
        name="process_cpu_seconds_total",
        kind="counter",
        help="CPU seconds of this process.",
        samples=[("", (), time.process_time())],
    )
