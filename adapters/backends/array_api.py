"""All operators, written once against the array API standard, for any library that speaks it.

The operators are ours; what is judged is a library's arrays under them. They pad with explicit borders,
gather each tap of the kernel as one strided slice, and scatter by adding to the same slices, for any
spatial rank. Each takes the namespace `xp` first and calls nothing outside it. The standard has float32 and
float64 and integers, so these are the dtypes claimed; functions that one of the libraries below lacks
under the standard's name (``permute_dims``, ``matrix_transpose``, ``astype``) are not needed.

Nothing is imported until an adapter is asked whether it is available.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import inf, prod
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from convform.adapters.adapter import Adapter
from convform.adapters.layout import Array
from convform.spec.operators import OPERATORS

Xp = Any  # a namespace of the array API
XArray = Any  # an array of such a namespace
Size = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


# --- the window ----------------------------------------------------------------------------------------


class _Grid(NamedTuple):
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


def _grid(
    size: Size, kernel: Size, stride: Size | None, padding: Pairs, dilation: Size, ceil_mode: bool = False
) -> _Grid:
    """Place the windows; `stride` None is the kernel size.

    Raises
    ------
    ValueError
        If a size is refused, or no window fits (clause WINDOW-6).
    """
    stride = kernel if stride is None else stride
    border, output = [], []
    for n, k, s, (low, high), d in zip(size, kernel, stride, padding, dilation, strict=True):
        for name, value, least in (
            ("kernel", k, 1),
            ("stride", s, 1),
            ("dilation", d, 1),
            ("padding", low, 0),
            ("padding", high, 0),
        ):
            if value < least:
                raise ValueError(f"{name} {value}: expected at least {least}")
        room = n + low + high - (d * (k - 1) + 1)
        steps = -(-room // s) if ceil_mode else room // s
        # A last window that would start beyond the input and the padding before it is dropped (WINDOW-5).
        if ceil_mode and steps * s >= n + low:
            steps -= 1
        if steps < 0:
            raise ValueError(f"kernel {k} with dilation {d} does not fit into {n} elements and their padding")
        border.append((low, high + max(0, steps * s - room)))
        output.append(steps + 1)
    return _Grid(kernel, stride, dilation, padding, tuple(border), tuple(output))


def _padded(xp: Xp, x: XArray, border: Pairs, fill: float) -> XArray:
    """Put a border of `fill` around the last axes."""
    for axis, ends in enumerate(border, start=x.ndim - len(border)):
        parts = [x]
        for end, length in enumerate(ends):
            if length:
                shape = (*x.shape[:axis], length, *x.shape[axis + 1 :])
                parts.insert(2 * end, xp.full(shape, fill, dtype=x.dtype, device=x.device))
        x = xp.concat(parts, axis=axis) if len(parts) > 1 else x
    return x


def _scattered(xp: Xp, like: XArray, size: Size, grid: _Grid, parts: Iterator[XArray]) -> XArray:
    """Add up one array "n c oh ow" for each tap where its elements lie; what falls on the border is lost."""
    whole = [n + low + high for n, (low, high) in zip(size, grid.border, strict=True)]
    buffer = xp.zeros((*like.shape[:2], *whole), dtype=like.dtype, device=like.device)
    for tap, part in zip(grid.taps(), parts, strict=True):
        buffer[tap] += part
    inside = (slice(low, low + n) for n, (low, _) in zip(size, grid.border, strict=True))
    return buffer[(..., *inside)]


# --- checks --------------------------------------------------------------------------------------------


def _check_ranks(rank: int, **arrays: XArray) -> None:
    for name, array in arrays.items():
        if array.ndim != rank + 2:
            raise ValueError(f"{name} has {array.ndim} axes, expected {rank + 2} (clause CONTRACT-9)")


def _check_dtypes(**arrays: XArray | None) -> None:
    dtypes = {array.dtype for array in arrays.values() if array is not None}
    if len(dtypes) > 1:
        raise TypeError(f"{', '.join(arrays)} differ in dtype, expected one (clause CONTRACT-6)")


def _check_shape(name: str, array: XArray, shape: Size) -> None:
    if tuple(array.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(array.shape)}, expected {shape}")


# --- columns -------------------------------------------------------------------------------------------


def im2col(xp: Xp, x: XArray, kernel: Size, stride: Size, padding: Pairs, dilation: Size) -> XArray:
    """Gather columns "n (c kh kw) (oh ow)" from "n c h w" (clauses IM2COL-1 and IM2COL-2)."""
    _check_ranks(len(kernel), x=x)
    n, c, *size = x.shape
    grid = _grid(tuple(size), kernel, stride, padding, dilation)
    padded = _padded(xp, x, grid.border, 0)
    taps = xp.stack([padded[tap] for tap in grid.taps()], axis=2)
    return xp.reshape(taps, (n, c * prod(kernel), prod(grid.output)))


def col2im(
    xp: Xp, cols: XArray, input_size: Size, kernel: Size, stride: Size, padding: Pairs, dilation: Size
) -> XArray:
    """Add columns "n (c kh kw) (oh ow)" up to "n c h w" (clauses COL2IM-1 to COL2IM-3)."""
    n, c, *size = input_size
    grid = _grid(tuple(size), kernel, stride, padding, dilation)
    _check_shape("cols", cols, (n, c * prod(kernel), prod(grid.output)))
    parts = xp.reshape(cols, (n, c, prod(kernel), *grid.output))
    return _scattered(xp, parts, tuple(size), grid, (parts[:, :, tap, ...] for tap in range(prod(kernel))))


# --- convolution ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layer:
    """A convolution as products of matrices, one for each sample and group."""

    kernel: Size
    channels: tuple[int, int]
    output: Size  # n o oh ow
    groups: int

    @classmethod
    def of(cls, x: XArray, w: XArray, stride: Size, padding: Pairs, dilation: Size, groups: int) -> _Layer:
        _check_ranks(len(stride), x=x, w=w)
        n, c, *size = x.shape
        o, i, *kernel = w.shape
        grid = _grid(tuple(size), tuple(kernel), stride, padding, dilation)
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
    _check_dtypes(x=x, w=w, b=b)
    layer = _Layer.of(x, w, stride, padding, dilation, groups)
    cols = layer.columns(xp, im2col(xp, x, layer.kernel, stride, padding, dilation))
    y = xp.reshape(xp.matmul(layer.weights(xp, w), cols), layer.output)
    if b is None:
        return y
    _check_shape("b", b, (layer.channels[1],))
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
    _check_dtypes(x=x, w=w, dy=dy, b=b)
    layer = _Layer.of(x, w, stride, padding, dilation, groups)
    _check_shape("dy", dy, layer.output)
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


# --- max pooling ---------------------------------------------------------------------------------------


def _least(xp: Xp, x: XArray) -> float:
    return -inf if _is_float(xp, x) else int(xp.iinfo(x.dtype).min)


def _is_float(xp: Xp, x: XArray) -> bool:
    return x.dtype in (xp.float32, xp.float64)


def _positions(xp: Xp, x: XArray, grid: _Grid) -> XArray:
    """Row-major positions of the elements of a plane, −1 on the border."""
    size = tuple(x.shape[2:])
    plane = xp.reshape(xp.arange(prod(size), dtype=xp.int64, device=x.device), size)
    return _padded(xp, plane, grid.border, -1)


def max_pool(
    xp: Xp,
    x: XArray,
    kernel: Size,
    stride: Size | None,
    padding: Pairs,
    dilation: Size,
    ceil_mode: bool,
) -> tuple[XArray, XArray]:
    """Return the maxima "n c oh ow" and their positions in the plane (clauses MAXPOOL-1 to MAXPOOL-6)."""
    _check_ranks(len(kernel), x=x)
    grid = _grid(tuple(x.shape[2:]), kernel, stride, padding, dilation, ceil_mode)
    padded, positions = _padded(xp, x, grid.border, _least(xp, x)), _positions(xp, x, grid)
    shape = (*x.shape[:2], *grid.output)
    y = xp.full(shape, _least(xp, x), dtype=x.dtype, device=x.device)
    indices = xp.full(shape, -1, dtype=xp.int64, device=x.device)
    for tap in grid.taps():
        value, position = padded[tap], positions[tap]
        # Strictly greater, so that the first of several maxima stays; the first real element always counts.
        better = (value > y) | ((indices < 0) & (position >= 0))
        if _is_float(xp, x):
            better = better | (xp.isnan(value) & ~xp.isnan(y))
        y, indices = xp.where(better, value, y), xp.where(better, position, indices)
    return y, indices


def max_pool_backward(
    xp: Xp,
    x: XArray,
    dy: XArray,
    kernel: Size,
    stride: Size | None,
    padding: Pairs,
    dilation: Size,
    ceil_mode: bool,
) -> XArray:
    """Send dy to the selected elements (clauses MAXGRAD-1 to MAXGRAD-3)."""
    _check_dtypes(x=x, dy=dy)
    y, indices = max_pool(xp, x, kernel, stride, padding, dilation, ceil_mode)
    _check_shape("dy", dy, tuple(y.shape))
    size = tuple(x.shape[2:])
    grid = _grid(size, kernel, stride, padding, dilation, ceil_mode)
    positions, nothing = _positions(xp, x, grid), xp.zeros_like(dy)
    parts = (xp.where(indices == positions[tap], dy, nothing) for tap in grid.taps())
    return _scattered(xp, x, size, grid, parts)


# --- average pooling -----------------------------------------------------------------------------------


def _divisor(xp: Xp, x: XArray, grid: _Grid, count_include_pad: bool) -> XArray:
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


def avg_pool(
    xp: Xp,
    x: XArray,
    kernel: Size,
    stride: Size | None,
    padding: Pairs,
    dilation: Size,
    ceil_mode: bool,
    count_include_pad: bool,
) -> XArray:
    """Return the averages "n c oh ow" (clauses AVGPOOL-1 to AVGPOOL-4)."""
    _check_ranks(len(kernel), x=x)
    grid = _grid(tuple(x.shape[2:]), kernel, stride, padding, dilation, ceil_mode)
    padded = _padded(xp, x, grid.border, 0)
    total = xp.zeros((*x.shape[:2], *grid.output), dtype=x.dtype, device=x.device)
    for tap in grid.taps():
        total = total + padded[tap]
    return total / _divisor(xp, x, grid, count_include_pad)


def avg_pool_backward(
    xp: Xp,
    x: XArray,
    dy: XArray,
    kernel: Size,
    stride: Size | None,
    padding: Pairs,
    dilation: Size,
    ceil_mode: bool,
    count_include_pad: bool,
) -> XArray:
    """Spread dy / divisor over the taps of each window (clauses AVGGRAD-1 and AVGGRAD-2)."""
    _check_ranks(len(kernel), x=x)
    _check_dtypes(x=x, dy=dy)
    size = tuple(x.shape[2:])
    grid = _grid(size, kernel, stride, padding, dilation, ceil_mode)
    _check_shape("dy", dy, (*x.shape[:2], *grid.output))
    share = dy / _divisor(xp, x, grid, count_include_pad)
    return _scattered(xp, x, size, grid, itertools.repeat(share, prod(kernel)))


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "im2col": im2col,
    "col2im": col2im,
    "conv": conv,
    "conv.backward": conv_backward,
    "max_pool": max_pool,
    "max_pool.backward": max_pool_backward,
    "avg_pool": avg_pool,
    "avg_pool.backward": avg_pool_backward,
}


# --- the adapters --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Library:
    """A library that speaks the array API.

    Attributes
    ----------
    module, distribution
        Name to import, and name to install.
    to_numpy
        Given the module and one of its arrays, the same array in NumPy.
    problem
        Given the module, why it cannot run here; None where it can.
    """

    module: str
    distribution: str
    to_numpy: Callable[[ModuleType, XArray], Array] = lambda xp, array: np.asarray(array)
    problem: Callable[[ModuleType], str | None] = lambda xp: None

    @property
    def xp(self) -> ModuleType:
        """The namespace, imported when it is needed."""
        return importlib.import_module(self.module)

    @property
    def version(self) -> str | None:
        """The installed version, without an import."""
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None

    def unavailable(self) -> str | None:
        """Say why the library cannot run here."""
        try:
            return self.problem(self.xp)
        except ImportError:
            return f"the module {self.module!r} is not installed"


def make(name: str, library: _Library, install: str) -> Adapter:
    """Describe the operators on one library's arrays.

    Parameters
    ----------
    name
        What reports call it.
    library
        The library.
    install
        What to type to install it.

    Returns
    -------
    Adapter
        Every operator of the standard, in float64, float32 and signed integers.
    """
    adapter = Adapter(
        name,
        dtypes=("float64", "float32", "int64", "int32", "int16", "int8"),
        version=library.version,
        available=library.unavailable,
        install=install,
    )
    for operator in (operator for operator in OPERATORS.values() if operator.family in _FUNCTIONS):
        adapter.implements(
            operator.name,
            padding="low-high",
            dtypes=("float64", "float32") if operator.row.divides else None,
            indices="indices" in operator.outputs,
        )(_wrapper(_FUNCTIONS[operator.family], library, operator.rank))
    return adapter


def _wrapper(function: Callable[..., Any], library: _Library, rank: int) -> Callable[..., Any]:
    """Take arrays to the library and back; the wrapper has the parameters of `function` without `xp`."""

    @functools.wraps(function)
    def wrapper(**given: Any) -> Any:
        xp = library.xp
        # The library gets memory of its own: some look at NumPy's, and read no negative strides.
        taken = {
            name: xp.asarray(value.copy()) if isinstance(value, np.ndarray) else value
            for name, value in given.items()
        }
        returned = function(xp, **taken)
        if isinstance(returned, tuple):
            return tuple(library.to_numpy(xp, array) for array in returned)
        return library.to_numpy(xp, returned)

    signature = inspect.signature(function)
    parameters = [value for name, value in signature.parameters.items() if name != "xp"]
    wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return wrapper


def _problem_of_numpy(xp: ModuleType) -> str | None:
    return None if hasattr(xp, "concat") else f"NumPy {xp.__version__} lacks the array API, 2.1 has it"


def _problem_of_cupy(xp: ModuleType) -> str | None:
    try:
        devices = xp.cuda.runtime.getDeviceCount()
    except xp.cuda.runtime.CUDARuntimeError:
        devices = 0
    return None if devices else "no CUDA device"


strict = make(
    "array-api-strict",
    _Library("array_api_strict", "array-api-strict"),
    "pip install 'convform[array-api-strict]'",
)
numpy = make(
    "array-api-numpy", _Library("numpy", "numpy", problem=_problem_of_numpy), "pip install 'numpy>=2.1'"
)
torch = make("array-api-torch", _Library("torch", "torch"), "pip install 'convform[torch]'")
cupy = make(
    "cupy",
    _Library(
        "cupy",
        "cupy-cuda12x",
        to_numpy=lambda xp, array: xp.asnumpy(array),
        problem=_problem_of_cupy,
    ),
    "pip install 'convform[cupy]'",
)
