"""Notebook functions and a layer on top of them, with one true defect: `col2im` forgets to add up.

Shape 4: the columns have one row for each window, and the layer keeps `W`, `b`, `dW`, `db` and a cache.
Where windows overlap an element belongs to several columns, and all of them count; here the last one
overwrites the others, and so dx of the layer is wrong, too. ``convform check
examples/shape_04_notebook_layer.py``
"""

import numpy as np

from convform.adapters import Adapter, Layer


def positions(size, k, stride, padding):
    """Rows (or columns) of the padded image that each window reads: windows × taps."""
    windows = (size + 2 * padding - k) // stride + 1
    return stride * np.arange(windows)[:, None] + np.arange(k)


def im2col(x, kH, kW, stride=1, padding=0):
    _, C, H, W = x.shape
    rows, cols = positions(H, kH, stride, padding), positions(W, kW, stride, padding)
    padded = np.pad(x, ((0, 0), (0, 0), (padding,) * 2, (padding,) * 2))
    windows = padded[:, :, rows[:, None, :, None], cols[None, :, None, :]]  # N C oH oW kH kW
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, C * kH * kW)


def col2im(col, x_shape, kH, kW, stride=1, padding=0):
    N, C, H, W = x_shape
    rows, cols = positions(H, kH, stride, padding), positions(W, kW, stride, padding)
    windows = col.reshape(N, len(rows), len(cols), C, kH, kW).transpose(0, 3, 1, 2, 4, 5)
    padded = np.zeros((N, C, H + 2 * padding, W + 2 * padding), dtype=col.dtype)
    for i, row in enumerate(rows):
        for j, column in enumerate(cols):
            padded[:, :, row[:, None], column] = windows[:, :, i, j]  # the defect: should be +=
    return padded[:, :, padding : padding + H, padding : padding + W]


class Conv2D:
    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0):
        self.W = np.zeros((out_channels, in_channels, kernel_size, kernel_size))
        self.b = np.zeros(out_channels)
        self.k, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x):
        N, C, H, W = x.shape
        F, k = len(self.W), self.k
        oH, oW = (len(positions(size, k, self.stride, self.padding)) for size in (H, W))
        self.x_shape = x.shape
        self.col = im2col(x, k, k, self.stride, self.padding)
        out = self.col @ self.W.reshape(F, C * k * k).T + self.b
        return out.reshape(N, oH, oW, F).transpose(0, 3, 1, 2)

    def backward(self, dout):
        F, C, k, _ = self.W.shape
        dout = dout.transpose(0, 2, 3, 1).reshape(-1, F)
        self.dW = (dout.T @ self.col).reshape(self.W.shape)
        self.db = dout.sum(axis=0)
        return col2im(dout @ self.W.reshape(F, C * k * k), self.x_shape, k, k, self.stride, self.padding)


# ------------------------------------------------------------------------------- plugged into convform
functions = Adapter("notebook-functions", columns="(n oh ow) (c kh kw)")


@functions.implements("im2col", stride="scalar", padding="scalar")
def gather(x, kernel, stride, padding):
    return im2col(x, *kernel, stride, padding)


@functions.implements("col2im", stride="scalar", padding="scalar")
def scatter(cols, input_size, kernel, stride, padding):
    return col2im(cols, input_size, *kernel, stride, padding)


layer = Adapter("notebook-layer")
Layer(
    lambda w, stride, padding: Conv2D(w.shape[1], w.shape[0], w.shape[2], stride, padding),
    weight="W",
    bias="b",
    dw="dW",
    db="db",
).plug_into(layer, "conv2d", kernel="square", stride="scalar", padding="scalar")
