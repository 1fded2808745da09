"""The operators in MLX's functions and layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from convform.adapters.layout import Array

Size = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def tensor(array: Array) -> mx.array:
    """Without a dtype MLX turns float64 into float32; negative strides it cannot read."""
    if any(stride < 0 for stride in array.strides):
        array = array.copy()
    return mx.array(array, dtype=getattr(mx, str(array.dtype)))


def call(function: Callable[..., mx.array], *arrays: Array) -> list[Array]:
    """Call a function of MLX's arrays."""
    return [np.array(function(*map(tensor, arrays)))]


def derive(function: Callable[..., mx.array], dy: Array, *arrays: Array) -> list[Array]:
    """Derive a function of MLX's arrays."""
    _, gradients = mx.vjp(function, [*map(tensor, arrays)], [tensor(dy)])
    return [np.array(gradient) for gradient in gradients]


def conv(x: Any, w: Any, *, stride: Size, padding: Pads, dilation: Size, groups: int) -> Any:
    """Convolve along one or two axes."""
    low, high = zip(*padding, strict=True)
    return mx.conv_general(x, w, stride=stride, padding=(low, high), kernel_dilation=dilation, groups=groups)


def conv_without_groups(x: Any, w: Any, *, stride: Size, padding: Pads, dilation: Size) -> Any:
    """Convolve along three axes, for which MLX has no groups."""
    return conv(x, w, stride=stride, padding=padding, dilation=dilation, groups=1)


def max_pool(x: Any, *, kernel: Size, stride: Size | None, padding: Size) -> Any:
    """Return the maxima."""
    return getattr(nn, f"MaxPool{len(kernel)}d")(kernel, stride, padding)(x)


def avg_pool(x: Any, *, kernel: Size, stride: Size | None, padding: Size) -> Any:
    """Return the averages."""
    return getattr(nn, f"AvgPool{len(kernel)}d")(kernel, stride, padding)(x)
