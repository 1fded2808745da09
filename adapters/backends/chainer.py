"""Chainer on the CPU: `chainer.functions`, gradients by ``backward()``.

Chainer 7.8.1 is the last release. It runs on NumPy before 1.24, in floating point only. Its own choices:
``cover_all`` keeps a last window that starts beyond the input; an index counts inside its window; average
pooling knows no ``cover_all``, and leaves padding out with ``pad_value=None``. Columns come from
`chainer.functions.im2col` in two dimensions, from `chainer.utils.conv_nd` otherwise and on the way back.
"""

from __future__ import annotations

import chainer

from convform.adapters.backends import chainer_calls as calls
from convform.adapters.backends.library import Library
from convform.spec.operators import RANKS

_CHAINER = Library(
    "import chainer\nimport chainer.functions as F\nfrom chainer.utils import conv_nd",
    calls.call,
    calls.derive,
)

adapter = _CHAINER.adapter(
    "chainer",
    dtypes=("float64", "float32", "float16"),
    version=chainer.__version__,
    install="pip install 'convform[chainer]'",
)
for _rank in RANKS:
    _columns = "" if _rank == 2 else f"{_rank}d"
    _all_axes = "n c kd kh kw od oh ow"
    if _rank == 2:
        _CHAINER.register(adapter, "im2col", calls.im2col, columns="n (c kh kw) oh ow")
    else:
        _CHAINER.register(adapter, f"im2col{_columns}", calls.im2col_nd, columns=_all_axes)
    _CHAINER.register(adapter, f"col2im{_columns}", calls.col2im, columns=_all_axes)
    _CHAINER.register(adapter, f"conv{_rank}d conv{_rank}d.backward", calls.conv)
    _CHAINER.register(adapter, f"max_pool{_rank}d", calls.max_pool, indices=True, index="window")
    _CHAINER.register(adapter, f"max_pool{_rank}d.backward", calls.max_pool)
    _CHAINER.register(adapter, f"avg_pool{_rank}d avg_pool{_rank}d.backward", calls.avg_pool)

_SOURCE = "https://github.com/chainer/chainer/blob/v7.8.1/chainer"
_CONNECTION, _POOLING = f"{_SOURCE}/functions/connection", f"{_SOURCE}/functions/pooling"

# What Chainer 7.8.1 answers otherwise than the standard.
# fmt: off
known = adapter.known_limit
known("im2col* col2im*", "WINDOW-6", shows="answers",
      reason="Dilation 0 is computed: all taps fall on the first.", link=f"{_SOURCE}/utils/conv_nd.py")
known("col2im*", "COL2IM-3", shows="answers",
      reason="Columns of one window are broadcast over all windows.", link=f"{_SOURCE}/utils/conv_nd.py")
known("conv?d", "WINDOW-6", shows="answers",
      reason="A kernel of size zero is computed: the sum over no taps.", link=f"{_SOURCE}/utils/conv.py")
known("conv?d*", "CONTRACT-6", shows="answers",
      reason="Weights of another floating dtype are taken; the output has the dtype of x.",
      link="https://github.com/chainer/chainer/issues/6436")
known("conv?d*", "CONV-7", ranks=(1, 3), shows="answers",
      reason="Zero groups are computed as one.", link=f"{_CONNECTION}/convolution_nd.py")
known("max_pool?d* avg_pool?d*", "CONTRACT-7", shows="raises",
      reason="An empty batch is refused by the type check.", link=f"{_POOLING}/pooling_nd.py")
known("max_pool?d", "MAXPOOL-3", shows="values",
      reason="A window without a real element reports its first tap.", link=f"{_POOLING}/max_pooling_nd.py")
known("max_pool?d*", "MAXPOOL-4", shows="values",
      reason="Padding is −inf: in a window of −inf alone, padding may be selected.",
      link=f"{_POOLING}/max_pooling_nd.py")
known("avg_pool?d", "WINDOW-6", shows="answers",
      reason="A kernel of size zero is computed: the mean of no taps, NaN.", link=f"{_SOURCE}/utils/conv.py")
# A case may count the padding.
known("avg_pool?d.backward", "CONTRACT-1", when="padding does not count", always=False,
      reason="With pad_value=None, dy is divided in place.", link=f"{_POOLING}/average_pooling_nd.py")
known("avg_pool?d.backward", "CONTRACT-3", when="padding does not count", always=False,
      reason="With pad_value=None, dy is divided in place, so a read-only one is refused.",
      link=f"{_POOLING}/average_pooling_nd.py")
# The numbers drawn decide.
known("col2im*", "large_and_small", dtypes="float16", shows="values", always=False,
      reason="Partial results are rounded to float16 with every overlap.", link=f"{_SOURCE}/utils/conv_nd.py")
known("conv?d*", "CONV-5", dtypes="float16", shows="values", always=False,
      reason="Partial results are rounded to float16: before the bias, and with every overlap.",
      link=f"{_CONNECTION}/convolution_nd.py")
known("avg_pool?d*", "AVGPOOL-4", dtypes="float16", shows="values", always=False,
      reason="Partial results are rounded to float16 with every overlap.",
      link=f"{_POOLING}/average_pooling_nd.py")
# fmt: on
