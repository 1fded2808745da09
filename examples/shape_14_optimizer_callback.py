"""A layer that hands its gradients to an optimizer, with one true defect: 'same' pads the wrong side.

Shape 14: padding is 'same' or 'valid', and `backward_pass` calls `optimizer.update(w, g)` for each
parameter; an optimizer that only writes down what it sees returns the gradients. Where the padding is odd,
the extra row belongs at the end, and this layer puts it in front. ``convform check
examples/shape_14_optimizer_callback.py``
"""

import types

import numpy as np

from convform.adapters import Adapter


class Conv2D:
    def __init__(self, W, b, stride=1, padding="valid", optimizer=None):
        self.W, self.b, self.stride, self.padding, self.optimizer = W, b, stride, padding, optimizer

    def pads(self, size, k):
        if self.padding == "valid":
            return 0, 0
        out = -(-size // self.stride)
        total = max((out - 1) * self.stride + k - size, 0)
        return total - total // 2, total // 2  # the defect: should be the other way round

    def forward_pass(self, X):
        kH, kW = self.W.shape[2:]
        s = self.stride
        (top, bottom), (left, right) = self.pads(X.shape[2], kH), self.pads(X.shape[3], kW)
        self.inside = (..., slice(top, top + X.shape[2]), slice(left, left + X.shape[3]))
        self.X = np.pad(X, ((0, 0), (0, 0), (top, bottom), (left, right)))
        oH, oW = (self.X.shape[2] - kH) // s + 1, (self.X.shape[3] - kW) // s + 1
        self.taps = {
            (k, m): (..., slice(k, k + s * oH, s), slice(m, m + s * oW, s))
            for k in range(kH)
            for m in range(kW)
        }
        Y = sum(
            np.einsum("nchw,oc->nohw", self.X[tap], self.W[:, :, k, m]) for (k, m), tap in self.taps.items()
        )
        return Y + self.b[:, None, None]

    def backward_pass(self, g):
        dX, dW = np.zeros_like(self.X), np.zeros_like(self.W)
        for (k, m), tap in self.taps.items():
            dW[:, :, k, m] = np.einsum("nohw,nchw->oc", g, self.X[tap])
            dX[tap] += np.einsum("nohw,oc->nchw", g, self.W[:, :, k, m])
        self.W = self.optimizer.update(self.W, dW)
        self.b = self.optimizer.update(self.b, g.sum(axis=(0, 2, 3)))
        return dX[self.inside]


# ------------------------------------------------------------------------------- plugged into convform
lab = Adapter("optimizer-callback")


@lab.implements("conv2d", stride="scalar", padding="string")
def forward(x, w, b, stride, padding):
    return Conv2D(w, b, stride, padding).forward_pass(x)


@lab.implements("conv2d.backward", stride="scalar", padding="string")
def backward(x, w, b, dy, stride, padding):
    seen = []
    layer = Conv2D(w, b, stride, padding, types.SimpleNamespace(update=lambda w, g: seen.append(g)))
    layer.forward_pass(x)
    return (layer.backward_pass(dy), *seen)
