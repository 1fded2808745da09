"""Frames: what goes in comes out, what is no frame is refused, and the page about them is right."""

from __future__ import annotations

import contextlib
import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from convform.adapters.process import frames
from convform.adapters.process.client import request

PAGE = Path(__file__).parents[1] / "docs" / "PROTOCOL.md"

ARRAYS = st.dictionaries(
    st.sampled_from(["x", "w", "dy"]),
    st.sampled_from(list(frames.DTYPES.values())).flatmap(
        lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    ),
)


def written(metadata, arrays):
    return b"".join(frames.encode(metadata, arrays))


@given(ARRAYS, st.dictionaries(st.text(max_size=9), st.text(max_size=9)))
def test_what_goes_in_comes_out_bit_for_bit(arrays, metadata):
    frame = written(metadata, arrays)
    assert frames.length_of(frame[:8]) == len(frame) - 8
    text, read = frames.decode(frame[8:])
    assert text == metadata
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        assert (read[name].shape, read[name].dtype) == (array.shape, array.dtype)
        assert read[name].tobytes() == array.tobytes()
        assert read[name].flags.aligned


def test_arrays_travel_whatever_their_order_in_memory():
    x = np.arange(24.0).reshape(2, 3, 4)
    for view in (x.T, x[:, ::-1], x[..., ::2], np.broadcast_to(x[0, 0, 0], (2, 2)), x.astype(">f8")):
        _, read = frames.decode(written({}, {"x": view})[8:])
        np.testing.assert_array_equal(read["x"], view)


def test_safetensors_reads_what_we_write_and_writes_what_we_read():
    safetensors = pytest.importorskip("safetensors.numpy")
    arrays = {
        "x": np.arange(6.0).reshape(2, 3),
        "i": np.array([[1]], np.int32),
        "f": np.zeros((0, 2), np.float16),
    }
    theirs = safetensors.load(written({"request": "1"}, arrays)[8:])
    metadata, ours = frames.decode(safetensors.save(arrays, {"request": "1"}))
    assert metadata == {"request": "1"}
    for name, array in arrays.items():
        for read in (theirs[name], ours[name]):
            assert read.dtype == array.dtype
            np.testing.assert_array_equal(read, array)


def body(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F64", shape=(1,), begin=0, end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("bytes_", "says"),
    [
        (b"", "no room for a header"),
        (struct.pack("<Q", 1 << 40), "header claims"),
        (body(b"\xff\xfe"), "no JSON"),
        (body(b"[]"), "no JSON object"),
        (body(b'{"a":' * 100_000), "no JSON"),
        (body(b'{"x":1,"x":2}'), "stands twice"),
        (body(b'{"x":NaN}'), "NaN"),
        (body(b'{"x":' + b"9" * 5000 + b"}"), "no JSON"),
        (body({"__metadata__": {"a": 1}}), "text by name"),
        (body({"x": 3}), "not described"),
        (body({"x": entry(dtype="object")}, b"8" * 8), "dtype 'object'"),
        (body({"x": entry(dtype=["F64"])}, b"8" * 8), "dtype"),
        (body({"x": entry(shape=(-1,))}, b"8" * 8), "shape"),
        (body({"x": entry(shape=(True,))}, b"8" * 8), "shape"),
        (body({"x": entry(shape=(1 << 40, 0), end=0)}), "shape"),
        (body({"x": entry(shape=(1,) * 40)}, b"8" * 8), "shape"),
        (body({"x": entry(begin=8, end=0)}, b"8" * 8), "data_offsets"),
        (body({"x": entry(end=16, shape=(2,))}, b"8" * 8), "ends at byte 16 of 8"),
        (body({"x": entry(), "y": entry()}, b"8" * 8), "overlap"),
        (body({"x": entry(begin=8, end=16)}, b"8" * 16), "gap"),
        (body({"x": entry()}, b"8" * 9), "1 bytes after"),
        (body({str(i): entry(shape=(0,), end=0) for i in range(100)}), "100 arrays"),
    ],
)
def test_what_is_no_frame_is_refused_in_one_sentence(bytes_, says):
    with pytest.raises(frames.FrameError, match=says):
        frames.decode(bytes_)


@given(st.binary(max_size=200))
def test_bytes_at_random_are_refused_or_read(data):
    for attempt in (data, body(data), body(b'{"x":' + data + b"}")):
        with contextlib.suppress(frames.FrameError):
            frames.decode(attempt)


@given(st.integers(0, 150), st.integers(0, 255))
def test_a_frame_with_one_wrong_byte_is_refused_or_read(place, value):
    frame = bytearray(written({"request": "1"}, {"x": np.arange(4.0)})[8:])
    frame[place % len(frame)] = value
    with contextlib.suppress(frames.FrameError):
        frames.decode(bytes(frame))


def test_lengths_are_checked_before_anything_is_allocated():
    with pytest.raises(frames.FrameError, match="claims 10737418240 bytes"):
        frames.length_of(struct.pack("<Q", 10 << 30))


def test_a_dtype_that_no_frame_holds_is_refused():
    with pytest.raises(frames.FrameError, match="complex128"):
        frames.encode({}, {"x": np.zeros(1, complex)})


def frames_on_the_page():
    """Frames as the page writes them: two lengths in hexadecimal, the header, the arrays in hexadecimal."""
    for name, lengths, header, data in re.findall(
        r"```frame (\w+)\n([0-9a-f ]+)\n(\{.*\})\n([0-9a-f ]*)\n?```", PAGE.read_text(encoding="utf-8")
    ):
        start, text = bytes.fromhex(lengths), header.encode()
        size = struct.unpack("<QQ", start)[1]
        yield name, start + text.ljust(size) + bytes.fromhex(data)


def test_the_frames_on_the_page_are_what_is_sent():
    shown = dict(frames_on_the_page())
    assert set(shown) == {"describe", "request", "answer", "refusal"}
    assert written({"request": "0", "operator": "describe", "convform": "1"}, {}) == shown["describe"]
    arguments = {
        "x": np.array([[[[1.0, 3.0]]]]),
        "kernel": (1, 2),
        "stride": None,
        "padding": ((0, 0), (0, 0)),
        "dilation": (1, 1),
        "ceil_mode": False,
    }
    # The order of names means nothing; in this one the page is the same bit for bit.
    order = ["kernel", "stride", "padding", "dilation", "ceil_mode", "x"]
    asked = request(1, "max_pool2d", {name: arguments[name] for name in order})
    assert written(*asked) == shown["request"]
    assert written({"request": "1"}, {"y": np.array([[[[3.0]]]])}) == shown["answer"]
    raised = {"request": "2", "raised": "ValueError", "message": "stride 0"}
    assert written(raised, {}) == shown["refusal"]
