"""Convolution and its gradients, for any spatial rank: im2col and matrix products, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np

from convform.reference import checks
from convform.reference.blocks import tiles
from convform.reference.call import Call
from convform.reference.checks import Array
from convform.reference.columns import add, fill
from convform.reference.window import Landing, Padding, PerAxis

# Columns are formed this many bytes at a time, which is enough for fast matrix products. Those of a whole
# layer would take as many times the input as the kernel has taps.
COLUMN_BYTES = 4 << 20


class Gradients(NamedTuple):
    """Gradients of a convolution: dx "n c h w", dw "o i kh kw" and db "o"."""

    dx: Array
    dw: Array
    db: Array


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
    """Convolve: slide the kernel, not mirrored, over the input (clauses CONV-1 to CONV-6).

    y[n, o, i] = b[o] + Σ w[o, c, k] · x[n, g·C/G + c, i·s − p_lo + k·d] over the channels c of group
    g = ⌊o / (O/G)⌋ and the taps k; x is zero outside. Without input channels, y is the bias.

    Parameters
    ----------
    x
        "n c h w" (or "n c w", "n c d h w"): the rank comes from `x`. Any float or integer dtype; float16
        is accumulated in float32 (clause CONV-5), integers are exact where y is representable.
    w
        "o i kh kw" with i = C/G, the dtype of `x`.
    b
        "o", the dtype of `x`; None stands for zero.
    stride, dilation
        An integer or one for each axis, at least 1.
    padding
        An integer, one for each axis, or (low, high) for each axis; at least 0.
    groups
        Number G of blocks that input and output channels are split into.

    Returns
    -------
    y
        "n o oh ow", the dtype of `x`.

    Raises
    ------
    TypeError
        If an argument is no array of real numbers, the dtypes differ (clause CONTRACT-6), or a parameter
        is no integer.
    ValueError
        If channels, groups or bias do not fit together (clause CONV-7), `x` or `w` has a wrong number of
        axes (clause CONTRACT-9), or the window is refused (clause WINDOW-6).

    Examples
    --------
    >>> x, w = np.arange(1, 10).reshape(1, 1, 3, 3), np.array([[[[1, 2], [3, 4]]]])
    >>> conv(x, w)[0, 0].tolist()
    [[37, 47], [67, 77]]
    """
    given = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    arrays = {"x": x, "w": w, "b": b}
    return convolved(Call.made("conv", arrays, given).fitted("conv", arrays), x, w, b)


def convolved(call: Call, x: Array, w: Array, b: Array | None) -> Array:
    """`conv` of a call."""
    layer = _Layer(x, w, call)
    y = np.empty((len(x), len(w), *layer.output), x.dtype)
    flat = y.reshape(layer.flat_output)
    kernel = layer.matrix(w)
    bias = None if b is None else b.reshape(call.groups, -1, 1)
    for block in layer.blocks():
        fill(block.columns, x[block.samples], block.landings)
        part = kernel @ layer.flat_columns(block)
        if bias is not None:
            part += bias
        flat[block.samples, :, :, block.places] = part
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
) -> Gradients:
    """Gradients of `conv`, the exact adjoints in x, w and b (clauses CONVGRAD-1 to CONVGRAD-4).

    dx[n, j] = Σ dy[n, o, i] · w[o, c, k] over everything that read x[n, j];
    dw[o, c, k] = Σ dy[n, o, i] · x[n, g·C/G + c, i·s − p_lo + k·d] over samples n and windows i;
    db[o] = Σ dy[n, o, i] over samples n and windows i.

    Parameters
    ----------
    x, w, b, stride, padding, dilation, groups
        The arguments of `conv`: "n c h w", "o i kh kw", "o" or None, of one dtype.
    dy
        "n o oh ow", the gradient in y, the dtype of `x`.

    Returns
    -------
    dx, dw, db
        "n c h w", "o i kh kw" and "o", the dtype of `x`; db is there without a bias, too.

    Raises
    ------
    TypeError, ValueError
        As `conv` does (clauses CONV-7, CONTRACT-6, CONTRACT-9 and WINDOW-6), and for a `dy` of another
        shape than y (clause CONVGRAD-5).
    """
    arrays = {"x": x, "w": w, "b": b, "dy": dy}
    given = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    call = Call.made("conv.backward", arrays, given).fitted("conv.backward", arrays)
    return convolved_backward(call, x, w, b, dy)


def convolved_backward(call: Call, x: Array, w: Array, b: Array | None, dy: Array) -> Gradients:
    """`conv_backward` of a call."""
    layer = _Layer(x, w, call)
    flat = dy.reshape(layer.flat_output)
    kernel = layer.matrix(w).swapaxes(-1, -2)
    dx = np.zeros(x.shape, layer.dtype)
    dw = np.zeros((call.groups, kernel.shape[-1], kernel.shape[-2]), layer.dtype)
    for block in layer.blocks():
        part = flat[block.samples, :, :, block.places].astype(layer.dtype, copy=False)
        columns = layer.flat_columns(block)
        fill(block.columns, x[block.samples], block.landings)
        # Sample by sample: the products of all samples at once would take len(x) times the kernel.
        for sample_dy, sample_columns in zip(part, columns, strict=True):
            dw += sample_dy @ sample_columns.swapaxes(-1, -2)
        # The columns have been used: their memory takes those of the gradient.
        np.matmul(kernel, part, out=columns)
        add(dx[block.samples], block.columns, block.landings)
    db = dy.sum((0, *range(2, dy.ndim)), dtype=layer.dtype)
    return Gradients(
        dx.astype(x.dtype, copy=False),
        dw.reshape(w.shape).astype(x.dtype, copy=False),
        db.astype(x.dtype, copy=False),
    )


class _Block(NamedTuple):
    """Some samples, some neighbouring windows of each, and where to put their columns."""

    samples: slice
    places: slice  # of the flattened output axes
    columns: Array  # n c kh kw oh ow
    landings: list[list[Landing]]


class _Layer:
    """Sizes and matrix views that a convolution and its gradients share."""

    def __init__(self, x: Array, w: Array, call: Call) -> None:
        self.dtype: np.dtype[Any] = checks.accumulator(x.dtype)
        self.channels = x.shape[:2]
        self.window = call.window
        self.groups = call.groups
        self.rows = w.shape[1] * call.window.taps  # of the matrix of columns, for each group
        self.output = call.output
        self.landings = call.window.landings(call.size)
        self.flat_output = (len(x), call.groups, len(w) // call.groups, prod(self.output))

    def matrix(self, w: Array) -> Array:
        """Give the kernel as "g o (i kh kw)" in the dtype of the sums."""
        return w.reshape(self.groups, self.flat_output[2], self.rows).astype(self.dtype, copy=False)

    def flat_columns(self, block: _Block) -> Array:
        """Give the columns of a block as "n g (i kh kw) (oh ow)"; no copy."""
        n = len(block.columns)
        return block.columns.reshape(n, self.groups, self.rows, block.places.stop - block.places.start)

    def blocks(self) -> Iterator[_Block]:
        """Cut samples and windows into blocks; each overwrites the columns of the one before."""
        samples, channels = self.channels
        place = channels * self.window.taps
        # The product of a block has a row for each output channel: it must not outgrow the columns.
        outputs = self.flat_output[1] * self.flat_output[2]
        most = max(1, COLUMN_BYTES // (max(1, place, outputs) * self.dtype.itemsize))
        buffer = np.empty(place * min(most, samples * prod(self.output)), self.dtype)
        for box in tiles((samples, *self.output), most):
            extent = [cut.stop - cut.start for cut in box]
            shape = (extent[0], channels, *self.window.kernel, *extent[1:])
            start = int(np.ravel_multi_index([cut.start for cut in box[1:]], self.output))
            yield _Block(
                box[0],
                slice(start, start + prod(extent[1:])),
                buffer[: prod(shape)].reshape(shape),
                [
                    [landing.within(cut.start, cut.stop) for landing in axis]
                    for axis, cut in zip(self.landings, box[1:], strict=True)
                ],
            )
