"""A convolution lab, correct: im2col and col2im as functions, and a layer built on them.

The layer keeps its weights in `W` and `b` and leaves their gradients in `dW` and `db`. Columns have one
row for each window. It conforms at level core; at level strict it refuses too little (mixed dtypes, a
kernel larger than the image). Judge it with ``convform check examples/lab_conv.py``.
"""

import numpy as np

from convform.adapters import Adapter


def output_size(size, k, stride, padding):
    return (size + 2 * padding - k) // stride + 1


def im2col(x, kH, kW, stride=1, padding=0):
    N, C, H, W = x.shape
    H_out, W_out = output_size(H, kH, stride, padding), output_size(W, kW, stride, padding)
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    col = np.zeros((N, H_out, W_out, C, kH, kW), dtype=x.dtype)
    for i in range(kH):
        for j in range(kW):
            # Element (i, j) of all windows at once.
            taps = padded[:, :, i : i + stride * H_out : stride, j : j + stride * W_out : stride]
            col[:, :, :, :, i, j] = taps.transpose(0, 2, 3, 1)
    return col.reshape(N * H_out * W_out, C * kH * kW)


def col2im(col, x_shape, kH, kW, stride=1, padding=0):
    N, C, H, W = x_shape
    H_out, W_out = output_size(H, kH, stride, padding), output_size(W, kW, stride, padding)
    col = col.reshape(N, H_out, W_out, C, kH, kW)
    padded = np.zeros((N, C, H + 2 * padding, W + 2 * padding), dtype=col.dtype)
    for i in range(kH):
        for j in range(kW):
            # Windows overlap, so an element of the image collects from several of them.
            taps = col[:, :, :, :, i, j].transpose(0, 3, 1, 2)
            padded[:, :, i : i + stride * H_out : stride, j : j + stride * W_out : stride] += taps
    return padded[:, :, padding : padding + H, padding : padding + W]


class Conv2D:
    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0):
        fan_in = in_channels * kernel_size * kernel_size
        shape = (out_channels, in_channels, kernel_size, kernel_size)
        self.W = np.random.default_rng(0).normal(0.0, np.sqrt(2.0 / max(fan_in, 1)), shape)
        self.b = np.zeros(out_channels)
        self.k, self.stride, self.padding = kernel_size, stride, padding

    def flat_weights(self):
        out_channels, in_channels, kH, kW = self.W.shape
        return self.W.reshape(out_channels, in_channels * kH * kW)

    def forward(self, x):
        N, _, H, W = x.shape
        H_out = output_size(H, self.k, self.stride, self.padding)
        W_out = output_size(W, self.k, self.stride, self.padding)
        self.x_shape = x.shape
        self.col = im2col(x, self.k, self.k, self.stride, self.padding)
        out = self.col @ self.flat_weights().T + self.b
        return out.reshape(N, H_out, W_out, len(self.W)).transpose(0, 3, 1, 2)

    def backward(self, dout):
        rows = dout.transpose(0, 2, 3, 1).reshape(-1, len(self.W))  # one row for each window
        self.dW = (rows.T @ self.col).reshape(self.W.shape)
        self.db = rows.sum(axis=0)
        dcol = rows @ self.flat_weights()
        return col2im(dcol, self.x_shape, self.k, self.k, self.stride, self.padding)


# ------------------------------------------------------------------------------- plugged into convform
lab = Adapter("lab-conv", columns="(n oh ow) (c kh kw)")


@lab.implements("im2col", stride="scalar", padding="scalar")
def gather(x, kernel, stride, padding):
    return im2col(x, *kernel, stride, padding)


@lab.implements("col2im", stride="scalar", padding="scalar")
def scatter(cols, input_size, kernel, stride, padding):
    return col2im(cols, input_size, *kernel, stride, padding)


def layer_with(w, b, stride, padding):
    layer = Conv2D(w.shape[1], w.shape[0], w.shape[2], stride, padding)
    layer.W, layer.b = w, b
    return layer


@lab.implements("conv2d", stride="scalar", padding="scalar", kernel="square")
def forward(x, w, b, stride, padding):
    return layer_with(w, b, stride, padding).forward(x)


@lab.implements("conv2d.backward", stride="scalar", padding="scalar", kernel="square")
def backward(x, w, b, dy, stride, padding):
    layer = layer_with(w, b, stride, padding)
    layer.forward(x)
    return {"dx": layer.backward(dy), "dw": layer.dW, "db": layer.db}
