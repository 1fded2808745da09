"""What the adapter of numpy-ml calls; each wrapper is a script as it stands."""

from __future__ import annotations

import collections
import warnings
from collections.abc import Hashable
from unittest import mock

from convform.adapters.adapter import Adapter
from convform.adapters.layout import Array

# Some modules of numpy-ml, without a part here, take Hashable from where Python had it before 3.10, and warn
# of what else they would like to have.
with mock.patch.object(collections, "Hashable", Hashable, create=True), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from numpy_ml.neural_nets import layers, utils

Size = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
Answer = dict[str, Array]


def register_convolution(adapter: Adapter) -> None:
    """Register columns, convolution and its gradients."""

    @adapter.implements("im2col", stride="scalar", dilation="scalar", padding="low-high")
    def im2col(x: Array, kernel: Size, stride: int, padding: Pairs, dilation: int) -> Answer:
        cols, _ = utils.im2col(x, (*kernel, x.shape[3], 1), (*padding[0], *padding[1]), stride, dilation - 1)
        return {"cols": cols}

    # What comes back has the channels first, unlike everything else; its documentation says otherwise.
    @adapter.implements("col2im", stride="scalar", dilation="scalar", padding="low-high", input="n c h w")
    def col2im(
        cols: Array, input_size: Size, kernel: Size, stride: int, padding: Pairs, dilation: int
    ) -> Answer:
        n, c, h, w = input_size
        pad = (*padding[0], *padding[1])
        return {"x": utils.col2im(cols, (n, h, w, c), (*kernel, c, 1), pad, stride, dilation - 1)}

    # A layer keeps what it has seen, so each call has one of its own, with the parameters that are given.
    @adapter.implements("conv1d", stride="scalar", dilation="scalar", padding="low-high")
    def conv1d(x: Array, w: Array, b: Array, stride: int, padding: Pairs, dilation: int) -> Answer:
        layer = layers.Conv1D(w.shape[2], w.shape[0], padding[0], stride, dilation - 1)
        layer.in_ch = w.shape[1]
        layer._init_params()
        layer.parameters = {"W": w, "b": b.reshape(1, 1, -1)}
        return {"y": layer.forward(x)}

    @adapter.implements("conv1d.backward", stride="scalar", dilation="scalar", padding="low-high")
    def conv1d_backward(
        x: Array, w: Array, b: Array, dy: Array, stride: int, padding: Pairs, dilation: int
    ) -> Answer:
        layer = layers.Conv1D(w.shape[2], w.shape[0], padding[0], stride, dilation - 1)
        layer.in_ch = w.shape[1]
        layer._init_params()
        layer.parameters = {"W": w, "b": b.reshape(1, 1, -1)}
        layer.forward(x)
        dx = layer.backward(dy)
        return {"dx": dx, "dw": layer.gradients["W"], "db": layer.gradients["b"].ravel()}

    @adapter.implements("conv2d", stride="scalar", dilation="scalar", padding="low-high")
    def conv2d(x: Array, w: Array, b: Array, stride: int, padding: Pairs, dilation: int) -> Answer:
        pad = (*padding[0], *padding[1])
        layer = layers.Conv2D(w.shape[3], w.shape[:2], pad, stride, dilation - 1)
        layer.in_ch = w.shape[2]
        layer._init_params()
        layer.parameters = {"W": w, "b": b.reshape(1, 1, 1, -1)}
        return {"y": layer.forward(x)}

    @adapter.implements("conv2d.backward", stride="scalar", dilation="scalar", padding="low-high")
    def conv2d_backward(
        x: Array, w: Array, b: Array, dy: Array, stride: int, padding: Pairs, dilation: int
    ) -> Answer:
        pad = (*padding[0], *padding[1])
        layer = layers.Conv2D(w.shape[3], w.shape[:2], pad, stride, dilation - 1)
        layer.in_ch = w.shape[2]
        layer._init_params()
        layer.parameters = {"W": w, "b": b.reshape(1, 1, 1, -1)}
        layer.forward(x)
        dx = layer.backward(dy)
        return {"dx": dx, "dw": layer.gradients["W"], "db": layer.gradients["b"].ravel()}


def register_pooling(adapter: Adapter) -> None:
    """Register pooling and its gradients."""

    # "The number of rows/columns of 0's to pad the input": for max pooling, too.
    @adapter.implements(
        "max_pool2d", stride="scalar", padding="low-high", default_stride=False, maxpad="zero"
    )
    def max_pool2d(x: Array, kernel: Size, stride: int, padding: Pairs) -> Answer:
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
    def max_pool2d_backward(x: Array, dy: Array, kernel: Size, stride: int, padding: Pairs) -> Answer:
        layer = layers.Pool2D(kernel, stride, (*padding[0], *padding[1]), "max")
        layer.forward(x)
        return {"dx": layer.backward(dy)}

    @adapter.implements("avg_pool2d", stride="scalar", padding="low-high", default_stride=False)
    def avg_pool2d(x: Array, kernel: Size, stride: int, padding: Pairs) -> Answer:
        layer = layers.Pool2D(kernel, stride, (*padding[0], *padding[1]), "average")
        return {"y": layer.forward(x)}

    @adapter.implements("avg_pool2d.backward", stride="scalar", padding="low-high", default_stride=False)
    def avg_pool2d_backward(x: Array, dy: Array, kernel: Size, stride: int, padding: Pairs) -> Answer:
        layer = layers.Pool2D(kernel, stride, (*padding[0], *padding[1]), "average")
        layer.forward(x)
        return {"dx": layer.backward(dy)}
