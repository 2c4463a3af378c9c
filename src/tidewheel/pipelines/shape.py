"""What a step gives, read from its return annotation: one value, several, or a record of named fields."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The parts of what a step gives, known before it is executed."""

    annotation: Any = Any  # of the result; Any where there is none, or one that only a type checker can read
    parts: int | None = None  # artifacts of an annotated `tuple[A, B]`; None: one
    names: tuple[str, ...] = ()  # fields that can be had one by one; () for anything but a record
    by_item: bool = False  # whether they are got as record["name"]
    in_order: bool = False  # whether they are unpacked like a tuple


def shape_of(function: Callable[..., Any]) -> Shape:
    """Return what the return annotation of a function says."""
    annotation = return_annotation(function)
    if typing.get_origin(annotation) is tuple:
        items = typing.get_args(annotation)
        several = bool(items) and Ellipsis not in items and items != ((),)
        return Shape(annotation=annotation, parts=len(items) if several else None)
    if not isinstance(annotation, type):
        return Shape(annotation=annotation)
    if typing.is_typeddict(annotation):
        required = required_keys(annotation)
        return Shape(
            annotation=annotation,
            names=tuple(name for name in annotation.__annotations__ if name in required),
            by_item=True,
        )
    if issubclass(annotation, tuple):
        return Shape(annotation=annotation, names=tuple(getattr(annotation, "_fields", ())), in_order=True)
    if is_dataclass(annotation):
        return Shape(annotation=annotation, names=tuple(field.name for field in fields(annotation)))
    return Shape(annotation=annotation)


def required_keys(kind: Any) -> set[str]:
    """Return the keys that a typed dict must have; Python overlooks `NotRequired` in annotations kept as text."""
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except (NameError, TypeError, AttributeError, SyntaxError):
        return set()
    optional = {name for name, hint in hints.items() if typing.get_origin(hint) is typing.NotRequired}
    required = {name for name, hint in hints.items() if typing.get_origin(hint) is typing.Required}
    return (set(kind.__required_keys__) | required) - optional


def return_annotation(function: Callable[..., Any]) -> Any:
    """Return the resolved return annotation; Any when there is none or a name of it exists for type checkers alone."""
    return hints_of(function).get("return", Any)


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function by name, those left out that cannot be resolved at run time."""
    known = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
    inner = {name: cell.cell_contents for name, cell in known.items() if _is_filled(cell)}
    found: dict[str, Any] = {}
    for name, annotation in function.__annotations__.items():
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            found |= typing.get_type_hints(holder, function.__globals__, inner, include_extras=True)
        except (NameError, TypeError, AttributeError, SyntaxError):
            continue
    return found


def _is_filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
