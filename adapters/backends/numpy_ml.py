"""numpy-ml, machine learning written out in NumPy: its layers, and the functions that they share.

Its choices: channels last; one stride and one dilation for all axes, and dilation counts the elements
*between* taps; padding in whole numbers at both ends of each axis; pooling moves by one unless told
otherwise and has no dilation, ceil rounding or indices; averages count the padding. Columns of all samples
stand side by side, the samples innermost.
"""

from __future__ import annotations

from importlib.metadata import version

from convform.adapters.backends import numpy_ml_calls as calls
from convform.adapters.backends.library import Library

_SCRIPT = """\
import collections, collections.abc
collections.Hashable = collections.abc.Hashable  # numpy-ml 0.1.2 is older than Python 3.10
from numpy_ml.neural_nets import layers, utils"""

_NUMPY_ML = Library(_SCRIPT, calls.call)

adapter = _NUMPY_ML.adapter(
    "numpy-ml",
    input="n h w c",
    weight="kh kw i o",
    columns="(c kh kw) (oh ow n)",
    version=version("numpy-ml"),
    install="pip install 'convform[numpy-ml]'",
)
_POOLING = {"stride": "scalar", "padding": "low-high", "default_stride": False}
_OTHERS = {"stride": "scalar", "dilation": "scalar", "padding": "low-high"}
_NUMPY_ML.register(adapter, "im2col", calls.im2col, **_OTHERS)
# What comes back has the channels first, unlike everything else; its documentation says otherwise.
_NUMPY_ML.register(adapter, "col2im", calls.col2im, input="n c h w", **_OTHERS)
for _name in ("conv1d", "conv2d"):
    _NUMPY_ML.register(adapter, _name, calls.conv, **_OTHERS)
    _NUMPY_ML.register(adapter, f"{_name}.backward", calls.conv_backward, **_OTHERS)
# "The number of rows/columns of 0's to pad the input": for max pooling, too.
_NUMPY_ML.register(adapter, "max_pool2d", calls.max_pool, maxpad="zero", **_POOLING)
# The gradient is wrong with any padding (see below); beyond the kernel it is wrong, or fails, by chance.
_SMALL = {"max_padding": "below-kernel", "maxpad": "zero"}
_NUMPY_ML.register(adapter, "max_pool2d.backward", calls.max_pool_backward, **_SMALL, **_POOLING)
_NUMPY_ML.register(adapter, "avg_pool2d", calls.avg_pool, **_POOLING)
_NUMPY_ML.register(adapter, "avg_pool2d.backward", calls.avg_pool_backward, **_POOLING)

_SOURCE = "https://github.com/ddbourgin/numpy-ml/blob/master/numpy_ml/neural_nets/"
_LAYERS, _UTILS = _SOURCE + "layers/layers.py", _SOURCE + "utils/utils.py"


# What numpy-ml 0.1.2 answers otherwise than the standard; its source is what documents it.
# fmt: off
known = adapter.known_limit
known("max_pool2d.backward",
      "MAXPOOL-2 MAXPOOL-4 MAXPOOL-6 WINDOW-7 WINDOW-8 inputs_unmodified views two_forwards "
      "no_memory_between_calls no_shared_memory dtype",
      when="there is padding",
      reason="Windows are cut out of the input without its padding, so that the gradient is another's, or "
             "fails.",
      link=_LAYERS)
known("col2im conv?d.backward max_pool2d* avg_pool2d", "CONTRACT-5", shows="dtype",
      reason="The answer is put into a new array of float64, whatever the input is.", link=_LAYERS)
known("col2im conv?d.backward", "CONTRACT-7", shows="raises",
      reason="The number of windows is left to reshape, which cannot tell it of no elements.", link=_UTILS)
known("conv?d*", "CONV-6", shows="raises",
      reason="The length of a window is left to reshape, which cannot tell it of no elements.", link=_UTILS)
known("im2col col2im conv?d max_pool2d* avg_pool2d*", "WINDOW-6", shows="answers",
      reason="Sizes are not checked: dilation or kernel 0, no window or negative padding give some answer.",
      link=_UTILS)
known("col2im", "COL2IM-3", shows="answers",
      reason="Columns of one window for each sample are repeated for all windows.", link=_UTILS)
known("col2im", "CONTRACT-9", shows="answers",
      reason="Columns with one axis too many are reshaped like any others.", link=_UTILS)
known("conv?d", "CONV-7", shows="answers",
      reason="A bias with one element is repeated for all channels.", link=_LAYERS)
known("conv?d.backward", "CONVGRAD-5", shows="answers",
      reason="A dy of one window, or of one element, is repeated for all by the gradient of the identity.",
      link=_LAYERS)
known("max_pool2d.backward avg_pool2d.backward", "MAXGRAD-3 AVGGRAD-2", shows="answers",
      reason="The part of dy beyond the shape of y is not looked at.", link=_LAYERS)
known("conv?d* max_pool2d.backward avg_pool2d.backward", "CONTRACT-6", shows="answers",
      reason="Arrays of different dtypes are combined as NumPy does, not refused.", link=_LAYERS)
# fmt: on
