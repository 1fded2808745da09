"""Windows over arrays of the array API: where their taps lie, a border around an image, what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

Xp = Any  # a namespace of the array API
XArray = Any  # an array of such a namespace
Size = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


class Window(NamedTuple):
    """The parameters of a call; an operator looks at those that it has."""

    stride: Size | None  # None is the kernel size
    padding: Pairs
    dilation: Size
    kernel: Size = ()  # that of a convolution is in its weights
    ceil_mode: bool = False
    count_include_pad: bool = True
    groups: int = 1
    input_size: Size = ()


class Grid(NamedTuple):
    """Where the taps of every window lie in the padded input."""

    kernel: Size
    stride: Size
    dilation: Size
    padding: Pairs
    border: Pairs  # the padding, longer at the end where ceil rounding looks beyond it
    output: Size

    def taps(self) -> Iterator[tuple[Any, ...]]:
        """Yield for each tap, row by row, the index that selects its elements from the padded input."""
        for place in itertools.product(*map(range, self.kernel)):
            starts = [at * d for at, d in zip(place, self.dilation, strict=True)]
            yield (
                ...,
                *(
                    slice(start, start + s * (o - 1) + 1, s)
                    for start, s, o in zip(starts, self.stride, self.output, strict=True)
                ),
            )


def grid_of(shape: Size, window: Window) -> Grid:
    """Place the windows on an input "n c h w".

    Raises
    ------
    ValueError
        If the axes are not those of the kernel, a size is refused, or no window fits (clause WINDOW-6).
    """
    kernel, size = window.kernel, shape[2:]
    if len(shape) != len(kernel) + 2:
        raise ValueError(f"{len(shape)} axes, but {len(kernel)} of the kernel (clause CONTRACT-9)")
    stride = kernel if window.stride is None else window.stride
    border, output = [], []
    for n, k, s, (low, high), d in zip(size, kernel, stride, window.padding, window.dilation, strict=True):
        if min(k, s, d) < 1 or min(low, high) < 0:
            raise ValueError(f"kernel {k}, stride {s}, dilation {d}, padding {low} and {high}: too small")
        room = n + low + high - (d * (k - 1) + 1)
        steps = -(-room // s) if window.ceil_mode else room // s
        # A last window that would start beyond the input and the padding before it is dropped (WINDOW-5).
        if window.ceil_mode and steps * s >= n + low:
            steps -= 1
        if steps < 0:
            raise ValueError(f"kernel {k} with dilation {d} does not fit into {n} elements and their padding")
        border.append((low, high + max(0, steps * s - room)))
        output.append(steps + 1)
    return Grid(kernel, stride, window.dilation, window.padding, tuple(border), tuple(output))


def padded(xp: Xp, x: XArray, border: Pairs, fill: float) -> XArray:
    """Put a border of `fill` around the last axes."""
    for axis, ends in enumerate(border, start=x.ndim - len(border)):
        parts = [x]
        for end, length in enumerate(ends):
            if length:
                shape = (*x.shape[:axis], length, *x.shape[axis + 1 :])
                parts.insert(2 * end, xp.full(shape, fill, dtype=x.dtype, device=x.device))
        x = xp.concat(parts, axis=axis) if len(parts) > 1 else x
    return x


def scattered(xp: Xp, like: XArray, size: Size, grid: Grid, parts: Iterator[XArray]) -> XArray:
    """Add up one array "n c oh ow" for each tap where its elements lie; what falls on the border is lost."""
    whole = [n + low + high for n, (low, high) in zip(size, grid.border, strict=True)]
    buffer = xp.zeros((*like.shape[:2], *whole), dtype=like.dtype, device=like.device)
    for tap, part in zip(grid.taps(), parts, strict=True):
        buffer[tap] += part
    inside = (slice(low, low + n) for n, (low, _) in zip(size, grid.border, strict=True))
    return buffer[(..., *inside)]


def check_dtypes(**arrays: XArray | None) -> None:
    """Refuse arrays of different dtypes."""
    dtypes = {array.dtype for array in arrays.values() if array is not None}
    if len(dtypes) > 1:
        raise TypeError(f"{', '.join(arrays)} differ in dtype, expected one (clause CONTRACT-6)")


def check_shape(name: str, array: XArray, shape: Size) -> None:
    """Refuse an array of another shape."""
    if tuple(array.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(array.shape)}, expected {shape}")
