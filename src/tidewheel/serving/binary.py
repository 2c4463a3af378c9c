"""The binary tensor extension: raw little-endian tensors behind the JSON of a request or an answer.

A body is the JSON object, as long as the header `inference-header-content-length` says, then the tensors in the order
of the inputs, each `binary_data_size` bytes, row-major, without padding. BOOL takes one byte; BYTES is, per element, a
length of 4 bytes and as many bytes. (Binary Tensor Data Extension of the Open Inference Protocol, version 2.)
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from tidewheel.errors import InvalidInput
from tidewheel.serving.response import Header

HEADER_LENGTH = b"inference-header-content-length"
SIZE = "binary_data_size"
DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype("u1"),
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
    "BF16": np.dtype("<u2"),  # the upper half of an FP32
}
DATATYPES = (*DTYPES, "BYTES")

Array = np.ndarray[Any, Any]
_length = struct.Struct("<I").unpack_from


def json_length(headers: Iterable[Header], body: bytes) -> int | None:
    """Return how many bytes of a body are its JSON; None: all, no header says otherwise.

    Raises InvalidInput for a length that is no number or beyond the body.
    """
    for name, value in headers:
        if name == HEADER_LENGTH:
            if not value.isdigit() or len(value) > 18 or int(value) > len(body):
                raise InvalidInput(
                    f"Inference-Header-Content-Length: {value[:30].decode('latin-1')!r} does not fit a body of "
                    f"{len(body):,} bytes.",
                    "Give the length of the JSON part in bytes; the raw tensors follow it.",
                )
            return int(value)
    return None


def cut(raw: memoryview, sizes: Sequence[int | None]) -> list[memoryview | None]:
    """Cut what follows the JSON into tensors of the given sizes; None: that tensor's data stand in the JSON.

    Raises InvalidInput when the sizes do not add up to all there is.
    """
    wanted = sum(size for size in sizes if size is not None)
    if wanted != len(raw):
        raise InvalidInput(
            f"The inputs announce {_shown(wanted)} bytes of raw tensors, but {len(raw):,} follow the JSON.",
            f"Give the bytes of each raw input as its parameter {SIZE}, and Inference-Header-Content-Length.",
        )
    parts: list[memoryview | None] = []
    start = 0
    for size in sizes:
        parts.append(None if size is None else raw[start : start + size])
        start += size or 0
    return parts


def values_of(datatype: str, shape: Sequence[int], raw: memoryview) -> Array | list[str]:
    """Return the elements of a raw tensor: a flat array, or the texts of BYTES.

    Raises ValueError, in the words for a problem at that tensor, when the bytes are not just that many elements.
    """
    count = prod(shape)
    if datatype == "BYTES":
        return _texts(count, raw)
    dtype = DTYPES[datatype]
    if count * dtype.itemsize != len(raw):
        raise ValueError(
            f"{len(raw):,} bytes; the shape {_listed(shape)} of {datatype} takes {_shown(count * dtype.itemsize)}"
        )
    array = np.frombuffer(raw, dtype)
    if datatype == "BOOL":
        if array.size and array.max() > 1:
            raise ValueError("a byte of a BOOL is 0 or 1")
        return array.view(np.bool_)
    return widened(array) if datatype == "BF16" else array


def widened(array: Array) -> Array:
    """Return BF16 numbers, given as their 16 bits, as FP32."""
    return (array.astype(np.uint32) << 16).view(np.float32)


def raw_of(datatype: str, values: Sequence[Any]) -> bytes:
    r"""Return the elements of an output as raw bytes.

    >>> raw_of("BYTES", ["no", "yes"])
    b'\x02\x00\x00\x00no\x03\x00\x00\x00yes'
    """
    if datatype == "BYTES":
        texts = [str(value).encode() for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.asarray(values, DTYPES[datatype]).tobytes()


def detach(tensor: dict[str, Any]) -> bytes:
    """Return the data of an output tensor as raw bytes, and leave their size in its place."""
    raw = raw_of(tensor["datatype"], tensor.pop("data"))
    tensor["parameters"] = {SIZE: len(raw)}
    return raw


def _texts(count: int, raw: memoryview) -> list[str]:
    """Return the texts of a BYTES tensor."""
    if count * 4 > len(raw):
        raise ValueError(f"{len(raw):,} bytes; {_shown(count)} texts take at least {_shown(count * 4)}")
    texts: list[str] = []
    at = 0
    try:
        for _ in range(count):
            (size,) = _length(raw, at)
            at += 4 + size
            if at > len(raw):
                raise ValueError(f"text {len(texts)} announces {size:,} bytes, beyond the end of the tensor")
            texts.append(str(raw[at - size : at], "utf-8"))
    except struct.error:
        raise ValueError(f"the tensor ends before text {len(texts)} of {count:,}") from None
    except UnicodeDecodeError:
        raise ValueError(f"text {len(texts)} is not UTF-8") from None
    if at != len(raw):
        raise ValueError(f"{len(raw) - at:,} bytes are left over after {count:,} texts")
    return texts


def _shown(count: int) -> str:
    return f"{count:,}" if count < 10**18 else "more than 10^18"


def _listed(shape: Sequence[int]) -> str:
    return f"[{', '.join(_shown(size) for size in shape[:8])}{', ...' if len(shape) > 8 else ''}]"
