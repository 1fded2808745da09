"""Channels-last layers with dicts of parameters and gradients, correct; padding may be the word 'same'.

Shape 11: `layer.parameters["W"]`, `layer.gradients["W"]`, and a bias of shape 1 1 1 o. Only square kernels
and one stride for both axes are claimed. ``convform check examples/shape_11_parameter_dicts.py``
"""

import math

import numpy as np

from convform.adapters import Adapter, Layer


class Conv2D:
    def __init__(self, filters, kernel_size, channels, stride=1, padding="valid"):
        self.k, self.stride, self.padding = kernel_size, stride, padding
        self.parameters = {
            "W": np.zeros((kernel_size, kernel_size, channels, filters)),
            "b": np.zeros((1, 1, 1, filters)),
        }
        self.gradients = {}

    def border(self, size):
        """Zeros before and after one axis."""
        if self.padding == "valid":
            return 0, 0
        total = max((math.ceil(size / self.stride) - 1) * self.stride + self.k - size, 0)
        return total // 2, total - total // 2

    def windows(self, oH, oW):
        k, s = self.k, self.stride
        for i in range(oH):
            for j in range(oW):
                yield i, j, (slice(None), slice(i * s, i * s + k), slice(j * s, j * s + k))

    def forward(self, X):
        _, H, W, _ = X.shape
        self.shape, self.borders = X.shape, (self.border(H), self.border(W))
        self.X = np.pad(X, ((0, 0), *self.borders, (0, 0)))
        oH, oW = ((n - self.k) // self.stride + 1 for n in self.X.shape[1:3])
        weights = self.parameters["W"]
        Y = np.zeros((len(X), oH, oW, weights.shape[-1]), dtype=X.dtype)
        for i, j, window in self.windows(oH, oW):
            Y[:, i, j] = np.tensordot(self.X[window], weights, axes=3)
        return Y + self.parameters["b"]

    def backward(self, dY):
        weights = self.parameters["W"]
        dW, dX = np.zeros_like(weights), np.zeros_like(self.X)
        for i, j, window in self.windows(*dY.shape[1:3]):
            dW += np.tensordot(self.X[window], dY[:, i, j], axes=([0], [0]))
            dX[window] += np.tensordot(dY[:, i, j], weights, axes=([1], [3]))
        self.gradients = {"W": dW, "b": dY.sum(axis=(0, 1, 2), keepdims=True)}
        (top, _), (left, _) = self.borders
        return dX[:, top : top + self.shape[1], left : left + self.shape[2]]


# ------------------------------------------------------------------------------- plugged into convform
lab = Adapter("dicts", input="n h w c", weight="kh kw i o", bias="1 1 1 o")
Layer(
    lambda w, stride, padding: Conv2D(w.shape[3], w.shape[0], w.shape[2], stride, padding),
    weight="parameters['W']",
    bias="parameters['b']",
    dw="gradients['W']",
    db="gradients['b']",
).plug_into(lab, "conv2d", kernel="square", stride="scalar", padding="string")
