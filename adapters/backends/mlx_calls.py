"""What the adapter of MLX calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from convform.adapters.adapter import Adapter
from convform.adapters.layout import Array

Size = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]

FLOATS = ("float32", "float16")
"""What convolution computes for all parameters; pooling has float64 as well."""


def _tensor(array: Array) -> mx.array:
    # Without a dtype MLX turns float64 into float32; negative strides it cannot read.
    if any(stride < 0 for stride in array.strides):
        array = array.copy()
    return mx.array(array, dtype=getattr(mx, str(array.dtype)))


def _gradients(function: Callable[..., mx.array], inputs: list[mx.array], dy: Array) -> list[Array]:
    _, gradients = mx.vjp(function, inputs, [_tensor(dy)])
    return [np.array(gradient) for gradient in gradients]


def register_convolution(adapter: Adapter, rank: int) -> None:
    """Register convolution and its gradients."""

    def convolve(
        stride: Size, padding: Pads, dilation: Size, groups: int = 1
    ) -> Callable[[mx.array, mx.array], mx.array]:
        low, high = zip(*padding, strict=True)
        return lambda x, w: mx.conv_general(
            x, w, stride=stride, padding=(low, high), kernel_dilation=dilation, groups=groups
        )

    def forward(x: Array, w: Array, stride: Size, padding: Pads, dilation: Size, groups: int = 1) -> Array:
        return np.array(convolve(stride, padding, dilation, groups)(_tensor(x), _tensor(w)))

    def backward(
        x: Array, w: Array, dy: Array, stride: Size, padding: Pads, dilation: Size, groups: int = 1
    ) -> list[Array]:
        return _gradients(convolve(stride, padding, dilation, groups), [_tensor(x), _tensor(w)], dy)

    def backward3(x: Array, w: Array, dy: Array, stride: Size, padding: Pads, dilation: Size) -> list[Array]:
        return backward(x, w, dy, stride, padding, dilation)

    def forward3(x: Array, w: Array, stride: Size, padding: Pads, dilation: Size) -> Array:
        return forward(x, w, stride, padding, dilation)

    # MLX has no groups in three dimensions.
    adapter.implements(f"conv{rank}d", padding="low-high", dtypes=FLOATS)(forward if rank < 3 else forward3)
    adapter.implements(f"conv{rank}d.backward", padding="low-high", dtypes=FLOATS)(
        backward if rank < 3 else backward3
    )


def register_pooling(adapter: Adapter, rank: int) -> None:
    """Register both poolings and their gradients."""
    for family, layer, dialects in (
        ("max_pool", getattr(nn, f"MaxPool{rank}d"), {"ties": "split"}),
        ("avg_pool", getattr(nn, f"AvgPool{rank}d"), {}),
    ):
        _pool(adapter, f"{family}{rank}d", layer, dialects)


def _pool(adapter: Adapter, operator: str, layer: Callable[..., Any], dialects: Mapping[str, str]) -> None:
    @adapter.implements(operator, oversize="empty")
    def forward(x: Array, kernel: Size, stride: Size | None, padding: Size) -> Array:
        return np.array(layer(kernel, stride, padding)(_tensor(x)))

    @adapter.implements(f"{operator}.backward", **dialects)
    def backward(x: Array, dy: Array, kernel: Size, stride: Size | None, padding: Size) -> Array:
        return _gradients(layer(kernel, stride, padding), [_tensor(x)], dy)[0]
