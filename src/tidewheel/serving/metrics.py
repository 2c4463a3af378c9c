"""Plain counters of one server, and how Prometheus reads them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

# Upper bounds of the latency histogram, microseconds.
BOUNDS_US = (50, 100, 200, 300, 500, 750, 1_000, 2_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000)

Labels = tuple[tuple[str, object], ...]


@dataclass(slots=True)
class Counters:
    """What happened at one endpoint since the server began. One thread writes, any may read."""

    requests: dict[tuple[int, str, int], int] = field(default_factory=dict)  # (version, arm, status) -> count
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_US) + 1))  # latency, not cumulated
    latency_us: int = 0  # sum over all requests, microseconds
    unseen: int = 0  # requests with a category that training had not
    fallbacks: int = 0  # challenger failures that the champion answered
    paired_failures: int = 0  # failures of the other arm under paired traffic
    dropped: int = 0  # log records that were given up because the disk did not take them
    payloads_dropped: int = 0  # log records kept without features because the disk was full or slow
    deferred: int = 0  # log records written after their answers left because the disk was slow
    outcomes: int = 0  # outcomes accepted
    outcomes_refused: int = 0  # outcomes that the disk did not take; the caller was told to send them again
    shadow_dropped: int = 0  # requests whose shadow was not scored, because too many waited
    shadow_scored: int = 0  # answers of challengers in the shadow; this and the next three are the shadow thread's
    shadow_failures: int = 0  # of them failed
    shadow_differing: int = 0  # of them otherwise than the champion's in some row
    shadow_lost: int = 0  # records of shadows that the disk did not take
    swaps: int = 0  # deployments that went live
    swaps_refused: int = 0  # deployments that could not be loaded

    def count(self, version: int, arm: str, status: int, latency_us: int) -> None:
        """Count one request and its latency."""
        key = (version, arm, status)
        requests = self.requests
        requests[key] = requests.get(key, 0) + 1
        self.buckets[bisect_left(BOUNDS_US, latency_us)] += 1
        self.latency_us += latency_us


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric with its samples, ready to be written."""

    name: str  # as Prometheus knows it
    kind: str  # counter, gauge or histogram
    help: str  # one line
    samples: Iterable[tuple[str, Labels, float]]  # suffix of the name, labels, value


def families(endpoints: Mapping[str, Counters]) -> Iterator[Family]:
    """Yield the metrics that every endpoint has."""
    yield Family(
        name="tidewheel_requests_total",
        kind="counter",
        help="Requests by model version, arm and HTTP status.",
        samples=[
            ("", (("model", model), ("version", version), ("arm", arm), ("status", status)), count)
            for model, counters in endpoints.items()
            for (version, arm, status), count in list(counters.requests.items())
        ],
    )
    yield Family(
        name="tidewheel_request_seconds",
        kind="histogram",
        help="From the last byte of a request to its answer.",
        samples=[each for model, counters in endpoints.items() for each in _histogram(model, counters)],
    )
    for name, attribute, text in (
        ("unseen_categories_total", "unseen", "Requests with a category that was not seen in training."),
        ("fallbacks_total", "fallbacks", "Challenger failures that the champion answered."),
        ("paired_failures_total", "paired_failures", "Failures of the other arm under paired traffic."),
        ("log_dropped_total", "dropped", "Log records given up because the disk did not take them."),
        ("log_payloads_dropped_total", "payloads_dropped", "Log records kept without features: a full or slow disk."),
        ("log_deferred_total", "deferred", "Log records written after their answers: a slow disk."),
        ("outcomes_total", "outcomes", "Outcomes accepted."),
        ("outcomes_refused_total", "outcomes_refused", "Outcomes that the disk did not take."),
        ("shadow_dropped_total", "shadow_dropped", "Requests whose shadow was not scored: too many waited."),
        ("shadow_scored_total", "shadow_scored", "Answers of challengers in the shadow."),
        ("shadow_failures_total", "shadow_failures", "Failures of challengers in the shadow."),
        ("shadow_differing_total", "shadow_differing", "Answers in the shadow that differ from the champion's."),
        ("shadow_lost_total", "shadow_lost", "Records of shadows that the disk did not take."),
        ("swaps_total", "swaps", "Deployments that went live."),
        ("swaps_refused_total", "swaps_refused", "Deployments that could not be loaded."),
    ):
        samples = [("", (("model", model),), getattr(counters, attribute)) for model, counters in endpoints.items()]
        yield Family(name=f"tidewheel_{name}", kind="counter", help=text, samples=samples)


def render(metrics: Iterable[Family]) -> bytes:
    r"""Return the Prometheus text format, version 0.0.4.

    >>> render([Family(name="up", kind="gauge", help="Alive.", samples=[("", (("a", 'x"y'),), 1)])])
    b'# HELP up Alive.\n# TYPE up gauge\nup{a="x\\"y"} 1\n'
    """
    lines = []
    for family in metrics:
        lines.append(f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.kind}\n")
        for suffix, labels, value in family.samples:
            shown = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels)
            lines.append(f"{family.name}{suffix}{{{shown}}} {value}\n" if shown else f"{family.name}{suffix} {value}\n")
    return "".join(lines).encode()


def _histogram(model: str, counters: Counters) -> Iterator[tuple[str, Labels, float]]:
    total = 0
    for bound, count in zip(BOUNDS_US, counters.buckets, strict=False):
        total += count
        yield "_bucket", (("model", model), ("le", bound / 1e6)), total
    total += counters.buckets[-1]
    yield "_bucket", (("model", model), ("le", "+Inf")), total
    yield "_sum", (("model", model),), counters.latency_us / 1e6
    yield "_count", (("model", model),), total


def _escaped(value: object) -> str:
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
