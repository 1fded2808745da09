"""Keras, ``keras.ops`` on its JAX backend: gradients are JAX's.

Its choices: channels last; padding in words only; groups are never named, they follow from the shapes;
averages over real elements alone; no bias in an operator, only in a layer; patches are a convolution with
zeros and ones. 64-bit numbers are off in JAX unless asked for, which is done here.
"""

from __future__ import annotations

import os

# Keras chooses its backend while it is imported.
os.environ.setdefault("KERAS_BACKEND", "jax")

import keras

# isort: split
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from convform.adapters.adapter import Adapter
from convform.adapters.layout import Array
from convform.adapters.scripts import script_of
from convform.spec.operators import RANKS

Size = tuple[int, ...]
Answer = dict[str, Array]

jax.config.update("jax_enable_x64", True)

_SCRIPT = """\
import os
os.environ.setdefault("KERAS_BACKEND", "jax")
import jax, keras, numpy as np
jax.config.update("jax_enable_x64", True)"""


def _problem() -> str | None:
    backend = keras.config.backend()
    return None if backend == "jax" else f"KERAS_BACKEND is {backend!r}, and gradients here are JAX's"


def script(operator: str, parameters: Mapping[str, Any]) -> str:
    """Write a call as a script that needs Keras and JAX only."""
    return script_of(adapter[operator], parameters, _SCRIPT)


adapter = Adapter(
    "keras",
    input="n d h w c",
    weight="kd kh kw i o",
    columns="n od oh ow (kd kh kw c)",
    dtypes=("float64", "float32", "float16"),
    version=f"{keras.__version__} (jax {jax.__version__})",
    available=_problem,
    install="pip install 'convform[keras]'",
    script=script,
)


# Gradients are compiled in one piece: JAX compiles anew for every shape, and that is what they cost.


def _columns(operator: str) -> None:
    @adapter.implements(operator, padding="string")
    def forward(x: Array, kernel: Size, stride: Size, padding: str, dilation: Size) -> Answer:
        return {"cols": np.array(keras.ops.image.extract_patches(x, kernel, stride, dilation, padding))}

    @adapter.implements(operator.replace("im2col", "col2im"), padding="string")
    def backward(
        cols: Array, input_size: Size, kernel: Size, stride: Size, padding: str, dilation: Size
    ) -> Answer:
        def patches(x: jax.Array) -> jax.Array:
            return keras.ops.image.extract_patches(x, kernel, stride, dilation, padding)

        (x,) = jax.jit(lambda x, cols: jax.vjp(patches, x)[1](cols))(np.zeros(input_size, cols.dtype), cols)
        return {"x": np.array(x)}


def _convolution(rank: int) -> None:
    # The number of groups is the input's channels over the weights', so nobody is told it.
    @adapter.implements(f"conv{rank}d", padding="string")
    def forward(x: Array, w: Array, stride: Size, padding: str, dilation: Size, groups: int) -> Answer:
        return {"y": np.array(keras.ops.conv(x, w, stride, padding, dilation_rate=dilation))}

    @adapter.implements(f"conv{rank}d.backward", padding="string")
    def backward(
        x: Array, w: Array, dy: Array, stride: Size, padding: str, dilation: Size, groups: int
    ) -> Answer:
        def conv(x: jax.Array, w: jax.Array) -> jax.Array:
            return keras.ops.conv(x, w, stride, padding, dilation_rate=dilation)

        dx, dw = jax.jit(lambda x, w, dy: jax.vjp(conv, x, w)[1](dy))(x, w, dy)
        return {"dx": np.array(dx), "dw": np.array(dw)}


def _pooling(rank: int) -> None:
    # The default of strides is documented to be the pool size; on JAX it is a ValueError, so not claimed.
    dtypes = (*adapter.dtypes, "int64", "int32")

    @adapter.implements(f"max_pool{rank}d", padding="string", default_stride=False, dtypes=dtypes)
    def maximum(x: Array, kernel: Size, stride: Size, padding: str) -> Answer:
        return {"y": np.array(keras.ops.max_pool(x, kernel, stride, padding))}

    @adapter.implements(f"max_pool{rank}d.backward", padding="string", default_stride=False)
    def maximum_backward(x: Array, dy: Array, kernel: Size, stride: Size, padding: str) -> Answer:
        def pool(x: jax.Array) -> jax.Array:
            return keras.ops.max_pool(x, kernel, stride, padding)

        (dx,) = jax.jit(lambda x, dy: jax.vjp(pool, x)[1](dy))(x, dy)
        return {"dx": np.array(dx)}

    # Padding never counts, and no parameter says so.
    averages: dict[str, Any] = {"padding": "string", "default_stride": False, "avgcount": "real"}

    @adapter.implements(f"avg_pool{rank}d", **averages)
    def average(x: Array, kernel: Size, stride: Size, padding: str) -> Answer:
        return {"y": np.array(keras.ops.average_pool(x, kernel, stride, padding))}

    @adapter.implements(f"avg_pool{rank}d.backward", **averages)
    def average_backward(x: Array, dy: Array, kernel: Size, stride: Size, padding: str) -> Answer:
        def pool(x: jax.Array) -> jax.Array:
            return keras.ops.average_pool(x, kernel, stride, padding)

        (dx,) = jax.jit(lambda x, dy: jax.vjp(pool, x)[1](dy))(x, dy)
        return {"dx": np.array(dx)}


_SOURCE = "https://github.com/keras-team/keras/blob/v3.15.1/keras/src/backend/jax"

for _operator in ("im2col", "im2col3d"):
    _columns(_operator)
for _rank in RANKS:
    _convolution(_rank)
    _pooling(_rank)

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
