"""numpy-ml, machine learning written out in NumPy: its layers, and the functions that they share.

Its choices: channels last; one stride and one dilation for all axes, and dilation counts the elements
*between* taps; padding in whole numbers at both ends of each axis; pooling moves by one unless told
otherwise and has no dilation, ceil rounding or indices; averages count the padding. Columns of all samples
stand side by side, the samples innermost.
"""

from __future__ import annotations

import collections
import warnings
from collections.abc import Hashable, Mapping
from importlib.metadata import version
from typing import Any
from unittest import mock

from convform.adapters.adapter import Adapter
from convform.adapters.layout import Array
from convform.adapters.scripts import script_of

# Some modules of numpy-ml, without a part here, take Hashable from where Python had it before 3.10, and warn
# of what else they would like to have.
with mock.patch.object(collections, "Hashable", Hashable, create=True), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from numpy_ml.neural_nets import layers, utils

Size = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
Answer = dict[str, Array]

_IMPORTS = (
    "import collections, collections.abc",
    "collections.Hashable = collections.abc.Hashable  # numpy-ml 0.1.2 is older than Python 3.10",
    "import numpy as np",
    "from numpy_ml.neural_nets import layers, utils",
)


def script(operator: str, parameters: Mapping[str, Any]) -> str | None:
    """Write a call as a script that needs numpy-ml only."""
    return script_of(adapter[operator], parameters, *_IMPORTS)


adapter = Adapter(
    "numpy-ml",
    input="n h w c",
    weight="kh kw i o",
    columns="(c kh kw) (oh ow n)",
    version=version("numpy-ml"),
    install="pip install 'convform[numpy-ml]'",
    script=script,
)


@adapter.implements("im2col", stride="scalar", dilation="scalar", padding="low-high")
def _(x: Array, kernel: Size, stride: int, padding: Pairs, dilation: int) -> Answer:
    cols, _ = utils.im2col(x, (*kernel, x.shape[3], 1), (*padding[0], *padding[1]), stride, dilation - 1)
    return {"cols": cols}


# What comes back has the channels first, unlike everything else; its documentation says otherwise.
@adapter.implements("col2im", stride="scalar", dilation="scalar", padding="low-high", input="n c h w")
def _(cols: Array, input_size: Size, kernel: Size, stride: int, padding: Pairs, dilation: int) -> Answer:
    n, c, h, w = input_size
    pad = (*padding[0], *padding[1])
    return {"x": utils.col2im(cols, (n, h, w, c), (*kernel, c, 1), pad, stride, dilation - 1)}


# A layer keeps what it has seen, so each call has one of its own, with the parameters that are given.
@adapter.implements("conv1d", stride="scalar", dilation="scalar", padding="low-high")
def _(x: Array, w: Array, b: Array, stride: int, padding: Pairs, dilation: int) -> Answer:
    layer = layers.Conv1D(w.shape[2], w.shape[0], padding[0], stride, dilation - 1)
    layer.in_ch = w.shape[1]
    layer._init_params()
    layer.parameters = {"W": w, "b": b.reshape(1, 1, -1)}
    return {"y": layer.forward(x)}


@adapter.implements("conv1d.backward", stride="scalar", dilation="scalar", padding="low-high")
def _(x: Array, w: Array, b: Array, dy: Array, stride: int, padding: Pairs, dilation: int) -> Answer:
    layer = layers.Conv1D(w.shape[2], w.shape[0], padding[0], stride, dilation - 1)
    layer.in_ch = w.shape[1]
    layer._init_params()
    layer.parameters = {"W": w, "b": b.reshape(1, 1, -1)}
    layer.forward(x)
    dx = layer.backward(dy)
    return {"dx": dx, "dw": layer.gradients["W"], "db": layer.gradients["b"].ravel()}


@adapter.implements("conv2d", stride="scalar", dilation="scalar", padding="low-high")
def _(x: Array, w: Array, b: Array, stride: int, padding: Pairs, dilation: int) -> Answer:
    pad = (*padding[0], *padding[1])
    layer = layers.Conv2D(w.shape[3], w.shape[:2], pad, stride, dilation - 1)
    layer.in_ch = w.shape[2]
    layer._init_params()
    layer.parameters = {"W": w, "b": b.reshape(1, 1, 1, -1)}
    return {"y": layer.forward(x)}


@adapter.implements("conv2d.backward", stride="scalar", dilation="scalar", padding="low-high")
def _(x: Array, w: Array, b: Array, dy: Array, stride: int, padding: Pairs, dilation: int) -> Answer:
    pad = (*padding[0], *padding[1])
    layer = layers.Conv2D(w.shape[3], w.shape[:2], pad, stride, dilation - 1)
    layer.in_ch = w.shape[2]
    layer._init_params()
    layer.parameters = {"W": w, "b": b.reshape(1, 1, 1, -1)}
    layer.forward(x)
    dx = layer.backward(dy)
    return {"dx": dx, "dw": layer.gradients["W"], "db": layer.gradients["b"].ravel()}


# "The number of rows/columns of 0's to pad the input": for max pooling, too.
@adapter.implements("max_pool2d", stride="scalar", padding="low-high", default_stride=False, maxpad="zero")
def _(x: Array, kernel: Size, stride: int, padding: Pairs) -> Answer:
    layer = layers.Pool2D(kernel, stride, (*padding[0], *padding[1]), "max")
    return {"y": layer.forward(x)}


# The gradient is wrong with any padding (see below); beyond the kernel it is wrong, or fails, by chance.
@adapter.implements(
    "max_pool2d.backward",
    stride="scalar",
    padding="low-high",
    max_padding="below-kernel",
    default_stride=False,
    maxpad="zero",
)
def _(x: Array, dy: Array, kernel: Size, stride: int, padding: Pairs) -> Answer:
    layer = layers.Pool2D(kernel, stride, (*padding[0], *padding[1]), "max")
    layer.forward(x)
    return {"dx": layer.backward(dy)}


@adapter.implements("avg_pool2d", stride="scalar", padding="low-high", default_stride=False)
def _(x: Array, kernel: Size, stride: int, padding: Pairs) -> Answer:
    layer = layers.Pool2D(kernel, stride, (*padding[0], *padding[1]), "average")
    return {"y": layer.forward(x)}


@adapter.implements("avg_pool2d.backward", stride="scalar", padding="low-high", default_stride=False)
def _(x: Array, dy: Array, kernel: Size, stride: int, padding: Pairs) -> Answer:
    layer = layers.Pool2D(kernel, stride, (*padding[0], *padding[1]), "average")
    layer.forward(x)
    return {"dx": layer.backward(dy)}


_SOURCE = "https://github.com/ddbourgin/numpy-ml/blob/master/numpy_ml/neural_nets/"
_LAYERS, _UTILS = _SOURCE + "layers/layers.py", _SOURCE + "utils/utils.py"


# What numpy-ml 0.1.2 answers otherwise than the standard; its source is what documents it.
# fmt: off
known = adapter.known_limit
known("max_pool2d.backward",
      "MAXPOOL-2 MAXPOOL-4 MAXPOOL-6 WINDOW-7 WINDOW-8 inputs_unmodified views two_forwards "
      "no_memory_between_calls no_shared_memory dtype",
      when="there is padding",
      reason="Windows are cut out of the input without its padding, so that the gradient is another's, or "
             "fails.",
      link=_LAYERS)
known("col2im conv?d.backward max_pool2d* avg_pool2d", "CONTRACT-5", shows="dtype",
      reason="The answer is put into a new array of float64, whatever the input is.", link=_LAYERS)
known("col2im conv?d.backward", "CONTRACT-7", shows="raises",
      reason="The number of windows is left to reshape, which cannot tell it of no elements.", link=_UTILS)
known("conv?d*", "CONV-6", shows="raises",
      reason="The length of a window is left to reshape, which cannot tell it of no elements.", link=_UTILS)
known("im2col col2im conv?d max_pool2d* avg_pool2d*", "WINDOW-6", shows="answers",
      reason="Sizes are not checked: dilation or kernel 0, no window or negative padding give some answer.",
      link=_UTILS)
known("col2im", "COL2IM-3", shows="answers",
      reason="Columns of one window for each sample are repeated for all windows.", link=_UTILS)
known("col2im", "CONTRACT-9", shows="answers",
      reason="Columns with one axis too many are reshaped like any others.", link=_UTILS)
known("conv?d", "CONV-7", shows="answers",
      reason="A bias with one element is repeated for all channels.", link=_LAYERS)
known("conv?d.backward", "CONVGRAD-5", shows="answers",
      reason="A dy of one window, or of one element, is repeated for all by the gradient of the identity.",
      link=_LAYERS)
known("max_pool2d.backward avg_pool2d.backward", "MAXGRAD-3 AVGGRAD-2", shows="answers",
      reason="The part of dy beyond the shape of y is not looked at.", link=_LAYERS)
known("conv?d* max_pool2d.backward avg_pool2d.backward", "CONTRACT-6", shows="answers",
      reason="Arrays of different dtypes are combined as NumPy does, not refused.", link=_LAYERS)
# fmt: on
