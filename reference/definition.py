"""The definition: every equation of the standard, literally, on exact numbers. Obviously right, and slow.

A finite floating-point number becomes the integer or fraction that it is, so sums and quotients have no
rounding; NaN and infinities stay floats. Operators that only select (im2col, max pooling) hand out the
elements of the input as they are. The loops run over windows and taps, one by one, for any spatial rank.

The functions take the arguments of the fast operators, refuse what they refuse, and return arrays of
dtype object (indices: int64). The axes of columns stay apart, "n c kh kw oh ow", as in the operator table.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from math import inf, nan, prod
from types import MappingProxyType
from typing import Any

import numpy as np

from convform.reference import checks
from convform.reference.checks import Array
from convform.reference.evaluation import Functions, Outputs, evaluate_with
from convform.reference.window import Padding, PerAxis, Size, Window

Number = int | Fraction | float


def exact(value: Any) -> Number:
    """Give the number that `value` (a NumPy scalar) is: an int, a Fraction, or a float if it is not finite.

    Examples
    --------
    >>> exact(np.float32(0.5))
    Fraction(1, 2)
    """
    if not np.isfinite(value):
        return float(value)
    numerator, denominator = value.as_integer_ratio() if isinstance(value, np.floating) else (int(value), 1)
    return numerator if denominator == 1 else Fraction(numerator, denominator)


def element(window: Window, place: Sequence[int], tap: Sequence[int]) -> Size:
    """Position that a tap of a window reads, i·s − p_lo + k·d along each axis (WINDOW-2, WINDOW-3, WINDOW-4).

    Parameters
    ----------
    window
        The window.
    place
        Number i of the window along each output axis.
    tap
        Index k of the tap along each kernel axis.

    Returns
    -------
    position
        One integer for each axis; outside the input, it lies in the padding or the overhang.
    """
    return tuple(
        i * s - low + k * d
        for i, k, s, d, (low, _) in zip(
            place, tap, window.stride, window.dilation, window.padding, strict=True
        )
    )


def im2col(
    x: Array, kernel: PerAxis, *, stride: PerAxis = 1, padding: Padding = 0, dilation: PerAxis = 1
) -> Array:
    """Gather the taps of every window: cols[n, c, k, i] = x[n, c, i·s − p_lo + k·d], zero outside.

    Clauses IM2COL-1, IM2COL-2 and IM2COL-3.

    Parameters
    ----------
    x
        "n c h w"; any real dtype.
    kernel, stride, padding, dilation
        The window, as for `convform.reference.im2col`.

    Returns
    -------
    cols
        "n c kh kw oh ow", dtype object: the elements themselves.

    Raises
    ------
    TypeError, ValueError
        As `convform.reference.im2col` does.
    """
    checks.batch("x", x)
    window = checks.window(x.ndim - 2, kernel, stride, padding, dilation)
    size = x.shape[2:]
    cols = np.zeros((*x.shape[:2], *window.kernel, *window.output_size(size)), object)
    for n, c in _all(x.shape[:2]):
        for place, tap in _windows_and_taps(window, size):
            at = element(window, place, tap)
            if _inside(at, size):
                cols[(n, c, *tap, *place)] = x[(n, c, *at)]
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
    """Add up the columns where they came from: x[n, c, j] = Σ cols[n, c, k, i] over i·s − p_lo + k·d = j.

    Clauses COL2IM-1, COL2IM-2 and COL2IM-3.

    Parameters
    ----------
    cols
        "n c kh kw oh ow"; any real dtype.
    input_size
        The shape of x, all axes "n c h w".
    kernel, stride, padding, dilation
        The window, as for `convform.reference.col2im`.

    Returns
    -------
    x
        "n c h w", dtype object.

    Raises
    ------
    TypeError, ValueError
        As `convform.reference.scatter` does.
    """
    checks.array("cols", cols)
    shape = checks.input_size(input_size)
    size = shape[2:]
    window = checks.window(len(size), kernel, stride, padding, dilation)
    expected = (*shape[:2], *window.kernel, *window.output_size(size))
    checks.shape("cols", cols, expected, "n c kh kw oh ow", "COL2IM-3")
    x = np.zeros(shape, object)
    for n, c in _all(shape[:2]):
        for place, tap in _windows_and_taps(window, size):
            at = element(window, place, tap)
            if _inside(at, size):
                x[(n, c, *at)] += exact(cols[(n, c, *tap, *place)])
    return x


def conv(
    x: Array,
    w: Array,
    b: Array | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Array:
    """Convolve: y[n, o, i] = b[o] + Σ w[o, c, k] · x[n, g·C/G + c, i·s − p_lo + k·d], with g = ⌊o / (O/G)⌋.

    The sum runs over the C/G channels c of the group and over the taps k, as they come: the kernel is not
    mirrored. Clauses CONV-1 to CONV-4; CONV-6 for C = 0.

    Parameters
    ----------
    x
        "n c h w"; any real dtype.
    w
        "o i kh kw" with i = C/G.
    b
        "o", or None for zero.
    stride, padding, dilation, groups
        The window and the number of groups G, as for `convform.reference.conv`.

    Returns
    -------
    y
        "n o oh ow", dtype object.

    Raises
    ------
    TypeError, ValueError
        As `convform.reference.conv` does.
    """
    window = checks.convolution(x, w, b, stride, padding, dilation, groups)
    size = x.shape[2:]
    y = np.zeros((len(x), len(w), *window.output_size(size)), object)
    if b is not None:
        for n, o in _all(y.shape[:2]):
            y[n, o] = exact(b[o])
    for n, o, c, place, tap, at in _products(x, w, window, groups):
        y[(n, o, *place)] += exact(w[(o, c, *tap)]) * exact(x[(n, *at)])
    return y


def conv_backward(
    x: Array,
    w: Array,
    b: Array | None,
    dy: Array,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> tuple[Array, Array, Array]:
    """Gradients of `conv`: every product w · x of the sum sends dy · w to dx and dy · x to dw.

    dx[n, j] = Σ dy[n, o, i] · w[o, c, k] over everything that read x[n, j] (clause CONVGRAD-1);
    dw[o, c, k] = Σ dy[n, o, i] · x[n, g·C/G + c, i·s − p_lo + k·d] over n and i (clause CONVGRAD-2);
    db[o] = Σ dy[n, o, i] over n and i (clause CONVGRAD-3). Groups as in `conv` (clause CONVGRAD-4).

    Parameters
    ----------
    x, w, b, stride, padding, dilation, groups
        The arguments of `conv`.
    dy
        "n o oh ow".

    Returns
    -------
    dx, dw, db
        "n c h w", "o i kh kw" and "o", dtype object.

    Raises
    ------
    TypeError, ValueError
        As `convform.reference.conv_backward` does.
    """
    window = checks.convolution(x, w, b, stride, padding, dilation, groups)
    checks.gradient(dy, x, len(w), window, "CONVGRAD-5")
    dx, dw, db = (np.zeros(shape, object) for shape in (x.shape, w.shape, w.shape[:1]))
    for n, o, c, place, tap, at in _products(x, w, window, groups):
        dx[(n, *at)] += exact(dy[(n, o, *place)]) * exact(w[(o, c, *tap)])
        dw[(o, c, *tap)] += exact(dy[(n, o, *place)]) * exact(x[(n, *at)])
    for n, o, *i in _all(dy.shape):
        db[o] += exact(dy[(n, o, *i)])
    return dx, dw, db


def max_pool(
    x: Array,
    kernel: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """Pool by maximum: y[n, c, i] = max x[n, c, i·s − p_lo + k·d] over the taps k that meet a real element.

    Clauses MAXPOOL-1 and MAXPOOL-2; the first of several maxima is selected (MAXPOOL-6) and `indices`
    holds its row-major position in the plane (MAXPOOL-5); any NaN wins (MAXPOOL-4). A window without a
    real element gives the least value of the dtype (−∞, or the least integer) and index −1 (MAXPOOL-3).

    Parameters
    ----------
    x
        "n c h w"; any real dtype.
    kernel, stride, padding, dilation, ceil_mode
        The window, as for `convform.reference.max_pool`.

    Returns
    -------
    y
        "n c oh ow", dtype object: the elements themselves.
    indices
        "n c oh ow", int64.

    Raises
    ------
    TypeError, ValueError
        As `convform.reference.max_pool` does.
    """
    checks.batch("x", x)
    window = checks.window(x.ndim - 2, kernel, stride, padding, dilation, ceil_mode, pooling=True)
    size = x.shape[2:]
    output = window.output_size(size)
    y = np.full((*x.shape[:2], *output), -inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min, object)
    indices = np.full(y.shape, -1, np.int64)
    for n, c, *place in _all(y.shape):
        at = selected(x[n, c], window, place)
        if at is not None:
            y[(n, c, *place)] = x[(n, c, *at)]
            indices[(n, c, *place)] = _row_major(at, size)
    return y, indices


def selected(plane: Array, window: Window, place: Sequence[int]) -> Size | None:
    """Position of the maximum that a window selects, or None if it has no real element.

    The first maximum in row-major order of the taps (clause MAXPOOL-6); the first NaN, if there is one.

    Parameters
    ----------
    plane
        "h w", one channel of one sample; any real dtype.
    window
        The window.
    place
        Number of the window along each output axis.
    """
    best = None
    for tap in window.offsets():
        at = element(window, place, tap)
        if not _inside(at, plane.shape):
            continue
        if best is None or plane[at] > plane[best] or (np.isnan(plane[at]) and not np.isnan(plane[best])):
            best = at
    return best


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

    Clauses MAXGRAD-1 and MAXGRAD-2.

    Parameters
    ----------
    x
        "n c h w"; any real dtype.
    dy
        "n c oh ow".
    kernel, stride, padding, dilation, ceil_mode
        The window, as for `convform.reference.max_pool`.

    Returns
    -------
    dx
        "n c h w", dtype object.

    Raises
    ------
    TypeError, ValueError
        As `convform.reference.max_pool_backward` does.
    """
    checks.batch("x", x)
    window = checks.window(x.ndim - 2, kernel, stride, padding, dilation, ceil_mode, pooling=True)
    checks.gradient(dy, x, x.shape[1], window, "MAXGRAD-3")
    dx = np.zeros(x.shape, object)
    for n, c, *place in _all(dy.shape):
        at = selected(x[n, c], window, place)
        if at is not None:
            dx[(n, c, *at)] += exact(dy[(n, c, *place)])
    return dx


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
    """Pool by average: y[n, c, i] = (Σ x[n, c, i·s − p_lo + k·d]) / divisor(i).

    Clause AVGPOOL-1; `divisor` is that of clauses AVGPOOL-2 and AVGPOOL-3. Where it is zero, 0/0 is NaN.

    Parameters
    ----------
    x
        "n c h w"; any floating-point dtype.
    kernel, stride, padding, dilation, ceil_mode, count_include_pad
        The window and the counting mode, as for `convform.reference.avg_pool`.

    Returns
    -------
    y
        "n c oh ow", dtype object.

    Raises
    ------
    TypeError, ValueError
        As `convform.reference.avg_pool` does.
    """
    checks.batch("x", x)
    checks.averaged(x)
    window = checks.window(x.ndim - 2, kernel, stride, padding, dilation, ceil_mode, pooling=True)
    size = x.shape[2:]
    y = np.zeros((*x.shape[:2], *window.output_size(size)), object)
    for n, c, *place in _all(y.shape):
        for tap in window.offsets():
            at = element(window, place, tap)
            if _inside(at, size):
                y[(n, c, *place)] += exact(x[(n, c, *at)])
        y[(n, c, *place)] = _quotient(y[(n, c, *place)], divisor(window, size, place, count_include_pad))
    return y


def divisor(window: Window, size: Sequence[int], place: Sequence[int], count_include_pad: bool) -> int:
    """Number of taps of a window that count (clauses AVGPOOL-2 and AVGPOOL-3).

    The taps inside [−p_lo, n + p_hi) if padding counts, else those inside [0, n): never the overhang.

    Parameters
    ----------
    window
        The window.
    size
        Spatial sizes of the input.
    place
        Number of the window along each output axis.
    count_include_pad
        Whether padding counts.
    """
    pads = window.padding if count_include_pad else [(0, 0)] * window.rank
    return sum(
        all(-low <= j < n + high for j, n, (low, high) in zip(at, size, pads, strict=True))
        for at in (element(window, place, tap) for tap in window.offsets())
    )


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
    """Gradient of `avg_pool`: dx[n, c, j] = Σ dy[n, c, i] / divisor(i) over i·s − p_lo + k·d = j.

    Clause AVGGRAD-1.

    Parameters
    ----------
    x
        "n c h w"; any floating-point dtype. Only its shape and dtype matter.
    dy
        "n c oh ow".
    kernel, stride, padding, dilation, ceil_mode, count_include_pad
        The window and the counting mode, as for `convform.reference.avg_pool`.

    Returns
    -------
    dx
        "n c h w", dtype object.

    Raises
    ------
    TypeError, ValueError
        As `convform.reference.avg_pool_backward` does.
    """
    checks.batch("x", x)
    checks.averaged(x)
    window = checks.window(x.ndim - 2, kernel, stride, padding, dilation, ceil_mode, pooling=True)
    checks.gradient(dy, x, x.shape[1], window, "AVGGRAD-2")
    size = x.shape[2:]
    dx = np.zeros(x.shape, object)
    for n, c, *place in _all(dy.shape):
        share = _quotient(exact(dy[(n, c, *place)]), divisor(window, size, place, count_include_pad))
        for tap in window.offsets():
            at = element(window, place, tap)
            if _inside(at, size):
                dx[(n, c, *at)] += share
    return dx


FUNCTIONS: Functions = MappingProxyType(
    {
        "im2col": im2col,
        "col2im": col2im,
        "conv": conv,
        "conv.backward": conv_backward,
        "max_pool": max_pool,
        "max_pool.backward": max_pool_backward,
        "avg_pool": avg_pool,
        "avg_pool.backward": avg_pool_backward,
    }
)
"""The function of each operator family."""


def evaluate(operator: str, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> Outputs:
    """Evaluate an operator of the standard by name, exactly; arguments as for `convform.reference.evaluate`.

    Parameters
    ----------
    operator
        A name of the operator table.
    inputs
        Arrays by name, with the axes of the table ("n c h w", …) and any real dtype.
    parameters
        Any of the operator's parameters.

    Returns
    -------
    outputs
        Every output by name, dtype object (indices: int64).

    Raises
    ------
    TypeError, ValueError
        As `convform.reference.evaluate` does (clause CONTRACT-9 and those of the operator).
    """
    return evaluate_with(FUNCTIONS, operator, inputs, parameters)


def _all(sizes: Sequence[int]) -> Iterator[Size]:
    return itertools.product(*(range(size) for size in sizes))


def _inside(position: Sequence[int], size: Sequence[int]) -> bool:
    return all(0 <= j < n for j, n in zip(position, size, strict=True))


def _windows_and_taps(window: Window, size: Sequence[int]) -> Iterator[tuple[Size, Size]]:
    return itertools.product(_all(window.output_size(size)), window.offsets())


def _products(
    x: Array, w: Array, window: Window, groups: int
) -> Iterator[tuple[int, int, int, Size, Size, Size]]:
    """Every product of a convolution: n, o, i, window, tap, and the channel and position that it reads."""
    outputs, channels = w.shape[0], w.shape[1]
    size = x.shape[2:]
    for n, o, c in _all((len(x), outputs, channels)):
        group = o // (outputs // groups)
        for place, tap in _windows_and_taps(window, size):
            at = element(window, place, tap)
            if _inside(at, size):
                yield n, o, c, place, tap, (group * channels + c, *at)


def _row_major(position: Sequence[int], size: Sequence[int]) -> int:
    return sum(j * prod(size[axis + 1 :]) for axis, j in enumerate(position))


def _quotient(total: Number, count: int) -> Number:
    if count == 0:
        return nan
    # A Fraction keeps an int exact; what is not finite stays a float.
    return total / count if isinstance(total, float) else Fraction(total) / count
