"""Functions that hand a cache from the forward to the backward pass, correct.

Shape 7: parameters come in a dict with scalars, the cache is a tuple, and the columns keep the sample
innermost. The stride of the pool has no default, and none is claimed. ``convform check
examples/shape_07_external_cache.py``
"""

import numpy as np

from convform.adapters import Adapter


def im2col(x, field_height, field_width, pad, stride):
    N, C, H, W = x.shape
    oH = (H + 2 * pad - field_height) // stride + 1
    oW = (W + 2 * pad - field_width) // stride + 1
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    cols = np.zeros((C, field_height, field_width, oH, oW, N), dtype=x.dtype)
    for h in range(field_height):
        for w in range(field_width):
            taps = x[:, :, h : h + stride * oH : stride, w : w + stride * oW : stride]
            cols[:, h, w] = taps.transpose(1, 2, 3, 0)
    return cols.reshape(C * field_height * field_width, oH * oW * N)


def col2im(cols, x_shape, field_height, field_width, pad, stride):
    N, C, H, W = x_shape
    oH = (H + 2 * pad - field_height) // stride + 1
    oW = (W + 2 * pad - field_width) // stride + 1
    cols = cols.reshape(C, field_height, field_width, oH, oW, N).transpose(5, 0, 1, 2, 3, 4)
    x = np.zeros((N, C, H + 2 * pad, W + 2 * pad), dtype=cols.dtype)
    for h in range(field_height):
        for w in range(field_width):
            x[:, :, h : h + stride * oH : stride, w : w + stride * oW : stride] += cols[:, :, h, w]
    return x[:, :, pad : pad + H, pad : pad + W]


def conv_forward(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    F, _, HH, WW = w.shape
    N, _, H, W = x.shape
    cols = im2col(x, HH, WW, pad, stride)
    out = w.reshape(F, -1) @ cols + b[:, None]
    oH, oW = (H + 2 * pad - HH) // stride + 1, (W + 2 * pad - WW) // stride + 1
    return out.reshape(F, oH, oW, N).transpose(3, 0, 1, 2), (x.shape, w, conv_param, cols)


def conv_backward(dout, cache):
    x_shape, w, conv_param, cols = cache
    F, _, HH, WW = w.shape
    flat = dout.transpose(1, 2, 3, 0).reshape(F, -1)
    dw = (flat @ cols.T).reshape(w.shape)
    db = flat.sum(axis=1)
    dcols = w.reshape(F, -1).T @ flat
    return col2im(dcols, x_shape, HH, WW, conv_param["pad"], conv_param["stride"]), dw, db


def max_pool_forward(x, pool_param):
    HH, WW, stride = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    N, C, H, W = x.shape
    out = np.empty((N, C, (H - HH) // stride + 1, (W - WW) // stride + 1), dtype=x.dtype)
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            out[:, :, i, j] = x[:, :, i * stride : i * stride + HH, j * stride : j * stride + WW].max(
                axis=(2, 3)
            )
    return out, (x, pool_param)


# ------------------------------------------------------------------------------- plugged into convform
lab = Adapter("external-cache", columns="(c kh kw) (oh ow n)")


@lab.implements("im2col", stride="scalar", padding="scalar")
def gather(x, kernel, stride, padding):
    return im2col(x, *kernel, padding, stride)


@lab.implements("conv2d", stride="scalar", padding="scalar")
def forward(x, w, b, stride, padding):
    return conv_forward(x, w, b, {"stride": stride, "pad": padding})[0]


@lab.implements("conv2d.backward", stride="scalar", padding="scalar")
def backward(x, w, b, dy, stride, padding):
    return conv_backward(dy, conv_forward(x, w, b, {"stride": stride, "pad": padding})[1])


pools = Adapter("external-cache-pool")


@pools.implements("max_pool2d", stride="scalar", default_stride=False)
def pool(x, kernel, stride):
    sizes = {"pool_height": kernel[0], "pool_width": kernel[1], "stride": stride}
    return max_pool_forward(x, sizes)[0]
