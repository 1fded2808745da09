"""What the adapters of ONNX call: wrappers that run a model of one node."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx

from convform.adapters.adapter import Adapter
from convform.adapters.backends import onnx_models
from convform.adapters.layout import Array
from convform.spec.operators import OPERATORS

Size = tuple[int, ...]
Padding = tuple[tuple[int, int], ...] | str
Run = Callable[[onnx.ModelProto, Mapping[str, Array]], Sequence[Array]]
"""Runs a model on arrays by name and returns its outputs in order."""


def register(
    adapter: Adapter,
    run: Run,
    families: Mapping[str, Mapping[str, Any]],
    *,
    indices: bool = True,
    bound: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> None:
    """Register wrappers that run models of one node and pad in numbers, for all ranks.

    Parameters
    ----------
    adapter
        Where to register them.
    run
        What runs a model.
    families
        Claims by operator family, beside those that every ONNX implementation shares.
    indices
        Whether to ask `MaxPool` for indices.
    bound
        Values of parameters that are not claimed, by operator.
    """
    wrappers = _wrappers(run, indices)
    for operator in OPERATORS.values():
        if operator.family in families:
            claims: dict[str, Any] = {"padding": "low-high", **families[operator.family]}
            if operator.is_pooling:
                claims["default_stride"] = False  # without strides ONNX moves by one
            if operator.family == "max_pool" and indices:
                claims |= {"indices": True, "index": "nchw"}
            values = bound.get(operator.name, {})
            if "padding" in values:
                del claims["padding"]
            wrapper = wrappers[operator.family]
            adapter.implements(operator.name, **claims)(functools.partial(wrapper, **values))


def _wrappers(run: Run, indices: bool) -> Mapping[str, Callable[..., Any]]:
    """What runs a model, by operator family."""
    answer = _answering(run, indices)

    def col2im(
        cols: Array, input_size: Size, kernel: Size, stride: Size, padding: Padding, dilation: Size
    ) -> Array:
        shapes = {"image_shape": np.array(input_size[2:]), "block_shape": np.array(kernel)}
        window = {"stride": stride, "padding": padding, "dilation": dilation}
        (x,) = answer("col2im", {"cols": cols, **shapes}, **window)
        # Only the spatial sizes were said; the others follow from the columns and must agree.
        if x.shape != input_size:
            raise ValueError(f"columns of shape {cols.shape} do not belong to an input of size {input_size}")
        return x

    def conv(
        x: Array,
        w: Array,
        stride: Size,
        padding: Padding,
        dilation: Size,
        groups: int,
        b: Array | None = None,
    ) -> Array:
        window = {"stride": stride, "padding": padding, "dilation": dilation}
        return answer("conv", {"x": x, "w": w, "b": b}, **window, groups=groups)[0]

    def max_pool(
        x: Array, kernel: Size, stride: Size, padding: Padding, dilation: Size, ceil_mode: bool
    ) -> Any:
        window = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        returned = answer("max_pool", {"x": x}, **window, ceil_mode=ceil_mode)
        return tuple(returned) if indices else returned[0]

    def avg_pool(
        x: Array,
        kernel: Size,
        stride: Size,
        padding: Padding,
        dilation: Size,
        ceil_mode: bool,
        count_include_pad: bool,
    ) -> Array:
        window = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
        flags = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
        return answer("avg_pool", {"x": x}, **window, **flags)[0]

    return {"col2im": col2im, "conv": conv, "max_pool": max_pool, "avg_pool": avg_pool}


def register_same(adapter: Adapter, run: Run, families: Mapping[str, Mapping[str, Any]]) -> None:
    """Register wrappers that pad in words (``auto_pad``), for two spatial axes.

    The word means something only together with the stride and the dilation. To keep the two apart, a
    convolution takes strides here, and a maximum takes dilations and moves by its kernel.

    Parameters
    ----------
    adapter
        Where to register them.
    run
        What runs a model.
    families
        Claims by operator family.
    """
    answer = _answering(run, indices=False)

    def conv(x: Array, w: Array, stride: Size, padding: str, groups: int, b: Array | None = None) -> Array:
        return answer("conv", {"x": x, "w": w, "b": b}, stride=stride, padding=padding, groups=groups)[0]

    def max_pool(x: Array, kernel: Size, padding: str, dilation: Size) -> Array:
        window = {"kernel": kernel, "stride": kernel, "padding": padding, "dilation": dilation}
        return answer("max_pool", {"x": x}, **window)[0]

    wrappers: Mapping[str, Callable[..., Any]] = {"conv": conv, "max_pool": max_pool}
    for operator in OPERATORS.values():
        if operator.family in families and operator.rank == 2:
            claims = {"padding": "string", **families[operator.family]}
            adapter.implements(operator.name, **claims)(wrappers[operator.family])


def _answering(run: Run, indices: bool) -> Callable[..., list[Array]]:
    """Return what builds the model of a call, by family, arrays and parameters, and runs it."""

    def answer(family: str, arrays: Mapping[str, Array | None], **parameters: Any) -> list[Array]:
        op, _, outputs = onnx_models.NODES[family]
        outputs = outputs if indices else outputs[:1]
        feeds = {name: array for name, array in arrays.items() if array is not None}
        model = onnx_models.model_of(
            op, feeds, outputs, onnx_models.attributes_of(family, parameters), onnx_models.OPSET
        )
        return list(run(model, feeds))

    return answer
