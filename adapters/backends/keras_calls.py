"""What the adapter of Keras calls; each wrapper is a script as it stands."""

from __future__ import annotations

import os

# Keras chooses its backend while it is imported.
os.environ.setdefault("KERAS_BACKEND", "jax")

import keras

# isort: split
from typing import Any

import jax
import numpy as np

from convform.adapters.adapter import Adapter
from convform.adapters.layout import Array

Size = tuple[int, ...]
Answer = dict[str, Array]

jax.config.update("jax_enable_x64", True)

VERSION = f"{keras.__version__} (jax {jax.__version__})"


def problem() -> str | None:
    """Say why Keras cannot be judged here."""
    backend = keras.config.backend()
    return None if backend == "jax" else f"KERAS_BACKEND is {backend!r}, and gradients here are JAX's"


# Gradients are compiled in one piece: JAX compiles anew for every shape, and that is what they cost.


def register_columns(adapter: Adapter, operator: str) -> None:
    """Register patches and their adjoint."""

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


def register_convolution(adapter: Adapter, rank: int) -> None:
    """Register convolution and its gradients."""

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


def register_pooling(adapter: Adapter, rank: int) -> None:
    """Register both poolings and their gradients."""
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
