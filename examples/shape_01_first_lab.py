"""First lab, correct: `im2col` as one function on one image, the smallest thing that can be judged.

Shape 1: one two-dimensional array, stride 1, no padding; the columns have one row for each tap. Samples,
channels and the rest of the window are not claimed. ``convform check examples/shape_01_first_lab.py``
"""

import numpy as np

from convform.adapters import Adapter


def im2col(x, kH, kW):
    H, W = x.shape
    out_H, out_W = H - kH + 1, W - kW + 1
    columns = np.zeros((kH * kW, out_H * out_W), dtype=x.dtype)
    for i in range(out_H):
        for j in range(out_W):
            columns[:, i * out_W + j] = x[i : i + kH, j : j + kW].flatten()
    return columns


# ------------------------------------------------------------------------------- plugged into convform
lab = Adapter("first-lab", input="h w", columns="(kh kw) (oh ow)")


@lab.implements("im2col")
def gather(x, kernel):
    return im2col(x, *kernel)
