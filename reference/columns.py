"""im2col and its adjoint col2im, for any spatial rank, as loops over taps instead of windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from convform.reference import checks
from convform.reference.blocks import in_threads
from convform.reference.call import Call
from convform.reference.checks import Array
from convform.reference.window import Landing, Padding, PerAxis

Index = tuple[Any, ...]


def im2col(
    x: Array, kernel: PerAxis, *, stride: PerAxis = 1, padding: Padding = 0, dilation: PerAxis = 1
) -> Array:
    """Gather the taps of every window into columns (clauses IM2COL-1, IM2COL-2 and IM2COL-3).

    cols[n, (c kh kw), (oh ow)] = x[n, c, oh·s − p_lo + kh·d, …], zero outside: `gather`, as matrices.

    Parameters
    ----------
    x
        "n c h w" (or "n c w", "n c d h w"): the rank comes from `x`. Any float or integer dtype.
    kernel
        Taps along each spatial axis; an integer or one for each axis.
    stride, dilation
        An integer or one for each axis, at least 1.
    padding
        An integer, one for each axis, or (low, high) for each axis; at least 0.

    Returns
    -------
    cols
        "n (c kh kw) (oh ow)", the dtype of `x`: a copy of its bits.

    Raises
    ------
    TypeError
        If `x` is no array of real numbers or a parameter is no integer.
    ValueError
        If `x` has fewer than three axes (clause CONTRACT-9) or the window is refused (clause WINDOW-6).

    Examples
    --------
    >>> im2col(np.arange(1, 10).reshape(1, 1, 3, 3), 2)[0].tolist()
    [[1, 2, 4, 5], [2, 3, 5, 6], [4, 5, 7, 8], [5, 6, 8, 9]]
    """
    cols = gather(x, kernel, stride=stride, padding=padding, dilation=dilation)
    rank = x.ndim - 2
    return cols.reshape(len(x), prod(cols.shape[1 : 2 + rank]), prod(cols.shape[2 + rank :]))


def gather(
    x: Array, kernel: PerAxis, *, stride: PerAxis = 1, padding: Padding = 0, dilation: PerAxis = 1
) -> Array:
    """im2col with its axes kept apart, "n c kh kw oh ow" (clauses IM2COL-1, IM2COL-2 and IM2COL-3).

    Parameters
    ----------
    x, kernel, stride, padding, dilation
        As for `im2col`: "n c h w" of any float or integer dtype, and the window.

    Returns
    -------
    cols
        "n c kh kw oh ow", the dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        As `im2col` does.
    """
    given = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    return gathered(Call.made("im2col", {"x": x}, given).fitted("im2col", {"x": x}), x)


def gathered(call: Call, x: Array) -> Array:
    """`gather` of a call."""
    landings = call.window.landings(call.size)
    cols = np.empty((*x.shape[:2], *call.window.kernel, *call.output), x.dtype)

    def work(start: int, stop: int) -> None:
        fill(cols[start:stop], x[start:stop], landings)

    in_threads(work, len(x), cols.nbytes)
    return cols


def col2im(
    cols: Array,
    input_size: Sequence[int],
    kernel: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
) -> Array:
    """Add the columns up where `im2col` took them from: its adjoint (clauses COL2IM-1 and COL2IM-2).

    x[n, c, j] = Σ cols[n, (c k), i] over all windows i and taps k with i·s − p_lo + k·d = j; what belongs
    to padding is dropped.

    Parameters
    ----------
    cols
        "n (c kh kw) (oh ow)". Any float or integer dtype; float16 is added up in float32.
    input_size
        The shape of x, all axes "n c h w".
    kernel, stride, padding, dilation
        The window, as for `im2col`.

    Returns
    -------
    x
        "n c h w", the dtype of `cols`.

    Raises
    ------
    TypeError
        If `cols` is no array of real numbers or a parameter is no integer.
    ValueError
        If `cols` does not match `input_size` (clause COL2IM-3), or the window is refused (clause WINDOW-6).
    """
    call = _scattering(cols, input_size, kernel, stride, padding, dilation)
    n, c = checks.input_size(input_size)[:2]
    shape = (n, c, *call.window.kernel, *call.output)
    merged = (n, c * call.window.taps, prod(call.output))
    checks.shape("cols", cols, merged, "n (c kh kw) (oh ow)", "COL2IM-3")
    return scattered(call, cols.reshape(shape))


def scatter(
    cols: Array,
    input_size: Sequence[int],
    kernel: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
) -> Array:
    """col2im of columns whose axes are kept apart, "n c kh kw oh ow" (clauses COL2IM-1 and COL2IM-2).

    Parameters
    ----------
    cols
        "n c kh kw oh ow". Any float or integer dtype.
    input_size, kernel, stride, padding, dilation
        As for `col2im`.

    Returns
    -------
    x
        "n c h w", the dtype of `cols`.

    Raises
    ------
    TypeError, ValueError
        As `col2im` does (clauses COL2IM-3 and WINDOW-6).
    """
    call = _scattering(cols, input_size, kernel, stride, padding, dilation)
    return scattered(call.fitted("col2im", {"cols": cols}, shape=input_size), cols)


def _scattering(
    cols: Array,
    input_size: Sequence[int],
    kernel: PerAxis,
    stride: PerAxis,
    padding: Padding,
    dilation: PerAxis,
) -> Call:
    given = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    return Call.made("col2im", {"cols": cols}, {"input_size": input_size, **given})


def scattered(call: Call, cols: Array) -> Array:
    """`scatter` of a call."""
    landings = call.window.landings(call.size)
    x = np.zeros((*cols.shape[:2], *call.size), checks.accumulator(cols.dtype))

    def work(start: int, stop: int) -> None:
        add(x[start:stop], cols[start:stop], landings)

    in_threads(work, len(x), cols.nbytes)
    return x.astype(cols.dtype, copy=False)


def taps(landings: Sequence[Sequence[Landing]]) -> Iterator[tuple[Index, Index, Index]]:
    """Run over the taps of a window in row-major order: indices for the tap, its windows and its elements.

    The tap indexes columns "n c kh kw oh ow"; the windows index "… oh ow" and the elements "… h w", behind
    any number of leading axes.
    """
    for tap in np.ndindex(*(len(axis) for axis in landings)):
        here = [axis[k] for axis, k in zip(landings, tap, strict=True)]
        windows: Index = (..., *(landing.windows for landing in here))
        elements: Index = (..., *(landing.elements for landing in here))
        yield (slice(None), slice(None), *tap), windows, elements


def fill(cols: Array, x: Array, landings: Sequence[Sequence[Landing]]) -> None:
    """Write the columns "n c kh kw oh ow" of `x`, "n c h w", into `cols`, whatever it holds."""
    for tap, windows, elements in taps(landings):
        part = cols[tap]
        for axis, here in enumerate(windows[1:]):
            # Padding: the windows in front of the landing and those behind it.
            before: Index = (slice(None),) * (2 + axis)
            if here.start > 0:
                part[(*before, slice(0, here.start))] = 0
            if here.stop < part.shape[2 + axis]:
                part[(*before, slice(here.stop, None))] = 0
        part[windows] = x[elements]


def add(x: Array, cols: Array, landings: Sequence[Sequence[Landing]]) -> None:
    """Add the columns "n c kh kw oh ow" to the elements of `x`, "n c h w", that they belong to."""
    for tap, windows, elements in taps(landings):
        x[elements] += cols[tap][windows]
