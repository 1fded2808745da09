"""A max-pooling lab with one true defect: its padding is filled with 0, and a 0 can win.

Wherever a window at the border holds negative elements only, the forward pass answers 0 and the backward
pass sends the gradient into the padding, where it is lost. Inputs behind a ReLU never show it. Judge it
with ``convform check examples/lab_pool.py``.
"""

import numpy as np

from convform.adapters import Adapter


class MaxPool2d:
    def __init__(self, kernel_size, stride=None, padding=0):
        self.k = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding

    def forward(self, x):
        N, C, H, W = x.shape
        k, s, p = self.k, self.stride, self.padding
        H_out, W_out = (H + 2 * p - k) // s + 1, (W + 2 * p - k) // s + 1
        padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))  # the defect: should be -inf
        out = np.zeros((N, C, H_out, W_out), dtype=x.dtype)
        self.argmax = np.zeros((N, C, H_out, W_out), dtype=int)
        for i in range(H_out):
            for j in range(W_out):
                window = padded[:, :, i * s : i * s + k, j * s : j * s + k].reshape(N, C, k * k)
                out[:, :, i, j] = window.max(axis=2)
                self.argmax[:, :, i, j] = window.argmax(axis=2)  # the first one, row by row
        self.x_shape = x.shape
        return out

    def backward(self, dout):
        N, C, H, W = self.x_shape
        k, s, p = self.k, self.stride, self.padding
        n, c = np.ogrid[:N, :C]
        dx = np.zeros((N, C, H + 2 * p, W + 2 * p), dtype=dout.dtype)
        for i in range(dout.shape[2]):
            for j in range(dout.shape[3]):
                row, column = np.divmod(self.argmax[:, :, i, j], k)
                dx[n, c, i * s + row, j * s + column] += dout[:, :, i, j]
        return dx[:, :, p : p + H, p : p + W]


# ------------------------------------------------------------------------------- plugged into convform
lab = Adapter("lab-pool")
CLAIMS = {"kernel": "square", "stride": "scalar", "padding": "scalar", "max_padding": "half-kernel"}


@lab.implements("max_pool2d", **CLAIMS)
def forward(x, kernel, stride, padding):
    return MaxPool2d(kernel, stride, padding).forward(x)


@lab.implements("max_pool2d.backward", **CLAIMS)
def backward(x, dy, kernel, stride, padding):
    layer = MaxPool2d(kernel, stride, padding)
    layer.forward(x)
    return layer.backward(dy)
