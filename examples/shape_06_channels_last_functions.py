"""Channels-last functions, with one true defect: columns and weights are flattened in different orders.

Shape 6: images n h w c, weights k k input output, stride 1, no padding. `im2col` flattens a window as (kh,
kw, c), which is right and what it claims; `conv` flattens its weights as (c, kh, kw), which goes unnoticed
as long as there is one input channel. ``convform check examples/shape_06_channels_last_functions.py``
"""

import numpy as np

from convform.adapters import Adapter


def im2col(Z, k):
    N, H, W, C = Z.shape
    Ns, Hs, Ws, Cs = Z.strides
    shape, strides = (N, H - k + 1, W - k + 1, k, k, C), (Ns, Hs, Ws, Hs, Ws, Cs)
    windows = np.lib.stride_tricks.as_strided(Z, shape, strides, writeable=False)
    return windows.reshape(-1, k * k * C)


def conv(Z, weight):
    N, H, W, _ = Z.shape
    k, _, _, O = weight.shape
    flat = weight.transpose(2, 0, 1, 3).reshape(-1, O)  # the defect: should not be transposed
    return (im2col(Z, k) @ flat).reshape(N, H - k + 1, W - k + 1, O)


# ------------------------------------------------------------------------------- plugged into convform
lab = Adapter("notebook-last", input="n h w c", weight="kh kw i o", columns="(n oh ow) (kh kw c)")
lab.implements("im2col", kernel="square")(lambda x, kernel: im2col(x, kernel))
lab.implements("conv2d", kernel="square")(lambda x, w: conv(x, w))
