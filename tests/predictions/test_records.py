"""Records keep every value they are given, also those that JSON would bend."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tidewheel.predictions.records import Other, Outcome, Prediction, Value

VALUES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=9)


@given(st.lists(st.lists(VALUES, max_size=4), max_size=4), st.text(max_size=40))
def test_a_prediction_comes_back_as_it_was(features: list[list[Value]], name: str) -> None:
    record = Prediction(
        id=name, at=1, model=name, version=2, arm="challenger", propensity=0.25, unit="", status=200, features=features,
        output=["a", 1], probability=[[0.5, 0.5]], other=Other(version=1, error="no"), route="fallback",
    )  # fmt: skip
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=Prediction) == record


def test_a_record_of_an_older_version_is_read_with_defaults() -> None:
    old = msgspec.msgpack.encode(["r1", 1, "m", 3, "champion", 1.0, "", 200, [[1.0]], [2.0]])
    record = msgspec.msgpack.decode(old, type=Prediction)
    assert (record.version, record.probability, record.route) == (3, None, "split")


def test_a_record_of_a_newer_version_is_read_without_what_is_unknown() -> None:
    record = msgspec.msgpack.decode(msgspec.msgpack.encode(["r1", 1, True, "later"]), type=Outcome)
    assert record.label is True
