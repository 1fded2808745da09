"""Channels-last functions, correct: stride 1, no padding, square kernels, and nothing else claimed.

Images are batch × height × width × channels, weights kernel × kernel × input × output channels, and the
columns have one row for each window. Judge it with ``convform check examples/channels_last.py``.
"""

import numpy as np

from convform.adapters import Adapter


def im2col(Z, k):
    N, H, W, C = Z.shape
    H_out, W_out = H - k + 1, W - k + 1
    windows = np.empty((N, H_out, W_out, k, k, C), dtype=Z.dtype)
    for i in range(k):
        for j in range(k):
            windows[:, :, :, i, j, :] = Z[:, i : i + H_out, j : j + W_out, :]
    return windows.reshape(N * H_out * W_out, k * k * C)


def conv(Z, weight):
    N, H, W, _ = Z.shape
    k, _, C_in, C_out = weight.shape
    out = im2col(Z, k) @ weight.reshape(k * k * C_in, C_out)
    return out.reshape(N, H - k + 1, W - k + 1, C_out)


# ------------------------------------------------------------------------------- plugged into convform
lab = Adapter("channels-last", input="n h w c", weight="kh kw i o", columns="(n oh ow) (kh kw c)")


@lab.implements("im2col", kernel="square")
def gather(x, kernel):
    return im2col(x, kernel)


@lab.implements("conv2d", kernel="square")
def forward(x, w):
    return conv(x, w)
