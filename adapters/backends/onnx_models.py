"""ONNX models of one node, built in memory: what ONNX's own evaluator and ONNX Runtime have in common.

ONNX is a format with a written standard: ``n c h w`` for images, ``o i kh kw`` for weights, all paddings
before the input first and all those after it last, or one word for them (``auto_pad``); an index of
`MaxPool` counts through the whole tensor, samples and channels included. It has neither gradients nor
im2col.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx

from convform.adapters.adapter import Adapter
from convform.adapters.layout import Array
from convform.spec.operators import OPERATORS

Size = tuple[int, ...]
Padding = tuple[tuple[int, int], ...] | str
Run = Callable[[onnx.ModelProto, Mapping[str, Array]], Sequence[Array]]
"""Runs a model on arrays by name and returns its outputs in order."""

OPSET = 22
"""The version of the operators: that in which `Conv`, `MaxPool` and `AveragePool` changed last."""

# family: (operator of ONNX, inputs, outputs)
_NODES: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "col2im": ("Col2Im", ("cols", "image_shape", "block_shape"), ("x",)),
    "conv": ("Conv", ("x", "w", "b"), ("y",)),
    "max_pool": ("MaxPool", ("x",), ("y", "indices")),
    "avg_pool": ("AveragePool", ("x",), ("y",)),
}

_ATTRIBUTES: Mapping[str, str] = {
    "stride": "strides",
    "dilation": "dilations",
    "groups": "group",
    "ceil_mode": "ceil_mode",
    "count_include_pad": "count_include_pad",
}


def model_of(
    op: str, feeds: Mapping[str, Any], outputs: Sequence[str], attributes: Mapping[str, Any], opset: int
) -> Any:
    """Build a model of one node for inputs of these dtypes and shapes; reproducers print it as it stands."""
    make = onnx.helper
    kinds = {name: make.np_dtype_to_tensor_dtype(array.dtype) for name, array in feeds.items()}
    returned = {name: next(iter(kinds.values())) for name in outputs}
    if "indices" in returned:
        returned["indices"] = onnx.TensorProto.INT64
    graph = make.make_graph(
        [make.make_node(op, list(feeds), list(outputs), **attributes)],
        op,
        [make.make_tensor_value_info(name, kinds[name], feeds[name].shape) for name in feeds],
        [make.make_tensor_value_info(name, kind, None) for name, kind in returned.items()],
    )
    return make.make_model(graph, opset_imports=[make.make_opsetid("", opset)], ir_version=10)


def attributes_of(family: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Write parameters as the attributes of a node."""
    attributes: dict[str, Any] = {}
    if "kernel" in parameters and family != "col2im":
        attributes["kernel_shape"] = list(parameters["kernel"])
    for name, attribute in _ATTRIBUTES.items():
        if name in parameters:
            value = parameters[name]
            attributes[attribute] = list(value) if isinstance(value, tuple) else int(value)
    padding = parameters["padding"]
    if isinstance(padding, str):
        attributes["auto_pad"] = {"same": "SAME_UPPER", "valid": "VALID"}[padding]
    else:
        attributes["pads"] = [low for low, _ in padding] + [high for _, high in padding]
    return attributes


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

    wrappers: Mapping[str, Callable[..., Any]] = {
        "col2im": col2im,
        "conv": conv,
        "max_pool": max_pool,
        "avg_pool": avg_pool,
    }
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
        op, _, outputs = _NODES[family]
        outputs = outputs if indices else outputs[:1]
        feeds = {name: array for name, array in arrays.items() if array is not None}
        model = model_of(op, feeds, outputs, attributes_of(family, parameters), OPSET)
        return list(run(model, feeds))

    return answer


def script(
    operator: str, parameters: Mapping[str, Any], module: str, running: str, indices: bool = True
) -> str | None:
    """Write a call as a program that needs NumPy, ONNX and what runs it, and nothing else.

    Parameters
    ----------
    operator
        Name of the operator.
    parameters
        What the wrapper was called with, beside arrays.
    module
        The module that runs models.
    running
        Source that computes ``returned`` from ``model`` and ``feeds``.
    indices
        Whether to ask `MaxPool` for indices.
    """
    row = OPERATORS[operator]
    if row.family not in _NODES:
        return None
    if row.is_pooling and "stride" not in parameters:
        parameters = {**parameters, "stride": parameters["kernel"]}  # as in `register_same`
    parameters = {"padding": ((0, 0),) * row.rank, **parameters}
    op, inputs, outputs = _NODES[row.family]
    outputs = outputs if indices else outputs[:1]
    shapes = ""
    if row.family == "col2im":
        image, block = list(parameters["input_size"][2:]), list(parameters["kernel"])
        shapes = f"image_shape, block_shape = np.array({image}), np.array({block})\n"
    named = ", ".join(f'"{name}": {name}' for name in inputs)
    feeds = f"{{{named}}}"
    if "b" in inputs:
        feeds = f"{{name: array for name, array in {feeds}.items() if array is not None}}"
    source = inspect.getsource(model_of).replace(inspect.getdoc(model_of) or "", "Build a model of one node.")
    return (
        "from collections.abc import Mapping, Sequence\n"
        "from typing import Any\n\n"
        f"import numpy as np\nimport onnx\nimport {module}\n\n\n{source}\n\n"
        f"{shapes}feeds = {feeds}\n"
        f"attributes = {attributes_of(row.family, parameters)}\n"
        f'model = model_of("{op}", feeds, {list(outputs)}, attributes, opset={OPSET})\n'
        f"{running}\n"
        f"answer = dict(zip({list(outputs)}, returned))\n"
    )
