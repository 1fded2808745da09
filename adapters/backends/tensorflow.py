"""TensorFlow on the CPU: the functions of ``tf.nn``, and gradients from its tape.

Its choices: channels last; padding in words (``SAME``, ``VALID``) everywhere, in numbers for conv2d and for
max pooling along one and two axes; pooling without dilation, ceil rounding or a default stride; averages
over real elements alone; columns from ``tf.image.extract_patches``, whose gradient is the adjoint.
Indices come from a function of their own, which pads in words only: ``convform check tensorflow-argmax``.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from convform.adapters.backends import tensorflow_calls as calls
from convform.adapters.backends.library import Library
from convform.spec.operators import RANKS

_TENSORFLOW = Library("import tensorflow as tf", calls.call, calls.derive)
_DESCRIPTION: dict[str, Any] = {
    "input": "n d h w c",
    "weight": "kd kh kw i o",
    "columns": "n od oh ow (kd kh kw c)",
    "version": tf.__version__,
    "install": "pip install 'convform[tensorflow]'",
    "isolated": True,
}
_FLOATS, _INTEGERS = ("float64", "float32", "float16"), ("int64", "int32")

adapter = _TENSORFLOW.adapter("tensorflow", dtypes=_FLOATS, **_DESCRIPTION)
_WORDS: dict[str, Any] = {"padding": "string"}
_TENSORFLOW.register(adapter, "im2col", calls.patches, dtypes=_FLOATS + _INTEGERS, **_WORDS)
_TENSORFLOW.register(adapter, "col2im", calls.patches, **_WORDS)
_TENSORFLOW.register(adapter, "im2col3d col2im3d", calls.volume_patches, **_WORDS)
for _rank in RANKS:
    _conv, _max_pool, _avg_pool = f"conv{_rank}d", f"max_pool{_rank}d", f"avg_pool{_rank}d"
    # On the CPU, groups are refused in three dimensions, and dilation in all dtypes but those of oneDNN.
    _claims = {"padding": "low-high"} if _rank == 2 else _WORDS
    _TENSORFLOW.register(adapter, _conv, calls.conv if _rank < 3 else calls.plain_conv, **_claims)
    _TENSORFLOW.register(adapter, f"{_conv}.backward", calls.conv_gradients, **_claims)
    _pools = {"default_stride": False} | ({"dtypes": ("float32",)} if _rank == 3 else {})
    _claims = _pools | (_WORDS if _rank == 3 else {"padding": "low-high", "max_padding": "below-kernel"})
    _TENSORFLOW.register(adapter, _max_pool, calls.max_pool, **_claims)
    _claims |= {"ties": "all"} if _rank == 3 else {}
    _TENSORFLOW.register(adapter, f"{_max_pool}.backward", calls.max_pool, **_claims)
    _claims = {"avgcount": "real", **_pools, **_WORDS}
    _TENSORFLOW.register(adapter, f"{_avg_pool} {_avg_pool}.backward", calls.avg_pool, **_claims)

argmax = _TENSORFLOW.adapter("tensorflow-argmax", dtypes=_FLOATS + _INTEGERS, **_DESCRIPTION)
_claims = {"default_stride": False, "indices": True, "index": "nhwc", **_WORDS}
_TENSORFLOW.register(argmax, "max_pool2d", calls.max_pool_with_indices, **_claims)

_SOURCE = "https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow"
_ISSUES = "https://github.com/tensorflow/tensorflow/issues"
_CONVOLUTION = "https://www.tensorflow.org/api_docs/python/tf/nn/conv2d"

# fmt: off
# What TensorFlow 2.21 answers otherwise than the standard on the CPU.
known = adapter.known_limit
known("im2col* col2im* conv?d* max_pool1d* max_pool2d* avg_pool?d*", "WINDOW-6",
      reason="A kernel that does not fit gives an empty output; convolution's gradients then read outside "
             "of the arrays, and the process ends.",
      link=f"{_ISSUES}/109175")
known("conv?d*", "CONV-6", shows="raises",
      reason="Weights without input channels are refused.", link=f"{_SOURCE}/core/kernels/conv_ops.cc")
known("conv?d*", "CONTRACT-9", shows="answers",
      reason="Documented otherwise: further axes in front count as samples, too.", link=_CONVOLUTION)
known("conv?d*", "CONV-5", dtypes="float16", shows="values", always=False,
      reason="On some processors float16 is added up in float16.", link=f"{_SOURCE}/core/kernels/conv_3d.h")
# Not every processor is served by oneDNN.
known("conv1d* conv2d.backward conv3d*", "CONTRACT-7", always=False,
      reason="oneDNN's output for a batch without samples has the shape of the input.",
      link=f"{_SOURCE}/core/kernels/mkl/mkl_conv_ops.cc")
known("conv1d conv2d", "CONV-7", shows="answers",
      reason="Documented otherwise: weights with fewer input channels make groups.", link=_CONVOLUTION)
known("conv2d conv3d", "WINDOW-1 WINDOW-2 WINDOW-7 WINDOW-8 CONV-5", dtypes="float32",
      when="the output has one column and the last stride > 1", shows="values", always=False,
      reason="A single output column with a stride above one along it is wrong in float32 (oneDNN).",
      link="https://github.com/pytorch/pytorch/issues/169688")
known("conv2d*", "crashed", dtypes="float16", always=False,
      reason="float16 with a high padding of two or more: segmentation fault in oneDNN.",
      link="https://github.com/uxlfoundation/oneDNN/pull/3483")
known("im2col3d col2im3d", "WINDOW-2", when="a stride exceeds the kernel", shows="values",
      reason="Patches do not begin with the first element where stride exceeds kernel size.",
      link=f"{_SOURCE}/core/kernels/eigen_volume_patch.h")
known("im2col3d col2im3d conv3d", "WINDOW-1 WINDOW-2 WINDOW-7 WINDOW-8 IM2COL-3 COL2IM-1 CONV-5",
      when="a stride exceeds the kernel", shows="values", always=False,
      reason="Patches do not begin with the first element where stride exceeds kernel size.",
      link=f"{_SOURCE}/core/kernels/eigen_volume_patch.h")
known("col2im*", "CONTRACT-7", shows="raises",
      reason="The gradient of patches is no gradient for a batch without samples: it raises.",
      link=f"{_SOURCE}/python/ops/array_grad.py")
known("col2im*", "CONTRACT-9", shows="answers",
      reason="The gradient of patches reshapes the columns, whatever their number of axes.",
      link=f"{_SOURCE}/python/ops/array_grad.py")
known("col2im", "large_and_small", dtypes="float16", shows="values",
      reason="Half types are added up in the half type.", link=f"{_SOURCE}/python/ops/array_grad.py")
known("max_pool1d max_pool2d", "MAXPOOL-4", shows="values",
      reason="A window of nothing but -inf gives the lowest finite number, and NaN gets lost.",
      link=f"{_ISSUES}/125965")
known("max_pool3d*", "MAXPOOL-4", shows="values",
      reason="A window of nothing but -inf gives the lowest finite number, and NaN gets lost.",
      link=f"{_ISSUES}/2501")
known("avg_pool1d* avg_pool2d*", "AVGPOOL-4", dtypes="float16", shows="values", always=False,
      reason="float16 is added up in float16.", link=f"{_SOURCE}/core/kernels/avgpooling_op.cc")
known("avg_pool1d.backward avg_pool2d.backward", "WINDOW-7 WINDOW-8 AVGGRAD-1 AVGPOOL-4",
      when="the kernel exceeds the input", shows="values", always=False,
      reason="With a kernel larger than the image, dy is shared out over elements without a tap, too.",
      link=f"{_SOURCE}/core/kernels/avgpooling_op.cc")
known("avg_pool2d.backward avg_pool3d.backward", "AVGGRAD-2",
      reason="A dy of another shape is accepted and read beyond its end: the process may end.",
      link=f"{_ISSUES}/64642")
known("avg_pool1d.backward avg_pool2d.backward", "CONTRACT-6", shows="answers",
      reason="The gradient's operator takes the shape of x only, so that its dtype is not compared.",
      link=f"{_SOURCE}/python/ops/nn_grad.py")

known = argmax.known_limit
known("max_pool2d", "MAXPOOL-4", shows="values",
      reason="NaN is skipped.", link=f"{_ISSUES}/125965")
known("max_pool2d", "CONTRACT-7", shows="raises",
      reason="A batch without samples is refused.", link=f"{_SOURCE}/core/kernels/maxpooling_op.cc")
known("max_pool2d", "WINDOW-6", shows="answers",
      reason="A kernel that does not fit gives an empty output.", link=f"{_ISSUES}/109175")
# fmt: on
