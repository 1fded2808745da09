"""The operators in Chainer's functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chainer
import chainer.functions as F  # noqa: N812 — everybody's name for it
from chainer.utils import conv_nd

from convform.adapters.layout import Array

Size = tuple[int, ...]


def call(function: Callable[..., Any], *arrays: Array) -> list[Array]:
    """Call a function of arrays; what it returns are variables, or arrays already."""
    returned = function(*arrays)
    outputs = returned if isinstance(returned, tuple) else (returned,)
    return [output.array if isinstance(output, chainer.Variable) else output for output in outputs]


def derive(function: Callable[..., Any], dy: Array, *arrays: Array) -> list[Array]:
    """Go backward from the first output of a function."""
    inputs = [chainer.Variable(array) for array in arrays]
    returned = function(*inputs)
    y = returned[0] if isinstance(returned, tuple) else returned
    y.grad = dy
    y.backward()
    return [variable.grad for variable in inputs]


def im2col(x: Any, *, kernel: Size, stride: Size, padding: Size, dilation: Size) -> Any:
    """Gather columns in two dimensions."""
    return F.im2col(x, kernel, stride, padding, False, dilation)


def im2col_nd(x: Any, *, kernel: Size, stride: Size, padding: Size, dilation: Size) -> Any:
    """Gather columns in any number of dimensions."""
    return conv_nd.im2col_nd(x, kernel, stride, padding, dilate=dilation)


def col2im(cols: Any, *, input_size: Size, kernel: Size, stride: Size, padding: Size, dilation: Size) -> Any:
    """Chainer is told the spatial sizes only; the others follow from the columns and must agree."""
    x = conv_nd.col2im_nd(cols, stride, padding, input_size[2:], dilation)
    if x.shape != input_size or cols.shape[2 : 2 + len(kernel)] != kernel:
        raise ValueError(
            f"columns of shape {cols.shape} do not belong to size {input_size} and kernel {kernel}"
        )
    return x


def conv(x: Any, w: Any, b: Any = None, *, stride: Size, padding: Size, dilation: Size, groups: int) -> Any:
    """Call Chainer's convolution for a number of axes."""
    function = getattr(F, f"convolution_{len(stride)}d")
    return function(x, w, b, stride, padding, dilate=dilation, groups=groups)


def max_pool(x: Any, *, kernel: Size, stride: Size | None, padding: Size) -> Any:
    """Chainer's cover_all keeps a last window that starts beyond the input, so it is not claimed."""
    return F.max_pooling_nd(x, kernel, stride, padding, False, return_indices=True)


def avg_pool(x: Any, *, kernel: Size, stride: Size | None, padding: Size, count_include_pad: bool) -> Any:
    """Padding that does not count has no value."""
    return F.average_pooling_nd(x, kernel, stride, padding, 0 if count_include_pad else None)
