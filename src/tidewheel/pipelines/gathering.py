"""The calls of one map: which of them succeeded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tidewheel.pipelines.calls import Call, Output
from tidewheel.pipelines.collected import Collected, ItemFailure
from tidewheel.pipelines.handle import source_of


def outputs_of(handles: Sequence[Any]) -> list[Output]:
    """Return the first output behind what each call looks like in the body."""
    sources = (source_of(handle[0] if type(handle) is tuple else handle) for handle in handles)
    return [source for source in sources if isinstance(source, Output)]


def collected(handles: Sequence[Any], outputs: Sequence[Output], failed: Iterable[Call]) -> Collected[Any]:
    """Part the items of a map whose calls have all ended; the body has met their failures then."""
    failures: list[ItemFailure] = []
    met = set()
    for index, output in enumerate(outputs):
        call = output.call
        if call is not None and call.error is not None:
            failures.append(ItemFailure(index=index, step=call.label, message=call.said or call.reason))
            met.add(id(call.error))
    for call in failed:
        call.seen = call.seen or id(call.error) in met
    missing = {failure.index for failure in failures}
    indices = tuple(index for index in range(len(handles)) if index not in missing)
    return Collected(values=tuple(handles[index] for index in indices), indices=indices, failures=tuple(failures))
