"""A plain implementation of a few operators, of which the homework in the tests is made.

It shares nothing with the reference, which no judged file may import. It does what the standard says for the
parameters that it takes, and refuses as little as most homework does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np


def _each(value, rank):
    return (value,) * rank if isinstance(value, int | np.integer) else tuple(value)


def _padded(x, padding, rank, fill=0):
    pairs = [(p, p) if isinstance(p, int | np.integer) else tuple(p) for p in _each(padding, rank)]
    if not any(low or high for low, high in pairs):
        return x
    return np.pad(x, [(0, 0), (0, 0), *pairs], constant_values=fill)


def _windows(x, kernel, stride) -> tuple[tuple[int, ...], Iterator]:
    """Sizes of the output, and every output position with the window of x that belongs to it."""
    sizes = tuple((n - k) // s + 1 for n, k, s in zip(x.shape[2:], kernel, stride, strict=True))
    if min(sizes) < 1 or min(stride) < 1 or min(kernel) < 1:
        raise ValueError(f"kernel {kernel} and stride {stride} leave no window of {x.shape}")

    def every():
        for position in itertools.product(*map(range, sizes)):
            starts = [o * s for o, s in zip(position, stride, strict=True)]
            places = tuple(slice(at, at + k) for at, k in zip(starts, kernel, strict=True))
            yield (slice(None), slice(None), *position), x[(slice(None), slice(None), *places)]

    return sizes, every()


def conv(x, w, b=None, stride=1, padding=0, groups=1):
    """Convolve any number of spatial axes."""
    rank = x.ndim - 2
    if x.shape[1] != groups * w.shape[1] or w.shape[0] % groups:
        raise ValueError(f"{x.shape[1]} channels, weights {w.shape}, {groups} groups")
    if x.dtype != w.dtype:
        raise TypeError(f"x is {x.dtype}, and w is {w.dtype}")
    wide = np.float64 if x.dtype.kind == "f" else x.dtype
    sizes, windows = _windows(_padded(x, padding, rank), w.shape[2:], _each(stride, rank))
    y = np.zeros((len(x), len(w), *sizes), wide)
    filters = w.reshape(groups, w.shape[0] // groups, -1).astype(wide)
    for place, window in windows:
        taps = window.reshape(len(x), groups, filters.shape[2]).astype(wide)
        y[place] = np.einsum("ngk,gok->ngo", taps, filters).reshape(len(x), -1)
    if b is not None:
        y += b.reshape(1, -1, *(1,) * rank)
    return y.astype(x.dtype)


def im2col(x, kernel, stride=1):
    """Gather windows as columns."""
    rank = x.ndim - 2
    sizes, windows = _windows(x, _each(kernel, rank), _each(stride, rank))
    columns = np.zeros((len(x), x.shape[1] * int(np.prod(_each(kernel, rank))), *sizes), x.dtype)
    for place, window in windows:
        columns[place] = window.reshape(len(x), -1)
    return columns.reshape(*columns.shape[:2], -1)


def max_pool(x, kernel, stride=None):
    """Take maxima: y, and nothing else."""
    rank = x.ndim - 2
    kernel = _each(kernel, rank)
    sizes, windows = _windows(x, kernel, _each(kernel if stride is None else stride, rank))
    y = np.zeros((*x.shape[:2], *sizes), x.dtype)
    for place, window in windows:
        y[place] = window.reshape(*x.shape[:2], -1).max(axis=-1)
    return (y,)


def avg_pool(x, kernel, stride=None):
    """Take means."""
    rank = x.ndim - 2
    kernel = _each(kernel, rank)
    sizes, windows = _windows(x, kernel, _each(kernel if stride is None else stride, rank))
    y = np.zeros((*x.shape[:2], *sizes), x.dtype)
    for place, window in windows:
        y[place] = window.reshape(*x.shape[:2], -1).astype(np.float64).mean(axis=-1)
    return y
