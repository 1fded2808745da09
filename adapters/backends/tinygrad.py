"""tinygrad: `Tensor.conv2d`, `Tensor.max_pool2d` and `Tensor.avg_pool2d`, which take any number of axes.

`adapter` runs on tinygrad's own interpreter of its kernels (the device ``PYTHON``), which needs no compiler
and answers alike on every machine; `cpu` runs on the device ``CPU``, for which tinygrad asks for clang.
Padding is written last axis first, before and after apart. A tie's gradient
is split, as in every maximum of tinygrad.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil

from tinygrad.helpers import Context

from convform.adapters.adapter import Adapter
from convform.adapters.backends import tinygrad_calls as calls
from convform.adapters.backends.library import Library
from convform.spec.operators import RANKS

_SCRIPT = "import os\nos.environ.setdefault('DEV', 'PYTHON')\nfrom tinygrad import Tensor"


def make(device: str = "PYTHON") -> Adapter:
    """Describe tinygrad on one device.

    Parameters
    ----------
    device
        A name of tinygrad's: ``"PYTHON"``, ``"CPU"``, ``"CUDA"``.

    Returns
    -------
    Adapter
        Named ``tinygrad``, or ``tinygrad-cpu`` and so on.
    """
    # Some of its own tensors know the default device only; and no processes that compile.
    library = Library(_SCRIPT, calls.call, calls.derive, lambda: Context(DEV=device, PARALLEL=0))
    adapter = library.adapter(
        "tinygrad" if device == "PYTHON" else f"tinygrad-{device.lower()}",
        # The interpreter fails to verify some of its own kernels in float16.
        dtypes=("float64", "float32") if device == "PYTHON" else ("float64", "float32", "float16"),
        version=importlib.metadata.version("tinygrad"),
        available=lambda: _problem(device),
        install="pip install 'convform[tinygrad]'",
    )
    for rank in RANKS:
        conv, max_pool, avg_pool = f"conv{rank}d", f"max_pool{rank}d", f"avg_pool{rank}d"
        library.register(adapter, f"{conv} {conv}.backward", calls.conv, padding="low-high")
        library.register(adapter, max_pool, calls.max_pool_with_indices, indices=True, padding="low-high")
        library.register(adapter, f"{max_pool}.backward", calls.max_pool, padding="low-high", ties="split")
        library.register(adapter, f"{avg_pool} {avg_pool}.backward", calls.avg_pool, padding="low-high")
    return adapter


def _problem(device: str) -> str | None:
    if device == "CPU" and shutil.which(os.environ.get("CC", "clang")) is None:
        return "no clang, with which tinygrad compiles for its device CPU"
    return None


_SOURCE = "https://github.com/tinygrad/tinygrad/blob/v0.14.0/tinygrad"


# fmt: off
def _limits_everywhere(adapter: Adapter) -> None:
    """Declare what tinygrad 0.14 answers otherwise than the standard on every device."""
    known = adapter.known_limit
    known("*", "WINDOW-6", shows="answers",
          reason="Dilation 0 is computed, and negative padding crops.", link=f"{_SOURCE}/mixin/movement.py")
    known("max_pool?d* avg_pool?d*", "CONTRACT-9", shows="answers",
          reason="Pooling takes any number of axes before the spatial ones.", link=f"{_SOURCE}/mixin/op.py")
    known("conv?d *.backward", "CONTRACT-6", shows="answers",
          reason="Arrays of different dtypes are promoted.", link=f"{_SOURCE}/mixin/op.py")
    known("conv?d", "CONV-7", shows="answers",
          reason="A bias with one element is broadcast over the channels.", link=f"{_SOURCE}/mixin/op.py")
    known("max_pool?d.backward", "MAXGRAD-3", shows="answers",
          reason="A dy of one window is broadcast over all windows.", link=f"{_SOURCE}/mixin/gradient.py")
    known("max_pool?d", "MAXPOOL-3", shows="values",
          reason="The index of a window without a real element is outside the plane.",
          link=f"{_SOURCE}/mixin/op.py")
    known("max_pool?d", "special_indices", shows="values",
          reason="The index of NaN is one beyond the plane: no element equals it.",
          link=f"{_SOURCE}/mixin/op.py")
    known("max_pool?d*", "MAXPOOL-4", shows="values",
          reason="NaN wins or loses by its place in the window, and −inf ties with the padding.",
          link=f"{_SOURCE}/mixin/reduce.py")
    known("max_pool?d*", "MAXPOOL-3 MAXPOOL-4", when="ceil_mode is on", shows="shape", always=False,
          reason="Ceil rounding drops every window in the padding at the end, not the last one alone.",
          link=f"{_SOURCE}/mixin/op.py")
    known("max_pool?d* avg_pool?d*", "worked_examples", ranks=(2,), when="ceil_mode is on",
          reason="Ceil rounding drops every window in the padding at the end, not the last one alone.",
          link=f"{_SOURCE}/mixin/op.py")


adapter = make()
cpu = make("CPU")
_limits_everywhere(adapter)
_limits_everywhere(cpu)

known = adapter.known_limit
known("conv?d* max_pool3d.backward avg_pool3d.backward", "timed out", always=False,
      reason="The interpreter takes a minute for what is large, and for some gradients of volumes.",
      link=f"{_SOURCE}/runtime/ops_python.py")
# fmt: on
