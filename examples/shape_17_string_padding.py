"""Functions in the manner of a graph library, correct: channels last, padding is "SAME" or "VALID".

Shape 17: `conv2d(x, w, strides, padding)` and `max_pool2d(x, ksize, strides, padding)`, both with a stride
for each axis. SAME keeps the size, up to the stride: ⌈n / s⌉ windows along each axis. ``convform check
examples/shape_17_string_padding.py``
"""

import numpy as np

from convform.adapters import Adapter


def windows_and_pads(size, k, s, padding):
    if padding == "VALID":
        return (size - k) // s + 1, (0, 0)
    windows = -(-size // s)
    total = max((windows - 1) * s + k - size, 0)
    return windows, (total // 2, total - total // 2)


def extract_patches(x, ksize, strides, padding, fill=0):
    """Windows of a batch as an array N oH oW kH kW C."""
    (oH, rows), (oW, columns) = (
        windows_and_pads(*axis, padding) for axis in zip(x.shape[1:3], ksize, strides, strict=True)
    )
    x = np.pad(x, ((0, 0), rows, columns, (0, 0)), constant_values=fill)
    patches = np.empty((len(x), oH, oW, *ksize, x.shape[3]), dtype=x.dtype)
    for i in range(oH):
        for j in range(oW):
            top, left = i * strides[0], j * strides[1]
            patches[:, i, j] = x[:, top : top + ksize[0], left : left + ksize[1]]
    return patches


def conv2d(x, w, strides, padding):
    return np.tensordot(extract_patches(x, w.shape[:2], strides, padding), w, axes=3)


def max_pool2d(x, ksize, strides, padding):
    return extract_patches(x, ksize, strides, padding, fill=-np.inf).max(axis=(3, 4))


# ------------------------------------------------------------------------------- plugged into convform
lab = Adapter("strings", input="n h w c", weight="kh kw i o")


@lab.implements("conv2d", padding="string")
def forward(x, w, stride, padding):
    return conv2d(x, w, stride, padding.upper())


@lab.implements("max_pool2d", padding="string")
def pool(x, kernel, stride, padding):
    return max_pool2d(x, kernel, stride or kernel, padding.upper())
