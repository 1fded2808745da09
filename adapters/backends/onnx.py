"""ONNX: the standard's own evaluator, ``onnx.reference.ReferenceEvaluator``, written in NumPy.

`MaxPool` is asked for values alone: its indices are right only where strides or dilations are not all 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx.reference import ReferenceEvaluator

from convform.adapters.adapter import Adapter
from convform.adapters.backends import onnx_calls, onnx_models
from convform.adapters.layout import Array

_RUNNING = """\
returned = onnx.reference.ReferenceEvaluator(model).run(None, feeds)"""


def make() -> Adapter:
    """Describe ONNX's reference evaluator.

    Padding a maximum and rounding up in an average go wrong for any number of axes, in the same code, and
    then most laws meet them. They are claimed for two axes alone, so that the other operators say something.
    """
    adapter = Adapter(
        "onnx",
        dtypes=("float64", "float32", "float16"),
        version=onnx.__version__,
        install="pip install 'convform[onnx]'",
        script=script,
    )
    bound: dict[str, dict[str, Any]] = {}
    for rank in (1, 3):
        bound[f"max_pool{rank}d"] = {"padding": ((0, 0),) * rank}
        bound[f"avg_pool{rank}d"] = {"ceil_mode": False}
    families: dict[str, dict[str, Any]] = {"col2im": {}, "conv": {}, "max_pool": {}, "avg_pool": {}}
    onnx_calls.register(adapter, _run, families, indices=False, bound=bound)
    return adapter


def script(operator: str, parameters: Mapping[str, Any]) -> str | None:
    """Write a call as a program of its own; see `convform.adapters.Adapter`."""
    return onnx_models.script(operator, parameters, "onnx.reference", _RUNNING, indices=False)


def _run(model: Any, feeds: Mapping[str, Array]) -> Sequence[Array]:
    returned: Sequence[Array] = ReferenceEvaluator(model).run(None, dict(feeds))
    return returned


adapter = make()

_OPS = "https://github.com/onnx/onnx/blob/main/onnx/reference/ops"

# What ONNX 1.23 answers otherwise than its own standard or ours.
# fmt: off
known = adapter.known_limit
known("col2im*", "COL2IM-1", dtypes="float16", shows="values",
      reason="float16 is added up in float16.", link=f"{_OPS}/op_col2im.py")
known("col2im*", "CONTRACT-7", shows="raises",
      reason="A batch without samples has no result.", link=f"{_OPS}/op_col2im.py")
known("col2im*", "WINDOW-6", shows="answers",
      reason="Negative padding is accepted, though ONNX allows none.",
      link="https://onnx.ai/onnx/operators/onnx__Col2Im.html")
known("conv?d", "CONV-5", dtypes="float16", shows="values", always=False,
      reason="float16 is multiplied and added up in float16.", link=f"{_OPS}/op_conv.py")
known("conv?d", "CONV-7", shows="answers",
      reason="A bias of one element is added to all channels.", link=f"{_OPS}/op_conv.py")
known("conv?d", "CONTRACT-6", shows="answers",
      reason="NumPy promotes dtypes that ONNX wants to be equal.", link=f"{_OPS}/op_conv.py")
known("conv?d", "WINDOW-6", shows="answers",
      reason="A kernel without taps is accepted.", link=f"{_OPS}/op_conv.py")
known("max_pool?d", "MAXPOOL-4",
      reason="NaN stands for padding, so it is dropped, and a window of NaN alone raises.",
      link=f"{_OPS}/_op_common_pool.py")
known("max_pool?d", "WINDOW-6", shows="answers",
      reason="A kernel that does not fit gives an empty output or raises, depending on stride and dilation.",
      link=f"{_OPS}/op_max_pool.py")
known("max_pool2d", "WINDOW-3 WINDOW-7 WINDOW-8",
      when="there is padding and not (stride > 1), or there is padding and not (dilation > 1)",
      reason="Where stride and dilation are 1, pads are read as if both ends of an axis stood side by side, "
             "and not all beginnings before all ends.",
      link=f"{_OPS}/_op_common_pool.py")
known("max_pool2d", "MAXPOOL-3",
      reason="A window without a real element is 0 or raises.", link=f"{_OPS}/op_max_pool.py")
known("max_pool3d", "CONTRACT-9", shows="answers",
      reason="An input without samples and channels is pooled.", link=f"{_OPS}/op_max_pool.py")
known("avg_pool2d", "WINDOW-2 WINDOW-4 WINDOW-5 WINDOW-7 AVGPOOL-4", when="ceil_mode is on",
      reason="Under ceil rounding half of the overhang is put before the input, which moves all windows.",
      link=f"{_OPS}/op_pool_common.py")
known("avg_pool?d", "WINDOW-6", shows="answers",
      reason="A kernel without taps is accepted.", link=f"{_OPS}/op_pool_common.py")
# fmt: on
