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


def _known_limits() -> None:
    """Declare what Keras 3.15 on JAX answers otherwise than the standard, each with a link."""
    known = adapter.known_limit
    for name, implementation in adapter.implementations.items():
        family = implementation.operator.family
        if family == "im2col":
            known(
                name,
                "IM2COL-3",
                reason="Patches are a convolution with zeros and ones, so that inf times 0 spreads NaN.",
                link=f"{_SOURCE}/image.py",
            )
        if implementation.operator.is_pooling:
            known(
                name,
                "WINDOW-6",
                reason="A kernel that does not fit gives an empty output.",
                link=f"{_SOURCE}/nn.py",
            )
        if family == "max_pool.backward":
            known(
                name,
                "MAXPOOL-4",
                reason="Padding counts as -inf, and gets the gradient of a window of nothing but -inf.",
                link=f"{_SOURCE}/nn.py",
            )
        if family == "avg_pool" or name in ("avg_pool2d.backward", "avg_pool3d.backward"):
            known(
                name,
                "AVGPOOL-4",
                reason="float16 is added up in float16.",
                link=f"{_SOURCE}/nn.py",
            )
        if family.startswith("conv"):
            known(
                name,
                "CONV-6",
                reason="The number of groups is the quotient of channels: a division by zero.",
                link=f"{_SOURCE}/nn.py",
            )
            known(
                name,
                "CONV-7",
                reason="Weights with fewer input channels make groups; nobody is told their number.",
                link=f"{_SOURCE}/nn.py",
            )
            known(
                name,
                "CONTRACT-6",
                reason="The input is converted to the dtype of the weights.",
                link=f"{_SOURCE}/nn.py",
            )


_SOURCE = "https://github.com/keras-team/keras/blob/v3.15.1/keras/src/backend/jax"

for _operator in ("im2col", "im2col3d"):
    _columns(_operator)
for _rank in RANKS:
    _convolution(_rank)
    _pooling(_rank)
_known_limits()
