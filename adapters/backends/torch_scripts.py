"""PyTorch's functions by operator, and a call of one as a script."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from convform.adapters.backends.torch_tensors import Place
from convform.spec.operators import OPERATORS

ARGUMENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "im2col": ("x", "kernel", "dilation", "padding", "stride"),
        "col2im": ("cols", "output_size", "kernel", "dilation", "padding", "stride"),
        "conv": ("x", "w", "b", "stride", "padding", "dilation", "groups"),
        "max_pool": ("x", "kernel", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
        "avg_pool": ("x", "kernel", "stride", "padding", "ceil_mode", "count_include_pad"),
    }
)
"""What torch's functions take, by operator family and in torch's order, under the standard's names."""


def function_of(operator: str) -> str:
    """Name of torch's function for an operator, or for the forward pass of a gradient."""
    forward = OPERATORS[operator].forward
    return {"im2col": "unfold", "col2im": "fold"}.get(forward, forward)


_SCRIPT = """\
import numpy as np
import torch
import torch.nn.functional as F


def tensor(array):
    if array.dtype.name == "bfloat16":
        return tensor(array.astype(np.float32)).bfloat16()
    return torch.from_numpy(np.array(array, order="C")){moved}


def numpy(tensor):
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


{body}"""


def script(operator: str, parameters: Mapping[str, Any], place: Place | None = None) -> str:
    """Write a call as Python that needs NumPy and torch alone; see `convform.adapters.Adapter`."""
    place, row = place or Place(), OPERATORS[operator]
    values = {name: repr(value) for name, value in parameters.items()}
    values |= {"output_size": repr(tuple(parameters.get("input_size", ())[2:])), "return_indices": "False"}
    inputs = ["x", "w", "b"] if "w" in row.inputs else [next(iter(row.inputs))]
    moved = "" if place.device == "cpu" else f".to({place.device!r})"
    memory_format = place.memory_format(row.rank)
    lines = ["torch.backends.cudnn.allow_tf32 = False"] if place.on_gpu else []
    lines += [f"{name}_ = tensor({name})" for name in inputs if name != "b"]
    if memory_format:
        lines += [f"{name}_ = {name}_.to(memory_format={memory_format})" for name in inputs if name != "b"]
    if row.name != row.forward:
        lines += ["b_ = tensor(np.zeros(len(w), w.dtype) if b is None else b)"] if "b" in inputs else []
        lines += [f"{name}_.requires_grad_()" for name in inputs]
    elif "b" in inputs:
        lines.append("b_ = None if b is None else tensor(b)")
    if row.name == row.forward and row.family == "max_pool":
        values["return_indices"] = "True"
    family = OPERATORS[row.forward].family
    given = ", ".join(f"{name}_" if name in inputs else values[name] for name in ARGUMENTS[family])
    called = f"F.{function_of(operator)}({given})"
    if row.name != row.forward:
        listed, named = ", ".join(f"{name}_" for name in inputs), ", ".join(f'"d{name}"' for name in inputs)
        dy = "tensor(dy)" + (f".to(memory_format={memory_format})" if memory_format else "")
        lines += [f"gradients = torch.autograd.grad({called}, [{listed}], {dy})"]
        lines += [f"answer = dict(zip([{named}], map(numpy, gradients)))"]
    elif row.family == "max_pool":
        lines += [f"y, indices = {called}", 'answer = {"y": numpy(y), "indices": numpy(indices)}']
    else:
        lines.append(f'answer = {{"{next(iter(row.outputs))}": numpy({called})}}')
    return textwrap.dedent(_SCRIPT).format(moved=moved, body="\n".join(lines) + "\n")
