"""The frame format: every byte string survives, every kind of damage is contained."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidewheel.predictions.frames import END, HEAD, MARKER, frame, scan

PAYLOADS = st.lists(st.binary(min_size=1, max_size=60) | st.just(MARKER) | st.just(frame(b"inner")), max_size=8)


def payloads_of(data: bytes) -> list[bytes]:
    return [payload for _, payload in scan(data).payloads]


@given(PAYLOADS)
def test_frames_come_back_in_order(payloads: list[bytes]) -> None:
    data = b"".join(map(frame, payloads))
    found = scan(data)
    assert [payload for _, payload in found.payloads] == payloads
    assert (found.end, found.damaged, found.closed) == (len(data), 0, False)
    assert all(data[offset:].startswith(frame(payload)) for offset, payload in found.payloads)


@given(PAYLOADS, st.data())
def test_a_torn_end_leaves_every_full_frame(payloads: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(map(frame, payloads))
    cut = data.draw(st.integers(0, len(whole)))
    found = scan(whole[:cut])
    full = [payload for offset, payload in scan(whole).payloads if offset + HEAD.size + len(payload) <= cut]
    kept = [payload for _, payload in found.payloads]
    assert kept[: len(full)] == full
    assert found.end <= cut


@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=8), st.data())
def test_a_flipped_bit_costs_one_frame(payloads: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(b"".join(map(frame, payloads)))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    found = scan(bytes(whole))
    hit = next(i for i in reversed(range(len(payloads))) if len(b"".join(map(frame, payloads[:i]))) <= bit // 8)
    assert [payload for _, payload in found.payloads] == payloads[:hit] + payloads[hit + 1 :]
    assert found.damaged == (1 if hit < len(payloads) - 1 else 0)


@given(st.binary(max_size=300))
def test_anything_can_be_scanned(data: bytes) -> None:
    assert 0 <= scan(data).end <= len(data)


def test_a_damaged_end_waits_until_a_valid_frame_follows() -> None:
    broken = frame(b"lost")[:-1] + b"?"
    assert scan(frame(b"a") + broken).end == len(frame(b"a"))
    found = scan(frame(b"a") + broken + END)
    assert (found.damaged, found.closed, len(found.payloads)) == (1, True, 1)


def test_a_damaged_length_does_not_swallow_what_follows() -> None:
    swollen = HEAD.pack(MARKER, 50_000_000, 0) + b"lost"
    assert payloads_of(swollen + frame(b"b")) == [b"b"]


def test_the_limit_stops_behind_that_frame() -> None:
    data = frame(b"a") + frame(b"b")
    found = scan(data, limit=1)
    assert found.end == len(frame(b"a"))
    assert payloads_of(data[found.end :]) == [b"b"]


def test_a_piece_of_a_segment_does_not_step_over_damage() -> None:
    assert scan(b"?" + frame(b"a"), whole=False).end == 0
