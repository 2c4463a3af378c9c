"""Counters are what happened, in the text that Prometheus reads."""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from tidewheel.serving.metrics import BOUNDS_US, Counters, families, render

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

ROW = {"a": 2.0, "b": 0.5, "n": 3}
SAMPLE = re.compile(r'^[a-z_]+(\{[a-z_]+="(?:[^"\\\n]|\\.)*"(,[a-z_]+="(?:[^"\\\n]|\\.)*")*\})? [0-9.e+-]+$')


@given(st.lists(st.integers(0, 3_000_000), max_size=50), st.text(max_size=10))
def test_the_histogram_counts_every_latency_once(latencies: list[int], model: str) -> None:
    counters = Counters()
    for latency in latencies:
        counters.count(1, "champion", 200, latency)
    lines = render(families({model: counters})).decode().split("\n")
    buckets = [int(line.rsplit(" ", 1)[1]) for line in lines if "_bucket" in line]
    assert buckets == [sum(each <= bound for each in latencies) for bound in BOUNDS_US] + [len(latencies)]
    assert sum(counters.buckets) == len(latencies)
    assert counters.latency_us == sum(latencies)
    assert all(SAMPLE.match(line) for line in lines if line and not line.startswith("#"))


def test_a_latency_on_a_bound_belongs_below_it() -> None:
    assert bisect_left(BOUNDS_US, 50) == 0
    assert bisect_left(BOUNDS_US, 51) == 1


def test_the_page_holds_what_happened(shop: Shop) -> None:
    for _ in range(3):
        shop.ask(ROW)
    shop.post("/predict/bikes", b"{")
    shop.deploy(1, challenger=2, share=0.25)
    assert shop.metric("tidewheel_requests_total", model="bikes", version=1, arm="champion", status=200) == 3
    assert shop.metric("tidewheel_requests_total", status=400) == 1
    assert shop.metric("tidewheel_request_seconds_count", model="bikes") == 4
    assert shop.metric("tidewheel_model_info", version=1, arm="champion") == 0.75
    assert shop.metric("tidewheel_model_info", version=2, arm="challenger") == 0.25
    assert shop.metric("tidewheel_swaps_total") == 2
    assert shop.metric("tidewheel_log_dropped_total") == 0
    assert shop.metric("process_cpu_seconds_total") > 0
    page = shop.get("/metrics")
    assert dict(page.headers)[b"content-type"].startswith(b"text/plain; version=0.0.4")
    text = page.body.decode().splitlines()
    assert all(SAMPLE.match(line) for line in text if not line.startswith("#"))
    named = [line.split()[2] for line in text if line.startswith("# TYPE")]
    assert len(named) == len(set(named))
