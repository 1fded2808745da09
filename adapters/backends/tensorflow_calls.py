"""What the adapters of TensorFlow call; each wrapper is a script as it stands.

A convolution has no bias here: TensorFlow adds one to a result that is rounded already, in a call of its own.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from convform.adapters.adapter import Adapter
from convform.adapters.layout import Array
from convform.spec.operators import RANKS

Size = tuple[int, ...]
Padding = str | tuple[tuple[int, int], ...]  # "same", "valid", or (low, high) for each axis
Answer = dict[str, Array]


def register(adapter: Adapter) -> None:
    """Register every operator that TensorFlow has on the CPU."""
    _columns(adapter)
    for rank in RANKS:
        _convolution(adapter, rank)
        _max_pooling(adapter, rank)
        _average_pooling(adapter, rank)


def register_argmax(adapter: Adapter) -> None:
    """Register the maximum that comes with indices."""

    @adapter.implements("max_pool2d", padding="string", default_stride=False, indices=True, index="nhwc")
    def forward(x: Array, kernel: Size, stride: Size, padding: str) -> Answer:
        y, indices = tf.nn.max_pool_with_argmax(tf.constant(x), kernel, stride, padding.upper())
        return {"y": y.numpy(), "indices": indices.numpy()}


def _columns(adapter: Adapter) -> None:
    @adapter.implements(
        "im2col", padding="string", dtypes=("float64", "float32", "float16", "int64", "int32")
    )
    def gather(x: Array, kernel: Size, stride: Size, padding: str, dilation: Size) -> Answer:
        sizes, strides, rates = (1, *kernel, 1), (1, *stride, 1), (1, *dilation, 1)
        return {
            "cols": tf.image.extract_patches(tf.constant(x), sizes, strides, rates, padding.upper()).numpy()
        }

    @adapter.implements("col2im", padding="string")
    def scatter(
        cols: Array, input_size: Size, kernel: Size, stride: Size, padding: str, dilation: Size
    ) -> Answer:
        sizes, strides, rates = (1, *kernel, 1), (1, *stride, 1), (1, *dilation, 1)
        x = tf.zeros(input_size, cols.dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.image.extract_patches(x, sizes, strides, rates, padding.upper())
        return {"x": tape.gradient(y, x, tf.constant(cols)).numpy()}

    @adapter.implements("im2col3d", padding="string")
    def gather_volumes(x: Array, kernel: Size, stride: Size, padding: str) -> Answer:
        sizes, strides = (1, *kernel, 1), (1, *stride, 1)
        return {"cols": tf.extract_volume_patches(tf.constant(x), sizes, strides, padding.upper()).numpy()}

    @adapter.implements("col2im3d", padding="string")
    def scatter_volumes(cols: Array, input_size: Size, kernel: Size, stride: Size, padding: str) -> Answer:
        sizes, strides = (1, *kernel, 1), (1, *stride, 1)
        x = tf.zeros(input_size, cols.dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.extract_volume_patches(x, sizes, strides, padding.upper())
        return {"x": tape.gradient(y, x, tf.constant(cols)).numpy()}


def _convolution(adapter: Adapter, rank: int) -> None:
    function = getattr(tf.nn, f"conv{rank}d")
    claims: dict[str, Any] = {"padding": "low-high" if rank == 2 else "string"}

    if rank < 3:
        # The number of groups is the input's channels over the weights', so nobody is told it.
        @adapter.implements(f"conv{rank}d", **claims)
        def forward(
            x: Array, w: Array, stride: Size, padding: Padding, dilation: Size, groups: int
        ) -> Answer:
            pad = padding.upper() if isinstance(padding, str) else [(0, 0), *padding, (0, 0)]
            x, w, steps, rates = tf.constant(x), tf.constant(w), (1, *stride, 1), (1, *dilation, 1)
            return {"y": function(x, w, steps, pad, dilations=rates).numpy()}

    else:
        # On the CPU, groups are refused, and dilation in all dtypes but those that oneDNN takes over.
        @adapter.implements(f"conv{rank}d", **claims)
        def forward_without_groups(x: Array, w: Array, stride: Size, padding: str) -> Answer:
            steps = (1, *stride, 1)
            return {"y": function(tf.constant(x), tf.constant(w), steps, padding.upper()).numpy()}

    # On the CPU there are no gradients for dilation or groups.
    @adapter.implements(f"conv{rank}d.backward", **claims)
    def backward(x: Array, w: Array, dy: Array, stride: Size, padding: Padding) -> Answer:
        pad = padding.upper() if isinstance(padding, str) else [(0, 0), *padding, (0, 0)]
        x, w, b = tf.constant(x), tf.constant(w), tf.zeros(w.shape[-1], w.dtype)
        with tf.GradientTape() as tape:
            tape.watch([x, w, b])
            y = tf.nn.bias_add(function(x, w, (1, *stride, 1), pad), b)
        dx, dw, db = tape.gradient(y, [x, w, b], tf.constant(dy))
        return {"dx": dx.numpy(), "dw": dw.numpy(), "db": db.numpy()}


def _max_pooling(adapter: Adapter, rank: int) -> None:
    function = getattr(tf.nn, f"max_pool{rank}d")
    claims: dict[str, Any] = {"padding": "low-high", "max_padding": "below-kernel", "default_stride": False}
    if rank == 3:
        claims = {"padding": "string", "default_stride": False, "dtypes": ("float32",)}

    @adapter.implements(f"max_pool{rank}d", **claims)
    def forward(x: Array, kernel: Size, stride: Size, padding: Padding) -> Answer:
        pad = padding.upper() if isinstance(padding, str) else [(0, 0), *padding, (0, 0)]
        return {"y": function(tf.constant(x), kernel, stride, pad).numpy()}

    @adapter.implements(f"max_pool{rank}d.backward", **claims, **({"ties": "all"} if rank == 3 else {}))
    def backward(x: Array, dy: Array, kernel: Size, stride: Size, padding: Padding) -> Answer:
        pad = padding.upper() if isinstance(padding, str) else [(0, 0), *padding, (0, 0)]
        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x, kernel, stride, pad)
        return {"dx": tape.gradient(y, x, tf.constant(dy)).numpy()}


def _average_pooling(adapter: Adapter, rank: int) -> None:
    function = getattr(tf.nn, f"avg_pool{rank}d")
    # Padding never counts, and no parameter says so.
    claims: dict[str, Any] = {"padding": "string", "default_stride": False, "avgcount": "real"}
    if rank == 3:
        claims["dtypes"] = ("float32",)

    @adapter.implements(f"avg_pool{rank}d", **claims)
    def forward(x: Array, kernel: Size, stride: Size, padding: str) -> Answer:
        return {"y": function(tf.constant(x), kernel, stride, padding.upper()).numpy()}

    @adapter.implements(f"avg_pool{rank}d.backward", **claims)
    def backward(x: Array, dy: Array, kernel: Size, stride: Size, padding: str) -> Answer:
        x = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x, kernel, stride, padding.upper())
        return {"dx": tape.gradient(y, x, tf.constant(dy)).numpy()}
