"""What the adapters of ONNX call: wrappers that run a model of one node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx

from convform.adapters.adapter import Adapter
from convform.adapters.backends import onnx_models
from convform.adapters.backends.library import taking
from convform.adapters.layout import Array
from convform.spec.operators import OPERATORS, Operator

Run = Callable[[onnx.ModelProto, Mapping[str, Array]], Sequence[Array]]
"""Runs a model on arrays by name and returns its outputs in order."""

_TAKES: Mapping[str, str] = {
    "col2im": "cols input_size kernel stride padding dilation",
    "conv": "x w stride padding dilation groups b",
    "max_pool": "x kernel stride padding dilation ceil_mode",
    "avg_pool": "x kernel stride padding dilation ceil_mode count_include_pad",
}
# The word means something only together with the stride and the dilation. To keep the two apart, a
# convolution takes strides here, and a maximum takes dilations and moves by its kernel.
_TAKES_WITH_A_WORD: Mapping[str, str] = {
    "conv": "x w stride padding groups b",
    "max_pool": "x kernel padding dilation",
}


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
    for row in (row for row in OPERATORS.values() if row.family in families):
        values = bound.get(row.name, {})
        claims: dict[str, Any] = {} if "padding" in values else {"padding": "low-high"}
        if row.is_pooling:
            claims["default_stride"] = False  # without strides ONNX moves by one
        if row.family == "max_pool" and indices:
            claims |= {"indices": True, "index": "nchw"}
        takes = [name for name in _TAKES[row.family].split() if name not in values]
        wrapper = taking(takes, _wrapper(row, run, indices, values))
        adapter.implements(row.name, **claims, **families[row.family])(wrapper)


def register_same(adapter: Adapter, run: Run, families: Mapping[str, Mapping[str, Any]]) -> None:
    """Register wrappers that pad in words (``auto_pad``), for two spatial axes; see `register`."""
    for row in (row for row in OPERATORS.values() if row.family in families and row.rank == 2):
        wrapper = taking(_TAKES_WITH_A_WORD[row.family].split(), _wrapper(row, run, False, {}))
        adapter.implements(row.name, padding="string", **families[row.family])(wrapper)


def _wrapper(row: Operator, run: Run, indices: bool, bound: Mapping[str, Any]) -> Callable[..., Any]:
    """Return what builds the model of a call and runs it."""
    op, _, outputs = onnx_models.NODES[row.family]
    outputs = outputs if indices else outputs[:1]

    def wrapper(**given: Any) -> dict[str, Array]:
        feeds = {name: given[name] for name in row.inputs if given[name] is not None}
        size = given.get("input_size", ())
        if size:
            feeds |= {"image_shape": np.array(size[2:]), "block_shape": np.array(given["kernel"])}
        if row.is_pooling:
            given.setdefault("stride", given["kernel"])
        attributes = onnx_models.attributes_of(row.family, {**given, **bound})
        model = onnx_models.model_of(op, feeds, outputs, attributes, onnx_models.OPSET)
        answer = dict(zip(outputs, run(model, feeds), strict=True))
        # Only the spatial sizes were said; the others follow from the columns and must agree.
        if size and answer["x"].shape != size:
            shape = given["cols"].shape
            raise ValueError(f"columns of shape {shape} do not belong to an input of size {size}")
        return answer

    return wrapper
