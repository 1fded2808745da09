"""MLX on the CPU: `mlx.core.conv_general` and the pooling layers of `mlx.nn`, gradients by `mlx.core.vjp`.

Channels come last, in inputs and in weights. The convolution has no bias (only its layers add one), takes
padding before and after apart, and has groups along one or two spatial axes only. In float64 it refuses
dilation and most groups, so float64 is claimed for pooling alone. Max pooling pads with −inf, averages count
the padding, and neither has dilation, ceil rounding or indices. A tie's gradient is split, as in every
maximum of MLX.
"""

from __future__ import annotations

import mlx.core as mx

from convform.adapters.backends import mlx_calls as calls
from convform.adapters.backends.library import Library
from convform.spec.operators import RANKS

_MLX = Library("import mlx.core as mx\nimport mlx.nn as nn", calls.call, calls.derive)

adapter = _MLX.adapter(
    "mlx",
    input="n d h w c",
    weight="o kd kh kw i",
    dtypes=("float64", "float32", "float16"),
    version=mx.__version__,
    install="pip install 'convform[mlx]'",
    isolated=True,
)
for _rank in RANKS:
    _conv, _max_pool, _avg_pool = f"conv{_rank}d", f"max_pool{_rank}d", f"avg_pool{_rank}d"
    _MLX.register(
        adapter,
        f"{_conv} {_conv}.backward",
        calls.conv if _rank < 3 else calls.conv_without_groups,
        padding="low-high",
        dtypes=("float32", "float16"),
    )
    _MLX.register(adapter, _max_pool, calls.max_pool, oversize="empty")
    _MLX.register(adapter, f"{_max_pool}.backward", calls.max_pool, ties="split")
    _MLX.register(adapter, _avg_pool, calls.avg_pool, oversize="empty")
    _MLX.register(adapter, f"{_avg_pool}.backward", calls.avg_pool)

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
