"""DeZero, the framework that one book builds step by step: its differentiable functions on NumPy.

Its choices: one padding for both ends of an axis, no dilation, no groups, no ceil rounding; pooling moves
by one unless told otherwise; averages count the padding. Everything is gathered by one ``im2col``, which
pads with zeros, for max pooling as well: nothing says that this is meant, so it is a known limit here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any
from unittest import mock

import numpy as np

from convform.adapters.backends.library import Library
from convform.adapters.layout import Array

# DeZero's transforms of data sets, which have no part here, name a type that NumPy no longer has.
with mock.patch.object(np, "int", int, create=True):
    import dezero

Size = tuple[int, ...]


def _call(function: Callable[..., Any], *arrays: Array) -> list[Array]:
    return [function(*arrays).data]


def _derive(function: Callable[..., Any], dy: Array, *arrays: Array) -> list[Array]:
    inputs = [dezero.Variable(array) for array in arrays]
    y = function(*inputs)
    y.grad = dezero.Variable(dy)
    y.backward()
    return [variable.grad.data for variable in inputs]


def _im2col(x: Any, *, kernel: Size, stride: Size, padding: Size) -> Any:
    return dezero.functions.im2col(x, kernel, stride, padding)


def _col2im(cols: Any, *, input_size: Size, kernel: Size, stride: Size, padding: Size) -> Any:
    return dezero.functions.col2im(cols, input_size, kernel, stride, padding)


def _conv(x: Any, w: Any, b: Any = None, *, stride: Size, padding: Size) -> Any:
    return dezero.functions.conv2d(x, w, b, stride, padding)


def _max_pool(x: Any, *, kernel: Size, stride: Size, padding: Size) -> Any:
    return dezero.functions.pooling(x, kernel, stride, padding)


def _avg_pool(x: Any, *, kernel: Size, stride: Size, padding: Size) -> Any:
    return dezero.functions.average_pooling(x, kernel, stride, padding)


_DEZERO = Library(
    "np.int = int  # DeZero 0.0.13 is older than NumPy 1.24\nimport dezero",
    _call,
    _derive,
)

adapter = _DEZERO.adapter(
    "dezero",
    columns="(n oh ow) (c kh kw)",
    version=version("dezero"),
    install="pip install 'convform[dezero]'",
)
_DEZERO.register(adapter, "im2col", _im2col)
_DEZERO.register(adapter, "col2im", _col2im)
_DEZERO.register(adapter, "conv2d conv2d.backward", _conv)
_DEZERO.register(adapter, "max_pool2d max_pool2d.backward", _max_pool, default_stride=False)
_DEZERO.register(adapter, "avg_pool2d avg_pool2d.backward", _avg_pool, default_stride=False)


_SOURCE = "https://github.com/oreilly-japan/deep-learning-from-scratch-3/blob/master/dezero/functions_conv.py"


# What DeZero 0.0.13 answers otherwise than the standard; its source is what documents it.
# fmt: off
known = adapter.known_limit
known("max_pool2d*", "MAXPOOL-2 MAXPOOL-3 MAXPOOL-4 WINDOW-7", when="there is padding",
      reason="Padding is zeros, which win over negative elements and come before them in a tie.",
      link=_SOURCE)
known("max_pool2d.backward", "MAXPOOL-6", when="there is padding",
      reason="Zeros of the padding tie with zeros of the input, and take their dy.", link=_SOURCE)
known("avg_pool2d.backward",
      "AVGGRAD-1 channels batch stride floor padding small_input rounding inputs_unmodified views "
      "no_memory_between_calls no_shared_memory two_forwards dtype empty_batch size_one_axes",
      when="the kernel is not square",
      reason="Height and width of the kernel are swapped, so that it has to be square.", link=_SOURCE)
# NumPy 1 does not promote them.
known("avg_pool2d.backward", "CONTRACT-5", dtypes="float32", shows="dtype", always=False,
      reason="dy is divided by the number of taps as an array of its own, which makes the answer float64.",
      link=_SOURCE)
known("avg_pool2d.backward", "AVGGRAD-2", shows="answers",
      reason="A dy of one window, or of one element, is repeated for all.", link=_SOURCE)
known("im2col", "CONTRACT-7", shows="raises",
      reason="The number of rows is left to reshape, which cannot tell it of no elements.", link=_SOURCE)
known("*", "WINDOW-6", shows="answers",
      reason="Sizes are not checked: kernels without taps, without a window, or negative padding give some "
             "answer.",
      link=_SOURCE)
known("col2im", "CONTRACT-9", shows="answers",
      reason="Columns with one axis too many are reshaped like any others.", link=_SOURCE)
known("conv2d", "CONV-7", shows="answers",
      reason="A bias with one element is repeated for all channels.", link=_SOURCE)
known("conv2d* max_pool2d.backward avg_pool2d.backward", "CONTRACT-6", shows="answers",
      reason="Arrays of different dtypes are combined as NumPy does, not refused.", link=_SOURCE)
# fmt: on
