"""Chainer on the CPU: `chainer.functions`, gradients by ``backward()``.

Chainer 7.8.1 is the last release. It runs on NumPy before 1.24, in floating point only. Its own choices:
``cover_all`` keeps a last window that starts beyond the input; an index counts inside its window; average
pooling knows no ``cover_all``, and leaves padding out with ``pad_value=None``. Columns come from
`chainer.functions.im2col` in two dimensions, from `chainer.utils.conv_nd` otherwise and on the way back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import chainer

from convform.adapters.adapter import Adapter
from convform.adapters.backends import chainer_calls
from convform.spec.operators import OPERATORS, RANKS

_FORWARD = {
    "conv": "F.convolution_{rank}d(*inputs, stride={stride}, pad={padding}, dilate={dilation}, "
    "groups={groups})",
    "max_pool": "F.max_pooling_nd(*inputs, {kernel}, {stride}, {padding}, False, return_indices=True)",
    "avg_pool": "F.average_pooling_nd(*inputs, {kernel}, {stride}, {padding}, {pad_value})",
    "im2col": "F.im2col(*inputs, {kernel}, {stride}, {padding}, False, {dilation})",
}
_COLUMNS = {
    "im2col": "{{'cols': conv_nd.im2col_nd(x, {kernel}, {stride}, {padding}, dilate={dilation})}}",
    "col2im": "{{'x': conv_nd.col2im_nd(cols, {stride}, {padding}, {input_size}[2:], {dilation})}}",
}


def script(operator: str, parameters: Mapping[str, Any]) -> str | None:
    """Write a call as Python source that needs Chainer only; see `Adapter`."""
    row = OPERATORS[operator]
    family, _, gradient = row.family.partition(".")
    pad_value = 0 if parameters.get("count_include_pad", True) else None
    arguments = {**parameters, "rank": row.rank, "pad_value": pad_value}
    if family in _COLUMNS and operator != "im2col":
        answer = _COLUMNS[family].format(**arguments)
        return f"from chainer.utils import conv_nd\nanswer = {answer}\n"
    arrays = "x, w, b" if family == "conv" else "x"
    lines = [
        "import chainer",
        "import chainer.functions as F",
        f"inputs = [chainer.Variable(array) for array in ({arrays},) if array is not None]",
        f"outputs = {_FORWARD[family].format(**arguments)}",
        "y = outputs[0] if isinstance(outputs, tuple) else outputs",
    ]
    if gradient:
        lines += [
            "y.grad = dy",
            "y.backward()",
            "answer = dict(zip(('dx', 'dw', 'db'), (variable.grad for variable in inputs)))",
        ]
    elif family == "max_pool":
        lines.append("answer = {'y': y.array, 'indices': outputs[1]}")
    else:
        lines.append(f"answer = {{{'cols' if family == 'im2col' else 'y'!r}: y.array}}")
    return "\n".join(lines) + "\n"


adapter = Adapter(
    "chainer",
    dtypes=("float64", "float32", "float16"),
    version=chainer.__version__,
    install="pip install 'convform[chainer]'",
    script=script,
)
for _rank in RANKS:
    chainer_calls.register_columns(adapter, _rank)
    chainer_calls.register_convolution(adapter, _rank)
    chainer_calls.register_max_pooling(adapter, _rank)
    chainer_calls.register_average_pooling(adapter, _rank)

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
