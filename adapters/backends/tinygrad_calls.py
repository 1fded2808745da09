"""The operators in tinygrad's tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinygrad import Tensor

from convform.adapters.layout import Array

Size = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def call(function: Callable[..., Any], *arrays: Array) -> list[Array]:
    """Call a function of tensors, and compute what it returns together."""
    returned = function(*map(Tensor, arrays))
    outputs = returned if isinstance(returned, tuple) else (returned,)
    Tensor.realize(*outputs)
    return [output.numpy() for output in outputs]


def derive(function: Callable[..., Any], dy: Array, *arrays: Array) -> list[Array]:
    """Derive a function of tensors, and compute the gradients together."""
    inputs = [Tensor(array) for array in arrays]
    gradients = function(*inputs).gradient(*inputs, gradient=Tensor(dy))
    Tensor.realize(*gradients)
    return [gradient.numpy() for gradient in gradients]


def pads(padding: Pads) -> Size:
    """The last axis comes first, as in ``(left, right, top, bottom)``."""
    return tuple(side for pair in reversed(padding) for side in pair)


def conv(x: Any, w: Any, b: Any = None, *, stride: Size, padding: Pads, dilation: Size, groups: int) -> Any:
    """Convolve along any number of axes."""
    return x.conv2d(w, b, groups=groups, stride=stride, dilation=dilation, padding=pads(padding))


def max_pool(
    x: Any, *, kernel: Size, stride: Size | None, padding: Pads, dilation: Size, ceil_mode: bool
) -> Any:
    """Return the maxima."""
    return x.max_pool2d(kernel, stride, dilation, pads(padding), ceil_mode)


def max_pool_with_indices(
    x: Any, *, kernel: Size, stride: Size | None, padding: Pads, dilation: Size, ceil_mode: bool
) -> Any:
    """Return the maxima and where they are."""
    return x.max_pool2d(kernel, stride, dilation, pads(padding), ceil_mode, return_indices=True)


def avg_pool(
    x: Any,
    *,
    kernel: Size,
    stride: Size | None,
    padding: Pads,
    dilation: Size,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Any:
    """Return the averages."""
    return x.avg_pool2d(kernel, stride, dilation, pads(padding), ceil_mode, count_include_pad)
