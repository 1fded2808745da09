"""TensorFlow on the CPU: the functions of ``tf.nn``, and gradients from its tape.

Its choices: channels last; padding in words (``SAME``, ``VALID``) everywhere, in numbers for conv2d and for
max pooling along one and two axes; pooling without dilation, ceil rounding or a default stride; averages
over real elements alone; columns from ``tf.image.extract_patches``, whose gradient is the adjoint.
Indices come from a function of their own, which pads in words only: ``convform check tensorflow-argmax``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from convform.adapters.adapter import Adapter
from convform.adapters.layout import Array
from convform.adapters.scripts import script_of
from convform.spec.operators import OPERATORS, RANKS

Size = tuple[int, ...]
Padding = str | tuple[tuple[int, int], ...]  # "same", "valid", or (low, high) for each axis
Answer = dict[str, Array]


def script(operator: str, parameters: Mapping[str, Any]) -> str:
    """Write a call as a script that needs TensorFlow only."""
    rank, family = OPERATORS[operator].rank, OPERATORS[operator].family.removesuffix(".backward")
    names = {"conv": "conv{}d", "max_pool": "max_pool{}d", "avg_pool": "avg_pool{}d"}
    lines = ["import tensorflow as tf"]
    if family in names:
        lines.append(f"function = tf.nn.{names[family].format(rank)}")
    return script_of(adapter[operator], parameters, *lines)


adapter = Adapter(
    "tensorflow",
    input="n d h w c",
    weight="kd kh kw i o",
    columns="n od oh ow (kd kh kw c)",
    dtypes=("float64", "float32", "float16"),
    version=tf.__version__,
    install="pip install 'convform[tensorflow]'",
    isolated=True,
    script=script,
)


@adapter.implements("im2col", padding="string", dtypes=("float64", "float32", "float16", "int64", "int32"))
def _(x: Array, kernel: Size, stride: Size, padding: str, dilation: Size) -> Answer:
    sizes, strides, rates = (1, *kernel, 1), (1, *stride, 1), (1, *dilation, 1)
    return {"cols": tf.image.extract_patches(tf.constant(x), sizes, strides, rates, padding.upper()).numpy()}


@adapter.implements("col2im", padding="string")
def _(cols: Array, input_size: Size, kernel: Size, stride: Size, padding: str, dilation: Size) -> Answer:
    sizes, strides, rates = (1, *kernel, 1), (1, *stride, 1), (1, *dilation, 1)
    x = tf.zeros(input_size, cols.dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.image.extract_patches(x, sizes, strides, rates, padding.upper())
    return {"x": tape.gradient(y, x, tf.constant(cols)).numpy()}


@adapter.implements("im2col3d", padding="string")
def _(x: Array, kernel: Size, stride: Size, padding: str) -> Answer:
    sizes, strides = (1, *kernel, 1), (1, *stride, 1)
    return {"cols": tf.extract_volume_patches(tf.constant(x), sizes, strides, padding.upper()).numpy()}


@adapter.implements("col2im3d", padding="string")
def _(cols: Array, input_size: Size, kernel: Size, stride: Size, padding: str) -> Answer:
    sizes, strides = (1, *kernel, 1), (1, *stride, 1)
    x = tf.zeros(input_size, cols.dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.extract_volume_patches(x, sizes, strides, padding.upper())
    return {"x": tape.gradient(y, x, tf.constant(cols)).numpy()}


def _convolution(rank: int) -> None:
    function = getattr(tf.nn, f"conv{rank}d")
    claims: dict[str, Any] = {"padding": "low-high" if rank == 2 else "string"}

    if rank < 3:
        # The number of groups is the input's channels over the weights', so nobody is told it.
        @adapter.implements(f"conv{rank}d", **claims)
        def forward(
            x: Array,
            w: Array,
            stride: Size,
            padding: Padding,
            dilation: Size,
            groups: int,
            b: Array | None = None,
        ) -> Answer:
            pad = padding.upper() if isinstance(padding, str) else [(0, 0), *padding, (0, 0)]
            y = function(tf.constant(x), tf.constant(w), (1, *stride, 1), pad, dilations=(1, *dilation, 1))
            return {"y": (y if b is None else tf.nn.bias_add(y, tf.constant(b))).numpy()}

    else:
        # On the CPU, groups are refused, and dilation in all dtypes but those that oneDNN takes over.
        @adapter.implements(f"conv{rank}d", **claims)
        def forward_without_groups(
            x: Array, w: Array, stride: Size, padding: str, b: Array | None = None
        ) -> Answer:
            y = function(tf.constant(x), tf.constant(w), (1, *stride, 1), padding.upper())
            return {"y": (y if b is None else tf.nn.bias_add(y, tf.constant(b))).numpy()}

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


def _max_pooling(rank: int) -> None:
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


def _average_pooling(rank: int) -> None:
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


_SOURCE = "https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow"
_ISSUES = "https://github.com/tensorflow/tensorflow/issues"


def _known_limits() -> None:
    """Declare what TensorFlow 2.21 answers otherwise than the standard on the CPU, each with a link."""
    known = adapter.known_limit
    for name, implementation in adapter.implementations.items():
        family, rank = implementation.operator.family, implementation.operator.rank
        if not (family.startswith("max_pool") and rank == 3):
            known(
                name,
                "WINDOW-6",
                reason="A kernel that does not fit gives an empty output; convolution's gradients then read "
                "outside of the arrays, and the process ends.",
                link=f"{_ISSUES}/109175",
            )
        if family in ("conv", "conv.backward"):
            known(
                name,
                "CONV-6",
                reason="Weights without input channels are refused.",
                link=f"{_SOURCE}/core/kernels/conv_ops.cc",
            )
            known(
                name,
                "CONTRACT-9",
                reason="Documented otherwise: further axes in front count as samples, too.",
                link=f"https://www.tensorflow.org/api_docs/python/tf/nn/conv{rank}d",
            )
            known(
                name,
                "CONV-5",
                reason="On some processors float16 is added up in float16.",
                link=f"{_SOURCE}/core/kernels/conv_3d.h",
                dtypes=("float16",),
                always=False,
            )
            if name != "conv2d":
                known(
                    name,
                    "CONTRACT-7",
                    reason="oneDNN's output for a batch without samples has the shape of the input.",
                    link=f"{_SOURCE}/core/kernels/mkl/mkl_conv_ops.cc",
                    always=False,  # not every processor is served by oneDNN
                )
        if family == "conv" and rank < 3:
            known(
                name,
                "CONV-7",
                reason="Documented otherwise: weights with fewer input channels make groups.",
                link=f"https://www.tensorflow.org/api_docs/python/tf/nn/conv{rank}d",
            )
        if family == "col2im":
            known(
                name,
                "CONTRACT-7",
                reason="The gradient of patches is no gradient for a batch without samples: it raises.",
                link=f"{_SOURCE}/python/ops/array_grad.py",
            )
            known(
                name,
                "CONTRACT-9",
                reason="The gradient of patches reshapes the columns, whatever their number of axes.",
                link=f"{_SOURCE}/python/ops/array_grad.py",
            )
        if family == "max_pool" or name == "max_pool3d.backward":
            known(
                name,
                "MAXPOOL-4",
                reason="A window of nothing but -inf gives the lowest finite number, and NaN gets lost.",
                link=f"{_ISSUES}/125965" if rank < 3 else f"{_ISSUES}/2501",
            )
    known(
        "col2im",
        "large_and_small",
        reason="Half types are added up in the half type.",
        link=f"{_SOURCE}/python/ops/array_grad.py",
    )
    sometimes = ("floor", "small_input", "same_padding")
    for name, law in itertools.chain(
        itertools.product(("im2col3d", "col2im3d"), ("WINDOW-2", *sometimes)),
        (("im2col3d", "special_values"), ("col2im3d", "adjoint")),
    ):
        known(
            name,
            law,
            reason="Patches do not begin with the first element where stride exceeds kernel size.",
            link=f"{_SOURCE}/core/kernels/eigen_volume_patch.h",
            always=law == "WINDOW-2",
        )
    for name, law in itertools.product(("conv2d", "conv3d"), ("WINDOW-2", *sometimes, "rounding")):
        known(
            name,
            law,
            reason="A single output column with a stride above one along it is wrong in float32 (oneDNN).",
            link="https://github.com/pytorch/pytorch/issues/169688",
            always=False,
        )
    for name in ("conv2d", "conv2d.backward"):
        known(
            name,
            "crashed",
            reason="float16 with a high padding of two or more: segmentation fault in oneDNN.",
            link="https://github.com/uxlfoundation/oneDNN/pull/3483",
            dtypes=("float16",),
            always=False,
        )
    for name in ("avg_pool1d", "avg_pool2d", "avg_pool2d.backward"):
        known(
            name,
            "AVGPOOL-4",
            reason="float16 is added up in float16.",
            link=f"{_SOURCE}/core/kernels/avgpooling_op.cc",
            dtypes=("float16",),
            always=False,
        )
    for name, law in itertools.product(
        ("avg_pool1d.backward", "avg_pool2d.backward"), ("WINDOW-7", "WINDOW-8", "AVGGRAD-1", "rounding")
    ):
        known(
            name,
            law,
            reason="With a kernel larger than the image, dy is shared out over elements without a tap, too.",
            link=f"{_SOURCE}/core/kernels/avgpooling_op.cc",
            always=False,
        )
    for name in ("avg_pool2d.backward", "avg_pool3d.backward"):
        known(
            name,
            "AVGGRAD-2",
            reason="A dy of another shape is accepted and read beyond its end: the process may end.",
            link=f"{_ISSUES}/64642",
        )
    for name in ("avg_pool1d.backward", "avg_pool2d.backward"):
        known(
            name,
            "CONTRACT-6",
            reason="The gradient's operator takes the shape of x only, so that its dtype is not compared.",
            link=f"{_SOURCE}/python/ops/nn_grad.py",
        )


for _rank in RANKS:
    _convolution(_rank)
    _max_pooling(_rank)
    _average_pooling(_rank)
_known_limits()


argmax: Adapter = Adapter(
    "tensorflow-argmax",
    input="n d h w c",
    dtypes=("float64", "float32", "float16", "int64", "int32"),
    version=tf.__version__,
    install="pip install 'convform[tensorflow]'",
    isolated=True,
    script=lambda operator, parameters: script_of(argmax[operator], parameters, "import tensorflow as tf"),
)


@argmax.implements("max_pool2d", padding="string", default_stride=False, indices=True, index="nhwc")
def _(x: Array, kernel: Size, stride: Size, padding: str) -> Answer:
    y, indices = tf.nn.max_pool_with_argmax(tf.constant(x), kernel, stride, padding.upper())
    return {"y": y.numpy(), "indices": indices.numpy()}


argmax.known_limit("max_pool2d", "MAXPOOL-4", reason="NaN is skipped.", link=f"{_ISSUES}/125965")
argmax.known_limit(
    "max_pool2d",
    "CONTRACT-7",
    reason="A batch without samples is refused.",
    link=f"{_SOURCE}/core/kernels/maxpooling_op.cc",
)
argmax.known_limit(
    "max_pool2d",
    "WINDOW-6",
    reason="A kernel that does not fit gives an empty output.",
    link=f"{_ISSUES}/109175",
)
