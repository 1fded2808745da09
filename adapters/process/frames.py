"""Frames: how arrays and a little text travel to a subject in another process, and back.

A frame is the length of what follows (8 bytes, little-endian) and then a safetensors file: the length of a
header (8 bytes, little-endian), the header (JSON), and the raw bytes of the arrays, row by row. The header
gives dtype, shape and place of every array, and under ``__metadata__`` text by name. docs/PROTOCOL.md says
what the text means.

The format is small enough to be read here, by hand: whoever writes a frame may be wrong or worse, so nothing
of it is believed before it has been checked, and nothing that it says is ever executed.
"""

from __future__ import annotations

import functools
import json
import math
import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from convform.adapters.layout import Array

DTYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        name: np.dtype(code)
        for name, code in (
            ("F64", "<f8"),
            ("F32", "<f4"),
            ("F16", "<f2"),
            ("I64", "<i8"),
            ("I32", "<i4"),
            ("I16", "<i2"),
            ("I8", "|i1"),
            ("U64", "<u8"),
            ("U32", "<u4"),
            ("U16", "<u2"),
            ("U8", "|u1"),
            ("BOOL", "|b1"),
        )
    }
)
"""The dtypes that a frame can hold, under their names in safetensors; and `BFLOAT16`, with ml_dtypes."""

BFLOAT16 = "BF16"
"""Name of the dtype that NumPy does not have by itself."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}

PREFIX = struct.Struct("<Q")
"""Both lengths are unsigned 64-bit integers."""

FRAME_BYTES = 1 << 30
"""Longest frame that is believed, unless a caller says otherwise."""

HEADER_BYTES = 1 << 20
"""Longest header that is believed."""

MOST_ARRAYS, MOST_AXES = 64, 16
"""More arrays in a frame, or more axes of an array, no operator has."""

_METADATA = "__metadata__"


class FrameError(ValueError):
    """Bytes are no frame, or no frame within the limits."""


@functools.lru_cache(maxsize=64)
def can_hold(dtype: np.dtype[Any]) -> bool:
    """Whether arrays of a dtype can travel in a frame."""
    return _little_endian(dtype) in _NAMES or dtype.name == "bfloat16"


@functools.lru_cache(maxsize=64)
def _little_endian(dtype: np.dtype[Any]) -> np.dtype[Any]:
    # What newbyteorder makes of a dtype of ml_dtypes is another dtype, and not a known one.
    return dtype if dtype.name == "bfloat16" else dtype.newbyteorder("<")


def encode(metadata: Mapping[str, str], arrays: Mapping[str, Array]) -> list[memoryview]:
    """Write a frame, its length included.

    Parameters
    ----------
    metadata
        Text by name.
    arrays
        Arrays by name, of any shape and order in memory, with dtypes from `DTYPES`.

    Returns
    -------
    list of memoryview
        The bytes in pieces, so that large arrays are written from where they lie.

    Raises
    ------
    FrameError
        If an array has a dtype that no frame can hold.
    """
    for name, array in arrays.items():
        if not can_hold(array.dtype):
            raise FrameError(f"the array {name!r} has dtype {array.dtype}, which no frame can hold")
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    pieces: list[memoryview] = []
    end = 0
    # Wide elements first: every array then lies where its elements are aligned.
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize):
        # (ascontiguousarray would give an array without axes one.)
        little = np.asarray(array, _little_endian(array.dtype), order="C")
        begin, end = end, end + little.nbytes
        shape, dtype = list(little.shape), _NAMES.get(little.dtype, BFLOAT16)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        if little.nbytes:
            pieces.append(little.reshape(-1).view(np.uint8).data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    text += b" " * (-len(text) % 8)
    start = PREFIX.pack(8 + len(text) + end) + PREFIX.pack(len(text)) + text
    return [memoryview(start), *pieces]


def length_of(prefix: bytes, most: int = FRAME_BYTES) -> int:
    """Read the length of a frame from its first 8 bytes.

    Raises
    ------
    FrameError
        If it is longer than `most`, or too short for a header.
    """
    (length,) = PREFIX.unpack(prefix)
    if length > most:
        raise FrameError(f"a frame claims {length} bytes, expected {most} at most")
    if length < 8:
        raise FrameError(f"a frame of {length} bytes has no room for a header")
    return int(length)


def decode(body: bytes | bytearray | memoryview | Array) -> tuple[dict[str, str], dict[str, Array]]:
    """Read a frame without its length.

    Parameters
    ----------
    body
        The bytes; arrays are views of them, writable where they are.

    Returns
    -------
    metadata
        Text by name.
    arrays
        Arrays by name.

    Raises
    ------
    FrameError
        If the header is no JSON of the right form, a dtype is unknown, or the arrays do not fill the rest of
        the frame exactly, without gaps or overlaps.
    """
    view = (body.data if isinstance(body, np.ndarray) else memoryview(body)).cast("B")
    if len(view) < 8:
        raise FrameError(f"a frame of {len(view)} bytes has no room for a header")
    (size,) = PREFIX.unpack(view[:8])
    if size > min(HEADER_BYTES, len(view) - 8):
        raise FrameError(f"a header claims {size} bytes in a frame of {len(view)}")
    header = _header(bytes(view[8 : 8 + size]))
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FrameError("the metadata of a frame is not text by name")
    if len(header) > MOST_ARRAYS:
        raise FrameError(f"a frame holds {len(header)} arrays, expected {MOST_ARRAYS} at most")
    data = view[8 + size :]
    arrays = {}
    places = []
    for name, entry in header.items():
        dtype, shape, (begin, end) = _entry(name, entry)
        if end > len(data):
            raise FrameError(f"the array {name!r} ends at byte {end} of {len(data)}")
        places.append((begin, end))
        arrays[name] = np.frombuffer(data[begin:end], dtype).reshape(shape)
    reached = 0
    for begin, end in sorted(places):
        if begin != reached:
            raise FrameError(f"arrays overlap or leave a gap at byte {min(begin, reached)} of the data")
        reached = end
    if reached != len(data):
        raise FrameError(f"{len(data) - reached} bytes after the last array of a frame")
    return metadata, arrays


def _header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(
            text.decode("utf-8"), object_pairs_hook=_without_doubles, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise FrameError(f"the header of a frame is no JSON: {str(error)[:100]}") from None
    if not isinstance(header, dict):
        raise FrameError("the header of a frame is no JSON object")
    return header


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ValueError("a name stands twice")
    return named


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _entry(name: str, entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], tuple[int, int]]:
    """Check dtype, shape and place of an array."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FrameError(f"the array {name[:50]!r} is not described by dtype, shape and data_offsets")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in (*DTYPES, BFLOAT16):
        raise FrameError(
            f"the array {name[:50]!r} has dtype {str(entry['dtype'])[:20]!r}, "
            f"expected one of {', '.join(DTYPES)}, {BFLOAT16}"
        )
    dtype, shape, place = _dtype(entry["dtype"]), entry["shape"], entry["data_offsets"]
    if not _counts(shape, MOST_AXES):
        raise FrameError(f"the array {name[:50]!r} has a shape that is not a few lengths")
    if not _counts(place, 2) or len(place) != 2 or place[0] > place[1]:
        raise FrameError(f"the array {name[:50]!r} has data_offsets that are not begin and end")
    if math.prod(shape) * dtype.itemsize != place[1] - place[0]:
        raise FrameError(
            f"the array {name[:50]!r} of shape {tuple(shape)} has {place[1] - place[0]} bytes, "
            f"expected {math.prod(shape) * dtype.itemsize}"
        )
    return dtype, tuple(shape), (place[0], place[1])


def _dtype(name: str) -> np.dtype[Any]:
    if name in DTYPES:
        return DTYPES[name]
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        raise FrameError("bfloat16 arrays need ml_dtypes, which is not installed") from None
    dtype: np.dtype[Any] = np.dtype(bfloat16)
    return dtype


def _counts(value: Any, most: int) -> bool:
    """Whether a value is a list of at most `most` integers that a length or an offset can be."""
    return (
        isinstance(value, list)
        and len(value) <= most
        and all(type(entry) is int and 0 <= entry <= FRAME_BYTES for entry in value)
    )
