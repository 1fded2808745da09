"""What the adapters of tinygrad call."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from tinygrad import Tensor
from tinygrad.helpers import Context

from convform.adapters.adapter import Adapter
from convform.adapters.layout import Array

Size = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def pads(padding: Pads) -> Size:
    """The last axis comes first, as in ``(left, right, top, bottom)``."""
    return tuple(side for pair in reversed(padding) for side in pair)


def _on(device: str) -> AbstractContextManager[Any]:
    """Make a device the default one, which is the only one that some of its own tensors know."""
    context: AbstractContextManager[Any] = Context(DEV=device, PARALLEL=0)  # no processes that compile
    return context


def _gradients(y: Tensor, inputs: Sequence[Tensor], dy: Array) -> list[Array]:
    gradients = y.gradient(*inputs, gradient=Tensor(dy))
    Tensor.realize(*gradients)
    return [gradient.numpy() for gradient in gradients]


def register_convolution(adapter: Adapter, device: str, rank: int) -> None:
    """Register convolution and its gradients."""

    @adapter.implements(f"conv{rank}d", padding="low-high")
    def forward(
        x: Array, w: Array, stride: Size, padding: Pads, dilation: Size, groups: int, b: Array | None = None
    ) -> Array:
        with _on(device):
            inputs = [Tensor(array) for array in (x, w, b) if array is not None]
            y: Array = _convolved(inputs, stride, padding, dilation, groups).numpy()
            return y

    @adapter.implements(f"conv{rank}d.backward", padding="low-high")
    def backward(
        x: Array,
        w: Array,
        dy: Array,
        stride: Size,
        padding: Pads,
        dilation: Size,
        groups: int,
        b: Array | None = None,
    ) -> list[Array]:
        with _on(device):
            inputs = [Tensor(array) for array in (x, w, b) if array is not None]
            return _gradients(_convolved(inputs, stride, padding, dilation, groups), inputs, dy)


def _convolved(inputs: Sequence[Tensor], stride: Size, padding: Pads, dilation: Size, groups: int) -> Tensor:
    x, *w_and_b = inputs
    return x.conv2d(*w_and_b, groups=groups, stride=stride, dilation=dilation, padding=pads(padding))


def register_max_pooling(adapter: Adapter, device: str, rank: int) -> None:
    """Register max pooling and its gradient."""

    @adapter.implements(f"max_pool{rank}d", indices=True, padding="low-high")
    def forward(
        x: Array, kernel: Size, stride: Size | None, padding: Pads, dilation: Size, ceil_mode: bool
    ) -> tuple[Array, Array]:
        with _on(device):
            y, indices = Tensor(x).max_pool2d(
                kernel, stride, dilation, pads(padding), ceil_mode, return_indices=True
            )
            Tensor.realize(y, indices)
            return y.numpy(), indices.numpy()

    @adapter.implements(f"max_pool{rank}d.backward", padding="low-high", ties="split")
    def backward(
        x: Array, dy: Array, kernel: Size, stride: Size | None, padding: Pads, dilation: Size, ceil_mode: bool
    ) -> Array:
        with _on(device):
            image = Tensor(x)
            y = image.max_pool2d(kernel, stride, dilation, pads(padding), ceil_mode)
            return _gradients(y, [image], dy)[0]


def register_average_pooling(adapter: Adapter, device: str, rank: int) -> None:
    """Register average pooling and its gradient."""

    @adapter.implements(f"avg_pool{rank}d", padding="low-high")
    def forward(
        x: Array,
        kernel: Size,
        stride: Size | None,
        padding: Pads,
        dilation: Size,
        ceil_mode: bool,
        count_include_pad: bool,
    ) -> Array:
        with _on(device):
            y: Array = (
                Tensor(x)
                .avg_pool2d(kernel, stride, dilation, pads(padding), ceil_mode, count_include_pad)
                .numpy()
            )
            return y

    @adapter.implements(f"avg_pool{rank}d.backward", padding="low-high")
    def backward(
        x: Array,
        dy: Array,
        kernel: Size,
        stride: Size | None,
        padding: Pads,
        dilation: Size,
        ceil_mode: bool,
        count_include_pad: bool,
    ) -> Array:
        with _on(device):
            image = Tensor(x)
            y = image.avg_pool2d(kernel, stride, dilation, pads(padding), ceil_mode, count_include_pad)
            return _gradients(y, [image], dy)[0]
