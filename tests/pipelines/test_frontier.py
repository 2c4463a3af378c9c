"""The frontier offers each call once, after its inputs, whatever the order of ends."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tidewheel.blobs.store import MemoryBlobs
from tidewheel.pipelines.calls import Call, Output
from tidewheel.pipelines.frontier import Frontier
from tidewheel.pipelines.step import step
from tidewheel.pipelines.stored import Shelf
from tidewheel.pipelines.transitions import StepState

SHELF = Shelf(blobs=MemoryBlobs(), files=Path("unused"))


@step
def nothing() -> int:
    return 0


def a_call(ordinal: int) -> Call:
    call = Call(step=nothing, arguments={}, ordinal=ordinal, label=f"c{ordinal}", place="here")
    call.outputs = (Output(SHELF, call=call),)
    return call


@given(st.data())
def test_every_call_is_offered_once_and_after_its_inputs(data: st.DataObject) -> None:
    frontier = Frontier()
    calls: list[Call] = []
    for ordinal in range(1, data.draw(st.integers(1, 12)) + 1):
        call = a_call(ordinal)
        inputs = data.draw(st.lists(st.sampled_from(calls), unique_by=id, max_size=3)) if calls else []
        call.place = data.draw(st.sampled_from(["here", "there"]))
        assert frontier.add(call, [found.outputs[0] for found in inputs]) is None
        calls.append(call)
    begun: list[Call] = []
    running: list[Call] = []
    while len(begun) < len(calls) or running:
        taken = [found for place in ("here", "there") if (found := frontier.take(place)) is not None]
        assert taken or running, "something must be able to go on"
        begun += taken
        running += taken
        done = running.pop(data.draw(st.integers(0, len(running) - 1)))
        assert done.missing == 0
        done.state = StepState.COMMITTED
        frontier.release(done)
    assert sorted(call.ordinal for call in begun) == [call.ordinal for call in calls]


def test_a_call_with_a_failed_input_is_never_offered() -> None:
    from tidewheel.errors import StepFailed

    frontier = Frontier()
    failed, needy = a_call(1), a_call(2)
    failed.error = StepFailed("broke", "mend")
    assert frontier.add(needy, [failed.outputs[0]]) is failed
    assert frontier.take("here") is None


def test_retries_come_back_in_their_order_when_they_are_due() -> None:
    frontier = Frontier()
    calls = [a_call(number) for number in (1, 2, 3)]
    for call, at in zip(calls, (30.0, 10.0, 20.0), strict=True):
        frontier.add(call, [])
        frontier.take("here")
        call.retry_at = at
        frontier.again_at(call)
    assert frontier.wake(5.0) == 5.0
    assert frontier.take("here") is None
    assert frontier.wake(20.0) == 10.0
    assert [frontier.take("here"), frontier.take("here")] == [calls[2], calls[1]]
    assert frontier.wake(40.0) is None
