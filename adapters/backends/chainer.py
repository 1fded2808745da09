"""Chainer on the CPU: `chainer.functions`, gradients by ``backward()``.

Chainer 7.8.1 is the last release. It runs on NumPy before 1.24, in floating point only. Its own choices:
``cover_all`` keeps a last window that starts beyond the input; an index counts inside its window; average
pooling knows no ``cover_all``, and leaves padding out with ``pad_value=None``. Columns come from
`chainer.functions.im2col` in two dimensions, from `chainer.utils.conv_nd` otherwise and on the way back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import chainer
import chainer.functions as F  # noqa: N812 — everybody's name for it
from chainer.utils import conv_nd

from convform.adapters.adapter import Adapter
from convform.adapters.layout import Array
from convform.spec.operators import OPERATORS, RANKS

Size = tuple[int, ...]


def _gradients(y: chainer.Variable, inputs: Sequence[chainer.Variable], dy: Array) -> list[Array]:
    y.grad = dy
    y.backward()
    return [x.grad for x in inputs]


def _columns(adapter: Adapter, rank: int) -> None:
    suffix = "" if rank == 2 else f"{rank}d"

    if rank == 2:

        @adapter.implements("im2col", columns="n (c kh kw) oh ow")
        def gather(x: Array, kernel: Size, stride: Size, padding: Size, dilation: Size) -> Array:
            columns: Array = F.im2col(x, kernel, stride, padding, False, dilation).array
            return columns

    else:

        @adapter.implements(f"im2col{suffix}", columns="n c kd kh kw od oh ow")
        def gather_nd(x: Array, kernel: Size, stride: Size, padding: Size, dilation: Size) -> Array:
            columns: Array = conv_nd.im2col_nd(x, kernel, stride, padding, dilate=dilation)
            return columns

    @adapter.implements(f"col2im{suffix}", columns="n c kd kh kw od oh ow")
    def scatter(
        cols: Array, input_size: Size, kernel: Size, stride: Size, padding: Size, dilation: Size
    ) -> Array:
        # Chainer is told the spatial sizes only; the others follow from the columns and must agree.
        x: Array = conv_nd.col2im_nd(cols, stride, padding, input_size[2:], dilation)
        if x.shape != input_size or cols.shape[2 : 2 + rank] != kernel:
            raise ValueError(
                f"columns of shape {cols.shape} do not belong to size {input_size} and kernel {kernel}"
            )
        return x


def _convolution(adapter: Adapter, rank: int) -> None:
    function = getattr(F, f"convolution_{rank}d")

    @adapter.implements(f"conv{rank}d")
    def forward(
        x: Array, w: Array, stride: Size, padding: Size, dilation: Size, groups: int, b: Array | None = None
    ) -> Array:
        y: Array = function(x, w, b, stride, padding, dilate=dilation, groups=groups).array
        return y

    @adapter.implements(f"conv{rank}d.backward")
    def backward(
        x: Array,
        w: Array,
        dy: Array,
        stride: Size,
        padding: Size,
        dilation: Size,
        groups: int,
        b: Array | None = None,
    ) -> list[Array]:
        inputs = [chainer.Variable(array) for array in (x, w, b) if array is not None]
        y = function(*inputs, stride=stride, pad=padding, dilate=dilation, groups=groups)
        return _gradients(y, inputs, dy)


def _max_pooling(adapter: Adapter, rank: int) -> None:
    # Chainer's cover_all rounds up without dropping a window that starts beyond the input: it has other
    # output sizes than ceil rounding and is not claimed.
    @adapter.implements(f"max_pool{rank}d", indices=True, index="window")
    def forward(x: Array, kernel: Size, stride: Size | None, padding: Size) -> tuple[Array, Array]:
        y, indices = F.max_pooling_nd(x, kernel, stride, padding, False, return_indices=True)
        return y.array, indices

    @adapter.implements(f"max_pool{rank}d.backward")
    def backward(x: Array, dy: Array, kernel: Size, stride: Size | None, padding: Size) -> Array:
        image = chainer.Variable(x)
        return _gradients(F.max_pooling_nd(image, kernel, stride, padding, False), [image], dy)[0]


def _average_pooling(adapter: Adapter, rank: int) -> None:
    def pool(x: Any, kernel: Size, stride: Size | None, padding: Size, count_include_pad: bool) -> Any:
        return F.average_pooling_nd(x, kernel, stride, padding, 0 if count_include_pad else None)

    @adapter.implements(f"avg_pool{rank}d")
    def forward(x: Array, kernel: Size, stride: Size | None, padding: Size, count_include_pad: bool) -> Array:
        y: Array = pool(x, kernel, stride, padding, count_include_pad).array
        return y

    @adapter.implements(f"avg_pool{rank}d.backward")
    def backward(
        x: Array, dy: Array, kernel: Size, stride: Size | None, padding: Size, count_include_pad: bool
    ) -> Array:
        image = chainer.Variable(x)
        return _gradients(pool(image, kernel, stride, padding, count_include_pad), [image], dy)[0]


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
    _columns(adapter, _rank)
    _convolution(adapter, _rank)
    _max_pooling(adapter, _rank)
    _average_pooling(adapter, _rank)

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
