"""The matrices: every operator as products with 0/1 matrices, an independent third formulation.

The other two ask which element a window reads. Here every input element asks which windows it lands in:
element j is tap k of window i where j + p_lo − k·d = i·s, that is, where the left side is divisible by s
and there is such a window. The answers are the ones of a selection matrix S[window, tap, element], one
0/1 matrix (taps × elements) for each window; the matrix of several axes is the Kronecker product of theirs.

No size and no index is computed by code of the fast operators or the definition: windows are counted one
by one, and all arithmetic is a matrix product. The numbers must be finite (a product multiplies by the zeros,
too). Sums are formed in float64 or int64. The functions take a call and its arrays, with the axes of the
operator table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convform.reference.call import Call
from convform.reference.evaluation import Outputs, Parameters, by_family, evaluate_with

Array = NDArray[Any]


def starts_along(n: int, k: int, s: int, d: int, low: int, high: int, ceil_mode: bool) -> list[int]:
    """List the first elements of all windows along one axis (clauses WINDOW-1, WINDOW-2 and WINDOW-5).

    A window follows while its last tap lies in the padded input. Under ceil rounding, one more follows if
    the one before has not reached the end of the padded input, and the last is dropped if it starts beyond
    the input.

    Parameters
    ----------
    n, k, s, d, low, high
        Input size, kernel, stride, dilation and padding along the axis.
    ceil_mode
        Whether the number of windows is rounded up.

    Examples
    --------
    >>> starts_along(5, 2, 2, 1, 0, 0, False), starts_along(5, 2, 2, 1, 0, 0, True)
    ([0, 2], [0, 2, 4])
    """
    reach, end = (k - 1) * d, n + high
    starts = []
    start = -low
    while start + reach < end:
        starts.append(start)
        start += s
    if ceil_mode:
        if start - s + reach < end - 1:
            starts.append(start)
        if starts and starts[-1] >= n:
            starts.pop()
    return starts


def selection_along(n: int, windows: int, k: int, s: int, d: int, low: int) -> Array:
    """Build the selection matrix of one axis by asking each element (clauses WINDOW-2 to WINDOW-4).

    Parameters
    ----------
    n, windows, k, s, d, low
        Input size, number of windows, kernel, stride, dilation and padding in front.

    Returns
    -------
    matrix
        "window tap element", int64: one where that tap of that window is that element.
    """
    matrix = np.zeros((windows, k, n), np.int64)
    for j in range(n):
        for tap in range(k):
            distance = j + low - tap * d
            if distance % s == 0 and 0 <= distance // s < windows:
                matrix[distance // s, tap, j] = 1
    return matrix


class Selection(NamedTuple):
    """The selection matrix of a window on an input.

    Attributes
    ----------
    matrix
        "(oh ow) (kh kw) (h w)", int64.
    padded
        The same on the padded input as if it were all real: "(oh ow) (kh kw) (hp wp)".
    kernel, output
        Sizes of the axes that are merged.
    """

    matrix: Array
    padded: Array
    kernel: tuple[int, ...]
    output: tuple[int, ...]


def selection(call: Call) -> Selection:
    """Build the selection matrix of a window on its input (clauses as above)."""
    # The call only says what was typed for each axis; none of its formulas is used.
    window = call.window
    matrices, padded, output = [], [], []
    for n, k, s, d, (low, high) in zip(
        call.size, window.kernel, window.stride, window.dilation, window.padding, strict=True
    ):
        windows = len(starts_along(n, k, s, d, low, high, window.ceil_mode))
        output.append(windows)
        matrices.append(selection_along(n, windows, k, s, d, low))
        padded.append(selection_along(low + n + high, windows, k, s, d, 0))
    return Selection(reduce(np.kron, matrices), reduce(np.kron, padded), window.kernel, tuple(output))


def im2col(call: Call, x: Array) -> Array:
    """Gather columns: S x (clauses IM2COL-1 and IM2COL-2)."""
    s = selection(call)
    cols = np.einsum("ltj,ncj->nctl", s.matrix, _flat(x, 2))
    return _finish(cols, (*x.shape[:2], *s.kernel, *s.output), x.dtype)


def col2im(call: Call, cols: Array) -> Array:
    """Add columns up: Sᵀ cols (clauses COL2IM-1 and COL2IM-2)."""
    s = selection(call)
    flat = _numbers(cols).reshape(*cols.shape[:2], prod(s.kernel), prod(s.output))
    x = np.einsum("ltj,nctl->ncj", s.matrix, flat)
    return _finish(x, (*cols.shape[:2], *call.size), cols.dtype)


def conv(call: Call, x: Array, w: Array, b: Array | None) -> Array:
    """Convolve: A x + b with the matrix A[o, i, c, j] = Σ w[o, c, k] · S[i, k, j] (clauses CONV-1 to CONV-4).

    Groups make a kernel that is zero outside its diagonal blocks.
    """
    s = selection(call)
    y = np.einsum("olcj,ncj->nol", _operator(w, s, call.groups), _flat(x, 2))
    if b is not None:
        y = y + _numbers(b)[:, None]
    return _finish(y, (len(x), len(w), *s.output), x.dtype)


def conv_backward(call: Call, x: Array, w: Array, b: Array | None, dy: Array) -> tuple[Array, Array, Array]:
    """Gradients of `conv`: dx = Aᵀ dy, dw[o, c, k] = Σ dy S x, db = Σ dy (CONVGRAD-1 to CONVGRAD-4)."""
    s = selection(call)
    flat_x, flat_dy = _flat(x, 2), _flat(dy, 2)
    dx = np.einsum("olcj,nol->ncj", _operator(w, s, call.groups), flat_dy)
    whole = np.einsum("nol,ltj,ncj->oct", flat_dy, s.matrix, flat_x, optimize=True)
    dw = np.array([whole[o, _channels(o, w, call.groups)] for o in range(len(w))])
    db = flat_dy.sum((0, 2))
    return _finish(dx, x.shape, x.dtype), _finish(dw, w.shape, x.dtype), _finish(db, w.shape[:1], x.dtype)


def max_pool(call: Call, x: Array) -> tuple[Array, Array]:
    """Pool by maximum: the greatest entry of S_i x over the rows of S_i that have a one.

    Clauses MAXPOOL-1 to MAXPOOL-3, MAXPOOL-5 and MAXPOOL-6.
    """
    s = selection(call)
    values, indices = [], []
    for matrix in s.matrix:
        rows = matrix[matrix.any(axis=1)]  # the taps on real elements
        if len(rows):
            taps = np.einsum("tj,ncj->nct", rows, _flat(x, 2))
            first = taps.argmax(-1)  # NumPy takes the first of several maxima, as MAXPOOL-6 does
            values.append(taps.max(-1))
            indices.append((rows @ np.arange(rows.shape[1]))[first])
        else:
            values.append(np.full(x.shape[:2], -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min))
            indices.append(np.full(x.shape[:2], -1))
    shape = (*x.shape[:2], *s.output)
    return (
        _finish(np.stack(values, -1), shape, x.dtype),
        _finish(np.stack(indices, -1), shape, np.dtype(np.int64)),
    )


def max_pool_backward(call: Call, x: Array, dy: Array) -> Array:
    """Gradient of `max_pool`: Pᵀ dy with P[i, j] = 1 where window i selects j (MAXGRAD-1, MAXGRAD-2)."""
    _, indices = max_pool(call, x)
    chosen = (_flat(indices, 2)[..., None] == np.arange(prod(x.shape[2:]))).astype(np.int64)
    return _finish(np.einsum("nclj,ncl->ncj", chosen, _flat(dy, 2)), x.shape, x.dtype)


def avg_pool(call: Call, x: Array) -> Array:
    """Pool by average: the sum of the rows of S_i x over the number of rows with a one.

    Those of S, or of S on the padded input where padding counts (clauses AVGPOOL-1 to AVGPOOL-3).
    """
    s = selection(call)
    with np.errstate(invalid="ignore"):
        y = np.einsum("ltj,ncj->ncl", s.matrix, _flat(x, 2)) / _divisor(s, call.count_include_pad)
    return _finish(y, (*x.shape[:2], *s.output), x.dtype)


def avg_pool_backward(call: Call, x: Array, dy: Array) -> Array:
    """Gradient of `avg_pool`: the transposed product of dy / divisor (clause AVGGRAD-1)."""
    s = selection(call)
    # Where no row counts, none has a one, and there is nothing to give the quotient to.
    share = _flat(dy, 2) / np.maximum(_divisor(s, call.count_include_pad), 1)
    return _finish(np.einsum("ltj,ncl->ncj", s.matrix, share), x.shape, x.dtype)


FUNCTIONS = by_family(globals())
"""The function of each operator family."""


def evaluate(operator: str, inputs: Mapping[str, Any], parameters: Parameters) -> Outputs:
    """Evaluate an operator of the standard by name; arguments as for `convform.reference.evaluate`.

    Any float or integer dtype, finite. Every output has the dtype of the inputs (indices: int64).

    Raises
    ------
    TypeError, ValueError
        As `convform.reference.evaluate` does.
    """
    return evaluate_with(FUNCTIONS, operator, inputs, parameters)


def _numbers(array: Array) -> Array:
    return array.astype(np.float64 if array.dtype.kind == "f" else np.int64)


def _finish(result: Array, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    return result.reshape(shape).astype(dtype)


def _flat(array: Array, leading: int) -> Array:
    """Merge the spatial axes of an array, behind `leading` others."""
    return _numbers(array).reshape(*array.shape[:leading], prod(array.shape[leading:]))


def _channels(o: int, w: Array, groups: int) -> slice:
    """Input channels that output channel `o` reads: its diagonal block."""
    group = o * groups // len(w)
    return slice(group * w.shape[1], (group + 1) * w.shape[1])


def _operator(w: Array, s: Selection, groups: int) -> Array:
    """The convolution as one matrix, "o (oh ow) c (h w)"."""
    whole = np.zeros((len(w), w.shape[1] * groups, prod(s.kernel)), _numbers(w).dtype)
    for o, kernel in enumerate(_flat(w, 2)):
        whole[o, _channels(o, w, groups)] = kernel
    return np.asarray(np.einsum("oct,ltj->olcj", whole, s.matrix))


def _divisor(s: Selection, count_include_pad: bool) -> Array:
    matrix = s.padded if count_include_pad else s.matrix
    return np.asarray(matrix.any(axis=2).sum(axis=1))
