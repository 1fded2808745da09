"""Autograd tensors, with one true defect: dx uses the kernel the wrong way round.

Shape 10: `conv2d(x, w, b, stride, pad)` returns a tensor that remembers how it came about; `y.backward(dy)`
leaves gradients in `.grad`. The gradient in x is a full convolution of dy with the *mirrored* kernel; here
the kernel is not mirrored. Symmetric kernels never show it. ``convform check
examples/shape_10_autograd_tensors.py``
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from convform.adapters import Adapter


class Tensor:
    def __init__(self, data, parents=(), grad_fn=None):
        self.data, self.parents, self.grad_fn = data, parents, grad_fn
        self.grad = None

    def backward(self, grad):
        self.grad = grad if self.grad is None else self.grad + grad
        if self.grad_fn is not None:
            for parent, share in zip(self.parents, self.grad_fn(grad), strict=True):
                parent.backward(share)


def correlate(x, w):
    """Slide w (O C kH kW) over x (N C H W), stride 1, no padding."""
    windows = sliding_window_view(x, w.shape[2:], axis=(2, 3))
    return np.einsum("ncijkl,ockl->noij", windows, w)


def conv2d(x, w, b, stride=(1, 1), pad=(0, 0)):
    (sH, sW), (pH, pW) = stride, pad
    padded = np.pad(x.data, ((0, 0), (0, 0), (pH, pH), (pW, pW)))
    kH, kW = w.data.shape[2:]
    out = correlate(padded, w.data)[:, :, ::sH, ::sW] + b.data[:, None, None]

    def grad_fn(dy):
        H, W = padded.shape[2:]
        # dy as it would be with stride 1: zeros where windows were skipped.
        full = np.zeros((*dy.shape[:2], H - kH + 1, W - kW + 1), dtype=dy.dtype)
        full[:, :, ::sH, ::sW] = dy
        around = np.pad(full, ((0, 0), (0, 0), (kH - 1, kH - 1), (kW - 1, kW - 1)))
        swapped = w.data.transpose(1, 0, 2, 3)  # the defect: should be mirrored, [:, :, ::-1, ::-1]
        dx = correlate(around, swapped)[:, :, pH : H - pH, pW : W - pW]
        dw = correlate(padded.transpose(1, 0, 2, 3), full.transpose(1, 0, 2, 3)).transpose(1, 0, 2, 3)
        return dx, dw, dy.sum(axis=(0, 2, 3))

    return Tensor(out, (x, w, b), grad_fn)


# ------------------------------------------------------------------------------- plugged into convform
lab = Adapter("autograd")


@lab.implements("conv2d")
def forward(x, w, b, stride, padding):
    return conv2d(Tensor(x), Tensor(w), Tensor(b), stride, padding).data


@lab.implements("conv2d.backward")
def backward(x, w, b, dy, stride, padding):
    leaves = [Tensor(x), Tensor(w), Tensor(b)]
    conv2d(*leaves, stride, padding).backward(dy)
    return tuple(leaf.grad for leaf in leaves)
