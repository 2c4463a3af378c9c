"""The messages of open_inference.proto as classes, in a pool of their own.

Other packages of the same process (tritonclient, for one) register messages of the same names in protobuf's default
pool; generated code would clash with theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

_TOKEN = re.compile(r"//[^\n]*|\s+|(\w[\w.]*|[{}=;<>,()]|\"[^\"]*\")")
_MAP_ENTRY = re.compile(r"(?:^|_)(\w)")
PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One call of the service."""

    name: str  # such as ModelInfer
    request: Any  # message class
    response: Any  # message class


@cache
def message(name: str) -> Any:
    """Return the class of a message of the protocol, such as ModelInferRequest."""
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))


@cache
def methods() -> tuple[Method, ...]:
    """Return the calls of the service."""
    service = _pool().FindServiceByName(SERVICE)
    return tuple(
        Method(name=each.name, request=message(each.input_type.name), response=message(each.output_type.name))
        for each in service.methods
    )


@cache
def _pool() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool

    text = files("tidewheel.serving").joinpath("open_inference.proto").read_text("utf-8")
    tokens = (found.group(1) for found in _TOKEN.finditer(text) if found.group(1))
    described = descriptor_pb2.FileDescriptorProto(name="open_inference.proto", package=PACKAGE, syntax="proto3")
    for word in tokens:
        if word in ("syntax", "package"):
            _until(tokens, ";")
        elif word == "message":
            _read_message(tokens, described.message_type.add(name=next(tokens)))
        else:
            _read_service(tokens, described.service.add(name=next(tokens)))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(described)
    return pool


def _read_message(tokens: Iterator[str], described: Any) -> None:
    """Read fields and nested messages up to the closing brace."""
    _until(tokens, "{")
    for word in tokens:
        if word == "}":
            return
        if word == "message":
            _read_message(tokens, described.nested_type.add(name=next(tokens)))
        elif word == "oneof":
            _read_oneof(tokens, described)
        elif word == "map":
            key, value = _until(tokens, ">")[1::2]
            entry = described.nested_type.add(name="")
            _field(entry, key, ("key", "=", "1"))
            _field(entry, value, ("value", "=", "2"))
            field = _field(described, "Entry", _until(tokens, ";"), repeated=True)
            entry.name = field.type_name = _MAP_ENTRY.sub(lambda found: found[1].upper(), field.name) + "Entry"
            entry.options.map_entry = True
        elif word == "repeated":
            _field(described, next(tokens), _until(tokens, ";"), repeated=True)
        else:
            _field(described, word, _until(tokens, ";"))


def _read_oneof(tokens: Iterator[str], described: Any) -> None:
    place = len(described.oneof_decl)
    described.oneof_decl.add(name=next(tokens))
    _until(tokens, "{")
    for word in tokens:
        if word == "}":
            return
        _field(described, word, _until(tokens, ";")).oneof_index = place


def _read_service(tokens: Iterator[str], described: Any) -> None:
    _until(tokens, "{")
    for word in tokens:
        if word == "}":
            return
        name, _, takes, _, _, _, gives = (next(tokens) for _ in range(7))
        described.method.add(name=name, input_type=takes, output_type=gives)
        _until(tokens, "}")


def _field(described: Any, kind: str, rest: tuple[str, ...], *, repeated: bool = False) -> Any:
    """Add a field; `rest` is its name, "=" and its number."""
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

    field = described.field.add(name=rest[0], number=int(rest[2]))
    field.label = Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL
    scalar = f"TYPE_{kind.upper()}"
    if scalar in Field.Type.keys():  # noqa: SIM118 - an enumeration of protobuf, not a dictionary
        field.type = Field.Type.Value(scalar)
    else:
        field.type_name = kind
    return field


def _until(tokens: Iterator[str], end: str) -> tuple[str, ...]:
    """Return the tokens before the next `end`, which is taken, too."""
    found: list[str] = []
    for word in tokens:
        if word == end:
            break
        found.append(word)
    return tuple(found)
