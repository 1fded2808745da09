"""The operators in Keras's functions, and gradients by JAX."""

from __future__ import annotations

import os

# Keras chooses its backend while it is imported.
os.environ.setdefault("KERAS_BACKEND", "jax")

import keras

# isort: split
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from convform.adapters.layout import Array

Size = tuple[int, ...]

jax.config.update("jax_enable_x64", True)

VERSION = f"{keras.__version__} (jax {jax.__version__})"


def problem() -> str | None:
    """Say why Keras cannot be judged here."""
    backend = keras.config.backend()
    return None if backend == "jax" else f"KERAS_BACKEND is {backend!r}, and gradients here are JAX's"


def call(function: Callable[..., Any], *arrays: Array) -> list[Array]:
    """Call a function, which takes NumPy's arrays."""
    return [np.array(function(*arrays))]


def derive(function: Callable[..., Any], dy: Array, *arrays: Array) -> list[Array]:
    """Compile gradients in one piece: JAX compiles anew for every shape, and that is what they cost."""
    pulled = jax.jit(lambda dy, *arrays: jax.vjp(function, *arrays)[1](dy))(dy, *arrays)
    return [np.array(gradient) for gradient in pulled]


def patches(x: Any, *, kernel: Size, stride: Size, padding: str, dilation: Size) -> Any:
    """Cut out the windows of an image."""
    return keras.ops.image.extract_patches(x, kernel, stride, dilation, padding)


def conv(x: Any, w: Any, *, stride: Size, padding: str, dilation: Size, groups: int) -> Any:
    """Nobody is told the number of groups: it is the input's channels over the weights'."""
    return keras.ops.conv(x, w, stride, padding, dilation_rate=dilation)


def max_pool(x: Any, *, kernel: Size, stride: Size, padding: str) -> Any:
    """Return the maxima."""
    return keras.ops.max_pool(x, kernel, stride, padding)


def avg_pool(x: Any, *, kernel: Size, stride: Size, padding: str) -> Any:
    """Return averages; padding never counts, and no parameter says so."""
    return keras.ops.average_pool(x, kernel, stride, padding)
