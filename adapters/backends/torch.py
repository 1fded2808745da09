"""PyTorch: ``torch.nn.functional`` for the operators, autograd for their gradients.

`adapter` runs on the CPU; `channels_last` as well, with the channels of images and weights last in memory;
`cuda` on the first GPU; `make` takes any other device. Every array is moved to the device once and every
answer back once.
"""

from __future__ import annotations

import torch

from convform.adapters.adapter import Adapter
from convform.adapters.backends import torch_calls
from convform.adapters.backends.torch_scripts import script
from convform.adapters.backends.torch_tensors import Place, problem_of, switches
from convform.spec.operators import RANKS


def make(device: str = "cpu", *, channels_last: bool = False) -> Adapter:
    """Describe PyTorch on one device.

    Parameters
    ----------
    device
        What `torch.device` accepts: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.
    channels_last
        Whether the channels of images and weights are last in memory; operators with one spatial axis,
        for which torch has no such order, are then left out.

    Returns
    -------
    Adapter
        Named ``torch``, ``torch-channels-last``, ``torch-cuda`` and so on.
    """
    place = Place(device, channels_last)
    adapter = Adapter(
        "torch" + ("" if device == "cpu" else f"-{device}") + ("-channels-last" if channels_last else ""),
        dtypes=torch_calls.FLOATS,
        optional_dtypes=("bfloat16",),
        version=torch.__version__,
        available=lambda: problem_of(place),
        install="pip install 'convform[torch]'",
        isolated=device == "cpu",  # convolutions of half types crash, see below
        script=lambda operator, parameters: script(operator, parameters, place),
        switches=lambda: switches(place),
    )
    if not channels_last:
        torch_calls.register_columns(adapter, place)
    torch_calls.register(adapter, place, RANKS[1:] if channels_last else RANKS)
    return adapter


adapter = make()
channels_last = make(channels_last=True)
cuda = make("cuda")

_HOME = "https://github.com/pytorch/pytorch"
_SOURCE = f"{_HOME}/blob/v2.13.0/aten/src/ATen/native"
_ONEDNN = "https://github.com/uxlfoundation/oneDNN/issues/5942"


# fmt: off
def _limits_everywhere(adapter: Adapter) -> None:
    """Declare what PyTorch 2.13 answers otherwise than the standard on every device."""
    known = adapter.known_limit
    known("conv?d*", "CONV-6",
          reason="Without input channels the output has no channels either, whatever the weights say.",
          link=f"{_HOME}/issues/56998")
    known("max_pool?d", "MAXPOOL-3", shows="values",
          reason="The index of a window without a real element is no element of the plane, and not -1.",
          link=f"{_HOME}/issues/114216")
    known("*.backward", "CONTRACT-6", shows="answers",
          reason="Autograd converts a dy of another dtype instead of refusing it.",
          link=f"{_HOME}/pull/22273")
    known("avg_pool3d*", "WINDOW-7", shows="raises",
          reason="An input smaller than the kernel is refused, though padding or ceil mode makes room.",
          link=f"{_SOURCE}/Pool.h")


def _limits_on_the_cpu(adapter: Adapter) -> None:
    """Declare what the CPU does to half types; convolutions of them are oneDNN's."""
    known = adapter.known_limit
    # One dtype at a time, so that each is looked for.
    known("conv?d*", "crashed", dtypes="float16", always=False,
          reason="A small image under much padding can end the process.", link=_ONEDNN)
    known("conv?d*", "crashed", dtypes="bfloat16", always=False,
          reason="A small image under much padding can end the process.", link=_ONEDNN)
    known("conv?d", "WINDOW-1 WINDOW-2 WINDOW-7", dtypes="bfloat16", ranks=(2, 3),
          when="the output has one column", shows="values", always=False,
          reason="Where the output has one column, rows are apart by the product of both strides.",
          link=f"{_SOURCE}/mkldnn/Conv.cpp")
    known("conv?d.backward", "CONV-5", dtypes="float16", shows="values", always=False,
          reason="On processors for which oneDNN has no float16, gradients are added up in half.",
          link=f"{_SOURCE}/NaiveDilatedConvolution.cpp")
    known("avg_pool?d.backward", "rounding", dtypes="*float16", ranks=(1, 2), shows="values", always=False,
          reason="The gradients of overlapping windows are added up in half.",
          link=f"{_SOURCE}/cpu/AvgPoolKernel.cpp")


_limits_everywhere(adapter)
_limits_everywhere(channels_last)
_limits_everywhere(cuda)
_limits_on_the_cpu(adapter)
_limits_on_the_cpu(channels_last)

known = adapter.known_limit
known("conv1d.backward", "CONVGRAD-2 WINDOW-7 CONTRACT-3 CONTRACT-4", dtypes="bfloat16",
      when="there is padding", always=False,
      reason="dw is not initialised where a tap of the kernel sees nothing but padding.",
      link=f"{_SOURCE}/mkldnn/Conv.cpp")
known("col2im", "large_and_small", dtypes="*float16", shows="values",
      reason="Half types are added up in half.", link=f"{_SOURCE}/im2col.h")

known = channels_last.known_limit
known("conv?d*", "crashed", dtypes="float32", always=False,
      reason="A small image under much padding can end the process.", link=_ONEDNN)
known("max_pool3d*", "MAXPOOL-4", shows="values",
      reason="With channels last, the index of a window of −∞ is that of its tap at depth 0.",
      link=f"{_SOURCE}/cpu/MaxPoolKernel.cpp")
# fmt: on
