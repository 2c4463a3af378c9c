"""The fields of a record that a step gives, each read alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tidewheel.errors import InvalidInput
from tidewheel.pipelines.at_hand import AtHand
from tidewheel.pipelines.calls import Call, Output
from tidewheel.pipelines.handle import Fields, Handle, Record
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Shelf, Stored
from tidewheel.pipelines.tree import encode, stored_part


class Part(Output):
    """One field of an output: its step and its version are those of the whole, content and bytes are its own."""

    __slots__ = ("_by_item", "_name", "_own", "_shelf_of_whole", "_whole")

    def __init__(self, whole: Output, name: str, shelf: Shelf, *, by_item: bool) -> None:
        self._whole: Output | None = whole
        self._own = Output(shelf)
        self._name = name
        self._by_item = by_item
        self._shelf_of_whole = shelf

    @property
    def call(self) -> Call | None:  # type: ignore[override]
        """The call that gives the whole, until it has."""
        return None if self._whole is None else self._whole.call

    @property
    def version_id(self) -> str:  # type: ignore[override]
        """The version of the whole in the graph."""
        return self._own.version_id if self._whole is None else self._whole.version_id

    @property
    def near(self) -> AtHand | None:  # type: ignore[override]
        """Who says how long objects of the run stay at hand."""
        return self._own.near if self._whole is None else self._whole.near

    @property
    def content(self) -> str:
        """Digest of the field's content."""
        return self._opened().content

    @property
    def stored(self) -> Stored:
        """How the field is kept."""
        return self._opened().stored

    def wait(self) -> None:
        """Wait for the step that gives the whole."""
        if self._whole is not None:
            self._whole.wait()

    def get(self) -> Any:
        """Return the field for the body, waiting for the step that gives the whole."""
        self.wait()
        return self._opened().get()

    def fresh(self) -> Any:
        """Return the field for a step."""
        return self._opened().fresh()

    def _opened(self) -> Output:
        """Return the field taken out of the whole, which is not needed any more then."""
        whole, own = self._whole, self._own
        if whole is not None:
            stored = stored_part(whole.stored, self._name, self._shelf_of_whole)
            own.near = whole.near
            if stored is not None and not whole.at_hand:
                own.settle(stored.with_version(whole.version_id))
            else:
                item = self._taken(whole.get())
                stored = stored or encode(item, self._shelf_of_whole, paths=True)
                own.settle(stored.with_version(whole.version_id), item)
            self._whole = None
        return own

    def _taken(self, whole: Any) -> Any:
        try:
            return whole[self._name] if self._by_item else getattr(whole, self._name)
        except (KeyError, AttributeError) as error:
            raise InvalidInput(
                f"The {type(whole).__name__} that a step gave has no {self._name!r}, which its annotation declares.",
                "Set every field that the annotation declares.",
            ) from error


def refuse_foreign(step: Step[..., Any], inputs: Iterable[Output], near: AtHand) -> None:
    """Refuse a call with values of another run: when this one is resumed, they would not be there.

    `near` is what all values of the run at hand have in common. Raises InvalidInput.
    """
    if any(given.near is not None and given.near is not near for given in inputs):
        raise InvalidInput(
            f"{step.name} was called with a value that waits in another run.",
            "Pass the value itself, tidewheel.value(...) or the output of that run, as a parameter of this one.",
        )


def handles_of(call: Call, shelf: Shelf) -> Any:
    """Return what a call looks like in the body: a handle, a tuple of them, or a record of them."""
    shape = call.step.shape
    if shape.parts is not None:
        return tuple(Handle(output) for output in call.outputs)
    whole = call.outputs[0]
    if not shape.names:
        return Handle(whole)
    fields = Fields(
        shape.names,
        lambda name: Handle(Part(whole, name, shelf, by_item=shape.by_item)),
        by_item=shape.by_item,
        in_order=shape.in_order,
    )
    return Record(whole, fields)
