"""MLX on the CPU: `mlx.core.conv_general` and the pooling layers of `mlx.nn`, gradients by `mlx.core.vjp`.

Channels come last, in inputs and in weights. The convolution has no bias (only its layers add one), takes
padding before and after apart, and has groups along one or two spatial axes only. In float64 it refuses
dilation and most groups, so float64 is claimed for pooling alone. Max pooling pads with −inf, averages count
the padding, and neither has dilation, ceil rounding or indices. A tie's gradient is split, as in every
maximum of MLX.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from convform.adapters.adapter import Adapter
from convform.adapters.backends import mlx_calls
from convform.spec.operators import RANKS


def script(operator: str, parameters: Mapping[str, Any]) -> str | None:
    """Write a call as Python source that needs MLX only; see `Adapter`."""
    forward, _, gradient = operator.partition(".")
    arguments = {"groups": 1, **parameters}
    if forward.startswith("conv"):
        low, high = zip(*arguments["padding"], strict=True)
        inputs, outputs = ["x", "w"], ["dx", "dw"]
        function = (
            f"lambda x, w: mx.conv_general(x, w, stride={arguments['stride']}, padding=({low}, {high}), "
            f"kernel_dilation={arguments['dilation']}, groups={arguments['groups']})"
        )
    else:
        layer = {"max": "MaxPool", "avg": "AvgPool"}[forward[:3]] + forward[-2:]
        inputs, outputs = ["x"], ["dx"]
        function = f"nn.{layer}({arguments['kernel']}, {arguments['stride']}, {arguments['padding']})"
    names = ", ".join(inputs)
    lines = [
        "import mlx.core as mx",
        "import mlx.nn as nn",
        "import numpy as np",
        f"function = {function}",
        f"inputs = [mx.array(array, dtype=getattr(mx, str(array.dtype))) for array in ({names},)]",
    ]
    if gradient:
        lines += [
            "_, gradients = mx.vjp(function, inputs, [mx.array(dy, dtype=getattr(mx, str(dy.dtype)))])",
            f"answer = dict(zip({outputs}, map(np.array, gradients)))",
        ]
    else:
        lines.append("answer = {'y': np.array(function(*inputs))}")
    return "\n".join(lines) + "\n"


adapter = Adapter(
    "mlx",
    input="n d h w c",
    weight="o kd kh kw i",
    dtypes=("float64", "float32", "float16"),
    version=mx.__version__,
    install="pip install 'convform[mlx]'",
    isolated=True,
    script=script,
)
for _rank in RANKS:
    mlx_calls.register_convolution(adapter, _rank)
    mlx_calls.register_pooling(adapter, _rank)

_CONV = "https://github.com/ml-explore/mlx/blob/v0.32.4/mlx/backend/cpu/conv.cpp"
_OPS = "https://github.com/ml-explore/mlx/blob/v0.32.4/mlx/ops.cpp"
_POOL = "https://github.com/ml-explore/mlx/blob/v0.32.4/python/mlx/nn/layers/pooling.py"

# What MLX 0.32.4 answers otherwise than the standard.
# fmt: off
known = adapter.known_limit
known("conv?d*", "CONV-6",
      reason="Without input channels it divides by zero, which ends the process.", link=_CONV)
known("conv?d*", "CONV-7", ranks=(1, 2),
      reason="Zero groups divide by zero, which ends the process.",
      link="https://github.com/ml-explore/mlx/issues/2858")
known("conv?d", "WINDOW-6",
      reason="A kernel of size zero ends the process inside BLAS; negative padding crops.",
      link="https://github.com/ml-explore/mlx/issues/548")
known("conv?d.backward", "WINDOW-6",
      reason="The gradient of a kernel larger than the input is computed.", link=_OPS)
known("conv?d.backward", "CONTRACT-7",
      reason="The gradient of an empty batch raises, as no empty array can be reshaped, or ends the process.",
      link=_CONV)
known("max_pool?d.backward", "MAXPOOL-4", shows="values",
      reason="Padding is −inf: it ties with elements that are −inf and takes a share of dy.", link=_POOL)
known("max_pool?d.backward avg_pool?d.backward", "WINDOW-6", shows="answers",
      reason="A kernel larger than the input has an output without elements, and so a gradient.", link=_POOL)
known("max_pool?d.backward avg_pool?d.backward", "CONTRACT-6", shows="answers",
      reason="The gradient takes a dy of another dtype instead of refusing it.", link=_OPS)
known("max_pool?d.backward avg_pool?d.backward", "CONTRACT-7", shows="raises",
      reason="The gradient of an empty batch raises: the scatter behind as_strided refuses it.", link=_OPS)
# In the rows from here on, the cases drawn decide.
known("max_pool?d* avg_pool?d", "CONTRACT-3", shows="raises", always=False,
      reason="as_strided refuses an array with gaps between its elements.", link=_POOL)
known("avg_pool?d*", "AVGPOOL-4", dtypes="float16", shows="values", always=False,
      reason="Averages multiply by a rounded reciprocal, in float16 as well.", link=_OPS)
known("conv?d.backward", "sweep small_input views", when="stride does not divide n + p − e", shows="shape",
      always=False,
      reason="dw is longer than w where much is left over behind the last window.",
      link="https://github.com/ml-explore/mlx/issues/2184")
# fmt: on
