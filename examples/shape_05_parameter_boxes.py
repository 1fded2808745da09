"""Module classes whose parameters are boxes; the pool has one true defect: every tie gets the gradient.

Shape 5: `W.data` is the array, `W.grad` its gradient, set by `backward(grad)`. The convolution is correct.
The pool's backward pass marks all elements that equal the maximum, so a plateau receives its gradient
several times. ``convform check examples/shape_05_parameter_boxes.py``
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from convform.adapters import Adapter, Layer


class Parameter:
    def __init__(self, data):
        self.data = data
        self.grad = None


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


class Conv2d:
    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0):
        self.kernel_size, self.stride, self.padding = pair(kernel_size), pair(stride), pair(padding)
        self.W = Parameter(np.zeros((out_channels, in_channels, *self.kernel_size)))
        self.b = Parameter(np.zeros(out_channels))

    def forward(self, x):
        (pH, pW), (sH, sW) = self.padding, self.stride
        self.x = np.pad(x, ((0, 0), (0, 0), (pH, pH), (pW, pW)))
        self.windows = sliding_window_view(self.x, self.kernel_size, axis=(2, 3))[:, :, ::sH, ::sW]
        out = np.einsum("ncijkl,ockl->noij", self.windows, self.W.data)
        return out + self.b.data.reshape(1, -1, 1, 1)

    def backward(self, grad):
        (pH, pW), (sH, sW), (kH, kW) = self.padding, self.stride, self.kernel_size
        self.W.grad = np.einsum("noij,ncijkl->ockl", grad, self.windows)
        self.b.grad = grad.sum(axis=(0, 2, 3))
        dx = np.zeros_like(self.x)
        oH, oW = grad.shape[2:]
        for k in range(kH):
            for m in range(kW):
                tap = np.einsum("noij,oc->ncij", grad, self.W.data[:, :, k, m])
                dx[:, :, k : k + sH * oH : sH, m : m + sW * oW : sW] += tap
        return dx[:, :, pH : dx.shape[2] - pH, pW : dx.shape[3] - pW]


class MaxPool2d:
    def __init__(self, pool_size, stride):
        self.pool_size, self.stride = pair(pool_size), pair(stride)

    def windows(self):
        (kH, kW), (sH, sW) = self.pool_size, self.stride
        for i in range((self.x.shape[2] - kH) // sH + 1):
            for j in range((self.x.shape[3] - kW) // sW + 1):
                yield i, j, (..., slice(i * sH, i * sH + kH), slice(j * sW, j * sW + kW))

    def forward(self, x):
        self.x = x
        maxima = {(i, j): x[window].max(axis=(2, 3)) for i, j, window in self.windows()}
        oH, oW = (last + 1 for last in max(maxima))
        out = np.stack([maxima[i, j] for i in range(oH) for j in range(oW)], axis=-1)
        return out.reshape(*x.shape[:2], oH, oW)

    def backward(self, grad):
        dx = np.zeros_like(self.x)
        for i, j, window in self.windows():
            taps = self.x[window]
            mask = taps == taps.max(axis=(2, 3), keepdims=True)  # the defect: should be the first one only
            dx[window] += mask * grad[:, :, i : i + 1, j : j + 1]
        return dx


# ------------------------------------------------------------------------------- plugged into convform
lab = Adapter("boxes")
Layer(
    lambda w, stride, padding: Conv2d(w.shape[1], w.shape[0], w.shape[2:], stride, padding),
    weight="W.data",
    bias="b.data",
    dw="W.grad",
    db="b.grad",
).plug_into(lab, "conv2d")
Layer(lambda kernel, stride: MaxPool2d(kernel, stride)).plug_into(lab, "max_pool2d", default_stride=False)
