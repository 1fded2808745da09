"""What the adapters of PyTorch call: its functions, and gradients by autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 — everybody's name for it

from convform.adapters.adapter import Adapter
from convform.adapters.backends.library import taking
from convform.adapters.backends.torch_scripts import ARGUMENTS, function_of
from convform.adapters.backends.torch_tensors import Place, array_of
from convform.adapters.layout import Array
from convform.spec.operators import OPERATORS, Operator

Size = tuple[int, ...]

FLOATS = ("float64", "float32", "float16", "bfloat16")


_CLAIMS: Mapping[str, Mapping[str, Any]] = {
    "conv": {},
    "max_pool": {"max_padding": "half-kernel"},
    "avg_pool": {"max_padding": "half-kernel"},
}


def register(adapter: Adapter, place: Place, ranks: Sequence[int]) -> None:
    """Register convolution and pooling for some numbers of spatial axes."""
    for family, rank in ((family, rank) for rank in ranks for family in _CLAIMS):
        # avg_pool3d is implemented for no half type on the CPU.
        halves = family != "avg_pool" or rank < 3 or place.on_gpu
        for name in (f"{family}{rank}d", f"{family}{rank}d.backward"):
            row, dtypes = OPERATORS[name], FLOATS if halves else FLOATS[:2]
            wrapper = (_gradients if row.is_gradient else _answer)(row, place)
            indices = "indices" in row.outputs
            adapter.implements(name, dtypes=dtypes, indices=indices, **_CLAIMS[family])(wrapper)


def register_columns(adapter: Adapter, place: Place) -> None:
    """Register the columns of images, which torch has for two axes."""
    for name in ("im2col", "col2im"):
        adapter.implements(name)(_answer(OPERATORS[name], place))


def _taking(row: Operator, wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """Let a wrapper take what torch's function does."""
    known = {*ARGUMENTS[OPERATORS[row.forward].family], "dy", "input_size"}
    return taking([name for name in (*row.inputs, *row.parameters) if name in known], wrapper)


def _call(row: Operator, **values: Any) -> Any:
    """Call torch's function for an operator, or for the forward pass of a gradient."""
    function: Callable[..., Any] = getattr(F, function_of(row.name))
    return function(*(values[name] for name in ARGUMENTS[OPERATORS[row.forward].family]))


def _answer(row: Operator, place: Place) -> Callable[..., Any]:
    def wrapper(input_size: Size = (), **given: Any) -> dict[str, Array]:
        tensors = {name: place.tensor(given[name]) for name in row.inputs if given[name] is not None}
        with place.exact_products():
            returned = _call(row, **given | tensors, output_size=input_size[2:], return_indices=True)
        outputs = returned if isinstance(returned, tuple) else (returned,)
        answer = dict(zip(row.outputs, map(array_of, outputs), strict=True))
        # torch is told the spatial sizes only; the others follow from the columns and must agree.
        if input_size and answer["x"].shape != input_size:
            shape = given["cols"].shape
            raise ValueError(f"columns of shape {shape} do not belong to an input of size {input_size}")
        return answer

    return _taking(row, wrapper)


def _gradients(row: Operator, place: Place) -> Callable[..., Any]:
    def wrapper(dy: Array, **given: Any) -> list[Array]:
        if "b" in row.inputs and given["b"] is None:
            # db is the same whatever the bias was, and there is one without a bias, too (CONVGRAD-3).
            given["b"] = np.zeros(len(given["w"]), given["w"].dtype)
        inputs = [name for name in row.inputs if name != "dy"]
        given |= {name: place.tensor(given[name]).requires_grad_() for name in inputs}
        given["return_indices"] = False
        padding, dilation = given["padding"], given.get("dilation", ())
        if row.family == "max_pool.backward" and any(padding) and any(step > 1 for step in dilation):
            # torch takes such a window's index from outside the plane, and its gradient then writes
            # outside the array (https://github.com/pytorch/pytorch/issues/114216). MAXPOOL-3 allows to
            # refuse; the forward call shows the wrong index, which harms nobody.
            blank = _call(row, **given | {"x": torch.zeros_like(given["x"])})
            if torch.isinf(blank).any():
                raise ValueError(f"{padding=}, {dilation=}: a window without a real element")
        with place.exact_products():
            y = _call(row, **given)
            gradients = torch.autograd.grad(y, [given[name] for name in inputs], place.tensor(dy))
        return [array_of(gradient) for gradient in gradients]

    return _taking(row, wrapper)
