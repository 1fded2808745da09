"""A layer that is built from initialiser functions, with its gradients on a nested layer; correct.

Shape 9: `Conv2d(in, out, k, stride, padding, weight_init, bias_init)` hands everything to a linear layer
over columns, on which `dLdW` and `dLdb` lie and add up from call to call until `zero_grad`. A new layer for
each call starts from zero. ``convform check examples/shape_09_initialiser_functions.py``
"""

import numpy as np

from convform.adapters import Adapter, Layer


class Linear:
    """Rows times flattened weights plus bias; gradients accumulate."""

    def __init__(self, weight_init, bias_init):
        self.W, self.b = weight_init(), bias_init()
        self.zero_grad()

    def zero_grad(self):
        self.dLdW, self.dLdb = np.zeros_like(self.W), np.zeros_like(self.b)

    def forward(self, rows):
        self.rows = rows
        return rows @ self.W.reshape(len(self.W), -1).T + self.b

    def backward(self, dLdY):
        self.dLdW += (dLdY.T @ self.rows).reshape(self.W.shape)
        self.dLdb += dLdY.sum(axis=0)
        return dLdY @ self.W.reshape(len(self.W), -1)


class Conv2d:
    def __init__(self, in_channels, out_channels, k, stride, padding, weight_init, bias_init):
        self.k, self.stride, self.padding, self.in_channels = k, stride, padding, in_channels
        self.linear = Linear(
            lambda: weight_init((out_channels, in_channels, k, k)), lambda: bias_init(out_channels)
        )

    def places(self, x_shape):
        """Where the taps of every window lie in the flattened padded batch: rows × taps."""
        N, C, H, W = x_shape
        p, s, k = self.padding, self.stride, self.k
        self.oH, self.oW = (H + 2 * p - k) // s + 1, (W + 2 * p - k) // s + 1
        index = np.arange(N * C * (H + 2 * p) * (W + 2 * p)).reshape(N, C, H + 2 * p, W + 2 * p)
        rows = [
            index[:, :, i * s : i * s + k, j * s : j * s + k].reshape(N, -1)
            for i in range(self.oH)
            for j in range(self.oW)
        ]
        return np.stack(rows, axis=1).reshape(N * self.oH * self.oW, C * k * k)

    def forward(self, x):
        p = self.padding
        padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
        self.x_shape, self.padded_shape = x.shape, padded.shape
        self.index = self.places(x.shape)
        rows = self.linear.forward(padded.reshape(-1)[self.index])
        return rows.reshape(len(x), self.oH, self.oW, -1).transpose(0, 3, 1, 2)

    def backward(self, dLdY):
        _, _, H, W = self.x_shape
        rows = self.linear.backward(dLdY.transpose(0, 2, 3, 1).reshape(len(self.index), -1))
        padded = np.zeros(self.padded_shape, dtype=rows.dtype)
        np.add.at(padded.reshape(-1), self.index, rows)  # adds up where an index stands several times
        p = self.padding
        return padded[:, :, p : p + H, p : p + W]


# ------------------------------------------------------------------------------- plugged into convform
lab = Adapter("initialisers")
Layer(
    lambda w, b, stride, padding: Conv2d(
        w.shape[1], w.shape[0], w.shape[2], stride, padding, lambda shape: w, lambda out: b
    ),
    dw="linear.dLdW",
    db="linear.dLdb",
).plug_into(lab, "conv2d", kernel="square", stride="scalar", padding="scalar")
