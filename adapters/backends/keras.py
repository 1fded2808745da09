"""Keras, ``keras.ops`` on its JAX backend: gradients are JAX's.

Its choices: channels last; padding in words only; groups are never named, they follow from the shapes;
averages over real elements alone; no bias in an operator, only in a layer; patches are a convolution with
zeros and ones. 64-bit numbers are off in JAX unless asked for, which is done here.
"""

from __future__ import annotations

from convform.adapters.backends import keras_calls as calls
from convform.adapters.backends.library import Library
from convform.spec.operators import RANKS

_SCRIPT = """\
import os
os.environ.setdefault("KERAS_BACKEND", "jax")
import jax, keras
jax.config.update("jax_enable_x64", True)"""

_KERAS = Library(_SCRIPT, calls.call, calls.derive)

adapter = _KERAS.adapter(
    "keras",
    input="n d h w c",
    weight="kd kh kw i o",
    columns="n od oh ow (kd kh kw c)",
    dtypes=("float64", "float32", "float16"),
    version=calls.VERSION,
    available=calls.problem,
    install="pip install 'convform[keras]'",
)
_KERAS.register(adapter, "im2col col2im im2col3d col2im3d", calls.patches, padding="string")
# The default of strides is documented to be the pool size; on JAX it is a ValueError, so not claimed.
_POOLING = {"padding": "string", "default_stride": False}
for _rank in RANKS:
    _conv, _max_pool, _avg_pool = f"conv{_rank}d", f"max_pool{_rank}d", f"avg_pool{_rank}d"
    _KERAS.register(adapter, f"{_conv} {_conv}.backward", calls.conv, padding="string")
    _KERAS.register(
        adapter, _max_pool, calls.max_pool, dtypes=(*adapter.dtypes, "int64", "int32"), **_POOLING
    )
    _KERAS.register(adapter, f"{_max_pool}.backward", calls.max_pool, **_POOLING)
    _KERAS.register(adapter, f"{_avg_pool} {_avg_pool}.backward", calls.avg_pool, avgcount="real", **_POOLING)

_SOURCE = "https://github.com/keras-team/keras/blob/v3.15.1/keras/src/backend/jax"

# What Keras 3.15 on JAX answers otherwise than the standard.
# fmt: off
known = adapter.known_limit
known("im2col*", "IM2COL-3", shows="values",
      reason="Patches are a convolution with zeros and ones, so that inf times 0 spreads NaN.",
      link=f"{_SOURCE}/image.py")
known("max_pool?d* avg_pool?d*", "WINDOW-6", shows="answers",
      reason="A kernel that does not fit gives an empty output.", link=f"{_SOURCE}/nn.py")
known("max_pool?d.backward", "MAXPOOL-4", shows="values",
      reason="Padding counts as -inf, and gets the gradient of a window of nothing but -inf.",
      link=f"{_SOURCE}/nn.py")
known("avg_pool?d avg_pool2d.backward avg_pool3d.backward", "AVGPOOL-4", dtypes="float16", shows="values",
      reason="float16 is added up in float16.", link=f"{_SOURCE}/nn.py")
known("conv?d*", "CONV-6", shows="raises",
      reason="The number of groups is the quotient of channels: a division by zero.", link=f"{_SOURCE}/nn.py")
known("conv?d*", "CONV-7", shows="answers",
      reason="Weights with fewer input channels make groups; nobody is told their number.",
      link=f"{_SOURCE}/nn.py")
known("conv?d*", "CONTRACT-6", shows="answers",
      reason="The input is converted to the dtype of the weights.", link=f"{_SOURCE}/nn.py")
# fmt: on
