"""MyGrad, automatic differentiation on NumPy: ``conv_nd`` and ``max_pool``, for any number of axes.

Its choices: windows fill the padded input without a rest, other sizes are refused; convolution has neither
bias nor groups; pooling has neither padding nor dilation, takes its stride always, and leaves any number of
axes in front alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mygrad

from convform.adapters.backends.library import Library
from convform.adapters.layout import Array
from convform.spec.operators import RANKS

Size = tuple[int, ...]


def _call(function: Callable[..., Any], *arrays: Array) -> list[Array]:
    return [function(*arrays).data]


def _derive(function: Callable[..., Any], dy: Array, *arrays: Array) -> list[Array]:
    inputs = [mygrad.tensor(array) for array in arrays]
    function(*inputs).backward(dy)
    return [tensor.grad for tensor in inputs]


def _conv(x: Any, w: Any, *, stride: Size, padding: Size) -> Any:
    return mygrad.nnet.conv_nd(x, w, stride=stride, padding=padding)


# Dilation is claimed where it can be shown what is wrong with it (see below), and the rest judged without it.
def _dilated_conv(x: Any, w: Any, *, stride: Size, padding: Size, dilation: Size) -> Any:
    return mygrad.nnet.conv_nd(x, w, stride=stride, padding=padding, dilation=dilation)


def _max_pool(x: Any, *, kernel: Size, stride: Size) -> Any:
    return mygrad.nnet.max_pool(x, kernel, stride)


_MYGRAD = Library("import mygrad.nnet", _call, _derive)

adapter = _MYGRAD.adapter(
    "mygrad",
    version=mygrad.__version__,
    install="pip install 'convform[mygrad]'",
    # Views come from there with an array as their base, while MyGrad stumbles over those of as_strided.
    isolated=True,
)
for _rank in RANKS:
    _MYGRAD.register(adapter, f"conv{_rank}d", _dilated_conv if _rank == 1 else _conv, rounding="exact")
    _MYGRAD.register(adapter, f"conv{_rank}d.backward", _conv, rounding="exact")
    _MYGRAD.register(
        adapter,
        f"max_pool{_rank}d max_pool{_rank}d.backward",
        _max_pool,
        rounding="exact",
        default_stride=False,
    )


_SOURCE = "https://github.com/rsokl/MyGrad/blob/master/src/mygrad"


# What MyGrad 2.5.0 answers otherwise than the standard; its source is what documents it.
# fmt: off
known = adapter.known_limit
known("conv1d", "WINDOW-4", when="dilation > 1", shows="raises",
      reason="A kernel is refused whose taps times dilation exceed the padded input, though it fits.",
      link=f"{_SOURCE}/nnet/layers/utils.py")
# Any law can draw such a dilation: these are about something else.
known("conv1d", "WINDOW-7 CONV-5 CONTRACT-1 CONTRACT-2 CONTRACT-3 CONTRACT-4 CONTRACT-5 CONTRACT-7",
      when="dilation > 1", shows="raises", always=False,
      reason="A kernel is refused whose taps times dilation exceed the padded input, though it fits.",
      link=f"{_SOURCE}/nnet/layers/utils.py")
known("*.backward", "CONVGRAD-5 MAXGRAD-3", shows="answers",
      reason="A dy of one window, or of one element, is repeated for all.", link=f"{_SOURCE}/tensor_base.py")
known("conv?d* max_pool?d.backward", "CONTRACT-6", shows="answers",
      reason="Arrays of different dtypes are combined as NumPy does, not refused.",
      link=f"{_SOURCE}/operation_base.py")
known("max_pool?d*", "CONTRACT-9", shows="answers",
      reason="The axes that are not pooled may be any number; only the kernel tells how many are.",
      link=f"{_SOURCE}/nnet/layers/pooling.py")
known("max_pool?d.backward", "CONTRACT-7", shows="raises",
      reason="The size of a window is left to reshape, which cannot tell it of no elements.",
      link=f"{_SOURCE}/nnet/layers/pooling.py")
# fmt: on
