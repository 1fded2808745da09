"""The operators in numpy-ml's layers and utilities."""

from __future__ import annotations

import collections
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any
from unittest import mock

from convform.adapters.layout import Array

# Some modules of numpy-ml, without a part here, take Hashable from where Python had it before 3.10, and warn
# of what else they would like to have.
with mock.patch.object(collections, "Hashable", Hashable, create=True), warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from numpy_ml.neural_nets import layers, utils

Size = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


def call(function: Callable[..., Sequence[Array]], *arrays: Array) -> Sequence[Array]:
    """Call a function of arrays; gradients are functions of their own."""
    return function(*arrays)


def im2col(x: Array, *, kernel: Size, stride: int, padding: Pairs, dilation: int) -> Sequence[Array]:
    """Gather columns, which come with the padding."""
    cols, _ = utils.im2col(x, (*kernel, x.shape[3], 1), sum(padding, ()), stride, dilation - 1)
    return [cols]


def col2im(
    cols: Array, *, input_size: Size, kernel: Size, stride: int, padding: Pairs, dilation: int
) -> Sequence[Array]:
    """Scatter columns; the size goes in with the channels last, and the answer has them first."""
    n, c, h, w = input_size
    return [utils.col2im(cols, (n, h, w, c), (*kernel, c, 1), sum(padding, ()), stride, dilation - 1)]


def conv_layer(w: Array, b: Array, stride: int, padding: Pairs, dilation: int) -> Any:
    """A layer keeps what it has seen, so each call has one of its own, with the parameters that are given."""
    *kernel, channels, filters = w.shape
    if len(kernel) == 1:
        layer = layers.Conv1D(filters, kernel[0], padding[0], stride, dilation - 1)
    else:
        layer = layers.Conv2D(filters, tuple(kernel), sum(padding, ()), stride, dilation - 1)
    layer.in_ch = channels
    layer._init_params()
    layer.parameters = {"W": w, "b": b.reshape((1,) * (w.ndim - 1) + (-1,))}
    return layer


def conv(x: Array, w: Array, b: Array, *, stride: int, padding: Pairs, dilation: int) -> Sequence[Array]:
    """Go forward through a convolution."""
    return [conv_layer(w, b, stride, padding, dilation).forward(x)]


def conv_backward(
    x: Array, w: Array, b: Array, dy: Array, *, stride: int, padding: Pairs, dilation: int
) -> Sequence[Array]:
    """Go forward and back through a convolution."""
    layer = conv_layer(w, b, stride, padding, dilation)
    layer.forward(x)
    dx = layer.backward(dy)
    return [dx, layer.gradients["W"], layer.gradients["b"].ravel()]


def max_pool(x: Array, *, kernel: Size, stride: int, padding: Pairs) -> Sequence[Array]:
    """Go forward through maxima."""
    return [layers.Pool2D(kernel, stride, sum(padding, ()), "max").forward(x)]


def max_pool_backward(x: Array, dy: Array, *, kernel: Size, stride: int, padding: Pairs) -> Sequence[Array]:
    """Go forward and back through maxima."""
    layer = layers.Pool2D(kernel, stride, sum(padding, ()), "max")
    layer.forward(x)
    return [layer.backward(dy)]


def avg_pool(x: Array, *, kernel: Size, stride: int, padding: Pairs) -> Sequence[Array]:
    """Go forward through averages."""
    return [layers.Pool2D(kernel, stride, sum(padding, ()), "average").forward(x)]


def avg_pool_backward(x: Array, dy: Array, *, kernel: Size, stride: int, padding: Pairs) -> Sequence[Array]:
    """Go forward and back through averages."""
    layer = layers.Pool2D(kernel, stride, sum(padding, ()), "average")
    layer.forward(x)
    return [layer.backward(dy)]
