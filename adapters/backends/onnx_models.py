"""ONNX models of one node, built in memory: what ONNX's own evaluator and ONNX Runtime have in common.

ONNX is a format with a written standard: ``n c h w`` for images, ``o i kh kw`` for weights, all paddings
before the input first and all those after it last, or one word for them (``auto_pad``); an index of
`MaxPool` counts through the whole tensor, samples and channels included. It has neither gradients nor
im2col.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import onnx

from convform.spec.operators import OPERATORS

OPSET = 22
"""The version of the operators: that in which `Conv`, `MaxPool` and `AveragePool` changed last."""

# family: (operator of ONNX, inputs, outputs)
NODES: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
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
    if row.family not in NODES:
        return None
    if row.is_pooling and "stride" not in parameters:
        parameters = {**parameters, "stride": parameters["kernel"]}  # as where padding is in words
    parameters = {"padding": ((0, 0),) * row.rank, **parameters}
    op, inputs, outputs = NODES[row.family]
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
