"""PyTorch: ``torch.nn.functional`` for the operators, autograd for their gradients.

`adapter` runs on the CPU and `cuda` on the first GPU; `make` takes any other device. Every array is moved
to the device once and every answer back once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 — everybody's name for it

from convform.adapters.adapter import Adapter
from convform.adapters.layout import Array
from convform.spec.operators import RANKS

Size = tuple[int, ...]


def make(device: str = "cpu") -> Adapter:
    """Describe PyTorch on one device.

    Parameters
    ----------
    device
        What `torch.device` accepts: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.

    Returns
    -------
    Adapter
        Named ``torch``, or ``torch-cuda`` and so on, in float64 and float32.
    """
    adapter = Adapter(
        "torch" if device == "cpu" else f"torch-{device}",
        version=torch.__version__,
        available=lambda: _problem(device),
        install="pip install 'convform[torch]'",
    )
    _columns(adapter, device)
    for rank in RANKS:
        _convolution(adapter, device, rank)
        _max_pooling(adapter, device, rank)
        _average_pooling(adapter, device, rank)
    _known_limits(adapter)
    return adapter


def _problem(device: str) -> str | None:
    if device.startswith("cuda") and not torch.cuda.is_available():
        return "no CUDA device"
    return None


def _tensor(array: Array, device: str) -> torch.Tensor:
    """Move an array to the device, without a copy on the CPU wherever torch can read NumPy's memory."""
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()
    return torch.from_numpy(array).to(device)


def _array(tensor: torch.Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy()
    return array


def _gradients(y: torch.Tensor, inputs: Sequence[torch.Tensor], dy: torch.Tensor) -> list[Array]:
    return [_array(gradient) for gradient in torch.autograd.grad(y, inputs, dy)]


def _exact_products(device: str) -> AbstractContextManager[Any]:
    """Keep cuDNN from rounding float32 factors to TF32, which its convolutions do unless told otherwise."""
    return torch.backends.cudnn.flags(allow_tf32=False) if device.startswith("cuda") else nullcontext()


def _columns(adapter: Adapter, device: str) -> None:
    @adapter.implements("im2col")
    def unfold(x: Array, kernel: Size, stride: Size, padding: Size, dilation: Size) -> Array:
        return _array(F.unfold(_tensor(x, device), kernel, dilation, padding, stride))

    @adapter.implements("col2im")
    def fold(
        cols: Array, input_size: Size, kernel: Size, stride: Size, padding: Size, dilation: Size
    ) -> Array:
        x = F.fold(_tensor(cols, device), input_size[2:], kernel, dilation, padding, stride)
        # torch is told the spatial sizes only; the others follow from the columns and must agree.
        if tuple(x.shape) != input_size:
            raise ValueError(f"columns of shape {cols.shape} do not belong to an input of size {input_size}")
        return _array(x)


def _convolution(adapter: Adapter, device: str, rank: int) -> None:
    function: Callable[..., torch.Tensor] = getattr(F, f"conv{rank}d")

    @adapter.implements(f"conv{rank}d")
    def forward(
        x: Array, w: Array, stride: Size, padding: Size, dilation: Size, groups: int, b: Array | None = None
    ) -> Array:
        bias = None if b is None else _tensor(b, device)
        with _exact_products(device):
            return _array(
                function(_tensor(x, device), _tensor(w, device), bias, stride, padding, dilation, groups)
            )

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
        # db is the same whatever the bias was, and there is one without a bias, too (CONVGRAD-3).
        b = np.zeros(len(w), w.dtype) if b is None else b
        inputs = [_tensor(array, device).requires_grad_() for array in (x, w, b)]
        with _exact_products(device):
            y = function(*inputs, stride, padding, dilation, groups)
            return _gradients(y, inputs, _tensor(dy, device))


def _max_pooling(adapter: Adapter, device: str, rank: int) -> None:
    function: Callable[..., Any] = getattr(F, f"max_pool{rank}d")

    @adapter.implements(f"max_pool{rank}d", indices=True, max_padding="half-kernel")
    def forward(
        x: Array, kernel: Size, stride: Size | None, padding: Size, dilation: Size, ceil_mode: bool
    ) -> tuple[Array, Array]:
        y, indices = function(
            _tensor(x, device), kernel, stride, padding, dilation, ceil_mode, return_indices=True
        )
        return _array(y), _array(indices)

    @adapter.implements(f"max_pool{rank}d.backward", max_padding="half-kernel")
    def backward(
        x: Array, dy: Array, kernel: Size, stride: Size | None, padding: Size, dilation: Size, ceil_mode: bool
    ) -> Array:
        image = _tensor(x, device).requires_grad_()
        if any(padding) and any(step > 1 for step in dilation):
            # torch takes such a window's index from outside the plane, and its gradient then writes
            # outside the array (https://github.com/pytorch/pytorch/issues/114216). MAXPOOL-3 allows to
            # refuse; the forward call shows the wrong index, which harms nobody.
            blank = function(torch.zeros_like(image), kernel, stride, padding, dilation, ceil_mode)
            if torch.isinf(blank).any():
                raise ValueError(f"padding={padding}, dilation={dilation}: a window without a real element")
        y = function(image, kernel, stride, padding, dilation, ceil_mode)
        return _gradients(y, [image], _tensor(dy, device))[0]


def _average_pooling(adapter: Adapter, device: str, rank: int) -> None:
    function: Callable[..., torch.Tensor] = getattr(F, f"avg_pool{rank}d")

    @adapter.implements(f"avg_pool{rank}d", max_padding="half-kernel")
    def forward(
        x: Array,
        kernel: Size,
        stride: Size | None,
        padding: Size,
        ceil_mode: bool,
        count_include_pad: bool,
    ) -> Array:
        return _array(function(_tensor(x, device), kernel, stride, padding, ceil_mode, count_include_pad))

    @adapter.implements(f"avg_pool{rank}d.backward", max_padding="half-kernel")
    def backward(
        x: Array,
        dy: Array,
        kernel: Size,
        stride: Size | None,
        padding: Size,
        ceil_mode: bool,
        count_include_pad: bool,
    ) -> Array:
        image = _tensor(x, device).requires_grad_()
        y = function(image, kernel, stride, padding, ceil_mode, count_include_pad)
        return _gradients(y, [image], _tensor(dy, device))[0]


def _known_limits(adapter: Adapter) -> None:
    """Declare what PyTorch 2.13 answers otherwise than the standard, each with a link."""
    for rank in RANKS:
        for operator in (f"conv{rank}d", f"conv{rank}d.backward"):
            adapter.known_limit(
                operator,
                "CONV-6",
                reason="Without input channels the output has no channels either, whatever the weights say.",
                link="https://github.com/pytorch/pytorch/issues/56998",
            )
        adapter.known_limit(
            f"max_pool{rank}d",
            "MAXPOOL-3",
            reason="The index of a window without a real element is no element of the plane, and not -1.",
            link="https://github.com/pytorch/pytorch/issues/114216",
        )
        for operator in (f"conv{rank}d.backward", f"max_pool{rank}d.backward", f"avg_pool{rank}d.backward"):
            adapter.known_limit(
                operator,
                "CONTRACT-6",
                reason="Autograd converts a dy of another dtype instead of refusing it.",
                link="https://github.com/pytorch/pytorch/pull/22273",
            )
    for operator in ("avg_pool3d", "avg_pool3d.backward"):
        adapter.known_limit(
            operator,
            "WINDOW-7",
            reason="An input smaller than the kernel is refused, though padding or ceil rounding makes room.",
            link="https://github.com/pytorch/pytorch/blob/v2.13.0/aten/src/ATen/native/Pool.h",
        )


adapter = make()
cuda = make("cuda")
