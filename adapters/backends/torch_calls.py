"""What the adapters of PyTorch call: a wrapper for each operator and rank; gradients by autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 — everybody's name for it

from convform.adapters.adapter import Adapter
from convform.adapters.backends.torch_scripts import ARGUMENTS, function_of
from convform.adapters.backends.torch_tensors import Place, array_of
from convform.adapters.layout import Array
from convform.spec.operators import OPERATORS

Size = tuple[int, ...]

FLOATS = ("float64", "float32", "float16", "bfloat16")


def _call(operator: str, **values: Any) -> Any:
    """Call torch's function for an operator."""
    function: Callable[..., Any] = getattr(F, function_of(operator))
    return function(*(values[name] for name in ARGUMENTS[OPERATORS[OPERATORS[operator].forward].family]))


def _gradients(y: torch.Tensor, inputs: Sequence[torch.Tensor], dy: torch.Tensor) -> list[Array]:
    return [array_of(gradient) for gradient in torch.autograd.grad(y, inputs, dy)]


def register(adapter: Adapter, place: Place, ranks: Sequence[int]) -> None:
    """Register convolution and pooling for some numbers of spatial axes."""
    for rank in ranks:
        _convolution(adapter, place, rank)
        _max_pooling(adapter, place, rank)
        _average_pooling(adapter, place, rank)


def register_columns(adapter: Adapter, place: Place) -> None:
    """Register the columns of images, which torch has for two axes."""

    @adapter.implements("im2col")
    def unfold(x: Array, kernel: Size, stride: Size, padding: Size, dilation: Size) -> Array:
        window = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        return array_of(_call("im2col", x=place.tensor(x), **window))

    @adapter.implements("col2im")
    def fold(
        cols: Array, input_size: Size, kernel: Size, stride: Size, padding: Size, dilation: Size
    ) -> Array:
        window = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        x = _call("col2im", cols=place.tensor(cols), output_size=input_size[2:], **window)
        # torch is told the spatial sizes only; the others follow from the columns and must agree.
        if tuple(x.shape) != input_size:
            raise ValueError(f"columns of shape {cols.shape} do not belong to an input of size {input_size}")
        return array_of(x)


def _convolution(adapter: Adapter, place: Place, rank: int) -> None:
    name = f"conv{rank}d"

    @adapter.implements(name)
    def forward(
        x: Array, w: Array, stride: Size, padding: Size, dilation: Size, groups: int, b: Array | None = None
    ) -> Array:
        window = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        bias = None if b is None else place.tensor(b)
        with place.exact_products():
            return array_of(_call(name, x=place.tensor(x), w=place.tensor(w), b=bias, **window))

    @adapter.implements(f"{name}.backward")
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
        window = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        # db is the same whatever the bias was, and there is one without a bias, too (CONVGRAD-3).
        b = np.zeros(len(w), w.dtype) if b is None else b
        image, weight, bias = (place.tensor(array).requires_grad_() for array in (x, w, b))
        with place.exact_products():
            y = _call(name, x=image, w=weight, b=bias, **window)
            return _gradients(y, [image, weight, bias], place.tensor(dy))


def _max_pooling(adapter: Adapter, place: Place, rank: int) -> None:
    name = f"max_pool{rank}d"

    @adapter.implements(name, indices=True, max_padding="half-kernel")
    def forward(
        x: Array, kernel: Size, stride: Size | None, padding: Size, dilation: Size, ceil_mode: bool
    ) -> tuple[Array, Array]:
        window = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        y, indices = _call(name, x=place.tensor(x), ceil_mode=ceil_mode, return_indices=True, **window)
        return array_of(y), array_of(indices)

    @adapter.implements(f"{name}.backward", max_padding="half-kernel")
    def backward(
        x: Array, dy: Array, kernel: Size, stride: Size | None, padding: Size, dilation: Size, ceil_mode: bool
    ) -> Array:
        image = place.tensor(x).requires_grad_()
        given: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        given |= {"ceil_mode": ceil_mode, "return_indices": False}
        if any(padding) and any(step > 1 for step in dilation):
            # torch takes such a window's index from outside the plane, and its gradient then writes
            # outside the array (https://github.com/pytorch/pytorch/issues/114216). MAXPOOL-3 allows to
            # refuse; the forward call shows the wrong index, which harms nobody.
            blank = _call(name, x=torch.zeros_like(image), **given)
            if torch.isinf(blank).any():
                raise ValueError(f"padding={padding}, dilation={dilation}: a window without a real element")
        return _gradients(_call(name, x=image, **given), [image], place.tensor(dy))[0]


def _average_pooling(adapter: Adapter, place: Place, rank: int) -> None:
    name = f"avg_pool{rank}d"
    # avg_pool3d is implemented for no half type on the CPU.
    dtypes = FLOATS if rank < 3 or place.on_gpu else FLOATS[:2]

    @adapter.implements(name, dtypes=dtypes, max_padding="half-kernel")
    def forward(
        x: Array,
        kernel: Size,
        stride: Size | None,
        padding: Size,
        ceil_mode: bool,
        count_include_pad: bool,
    ) -> Array:
        given: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding}
        given |= {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
        return array_of(_call(name, x=place.tensor(x), **given))

    @adapter.implements(f"{name}.backward", dtypes=dtypes, max_padding="half-kernel")
    def backward(
        x: Array,
        dy: Array,
        kernel: Size,
        stride: Size | None,
        padding: Size,
        ceil_mode: bool,
        count_include_pad: bool,
    ) -> Array:
        image = place.tensor(x).requires_grad_()
        given: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding}
        given |= {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
        return _gradients(_call(name, x=image, **given), [image], place.tensor(dy))[0]
