"""Pooling in the array API: one slice for each tap, compared or added up."""

from __future__ import annotations

import itertools
from math import inf, prod

from convform.adapters.backends.array_api_window import (
    Grid,
    Window,
    XArray,
    Xp,
    check_dtypes,
    check_shape,
    grid_of,
    padded,
    scattered,
)


def _least(xp: Xp, x: XArray) -> float:
    return -inf if _is_float(xp, x) else int(xp.iinfo(x.dtype).min)


def _is_float(xp: Xp, x: XArray) -> bool:
    return x.dtype in (xp.float32, xp.float64)


def _positions(xp: Xp, x: XArray, grid: Grid) -> XArray:
    """Row-major positions of the elements of a plane, −1 on the border."""
    size = tuple(x.shape[2:])
    plane = xp.reshape(xp.arange(prod(size), dtype=xp.int64, device=x.device), size)
    return padded(xp, plane, grid.border, -1)


def max_pool(xp: Xp, x: XArray, window: Window) -> tuple[XArray, XArray]:
    """Return the maxima "n c oh ow" and their positions in the plane (clauses MAXPOOL-1 to MAXPOOL-6)."""
    grid = grid_of(x.shape, window)
    framed, positions = padded(xp, x, grid.border, _least(xp, x)), _positions(xp, x, grid)
    shape = (*x.shape[:2], *grid.output)
    y = xp.full(shape, _least(xp, x), dtype=x.dtype, device=x.device)
    indices = xp.full(shape, -1, dtype=xp.int64, device=x.device)
    for tap in grid.taps():
        value, position = framed[tap], positions[tap]
        # Strictly greater, so that the first of several maxima stays; the first real element always counts.
        better = (value > y) | ((indices < 0) & (position >= 0))
        if _is_float(xp, x):
            better = better | (xp.isnan(value) & ~xp.isnan(y))
        y, indices = xp.where(better, value, y), xp.where(better, position, indices)
    return y, indices


def max_pool_backward(xp: Xp, x: XArray, dy: XArray, window: Window) -> XArray:
    """Send dy to the selected elements (clauses MAXGRAD-1 to MAXGRAD-3)."""
    check_dtypes(x=x, dy=dy)
    y, indices = max_pool(xp, x, window)
    check_shape("dy", dy, tuple(y.shape))
    grid = grid_of(x.shape, window)
    positions, nothing = _positions(xp, x, grid), xp.zeros_like(dy)
    parts = (xp.where(indices == positions[tap], dy, nothing) for tap in grid.taps())
    return scattered(xp, x, tuple(x.shape[2:]), grid, parts)


def _divisor(xp: Xp, x: XArray, grid: Grid, count_include_pad: bool) -> XArray:
    """Taps that count in each window, "oh ow" (clauses AVGPOOL-2 and AVGPOOL-3): a product over the axes."""
    if not _is_float(xp, x):
        raise TypeError(f"x has dtype {x.dtype}, expected floating-point numbers to average")
    divisor = xp.ones((), dtype=x.dtype, device=x.device)
    for axis, n in enumerate(x.shape[2:]):
        low, high = grid.padding[axis]
        inside = range(n + low + high) if count_include_pad else range(low, low + n)
        starts = (i * grid.stride[axis] for i in range(grid.output[axis]))
        reach = grid.dilation[axis] * grid.kernel[axis]
        counts = [
            float(sum(place in inside for place in range(start, start + reach, grid.dilation[axis])))
            for start in starts
        ]
        shape = [1] * len(grid.output)
        shape[axis] = len(counts)
        factor = xp.asarray(counts, dtype=x.dtype, device=x.device)
        divisor = divisor * xp.reshape(factor, tuple(shape))
    return divisor


def avg_pool(xp: Xp, x: XArray, window: Window) -> XArray:
    """Return the averages "n c oh ow" (clauses AVGPOOL-1 to AVGPOOL-4)."""
    grid = grid_of(x.shape, window)
    framed = padded(xp, x, grid.border, 0)
    total = xp.zeros((*x.shape[:2], *grid.output), dtype=x.dtype, device=x.device)
    for tap in grid.taps():
        total = total + framed[tap]
    return total / _divisor(xp, x, grid, window.count_include_pad)


def avg_pool_backward(xp: Xp, x: XArray, dy: XArray, window: Window) -> XArray:
    """Spread dy / divisor over the taps of each window (clauses AVGGRAD-1 and AVGGRAD-2)."""
    check_dtypes(x=x, dy=dy)
    grid = grid_of(x.shape, window)
    check_shape("dy", dy, (*x.shape[:2], *grid.output))
    share = dy / _divisor(xp, x, grid, window.count_include_pad)
    return scattered(xp, x, tuple(x.shape[2:]), grid, itertools.repeat(share, prod(grid.kernel)))
