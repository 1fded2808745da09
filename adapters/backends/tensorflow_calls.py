"""The operators in TensorFlow's functions.

A convolution has no bias here: TensorFlow adds one to a result that is rounded already, in a call of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from convform.adapters.layout import Array

Size = tuple[int, ...]
Padding = str | tuple[tuple[int, int], ...]  # "same", "valid", or (low, high) for each axis


def call(function: Callable[..., Any], *arrays: Array) -> list[Array]:
    """Call a function of tensors."""
    returned = function(*map(tf.constant, arrays))
    return [tensor.numpy() for tensor in (returned if isinstance(returned, list | tuple) else [returned])]


def derive(function: Callable[..., Any], dy: Array, *arrays: Array) -> list[Array]:
    """Derive a function by the tape."""
    return call(functools.partial(gradients, function), dy, *arrays)


def gradients(function: Callable[..., Any], dy: Any, *inputs: Any) -> Any:
    """Derive a function by the tape, in tensors."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = function(*inputs)
    return tape.gradient(y, inputs, dy)


def pads(padding: Padding) -> Any:
    """Write padding as TensorFlow takes it."""
    return padding.upper() if isinstance(padding, str) else [(0, 0), *padding, (0, 0)]


def patches(x: Any, *, kernel: Size, stride: Size, padding: str, dilation: Size) -> Any:
    """Cut out the windows of a plane."""
    return tf.image.extract_patches(x, (1, *kernel, 1), (1, *stride, 1), (1, *dilation, 1), pads(padding))


def volume_patches(x: Any, *, kernel: Size, stride: Size, padding: str) -> Any:
    """Cut out the windows of a volume."""
    return tf.extract_volume_patches(x, (1, *kernel, 1), (1, *stride, 1), pads(padding))


def conv(x: Any, w: Any, *, stride: Size, padding: Padding, dilation: Size, groups: int) -> Any:
    """Nobody is told the number of groups: it is the input's channels over the weights'."""
    function = getattr(tf.nn, f"conv{len(stride)}d")
    return function(x, w, (1, *stride, 1), pads(padding), dilations=(1, *dilation, 1))


def plain_conv(x: Any, w: Any, *, stride: Size, padding: Padding) -> Any:
    """Convolve without dilation or groups."""
    return getattr(tf.nn, f"conv{len(stride)}d")(x, w, (1, *stride, 1), pads(padding))


def conv_gradients(x: Any, w: Any, dy: Any, *, stride: Size, padding: Padding) -> Any:
    """Derive a convolution and the addition of a bias; there is no gradient for dilation or groups."""

    def biased(x: Any, w: Any, b: Any) -> Any:
        return tf.nn.bias_add(plain_conv(x, w, stride=stride, padding=padding), b)

    return gradients(biased, dy, x, w, tf.zeros(w.shape[-1], w.dtype))


def max_pool(x: Any, *, kernel: Size, stride: Size, padding: Padding) -> Any:
    """Return the maxima."""
    return getattr(tf.nn, f"max_pool{len(kernel)}d")(x, kernel, stride, pads(padding))


def max_pool_with_indices(x: Any, *, kernel: Size, stride: Size, padding: str) -> Any:
    """Return the maxima and where they are."""
    return tf.nn.max_pool_with_argmax(x, kernel, stride, pads(padding))


def avg_pool(x: Any, *, kernel: Size, stride: Size, padding: str) -> Any:
    """Return averages; padding never counts, and no parameter says so."""
    return getattr(tf.nn, f"avg_pool{len(kernel)}d")(x, kernel, stride, pads(padding))
