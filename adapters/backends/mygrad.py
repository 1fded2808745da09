"""MyGrad, automatic differentiation on NumPy: ``conv_nd`` and ``max_pool``, for any number of axes.

Its choices: windows fill the padded input without a rest, other sizes are refused; convolution has neither
bias nor groups; pooling has neither padding nor dilation, takes its stride always, and leaves any number of
axes in front alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mygrad

from convform.adapters.adapter import Adapter
from convform.adapters.layout import Array
from convform.adapters.scripts import script_of
from convform.spec.operators import RANKS

Size = tuple[int, ...]
Answer = dict[str, Array]


def script(operator: str, parameters: Mapping[str, Any]) -> str | None:
    """Write a call as a script that needs MyGrad only."""
    return script_of(adapter[operator], parameters, "import mygrad.nnet")


adapter = Adapter(
    "mygrad",
    version=mygrad.__version__,
    install="pip install 'convform[mygrad]'",
    # Views come from there with an array as their base, while MyGrad stumbles over those of as_strided.
    isolated=True,
    script=script,
)


def _conv(x: Array, w: Array, stride: Size, padding: Size) -> Answer:
    return {"y": mygrad.nnet.conv_nd(x, w, stride=stride, padding=padding).data}


# Dilation is claimed where it can be shown what is wrong with it (see below), and the rest judged without it.
def _dilated_conv(x: Array, w: Array, stride: Size, padding: Size, dilation: Size) -> Answer:
    return {"y": mygrad.nnet.conv_nd(x, w, stride=stride, padding=padding, dilation=dilation).data}


def _conv_backward(x: Array, w: Array, dy: Array, stride: Size, padding: Size) -> Answer:
    image, kernel = mygrad.tensor(x), mygrad.tensor(w)
    y = mygrad.nnet.conv_nd(image, kernel, stride=stride, padding=padding)
    y.backward(dy)
    return {"dx": image.grad, "dw": kernel.grad}


def _max_pool(x: Array, kernel: Size, stride: Size) -> Answer:
    return {"y": mygrad.nnet.max_pool(x, kernel, stride).data}


def _max_pool_backward(x: Array, dy: Array, kernel: Size, stride: Size) -> Answer:
    image = mygrad.tensor(x)
    y = mygrad.nnet.max_pool(image, kernel, stride)
    y.backward(dy)
    return {"dx": image.grad}


for _rank in RANKS:
    adapter.implements(f"conv{_rank}d", rounding="exact")(_dilated_conv if _rank == 1 else _conv)
    adapter.implements(f"conv{_rank}d.backward", rounding="exact")(_conv_backward)
    adapter.implements(f"max_pool{_rank}d", rounding="exact", default_stride=False)(_max_pool)
    adapter.implements(f"max_pool{_rank}d.backward", rounding="exact", default_stride=False)(
        _max_pool_backward
    )


_SOURCE = "https://github.com/rsokl/MyGrad/blob/master/src/mygrad/"


def _limit(family: str, law_or_clause: str, source: str, reason: str) -> None:
    """Declare what MyGrad 2.5.0 answers otherwise than the standard; its source is what documents it."""
    name, dot, gradient = family.partition(".")
    for rank in RANKS:
        operator = f"{name}{rank}d{dot}{gradient}"
        adapter.known_limit(operator, law_or_clause, reason=reason, link=_SOURCE + source)


# Any law can draw such a dilation: those after WINDOW-7 are about something else.
for _clause in (
    "WINDOW-4",
    "WINDOW-7",
    "CONV-5",
    *(f"CONTRACT-{number}" for number in (1, 2, 3, 4, 5, 7)),
):
    adapter.known_limit(
        "conv1d",
        _clause,
        reason="A kernel is refused whose taps times dilation exceed the padded input, though it fits.",
        link=_SOURCE + "nnet/layers/utils.py",
        always=_clause == "WINDOW-4",
    )
for _family, _clause in (("conv.backward", "CONVGRAD-5"), ("max_pool.backward", "MAXGRAD-3")):
    _limit(_family, _clause, "tensor_base.py", "A dy of one window, or of one element, is repeated for all.")
for _family in ("conv", "conv.backward", "max_pool.backward"):
    _limit(
        _family,
        "CONTRACT-6",
        "operation_base.py",
        "Arrays of different dtypes are combined as NumPy does, not refused.",
    )
for _family in ("max_pool", "max_pool.backward"):
    _limit(
        _family,
        "CONTRACT-9",
        "nnet/layers/pooling.py",
        "The axes that are not pooled may be any number; only the kernel tells how many are.",
    )
_limit(
    "max_pool.backward",
    "CONTRACT-7",
    "nnet/layers/pooling.py",
    "The size of a window is left to reshape, which cannot tell it of no elements.",
)
