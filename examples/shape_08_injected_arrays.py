"""Layers that are given their arrays, with one true defect: the gradients are divided by the batch.

Shape 8: `Convolution(W, b, stride, pad)` and `Pooling(pool_h, pool_w, stride, pad)`. dW and db are averages
over the samples, where the standard sums; dx is right, so a network still learns, only slower. The pool is
correct. ``convform check examples/shape_08_injected_arrays.py``
"""

import numpy as np

from convform.adapters import Adapter, Layer


def unfold(x, kH, kW, stride, pad, fill=0):
    """Windows of a batch as an array N C kH kW oH oW."""
    N, C, H, W = x.shape
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=fill)
    oH, oW = (H + 2 * pad - kH) // stride + 1, (W + 2 * pad - kW) // stride + 1
    out = np.empty((N, C, kH, kW, oH, oW), dtype=x.dtype)
    for i in range(kH):
        for j in range(kW):
            out[:, :, i, j] = x[:, :, i : i + stride * oH : stride, j : j + stride * oW : stride]
    return out


def fold(windows, shape, stride, pad):
    """Add windows back into a batch of the given shape."""
    N, C, H, W = shape
    kH, kW, oH, oW = windows.shape[2:]
    x = np.zeros((N, C, H + 2 * pad, W + 2 * pad), dtype=windows.dtype)
    for i in range(kH):
        for j in range(kW):
            x[:, :, i : i + stride * oH : stride, j : j + stride * oW : stride] += windows[:, :, i, j]
    return x[:, :, pad : pad + H, pad : pad + W]


class Convolution:
    def __init__(self, W, b, stride=1, pad=0):
        self.W, self.b, self.stride, self.pad = W, b, stride, pad

    def forward(self, x):
        self.x = x
        self.windows = unfold(x, *self.W.shape[2:], self.stride, self.pad)
        out = np.tensordot(self.W, self.windows, axes=([1, 2, 3], [1, 2, 3]))
        return out.transpose(1, 0, 2, 3) + self.b[:, None, None]

    def backward(self, dout):
        batch = len(dout)
        self.db = dout.sum(axis=(0, 2, 3)) / batch  # the defect: should be the sum
        self.dW = np.tensordot(dout, self.windows, axes=([0, 2, 3], [0, 4, 5])) / batch  # the same here
        taps = np.tensordot(dout, self.W, axes=([1], [0])).transpose(0, 3, 4, 5, 1, 2)
        return fold(taps, self.x.shape, self.stride, self.pad)


class Pooling:
    def __init__(self, pool_h, pool_w, stride=2, pad=0):
        self.pool_h, self.pool_w, self.stride, self.pad = pool_h, pool_w, stride, pad

    def forward(self, x):
        self.x = x
        windows = unfold(x, self.pool_h, self.pool_w, self.stride, self.pad, fill=-np.inf)
        N, C, kH, kW, oH, oW = windows.shape
        flat = windows.reshape(N, C, kH * kW, oH, oW)
        self.argmax = flat.argmax(axis=2)
        return flat.max(axis=2)

    def backward(self, dout):
        taps = self.pool_h * self.pool_w
        chosen = self.argmax[:, :, None] == np.arange(taps).reshape(1, 1, -1, 1, 1)
        spread = chosen * dout[:, :, None]
        N, C, _, oH, oW = spread.shape
        spread = spread.reshape(N, C, self.pool_h, self.pool_w, oH, oW)
        return fold(spread, self.x.shape, self.stride, self.pad)


# ------------------------------------------------------------------------------- plugged into convform
lab = Adapter("injected")
SCALAR = {"stride": "scalar", "padding": "scalar"}
Layer(lambda w, b, stride, padding: Convolution(w, b, stride, padding), dw="dW", db="db").plug_into(
    lab, "conv2d", **SCALAR
)
Layer(lambda kernel, stride, padding: Pooling(*kernel, stride, padding)).plug_into(
    lab, "max_pool2d", default_stride=False, max_padding="half-kernel", **SCALAR
)
