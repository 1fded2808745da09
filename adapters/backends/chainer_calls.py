"""What the adapter of Chainer calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import chainer
import chainer.functions as F  # noqa: N812 — everybody's name for it
from chainer.utils import conv_nd

from convform.adapters.adapter import Adapter
from convform.adapters.layout import Array

Size = tuple[int, ...]


def _gradients(y: chainer.Variable, inputs: Sequence[chainer.Variable], dy: Array) -> list[Array]:
    y.grad = dy
    y.backward()
    return [x.grad for x in inputs]


def register_columns(adapter: Adapter, rank: int) -> None:
    """Register the gathering and scattering of columns."""
    suffix = "" if rank == 2 else f"{rank}d"

    if rank == 2:

        @adapter.implements("im2col", columns="n (c kh kw) oh ow")
        def gather(x: Array, kernel: Size, stride: Size, padding: Size, dilation: Size) -> Array:
            columns: Array = F.im2col(x, kernel, stride, padding, False, dilation).array
            return columns

    else:

        @adapter.implements(f"im2col{suffix}", columns="n c kd kh kw od oh ow")
        def gather_nd(x: Array, kernel: Size, stride: Size, padding: Size, dilation: Size) -> Array:
            columns: Array = conv_nd.im2col_nd(x, kernel, stride, padding, dilate=dilation)
            return columns

    @adapter.implements(f"col2im{suffix}", columns="n c kd kh kw od oh ow")
    def scatter(
        cols: Array, input_size: Size, kernel: Size, stride: Size, padding: Size, dilation: Size
    ) -> Array:
        # Chainer is told the spatial sizes only; the others follow from the columns and must agree.
        x: Array = conv_nd.col2im_nd(cols, stride, padding, input_size[2:], dilation)
        if x.shape != input_size or cols.shape[2 : 2 + rank] != kernel:
            raise ValueError(
                f"columns of shape {cols.shape} do not belong to size {input_size} and kernel {kernel}"
            )
        return x


def register_convolution(adapter: Adapter, rank: int) -> None:
    """Register convolution and its gradients."""
    function = getattr(F, f"convolution_{rank}d")

    @adapter.implements(f"conv{rank}d")
    def forward(
        x: Array, w: Array, stride: Size, padding: Size, dilation: Size, groups: int, b: Array | None = None
    ) -> Array:
        y: Array = function(x, w, b, stride, padding, dilate=dilation, groups=groups).array
        return y

    @adapter.implements(f"conv{rank}d.backward")
    def backward(
        x: Array,
        w: Array,
        dy: Array,
        stride: Size,
        padding: Size,
        dilation: Size,
        groups: int,
        b: Array | None = None,
    ) -> list[Array]:
        inputs = [chainer.Variable(array) for array in (x, w, b) if array is not None]
        y = function(*inputs, stride=stride, pad=padding, dilate=dilation, groups=groups)
        return _gradients(y, inputs, dy)


def register_max_pooling(adapter: Adapter, rank: int) -> None:
    """Register max pooling and its gradient."""

    # Chainer's cover_all rounds up without dropping a window that starts beyond the input: it has other
    # output sizes than ceil rounding and is not claimed.
    @adapter.implements(f"max_pool{rank}d", indices=True, index="window")
    def forward(x: Array, kernel: Size, stride: Size | None, padding: Size) -> tuple[Array, Array]:
        y, indices = F.max_pooling_nd(x, kernel, stride, padding, False, return_indices=True)
        return y.array, indices

    @adapter.implements(f"max_pool{rank}d.backward")
    def backward(x: Array, dy: Array, kernel: Size, stride: Size | None, padding: Size) -> Array:
        image = chainer.Variable(x)
        return _gradients(F.max_pooling_nd(image, kernel, stride, padding, False), [image], dy)[0]


def register_average_pooling(adapter: Adapter, rank: int) -> None:
    """Register average pooling and its gradient."""

    def pool(x: Any, kernel: Size, stride: Size | None, padding: Size, count_include_pad: bool) -> Any:
        return F.average_pooling_nd(x, kernel, stride, padding, 0 if count_include_pad else None)

    @adapter.implements(f"avg_pool{rank}d")
    def forward(x: Array, kernel: Size, stride: Size | None, padding: Size, count_include_pad: bool) -> Array:
        y: Array = pool(x, kernel, stride, padding, count_include_pad).array
        return y

    @adapter.implements(f"avg_pool{rank}d.backward")
    def backward(
        x: Array, dy: Array, kernel: Size, stride: Size | None, padding: Size, count_include_pad: bool
    ) -> Array:
        image = chainer.Variable(x)
        return _gradients(pool(image, kernel, stride, padding, count_include_pad), [image], dy)[0]
