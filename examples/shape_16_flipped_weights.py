"""Convolution proper, with mirrored kernels and weights i o kh kw, correct for what it declares.

Shape 16: signal processing mirrors the kernel, the standard does not. That is a choice, not a mistake, as
long as it is said: `kernel="mirrored"` declares the dialect, and the layer is judged by it. Valid windows
only. ``convform check examples/shape_16_flipped_weights.py``
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from convform.adapters import Adapter, Layer


class ConvLayer:
    def __init__(self, weights):
        self.weights = weights

    def forward(self, x):
        self.x = x
        self.windows = sliding_window_view(x, self.weights.shape[2:], axis=(2, 3))
        return np.einsum("nihwkl,iokl->nohw", self.windows, self.weights[:, :, ::-1, ::-1])

    def backward(self, gradient):
        kH, kW = self.weights.shape[2:]
        border = ((0, 0), (0, 0), (kH - 1, kH - 1), (kW - 1, kW - 1))
        around = sliding_window_view(np.pad(gradient, border), (kH, kW), axis=(2, 3))
        self.gradient = np.einsum("nohw,nihwkl->iokl", gradient, self.windows)[:, :, ::-1, ::-1]
        return np.einsum("nohwkl,iokl->nihw", around, self.weights)


# ------------------------------------------------------------------------------- plugged into convform
lab = Adapter("flipped", weight="i o kh kw")
Layer(lambda w: ConvLayer(w), dw="gradient").plug_into(lab, "conv2d", kernel="mirrored")
