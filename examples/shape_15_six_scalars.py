"""im2col with a scalar for each axis and everything, with one true defect: col2im forgets the dilation.

Shape 15: `im2col(x, kh, kw, sy, sx, ph, pw, pval, cover_all, dy, dx)` keeps all six axes, n c kh kw oh ow,
and is correct; `col2im` puts neighbouring taps on neighbouring elements. ``convform check
examples/shape_15_six_scalars.py``
"""

import numpy as np

from convform.adapters import Adapter


def size_out(size, k, s, p, cover_all=False, d=1):
    room = size + 2 * p - d * (k - 1) - 1
    return (room + s - 1 if cover_all else room) // s + 1


def im2col(x, kh, kw, sy, sx, ph, pw, pval=0, cover_all=False, dy=1, dx=1):
    n, c, h, w = x.shape
    oh, ow = size_out(h, kh, sy, ph, cover_all, dy), size_out(w, kw, sx, pw, cover_all, dx)
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph + sy - 1), (pw, pw + sx - 1)), constant_values=pval)
    col = np.empty((n, c, kh, kw, oh, ow), dtype=x.dtype)
    for j in range(kh):
        for i in range(kw):
            col[:, :, j, i] = x[:, :, j * dy : j * dy + sy * oh : sy, i * dx : i * dx + sx * ow : sx]
    return col


def col2im(col, sy, sx, ph, pw, h, w):
    n, c, kh, kw, oh, ow = col.shape
    # The defect: should have room for dy * (kh - 1), and put tap j at j * dy.
    x = np.zeros((n, c, h + 2 * ph + sy - 1, w + 2 * pw + sx - 1), dtype=col.dtype)
    for j in range(kh):
        for i in range(kw):
            x[:, :, j : j + sy * oh : sy, i : i + sx * ow : sx] += col[:, :, j, i]
    return x[:, :, ph : ph + h, pw : pw + w]


# ------------------------------------------------------------------------------- plugged into convform
lab = Adapter("six-scalars", columns="n c kh kw oh ow")


@lab.implements("im2col")
def gather(x, kernel, stride, padding, dilation):
    return im2col(x, *kernel, *stride, *padding, dy=dilation[0], dx=dilation[1])


@lab.implements("col2im")
def scatter(cols, input_size, kernel, stride, padding, dilation):
    return col2im(cols, *stride, *padding, *input_size[2:])
