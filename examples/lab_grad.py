"""A convolution layer in plain loops with one true defect: dx forgets the stride.

The forward pass reads window (i, j) at i · stride and j · stride; the backward pass adds its share at
(i, j). With stride 1 that is the same, and a test with stride 1 passes; dW and db are right for any
stride. Judge it with ``convform check examples/lab_grad.py``.
"""

import numpy as np

from convform.adapters import Adapter


class ConvLayer:
    def __init__(self, weight, bias, stride=1, padding=0):
        self.weight, self.bias = weight, bias
        self.stride, self.padding = stride, padding

    def forward(self, x):
        F, _, kH, kW = self.weight.shape
        N, _, H, W = x.shape
        s, p = self.stride, self.padding
        H_out, W_out = (H + 2 * p - kH) // s + 1, (W + 2 * p - kW) // s + 1
        self.x_shape = x.shape
        self.padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        out = np.zeros((N, F, H_out, W_out), dtype=x.dtype)
        for i in range(H_out):
            for j in range(W_out):
                window = self.padded[:, :, i * s : i * s + kH, j * s : j * s + kW]
                out[:, :, i, j] = np.tensordot(window, self.weight, axes=([1, 2, 3], [1, 2, 3]))
        return out + self.bias[:, None, None]

    def backward(self, dout):
        _, _, kH, kW = self.weight.shape
        _, _, H, W = self.x_shape
        s, p = self.stride, self.padding
        self.dW = np.zeros_like(self.weight)
        self.db = dout.sum(axis=(0, 2, 3))
        dpadded = np.zeros_like(self.padded)
        for i in range(dout.shape[2]):
            for j in range(dout.shape[3]):
                d = dout[:, :, i, j]
                window = self.padded[:, :, i * s : i * s + kH, j * s : j * s + kW]
                self.dW += np.tensordot(d, window, axes=([0], [0]))
                # The defect: should be i * s : i * s + kH, j * s : j * s + kW.
                dpadded[:, :, i : i + kH, j : j + kW] += np.tensordot(d, self.weight, axes=([1], [0]))
        return dpadded[:, :, p : p + H, p : p + W]


# ------------------------------------------------------------------------------- plugged into convform
lab = Adapter("lab-grad")


@lab.implements("conv2d", stride="scalar", padding="scalar")
def forward(x, w, b, stride, padding):
    return ConvLayer(w, b, stride, padding).forward(x)


@lab.implements("conv2d.backward", stride="scalar", padding="scalar")
def backward(x, w, b, dy, stride, padding):
    layer = ConvLayer(w, b, stride, padding)
    layer.forward(x)
    return {"dx": layer.backward(dy), "dw": layer.dW, "db": layer.db}
