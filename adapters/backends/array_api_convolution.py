"""Columns and convolution in the array API: one slice for each tap, and products of matrices."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from convform.adapters.backends.array_api_window import (
    Size,
    Window,
    XArray,
    Xp,
    check_dtypes,
    check_shape,
    grid_of,
    padded,
    scattered,
)


def im2col(xp: Xp, x: XArray, window: Window) -> XArray:
    """Gather columns "n (c kh kw) (oh ow)" from "n c h w" (clauses IM2COL-1 and IM2COL-2)."""
    grid = grid_of(x.shape, window)
    framed = padded(xp, x, grid.border, 0)
    taps = xp.stack([framed[tap] for tap in grid.taps()], axis=2)
    n, c, *_ = x.shape
    return xp.reshape(taps, (n, c * prod(grid.kernel), prod(grid.output)))


def col2im(xp: Xp, cols: XArray, window: Window) -> XArray:
    """Add columns "n (c kh kw) (oh ow)" up to "n c h w" (clauses COL2IM-1 to COL2IM-3)."""
    n, c, *size = window.input_size
    grid, taps = grid_of(window.input_size, window), prod(window.kernel)
    check_shape("cols", cols, (n, c * taps, prod(grid.output)))
    parts = xp.reshape(cols, (n, c, taps, *grid.output))
    return scattered(xp, parts, tuple(size), grid, (parts[:, :, tap, ...] for tap in range(taps)))


@dataclass(frozen=True)
class _Layer:
    """A convolution as products of matrices, one for each sample and group."""

    window: Window  # with the kernel of the weights
    channels: tuple[int, int]
    output: Size  # n o oh ow

    @classmethod
    def of(cls, x: XArray, w: XArray, window: Window) -> _Layer:
        window = window._replace(kernel=tuple(w.shape[2:]))
        grid, groups = grid_of(x.shape, window), window.groups
        (n, c), (o, i) = x.shape[:2], w.shape[:2]
        if groups < 1 or c % groups or o % groups:
            raise ValueError(f"groups={groups}, expected a divisor of {c} and {o} channels (clause CONV-7)")
        if i * groups != c:
            raise ValueError(f"w has {i} input channels, expected {c // groups} (clause CONV-7)")
        return cls(window, (c, o), (n, o, *grid.output))

    @property
    def rows(self) -> int:
        """Rows of the columns of a group, "(i kh kw)"."""
        return self.channels[0] // self.window.groups * prod(self.window.kernel)

    def columns(self, xp: Xp, x: XArray) -> XArray:
        """Gather columns as "n g (i kh kw) (oh ow)"."""
        shape = (self.output[0], self.window.groups, self.rows, prod(self.output[2:]))
        return xp.reshape(im2col(xp, x, self.window), shape)

    def weights(self, xp: Xp, w: XArray) -> XArray:
        """Write the kernel as "1 g o (i kh kw)"."""
        groups = self.window.groups
        return xp.reshape(w, (1, groups, self.channels[1] // groups, self.rows))

    def gradient(self, xp: Xp, dy: XArray) -> XArray:
        """Write dy as "n g o (oh ow)"."""
        n, o, *size = self.output
        return xp.reshape(dy, (n, self.window.groups, o // self.window.groups, prod(size)))


def conv(xp: Xp, x: XArray, w: XArray, b: XArray | None, window: Window) -> XArray:
    """Convolve "n c h w" with "o i kh kw" to "n o oh ow" (clauses CONV-1 to CONV-7)."""
    check_dtypes(x=x, w=w, b=b)
    layer = _Layer.of(x, w, window)
    y = xp.reshape(xp.matmul(layer.weights(xp, w), layer.columns(xp, x)), layer.output)
    if b is None:
        return y
    check_shape("b", b, (layer.channels[1],))
    return y + xp.reshape(b, (-1, *(1 for _ in layer.output[2:])))


def conv_backward(
    xp: Xp, x: XArray, w: XArray, b: XArray | None, dy: XArray, window: Window
) -> tuple[XArray, XArray, XArray]:
    """Return dx, dw and db, the adjoints (clauses CONVGRAD-1 to CONVGRAD-5)."""
    check_dtypes(x=x, w=w, dy=dy, b=b)
    layer = _Layer.of(x, w, window)
    check_shape("dy", dy, layer.output)
    gradient = layer.gradient(xp, dy)
    dw = xp.matmul(gradient, xp.moveaxis(layer.columns(xp, x), -1, -2))
    dcols = xp.matmul(xp.moveaxis(layer.weights(xp, w), -1, -2), gradient)
    dcols = xp.reshape(dcols, (dy.shape[0], layer.rows * window.groups, prod(layer.output[2:])))
    dx = col2im(xp, dcols, layer.window._replace(input_size=tuple(x.shape)))
    # The standard's sum widens small integers unless it is told the dtype.
    dw = xp.reshape(xp.sum(dw, axis=0, dtype=w.dtype), tuple(w.shape))
    db = xp.sum(dy, axis=(0, *range(2, dy.ndim)), dtype=w.dtype)
    return dx, dw, db
