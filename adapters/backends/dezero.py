"""DeZero, the framework that one book builds step by step: its differentiable functions on NumPy.

Its choices: one padding for both ends of an axis, no dilation, no groups, no ceil rounding; pooling moves
by one unless told otherwise; averages count the padding. Everything is gathered by one ``im2col``, which
pads with zeros, for max pooling as well: nothing says that this is meant, so it is a known limit here.
"""

from __future__ import annotations

from importlib.metadata import version
from unittest import mock

import numpy as np

from convform.adapters.adapter import Adapter
from convform.adapters.layout import Array

# DeZero's transforms of data sets, which have no part here, name a type that NumPy no longer has.
with mock.patch.object(np, "int", int, create=True):
    import dezero

Size = tuple[int, ...]
Answer = dict[str, Array]

_SCRIPT = """\
import numpy as np
np.int = int  # DeZero 0.0.13 is older than NumPy 1.24
import dezero"""


adapter = Adapter(
    "dezero",
    columns="(n oh ow) (c kh kw)",
    version=version("dezero"),
    install="pip install 'convform[dezero]'",
    script=_SCRIPT,
)


@adapter.implements("im2col")
def _(x: Array, kernel: Size, stride: Size, padding: Size) -> Answer:
    return {"cols": dezero.functions.im2col(x, kernel, stride, padding).data}


@adapter.implements("col2im")
def _(cols: Array, input_size: Size, kernel: Size, stride: Size, padding: Size) -> Answer:
    return {"x": dezero.functions.col2im(cols, input_size, kernel, stride, padding).data}


@adapter.implements("conv2d")
def _(x: Array, w: Array, stride: Size, padding: Size, b: Array | None = None) -> Answer:
    return {"y": dezero.functions.conv2d(x, w, b, stride, padding).data}


@adapter.implements("conv2d.backward")
def _(x: Array, w: Array, dy: Array, stride: Size, padding: Size, b: Array | None = None) -> Answer:
    inputs = [dezero.Variable(array) for array in (x, w, b)]
    y = dezero.functions.conv2d(*inputs, stride, padding)
    y.grad = dezero.Variable(dy)
    y.backward()
    gradients = zip(("dx", "dw", "db"), inputs, strict=True)
    return {name: variable.grad.data for name, variable in gradients if variable.grad is not None}


@adapter.implements("max_pool2d", default_stride=False)
def _(x: Array, kernel: Size, stride: Size, padding: Size) -> Answer:
    return {"y": dezero.functions.pooling(x, kernel, stride, padding).data}


@adapter.implements("max_pool2d.backward", default_stride=False)
def _(x: Array, dy: Array, kernel: Size, stride: Size, padding: Size) -> Answer:
    image = dezero.Variable(x)
    y = dezero.functions.pooling(image, kernel, stride, padding)
    y.grad = dezero.Variable(dy)
    y.backward()
    return {"dx": image.grad.data}


@adapter.implements("avg_pool2d", default_stride=False)
def _(x: Array, kernel: Size, stride: Size, padding: Size) -> Answer:
    return {"y": dezero.functions.average_pooling(x, kernel, stride, padding).data}


@adapter.implements("avg_pool2d.backward", default_stride=False)
def _(x: Array, dy: Array, kernel: Size, stride: Size, padding: Size) -> Answer:
    image = dezero.Variable(x)
    y = dezero.functions.average_pooling(image, kernel, stride, padding)
    y.grad = dezero.Variable(dy)
    y.backward()
    return {"dx": image.grad.data}


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
