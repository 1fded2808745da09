"""The definition: every equation of the standard, literally, on exact numbers. Obviously right, and slow.

A finite floating-point number becomes the integer or fraction that it is, so sums and quotients have no
rounding; NaN and infinities stay floats. Operators that only select (im2col, max pooling) hand out the
elements of the input as they are. The loops run over windows and taps, one by one, for any spatial rank.

The functions take a call and its arrays, of any real dtype, and return arrays of dtype object (indices:
int64). Their axes are those of the operator table; the axes of columns stay apart, "n c kh kw oh ow".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from math import inf, nan
from typing import Any

import numpy as np

from convform.reference.call import Call
from convform.reference.checks import Array
from convform.reference.evaluation import Outputs, Parameters, by_family, evaluate_with
from convform.reference.window import Size

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


def im2col(call: Call, x: Array) -> Array:
    """Gather the taps of every window: cols[n, c, k, i] = x[n, c, i·s − p_lo + k·d], zero outside.

    Clauses IM2COL-1, IM2COL-2 and IM2COL-3. The elements of "n c kh kw oh ow" are those of x themselves.
    """
    cols = np.zeros((*x.shape[:2], *call.window.kernel, *call.output), object)
    for n, c in _all(x.shape[:2]):
        for place, tap, at in _reads(call):
            cols[(n, c, *tap, *place)] = x[(n, c, *at)]
    return cols


def col2im(call: Call, cols: Array) -> Array:
    """Add up the columns where they came from: x[n, c, j] = Σ cols[n, c, k, i] over i·s − p_lo + k·d = j.

    Clauses COL2IM-1, COL2IM-2 and COL2IM-3.
    """
    x = np.zeros((*cols.shape[:2], *call.size), object)
    for n, c in _all(x.shape[:2]):
        for place, tap, at in _reads(call):
            x[(n, c, *at)] += exact(cols[(n, c, *tap, *place)])
    return x


def conv(call: Call, x: Array, w: Array, b: Array | None) -> Array:
    """Convolve: y[n, o, i] = b[o] + Σ w[o, c, k] · x[n, g·C/G + c, i·s − p_lo + k·d], with g = ⌊o / (O/G)⌋.

    The sum runs over the C/G channels c of the group and over the taps k, as they come: the kernel is not
    mirrored. Clauses CONV-1 to CONV-4; CONV-6 for C = 0.
    """
    y = np.zeros((len(x), len(w), *call.output), object)
    if b is not None:
        for n, o in _all(y.shape[:2]):
            y[n, o] = exact(b[o])
    for n, o, c, place, tap, at in _products(call, x, w):
        y[(n, o, *place)] += exact(w[(o, c, *tap)]) * exact(x[(n, *at)])
    return y


def conv_backward(call: Call, x: Array, w: Array, b: Array | None, dy: Array) -> tuple[Array, Array, Array]:
    """Gradients of `conv`: every product w · x of the sum sends dy · w to dx and dy · x to dw.

    dx[n, j] = Σ dy[n, o, i] · w[o, c, k] over everything that read x[n, j] (clause CONVGRAD-1);
    dw[o, c, k] = Σ dy[n, o, i] · x[n, g·C/G + c, i·s − p_lo + k·d] over n and i (clause CONVGRAD-2);
    db[o] = Σ dy[n, o, i] over n and i (clause CONVGRAD-3). Groups as in `conv` (clause CONVGRAD-4).
    """
    dx, dw, db = (np.zeros(shape, object) for shape in (x.shape, w.shape, w.shape[:1]))
    for n, o, c, place, tap, at in _products(call, x, w):
        dx[(n, *at)] += exact(dy[(n, o, *place)]) * exact(w[(o, c, *tap)])
        dw[(o, c, *tap)] += exact(dy[(n, o, *place)]) * exact(x[(n, *at)])
    for n, o, *i in _all(dy.shape):
        db[o] += exact(dy[(n, o, *i)])
    return dx, dw, db


def max_pool(call: Call, x: Array) -> tuple[Array, Array]:
    """Pool by maximum: y[n, c, i] = max x[n, c, i·s − p_lo + k·d] over the taps k that meet a real element.

    Clauses MAXPOOL-1 and MAXPOOL-2; the first of several maxima is selected (MAXPOOL-6) and `indices`
    holds its row-major position in the plane (MAXPOOL-5); any NaN wins (MAXPOOL-4). A window without a
    real element gives the least value of the dtype (−∞, or the least integer) and index −1 (MAXPOOL-3).
    The elements of y are those of x themselves.
    """
    least = -inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    y = np.full((*x.shape[:2], *call.output), least, object)
    indices = np.full(y.shape, -1, np.int64)
    for n, c, *place in _all(y.shape):
        at = selected(call, x[n, c], place)
        if at is not None:
            y[(n, c, *place)] = x[(n, c, *at)]
            indices[(n, c, *place)] = np.ravel_multi_index(at, call.size)
    return y, indices


def selected(call: Call, plane: Array, place: Sequence[int]) -> Size | None:
    """Position in a plane "h w" of the maximum that a window selects, or None if it has no real element.

    The first maximum in row-major order of the taps (clause MAXPOOL-6); the first NaN, if there is one.
    """
    best = None
    for _, at in _real(call, place):
        if best is None or plane[at] > plane[best] or (np.isnan(plane[at]) and not np.isnan(plane[best])):
            best = at
    return best


def max_pool_backward(call: Call, x: Array, dy: Array) -> Array:
    """Gradient of `max_pool`: dx[n, c, j] = Σ dy[n, c, i] over the windows i that select element j.

    Clauses MAXGRAD-1 and MAXGRAD-2.
    """
    dx = np.zeros(x.shape, object)
    for n, c, *place in _all(dy.shape):
        at = selected(call, x[n, c], place)
        if at is not None:
            dx[(n, c, *at)] += exact(dy[(n, c, *place)])
    return dx


def avg_pool(call: Call, x: Array) -> Array:
    """Pool by average: y[n, c, i] = (Σ x[n, c, i·s − p_lo + k·d]) / divisor(i).

    Clause AVGPOOL-1; `divisor` is that of clauses AVGPOOL-2 and AVGPOOL-3. Where it is zero, 0/0 is NaN.
    """
    y = np.zeros((*x.shape[:2], *call.output), object)
    for n, c, *place in _all(y.shape):
        total = sum((exact(x[(n, c, *at)]) for _, at in _real(call, place)), 0)
        y[(n, c, *place)] = _quotient(total, divisor(call, place))
    return y


def divisor(call: Call, place: Sequence[int]) -> int:
    """Number of taps of a window that count (clauses AVGPOOL-2 and AVGPOOL-3).

    The taps inside [−p_lo, n + p_hi) if padding counts, else those inside [0, n): never the overhang.
    """
    counted = call.window.counted(call.size, call.count_include_pad)
    return sum(
        all(first <= j < end for j, (first, end) in zip(at, counted, strict=True))
        for at in (call.window.element(place, tap) for tap in call.window.offsets())
    )


def avg_pool_backward(call: Call, x: Array, dy: Array) -> Array:
    """Gradient of `avg_pool`: dx[n, c, j] = Σ dy[n, c, i] / divisor(i) over i·s − p_lo + k·d = j.

    Clause AVGGRAD-1. Of x, only the shape matters.
    """
    dx = np.zeros(x.shape, object)
    for n, c, *place in _all(dy.shape):
        share = _quotient(exact(dy[(n, c, *place)]), divisor(call, place))
        for _, at in _real(call, place):
            dx[(n, c, *at)] += share
    return dx


FUNCTIONS = by_family(globals())
"""The function of each operator family."""


def evaluate(operator: str, inputs: Mapping[str, Any], parameters: Parameters) -> Outputs:
    """Evaluate an operator of the standard by name, exactly; arguments as for `convform.reference.evaluate`.

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


def _real(call: Call, place: Sequence[int]) -> Iterator[tuple[Size, Size]]:
    """Taps of a window that meet a real element, and its position."""
    for tap in call.window.offsets():
        at = call.window.element(place, tap)
        if all(0 <= j < n for j, n in zip(at, call.size, strict=True)):
            yield tap, at


def _reads(call: Call) -> Iterator[tuple[Size, Size, Size]]:
    """Every real element that is read: window, tap and position."""
    return ((place, tap, at) for place in _all(call.output) for tap, at in _real(call, place))


def _products(call: Call, x: Array, w: Array) -> Iterator[tuple[int, int, int, Size, Size, Size]]:
    """Every product of a convolution: n, o, i, window, tap, and the channel and position that it reads."""
    outputs, channels = w.shape[:2]
    for n, o, c in _all((len(x), outputs, channels)):
        group = o // (outputs // call.groups)
        for place, tap, at in _reads(call):
            yield n, o, c, place, tap, (group * channels + c, *at)


def _quotient(total: Number, count: int) -> Number:
    if count == 0:
        return nan
    # A Fraction keeps an int exact; what is not finite stays a float.
    return total / count if isinstance(total, float) else Fraction(total) / count
