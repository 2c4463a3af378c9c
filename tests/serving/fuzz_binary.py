"""What decodes raw tensors and protobuf, given any bytes: rows, or a refusal that is the caller's.

`python -m tests.serving.fuzz_binary -runs=100000` lets atheris look for more, led by coverage.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from typing import Any

from tidewheel.errors import TidewheelError
from tidewheel.models.signature import Field
from tidewheel.serving.ask import NOBODY
from tidewheel.serving.binary import HEADER_LENGTH
from tidewheel.serving.messages import decode_message
from tidewheel.serving.response import status_of
from tidewheel.serving.rows import RowCodec
from tidewheel.serving.tensors import TensorCodec

MIXED = TensorCodec(
    RowCodec(
        [
            Field(name="a", kind="float", nullable=True),
            Field(name="n", kind="int"),
            Field(name="new", kind="bool"),
            Field(name="color", kind="string", categories=["red"]),
        ]
    )
)
NUMBERS = TensorCodec(RowCodec([Field(name="a", kind="float"), Field(name="b", kind="float")]))


def tensor(name: str, datatype: str, shape: list[int], size: int) -> dict[str, Any]:
    """Return an input that announces raw bytes."""
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}


def body(inputs: list[dict[str, Any]], raw: bytes, **more: Any) -> tuple[bytes, int]:
    """Return a body and the length of its JSON."""
    text = json.dumps({"inputs": inputs, **more}).encode()
    return text + raw, len(text)


def seeds() -> Iterator[bytes]:
    """Yield good inputs of `one`."""
    text = struct.pack("<I", 3) + b"red"
    raw = struct.pack("<f", 1.5) + struct.pack("<q", 3) + b"\1" + text
    inputs = [
        tensor("a", "FP32", [1], 4),
        tensor("n", "INT64", [1], 8),
        tensor("new", "BOOL", [1, 1], 1),
        tensor("color", "BYTES", [1], len(text)),
    ]
    for made in (body(inputs, raw), body([tensor("x", "FP16", [10, 2], 40)], bytes(40), id="r")):
        yield struct.pack(">H", made[1]) + made[0]
    yield b"\xff\xff" + b"\x2a\x1e\x0a\x01x\x12\x04FP32\x1a\x02\x01\x02" + b"\x3a\x08" + bytes(8)


def one(data: bytes) -> None:
    """Decode what two bytes of length and a body say; 65535 stands for protobuf."""
    length, rest = int.from_bytes(data[:2], "big"), data[2:]
    for codec in (MIXED, NUMBERS):
        try:
            if length == 0xFFFF:
                ask = decode_message(codec, rest, NOBODY)
            else:
                ask = codec.decode(rest, NOBODY, [(HEADER_LENGTH, str(length).encode())])
        except TidewheelError as error:
            if not 400 <= status_of(error) < 500:
                raise AssertionError(f"{error!r} is not the caller's") from error
        else:
            if not ask.rows or any(len(row) != len(codec._fields) for row in ask.rows):
                raise AssertionError("no rows, or a row of another width")


def main() -> None:
    """Let atheris try what it likes."""
    import atheris

    with atheris.instrument_imports():
        import tidewheel.serving.binary
        import tidewheel.serving.tensors
    atheris.instrument_func(tidewheel.serving.tensors.TensorCodec.take)
    atheris.instrument_func(tidewheel.serving.binary.values_of)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
