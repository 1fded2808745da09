"""Max and average pooling and their gradients, for any spatial rank.

Values are pooled one axis after another: the maximum (or sum) over a box is the maximum (or sum) of those
along its rows, and needs the sum of the kernel sizes instead of their product. Indices and gradients run
over the taps of the whole window.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from convform.reference import checks
from convform.reference.blocks import BLOCK_BYTES, in_threads
from convform.reference.call import Call
from convform.reference.checks import Array
from convform.reference.columns import taps
from convform.reference.window import Landing, Padding, PerAxis, Size, Window


def max_pool(
    x: Array,
    kernel: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """Pool by maximum, with indices: y[n, c, i] = max x[n, c, i·s − p_lo + k·d] over the real elements.

    Padding never wins (clauses MAXPOOL-1 and MAXPOOL-2). The first maximum of a window is selected (clause
    MAXPOOL-6) and `indices` holds its row-major position in the unpadded plane (clause MAXPOOL-5). Any NaN
    gives NaN (clause MAXPOOL-4), with the index of the first. A window without a real element gives the
    least value of the dtype, −∞ for floats, and index −1 (clause MAXPOOL-3).

    Parameters
    ----------
    x
        "n c h w" (or "n c w", "n c d h w"): the rank comes from `x`. Any float or integer dtype.
    kernel
        Taps along each spatial axis; an integer or one for each axis.
    stride
        An integer or one for each axis, at least 1; None for the kernel size (clause POOL-1).
    padding
        An integer, one for each axis, or (low, high) for each axis; at least 0.
    dilation
        An integer or one for each axis, at least 1.
    ceil_mode
        Round the output size up (clause WINDOW-5).

    Returns
    -------
    y
        "n c oh ow", the dtype of `x`.
    indices
        "n c oh ow", int64.

    Raises
    ------
    TypeError
        If `x` is no array of real numbers or a parameter is no integer.
    ValueError
        If `x` has fewer than three axes (clause CONTRACT-9) or the window is refused (clause WINDOW-6).

    Examples
    --------
    >>> y, indices = max_pool(np.array([[[1, 3, 3, 2]]]), 2)
    >>> y.tolist(), indices.tolist()
    ([[[3, 3]]], [[[1, 2]]])
    """
    return selected(_pooling("max_pool", {"x": x}, kernel, stride, padding, dilation, ceil_mode), x)


def max_pool_values(
    x: Array,
    kernel: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> Array:
    """Pool by maximum without asking for the indices, several times faster (clauses MAXPOOL-1 to MAXPOOL-4).

    Parameters
    ----------
    x, kernel, stride, padding, dilation, ceil_mode
        As for `max_pool`: "n c h w" of any float or integer dtype, and the window.

    Returns
    -------
    y
        "n c oh ow", the dtype of `x`: the first result of `max_pool`, bit for bit.

    Raises
    ------
    TypeError, ValueError
        As `max_pool` does.
    """
    call = _pooling("max_pool", {"x": x}, kernel, stride, padding, dilation, ceil_mode)
    y = _along_axes(np.maximum, x, call, checks.lowest(x.dtype), x.dtype.newbyteorder("="))
    # Of −0 and 0, the first has to win, while np.maximum returns either.
    if x.dtype.kind == "f" and (y == 0).any() and ((x == 0) & np.signbit(x)).any():
        return selected(call, x)[0]
    return y.astype(x.dtype, copy=False)


def max_pool_backward(
    x: Array,
    dy: Array,
    kernel: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> Array:
    """Gradient of `max_pool`: dx[n, c, j] = Σ dy[n, c, i] over the windows i that select element j.

    Every other element gets 0 (clause MAXGRAD-1) and overlapping windows add up (clause MAXGRAD-2).

    Parameters
    ----------
    x, kernel, stride, padding, dilation, ceil_mode
        The arguments of `max_pool`: "n c h w" of any float or integer dtype, and the window.
    dy
        "n c oh ow", the gradient in y, the dtype of `x`; float16 is added up in float32.

    Returns
    -------
    dx
        "n c h w", the dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        As `max_pool` does (clauses CONTRACT-6, CONTRACT-9 and WINDOW-6), and for a `dy` of another shape
        than y (clause MAXGRAD-3).
    """
    call = _pooling("max_pool.backward", {"x": x, "dy": dy}, kernel, stride, padding, dilation, ceil_mode)
    return selected_backward(call, x, dy)


def selected_backward(call: Call, x: Array, dy: Array) -> Array:
    """`max_pool_backward` of a call."""
    _, indices = selected(call, x)
    plane = _positions(call.size)
    dx = np.zeros(x.shape, checks.accumulator(x.dtype))
    for _, windows, elements in taps(call.window.landings(call.size)):
        chosen = indices[windows] == plane[elements]
        np.add(dx[elements], dy[windows], out=dx[elements], where=chosen)
    return dx.astype(x.dtype, copy=False)


def avg_pool(
    x: Array,
    kernel: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Pool by average: y[n, c, i] = (Σ x[n, c, i·s − p_lo + k·d]) / divisor(i) (clause AVGPOOL-1).

    The divisor is the number of taps inside [−p_lo, n + p_hi) if padding counts, else inside [0, n)
    (clause AVGPOOL-2); the overhang of ceil rounding never counts (clause AVGPOOL-3). Where no tap counts,
    y is 0/0: NaN.

    Parameters
    ----------
    x
        "n c h w" (or "n c w", "n c d h w"): the rank comes from `x`. Any float dtype; float16 is added up
        and divided in float32 (clause AVGPOOL-4).
    kernel, stride, padding, dilation, ceil_mode
        The window, as for `max_pool`.
    count_include_pad
        Whether padding counts in the divisor.

    Returns
    -------
    y
        "n c oh ow", the dtype of `x`.

    Raises
    ------
    TypeError
        If `x` is no array of floating-point numbers (an average of integers is no integer), or a parameter
        is no integer.
    ValueError
        If `x` has fewer than three axes (clause CONTRACT-9) or the window is refused (clause WINDOW-6).

    Examples
    --------
    >>> avg_pool(np.array([[[2.0, 4.0, 6.0]]]), 2, padding=(1,), count_include_pad=False).tolist()
    [[[2.0, 5.0]]]
    """
    window = (kernel, stride, padding, dilation, ceil_mode)
    return averaged(_pooling("avg_pool", {"x": x}, *window, count_include_pad=count_include_pad), x)


def averaged(call: Call, x: Array) -> Array:
    """`avg_pool` of a call."""
    dtype = checks.accumulator(x.dtype)
    divisor = _divisor(call, dtype)
    return _along_axes(np.add, x, call, 0, dtype, divisor).astype(x.dtype, copy=False)


def avg_pool_backward(
    x: Array,
    dy: Array,
    kernel: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """Gradient of `avg_pool`: each window spreads dy / divisor over its real elements (clause AVGGRAD-1).

    dx[n, c, j] = Σ dy[n, c, i] / divisor(i) over all windows i and taps k with i·s − p_lo + k·d = j.

    Parameters
    ----------
    x, kernel, stride, padding, dilation, ceil_mode, count_include_pad
        The arguments of `avg_pool`: "n c h w" of any float dtype, and the window. Of `x`, only shape and
        dtype matter.
    dy
        "n c oh ow", the gradient in y, the dtype of `x`.

    Returns
    -------
    dx
        "n c h w", the dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        As `avg_pool` does (clauses CONTRACT-6, CONTRACT-9 and WINDOW-6), and for a `dy` of another shape
        than y (clause AVGGRAD-2).
    """
    window = (kernel, stride, padding, dilation, ceil_mode)
    arrays = {"x": x, "dy": dy}
    call = _pooling("avg_pool.backward", arrays, *window, count_include_pad=count_include_pad)
    return averaged_backward(call, x, dy)


def averaged_backward(call: Call, x: Array, dy: Array) -> Array:
    """`avg_pool_backward` of a call."""
    dx = np.zeros(x.shape, checks.accumulator(x.dtype))
    # A window with divisor 0 has no real element that could receive the quotient.
    divisor = np.maximum(_divisor(call, dx.dtype), 1)
    share = dy / divisor
    for _, windows, elements in taps(call.window.landings(call.size)):
        dx[elements] += share[windows]
    return dx.astype(x.dtype, copy=False)


def _pooling(
    family: str,
    arrays: Mapping[str, Array],
    kernel: PerAxis,
    stride: PerAxis | None,
    padding: Padding,
    dilation: PerAxis,
    ceil_mode: bool,
    **counting: bool,
) -> Call:
    given = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    call = Call.made(family, arrays, {**given, "ceil_mode": ceil_mode, **counting})
    return call.fitted(family, arrays)


def _positions(size: Size) -> Array:
    """Row-major positions of the elements of a plane, "h w"."""
    return np.arange(prod(size), dtype=np.int64).reshape(size)


def selected(call: Call, x: Array) -> tuple[Array, Array]:
    """`max_pool` of a call."""
    shape = (*x.shape[:2], *call.output)
    y = np.full(shape, checks.lowest(x.dtype), x.dtype)
    indices = np.full(shape, -1, np.int64)
    plane = _positions(call.size)
    for _, windows, elements in taps(call.window.landings(call.size)):
        best, index, value = y[windows], indices[windows], x[elements]
        # Strictly greater: the first of several maxima stays. The first real element beats −∞ by itself.
        better = (value > best) | (index < 0)
        if x.dtype.kind == "f":
            better |= np.isnan(value) & ~np.isnan(best)
        np.copyto(best, value, where=better)
        np.copyto(index, plane[elements], where=better)
    return y, indices


@functools.lru_cache(maxsize=64)
def _divisor(call: Call, dtype: np.dtype[Any]) -> Array:
    """Taps that count in each window, "oh ow" (clauses AVGPOOL-2 and AVGPOOL-3): a product over the axes.

    Where all windows have as many, that number alone: dividing by it takes one pass instead of one a row.
    """
    counted = call.window.counted(call.size, call.count_include_pad)
    counts = [
        ((first <= elements) & (elements < end)).sum(1)
        for elements, (first, end) in zip(call.window.positions(call.output), counted, strict=True)
    ]
    divisor = np.asarray(functools.reduce(np.multiply.outer, counts), dtype)
    if np.all(divisor == divisor.flat[0]):
        divisor = np.asarray(divisor.flat[0])
    divisor.flags.writeable = False  # the same array serves the next call
    return divisor


# Where the taps land: worked out once for all calls of a layer.
_landings = functools.lru_cache(maxsize=64)(Window.landings)


def _along_axes(
    combine: np.ufunc,
    x: Array,
    call: Call,
    identity: float,
    dtype: np.dtype[Any],
    divisor: Array | None = None,
) -> Array:
    """Combine the real elements of every window, one axis after another, and divide by `divisor`.

    Where the rows of `x` can be walked through (see `_along_rows`), the last axis comes first and leaves
    rows of fewer elements to the others. Else it comes last, and finds rows that can be, as far as that goes:
    what no window reaches at their end is left out.
    """
    size, output, rank = call.size, call.output, call.window.rank
    landings = _landings(call.window, size)
    y = np.empty((*x.shape[:2], *output), dtype)
    columns, walked = size[-1], output[-1] * landings[-1][0].elements.step
    order = [*range(rank)]
    if walked == columns:
        order.insert(0, order.pop())
    elif rank > 1 and max(landing.elements.stop for landing in landings[-1]) <= walked < columns:
        columns = walked
    # Shapes of what is between one axis and the next.
    between = []
    shape = [*size[:-1], columns]
    for axis in order[:-1]:
        shape[axis] = output[axis]
        between.append(tuple(shape))

    # Infinities are data here; and what NumPy is told about them holds for one thread.
    @np.errstate(invalid="ignore", over="ignore")
    def work(start: int, stop: int) -> None:
        # What is between the axes stays in the cache: a few samples at a time, always in the same memory.
        step = max(1, min(BLOCK_BYTES // max(1, x[:1].nbytes), stop - start))
        scratch = [np.empty((step, x.shape[1], *shape), dtype) for shape in between]
        for first in range(start, stop, step):
            last = min(first + step, stop)
            stages = [
                x[first:last, ..., :columns],
                *(array[: last - first] for array in scratch),
                y[first:last],
            ]
            for axis, (source, target) in zip(order, itertools.pairwise(stages), strict=True):
                if axis == rank - 1:
                    _along_rows(combine, source, target, landings[axis], identity)
                else:
                    _along_axis(combine, source, target, 2 + axis, landings[axis], identity)
            if divisor is not None:
                np.divide(y[first:last], divisor, out=y[first:last])

    in_threads(work, len(x), x.nbytes)
    return y


def _along_axis(
    combine: np.ufunc,
    source: Array,
    target: Array,
    axis: int,
    landings: Sequence[Landing],
    identity: float,
) -> None:
    """Combine the elements along one axis that each window reads into `target`, whatever it holds."""
    leading = (slice(None),) * axis
    whole, part = _by_cover(landings, target.shape[axis])
    _combine_all(combine, [source[(*leading, landing.elements)] for landing in whole], target, identity)
    for landing in part:
        reached = target[(*leading, landing.windows)]
        combine(reached, source[(*leading, landing.elements)], out=reached, dtype=target.dtype)


def _by_cover(landings: Sequence[Landing], windows: int) -> tuple[list[Landing], list[Landing]]:
    """Landings of the taps that all windows have, and of the others."""
    whole = [landing for landing in landings if landing.covers(windows)]
    return whole, [landing for landing in landings if not landing.covers(windows)]


def _combine_all(combine: np.ufunc, taps: Sequence[Array], target: Array, identity: float) -> None:
    """Combine taps of the shape of `target` into it, whatever it holds."""
    # The first two make the target without a pass that fills it.
    if len(taps) >= 2:
        combine(taps[0], taps[1], out=target, dtype=target.dtype)
    elif taps:
        target[...] = taps[0]
    else:
        target.fill(identity)
    for tap in taps[2:]:
        combine(target, tap, out=target, dtype=target.dtype)


def _along_rows(
    combine: np.ufunc, source: Array, target: Array, landings: Sequence[Landing], identity: float
) -> None:
    """Combine along the last axis, as `_along_axis` does.

    Where the stride divides the rows into as many parts as there are windows, each tap is one evenly spaced
    walk through all rows, and NumPy need not begin anew with each short row. The walk passes the borders
    of the rows: what it writes for the windows whose tap is padding is put right again.
    """
    stride = landings[0].elements.step
    if source.shape[-1] != target.shape[-1] * stride or not source.flags.c_contiguous:
        _along_axis(combine, source, target, target.ndim - 1, landings, identity)
        return
    elements, windows = source.reshape(-1), target.reshape(-1)
    whole, part = _by_cover(landings, target.shape[-1])
    starts = [landing.elements.start for landing in whole]
    taps = [elements[start::stride][: windows.size] for start in starts]
    _combine_all(combine, taps, windows, identity)
    for landing in part:
        begin, end = landing.windows.start, landing.windows.stop
        if begin == end:
            continue
        walk = windows[begin : windows.size - (target.shape[-1] - end)]
        edges = (..., slice(0, begin)), (..., slice(end, None))
        kept = [target[edge].copy() for edge in edges]
        combine(walk, elements[landing.elements.start :: stride][: walk.size], out=walk, dtype=target.dtype)
        for edge, values in zip(edges, kept, strict=True):
            target[edge] = values
