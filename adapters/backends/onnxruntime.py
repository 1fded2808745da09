"""ONNX Runtime: models of one node, run by the CPU execution provider.

`adapter` asks `MaxPool` for its indices, `plain` for values alone, which takes other code; `same` pads in
words (``auto_pad``). Shapes are written into the models, as in models that
are exported from elsewhere, and a session is kept for each. What ONNX Runtime has no kernel for it converts:
half precision is computed in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import onnxruntime

from convform.adapters.adapter import Adapter
from convform.adapters.backends import onnx_calls, onnx_models
from convform.adapters.layout import Array

_RUNNING = """\
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
returned = session.run(None, feeds)"""


def _describe(name: str, indices: bool = False) -> Adapter:
    """Describe ONNX Runtime on the CPU, without any operators yet."""

    def script(operator: str, parameters: Mapping[str, Any]) -> str | None:
        return onnx_models.script(operator, parameters, "onnxruntime", _RUNNING, indices)

    return Adapter(
        name,
        dtypes=("float32", "float16"),
        version=onnxruntime.__version__,
        install="pip install 'convform[onnxruntime]'",
        script=script,
    )


def _run(model: Any, feeds: Mapping[str, Array]) -> Sequence[Array]:
    returned: Sequence[Array] = _session(model.SerializeToString()).run(None, dict(feeds))
    return returned


@functools.lru_cache(maxsize=256)
def _session(model: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a thread pool for every session would wait for nothing
    options.log_severity_level = 4  # what it refuses it raises, too
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


_BELOW = {"max_padding": "below-kernel"}  # https://github.com/microsoft/onnxruntime/issues/801
_MAX_POOL: dict[str, Any] = {"dtypes": ("float64", "float32", "float16", "int8")}

adapter = _describe("onnxruntime", indices=True)
onnx_calls.register(
    adapter, _run, {"col2im": {}, "conv": {}, "max_pool": _MAX_POOL | _BELOW, "avg_pool": _BELOW}
)
plain = _describe("onnxruntime-plain")
onnx_calls.register(plain, _run, {"max_pool": _MAX_POOL | _BELOW}, indices=False)
same = _describe("onnxruntime-same")
onnx_calls.register_same(same, _run, {"conv": {}, "max_pool": _MAX_POOL})

_SOURCE = "https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/providers/cpu/nn"
_ISSUES = "https://github.com/microsoft/onnxruntime/issues"

# What ONNX Runtime 1.31 answers otherwise than the standard, first in every way to call `MaxPool`.
# fmt: off
for _described in (adapter, plain, same):
    known = _described.known_limit
    known("max_pool?d", "WINDOW-6", shows="answers",
          reason="The output size is truncated toward zero: a kernel that does not fit has a window.",
          link=f"{_ISSUES}/25234")
    known("max_pool?d", "MAXPOOL-4", shows="values",
          reason="The maximum starts from the lowest finite number, and whether a NaN counts depends on "
                 "where it is, on the number of channels and on whether indices are asked for.",
          link=f"{_ISSUES}/24819")
    known("max_pool?d", "special_channels", shows="values", always=False,
          reason="Without indices, sixteen channels go to a kernel for blocks of them, in which NaN wins "
                 "where it loses in one channel alone.",
          link=f"{_ISSUES}/24819")
    known("max_pool?d", "MAXPOOL-3", shows="values",
          reason="A window without a real element has the lowest finite number and an index outside of the "
                 "tensor.",
          link=f"{_SOURCE}/pool_functors.h")

known = adapter.known_limit
known("conv?d", "CONV-6", when="there are no channels", shows="values", always=False,
      reason="A sum over no input channels is read from memory that nobody has written.",
      link=f"{_SOURCE}/conv.cc")
known("col2im*", "WINDOW-6", shows="answers",
      reason="Negative padding crops, though ONNX allows none.",
      link="https://onnx.ai/onnx/operators/onnx__Col2Im.html")
known("col2im*", "WINDOW-4 WINDOW-7 WINDOW-8 COL2IM-1", ranks=(1, 3), when="dilation > 1",
      reason="With one or three axes, windows are counted without regard to the dilation.",
      link=f"{_ISSUES}/18156")
known("avg_pool?d", "WINDOW-6", shows="answers",
      reason="The output size is truncated toward zero: a kernel that does not fit has a window.",
      link=f"{_ISSUES}/25234")

known = same.known_limit
known("conv2d", "WINDOW-1 WINDOW-2 WINDOW-7 WINDOW-8", when="a stride exceeds the kernel", always=False,
      reason="A stride beyond the kernel gives SAME a negative padding, which cuts off the beginning.",
      link=f"{_SOURCE}/conv_attributes.h")
known("max_pool2d", "WINDOW-4", when="dilation > 1",
      reason="SAME is computed for the kernel without its dilation.", link=f"{_SOURCE}/pool_attributes.h")
# Any law can meet such a dilation: these are about something else.
known("max_pool2d",
      "WINDOW-7 WINDOW-8 POOL-2 MAXPOOL-3 MAXPOOL-4 CONTRACT-1 CONTRACT-2 CONTRACT-3 CONTRACT-4 CONTRACT-5 "
      "CONTRACT-7",
      when="dilation > 1", always=False,
      reason="SAME is computed for the kernel without its dilation.", link=f"{_SOURCE}/pool_attributes.h")
# fmt: on
