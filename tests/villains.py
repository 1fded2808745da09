"""Tiny subjects with one fault each: what the judge must see through.

Each is a correct wrapper around the reference with its single misdeed, named by its docstring.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from convform import reference
from convform.adapters import Adapter

Conv = Callable[..., Any]


def conv_villain(conv: Conv) -> Adapter:
    """Plug a conv2d in."""
    adapter = Adapter(conv.__name__)
    adapter.implements("conv2d")(conv)
    return adapter


def honest(x, w, b, stride, padding):
    """Does what the standard says."""
    return reference.conv(x, w, b, stride=stride, padding=padding)


def always_zero(x, w, b, stride, padding):
    """Answers zero, in the right shape."""
    return np.zeros_like(honest(x, w, b, stride, padding))


def nan_everywhere(x, w, b, stride, padding):
    """Answers NaN, in the right shape."""
    return np.full_like(honest(x, w, b, stride, padding), np.nan)


def one_row_short(x, w, b, stride, padding):
    """Leaves out the last row."""
    return np.ascontiguousarray(honest(x, w, b, stride, padding)[:, :, :-1])


def returns_none(x, w, b, stride, padding):
    """Forgets to return."""


def returns_text(x, w, b, stride, padding):
    """Answers in words."""
    return "forty-two"


def always_raises(x, w, b, stride, padding):
    """Is not finished."""
    raise NotImplementedError("conv2d")


def needs_square_input(x, w, b, stride, padding):
    """Raises where height and width differ."""
    assert x.shape[2] == x.shape[3], "square input please"
    return honest(x, w, b, stride, padding)


def writes_to_input(x, w, b, stride, padding):
    """Scales the input in place once it is done."""
    y = honest(x, w, b, stride, padding)
    if x.flags.writeable:
        x *= 2
    return y


def upcasts(x, w, b, stride, padding):
    """Always answers in double precision."""
    return honest(x, w, b, stride, padding).astype(np.float64)


def accepts_everything(x, w, b, stride, padding):
    """Never refuses."""
    try:
        return honest(x, w, b, stride, padding)
    except (TypeError, ValueError):
        return np.zeros((1, 1, 1, 1))


_MEMORY: dict[tuple[int, ...], Any] = {}


def remembers(x, w, b, stride, padding):
    """Adds up what it answered before to calls of the same shape."""
    y = honest(x, w, b, stride, padding)
    _MEMORY[y.shape] = _MEMORY.get(y.shape, 0) + y
    return _MEMORY[y.shape].astype(y.dtype)


_BUFFERS: dict[Any, Any] = {}


def reuses_its_buffer(x, w, b, stride, padding):
    """Returns the same buffer for every call of a shape."""
    y = honest(x, w, b, stride, padding)
    buffer = _BUFFERS.setdefault((y.shape, y.dtype), np.empty_like(y))
    buffer[...] = y
    return buffer


_CALLS = itertools.count()


def flips_a_coin(x, w, b, stride, padding):
    """Is wrong on every third call, whatever the input."""
    return honest(x, w, b, stride, padding) + (next(_CALLS) % 3 == 0)


def c_order_only(x, w, b, stride, padding):
    """Reads the memory of x as if it were C-contiguous."""
    if x.flags.c_contiguous:
        return honest(x, w, b, stride, padding)
    return honest(np.ravel(x, order="K").reshape(x.shape), w, b, stride, padding)


def first_sample_only(x, w, b, stride, padding):
    """Convolves the first sample for the whole batch."""
    return honest(np.broadcast_to(x[:1], x.shape), w, b, stride, padding)


def low_precision(x, w, b, stride, padding):
    """Rounds the weights to half precision: integers survive, real numbers do not."""
    if np.all(w == np.rint(w)):
        return honest(x, w, b, stride, padding)
    return honest(x, w.astype(np.float16).astype(w.dtype), b, stride, padding)
