"""Columns and convolution in the array API: one slice for each tap, and products of matrices."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from convform.adapters.backends.array_api_window import (
    Pairs,
    Size,
    XArray,
    Xp,
    check_dtypes,
    check_ranks,
    check_shape,
    grid_of,
    padded,
    scattered,
)


def im2col(xp: Xp, x: XArray, kernel: Size, stride: Size, padding: Pairs, dilation: Size) -> XArray:
    """Gather columns "n (c kh kw) (oh ow)" from "n c h w" (clauses IM2COL-1 and IM2COL-2)."""
    check_ranks(len(kernel), x=x)
    n, c, *size = x.shape
    grid = grid_of(tuple(size), kernel, stride, padding, dilation)
    framed = padded(xp, x, grid.border, 0)
    taps = xp.stack([framed[tap] for tap in grid.taps()], axis=2)
    return xp.reshape(taps, (n, c * prod(kernel), prod(grid.output)))


def col2im(
    xp: Xp, cols: XArray, input_size: Size, kernel: Size, stride: Size, padding: Pairs, dilation: Size
) -> XArray:
    """Add columns "n (c kh kw) (oh ow)" up to "n c h w" (clauses COL2IM-1 to COL2IM-3)."""
    n, c, *size = input_size
    grid = grid_of(tuple(size), kernel, stride, padding, dilation)
    check_shape("cols", cols, (n, c * prod(kernel), prod(grid.output)))
    parts = xp.reshape(cols, (n, c, prod(kernel), *grid.output))
    return scattered(xp, parts, tuple(size), grid, (parts[:, :, tap, ...] for tap in range(prod(kernel))))


@dataclass(frozen=True)
class _Layer:
    """A convolution as products of matrices, one for each sample and group."""

    kernel: Size
    channels: tuple[int, int]
    output: Size  # n o oh ow
    groups: int

    @classmethod
    def of(cls, x: XArray, w: XArray, stride: Size, padding: Pairs, dilation: Size, groups: int) -> _Layer:
        check_ranks(len(stride), x=x, w=w)
        n, c, *size = x.shape
        o, i, *kernel = w.shape
        grid = grid_of(tuple(size), tuple(kernel), stride, padding, dilation)
        if groups < 1 or c % groups or o % groups:
            raise ValueError(f"groups={groups}, expected a divisor of {c} and {o} channels (clause CONV-7)")
        if i * groups != c:
            raise ValueError(f"w has {i} input channels, expected {c // groups} (clause CONV-7)")
        return cls(tuple(kernel), (c, o), (n, o, *grid.output), groups)

    @property
    def rows(self) -> int:
        """Rows of the columns of a group, "(i kh kw)"."""
        return self.channels[0] // self.groups * prod(self.kernel)

    def columns(self, xp: Xp, cols: XArray) -> XArray:
        """Write columns as "n g (i kh kw) (oh ow)"."""
        return xp.reshape(cols, (self.output[0], self.groups, self.rows, prod(self.output[2:])))

    def weights(self, xp: Xp, w: XArray) -> XArray:
        """Write the kernel as "1 g o (i kh kw)"."""
        return xp.reshape(w, (1, self.groups, self.channels[1] // self.groups, self.rows))

    def gradient(self, xp: Xp, dy: XArray) -> XArray:
        """Write dy as "n g o (oh ow)"."""
        n, o, *size = self.output
        return xp.reshape(dy, (n, self.groups, o // self.groups, prod(size)))


def conv(
    xp: Xp,
    x: XArray,
    w: XArray,
    stride: Size,
    padding: Pairs,
    dilation: Size,
    groups: int,
    b: XArray | None = None,
) -> XArray:
    """Convolve "n c h w" with "o i kh kw" to "n o oh ow" (clauses CONV-1 to CONV-7)."""
    check_dtypes(x=x, w=w, b=b)
    layer = _Layer.of(x, w, stride, padding, dilation, groups)
    cols = layer.columns(xp, im2col(xp, x, layer.kernel, stride, padding, dilation))
    y = xp.reshape(xp.matmul(layer.weights(xp, w), cols), layer.output)
    if b is None:
        return y
    check_shape("b", b, (layer.channels[1],))
    return y + xp.reshape(b, (-1, *(1 for _ in layer.kernel)))


def conv_backward(
    xp: Xp,
    x: XArray,
    w: XArray,
    dy: XArray,
    stride: Size,
    padding: Pairs,
    dilation: Size,
    groups: int,
    b: XArray | None = None,
) -> tuple[XArray, XArray, XArray]:
    """Return dx, dw and db, the adjoints (clauses CONVGRAD-1 to CONVGRAD-5)."""
    check_dtypes(x=x, w=w, dy=dy, b=b)
    layer = _Layer.of(x, w, stride, padding, dilation, groups)
    check_shape("dy", dy, layer.output)
    window = (layer.kernel, stride, padding, dilation)
    cols = layer.columns(xp, im2col(xp, x, *window))
    gradient = layer.gradient(xp, dy)
    dw = xp.matmul(gradient, xp.moveaxis(cols, -1, -2))
    dcols = xp.matmul(xp.moveaxis(layer.weights(xp, w), -1, -2), gradient)
    c, _ = layer.channels
    dcols = xp.reshape(dcols, (layer.output[0], c * prod(layer.kernel), prod(layer.output[2:])))
    dx = col2im(xp, dcols, tuple(x.shape), *window)
    # The standard's sum widens small integers unless it is told the dtype.
    dw = xp.reshape(xp.sum(dw, axis=0, dtype=w.dtype), tuple(w.shape))
    db = xp.sum(dy, axis=(0, *range(2, dy.ndim)), dtype=w.dtype)
    return dx, dw, db
