"""Operators in the array API standard, correct: the same code on any library that speaks it.

Shape 18: `xp` is the namespace that an array belongs to, and nothing else is called. Here it is NumPy; on a
machine with a device library, `plugged("on-gpu", cupy)` makes an adapter of the same functions. Arrays go
there and come back in one transfer each per call. ``convform check examples/shape_18_array_api.py``
"""

import functools
import math

import numpy as np

from convform.adapters import Adapter


def padded(x, padding, fill):
    """Put `fill` around the last two axes."""
    xp = x.__array_namespace__()
    for axis, p in zip((-2, -1), padding, strict=True):
        shape = list(x.shape)
        shape[axis] = p
        border = xp.full(tuple(shape), fill, dtype=x.dtype)
        x = xp.concat([border, x, border], axis=axis)
    return x


def taps(x, kernel, stride, padding, dilation, fill=0.0):
    """Windows of a batch, one array n c oh ow for each tap, row by row."""
    x = padded(x, padding, fill)
    oh, ow = (
        (size - d * (k - 1) - 1) // s + 1
        for size, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)
    )
    for top in range(0, dilation[0] * kernel[0], dilation[0]):
        for left in range(0, dilation[1] * kernel[1], dilation[1]):
            down = slice(top, top + stride[0] * (oh - 1) + 1, stride[0])
            across = slice(left, left + stride[1] * (ow - 1) + 1, stride[1])
            yield x[:, :, down, across]


def im2col(x, kernel, stride, padding, dilation):
    xp = x.__array_namespace__()
    columns = xp.stack(list(taps(x, kernel, stride, padding, dilation)), axis=2)
    n, c, k, oh, ow = columns.shape
    return xp.reshape(columns, (n, c * k, oh * ow))


def conv2d(x, w, b, stride, padding, dilation):
    xp = x.__array_namespace__()
    o, c, kh, kw = w.shape
    oh, ow = (
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, s, p, d in zip(x.shape[2:], (kh, kw), stride, padding, dilation, strict=True)
    )
    columns = im2col(x, (kh, kw), stride, padding, dilation)
    y = xp.matmul(xp.reshape(w, (o, c * kh * kw)), columns)
    return xp.reshape(y, (x.shape[0], o, oh, ow)) + xp.reshape(b, (1, o, 1, 1))


def max_pool2d(x, kernel, stride, padding, dilation):
    stride = kernel if stride is None else stride
    xp = x.__array_namespace__()
    first, *others = taps(x, kernel, stride, padding, dilation, -math.inf)
    for tap in others:
        first = xp.maximum(first, tap)
    return first


def avg_pool2d(x, kernel, stride, padding):
    stride = kernel if stride is None else stride
    return sum(taps(x, kernel, stride, padding, (1, 1))) / math.prod(kernel)


# ------------------------------------------------------------------------------- plugged into convform
def plugged(name, xp, back=np.asarray):
    """Plug the functions in for arrays of `xp`; `back` makes a NumPy array of what they return."""
    lab = Adapter(name)
    for function in (im2col, conv2d, max_pool2d, avg_pool2d):

        def there_and_back(function=function, **given):
            arrays = {key: xp.asarray(given[key]) for key in ("x", "w", "b") if key in given}
            return back(function(**given | arrays))

        lab.implements(function.__name__)(functools.wraps(function)(there_and_back))
    return lab


lab = plugged("array-api", np)
