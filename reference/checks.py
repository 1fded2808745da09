"""What the reference refuses before it computes anything; every message names the argument and the clause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convform.reference.window import Padding, PerAxis, Size, Window, per_axis

Array = NDArray[Any]


def array(name: str, value: Any) -> Array:
    """Check that `value` is a NumPy array of real numbers (float16 to longdouble, integers).

    Raises
    ------
    TypeError
        For anything else, such as lists, booleans, complex numbers and objects (clause CONTRACT-5: the
        output has the dtype of the input, so the input must have one).
    """
    if not isinstance(value, np.ndarray):
        raise TypeError(
            f"{name} is a {type(value).__name__}: expected a NumPy array; use np.asarray({name}) (CONTRACT-5)"
        )
    if value.dtype.kind not in "fiu":
        raise TypeError(
            f"{name} has dtype {value.dtype}: expected floating-point numbers or integers; "
            f"convert it with {name}.astype(np.float64) (CONTRACT-5)"
        )
    return value


def batch(name: str, value: Any) -> Array:
    """Check that `value` is an array "n c …" with at least one spatial axis.

    Raises
    ------
    TypeError
        As `array` does.
    ValueError
        If there are fewer than three axes (clause CONTRACT-9).
    """
    checked = array(name, value)
    if checked.ndim < 3:
        raise ValueError(
            f"{name} has shape {checked.shape}: expected n c and at least one spatial axis (CONTRACT-9); "
            f"give a single sample as {name}[None]"
        )
    return checked


def same_dtype(**arrays: Array) -> np.dtype[Any]:
    """Check that all arrays have one dtype and return it.

    Raises
    ------
    TypeError
        If the dtypes differ (clause CONTRACT-6).
    """
    dtypes = {value.dtype for value in arrays.values()}
    if len(dtypes) != 1:
        listing = ", ".join(f"{name}: {value.dtype}" for name, value in arrays.items())
        raise TypeError(f"{listing}: expected one dtype for all arrays (CONTRACT-6); convert with .astype")
    return dtypes.pop()


def shape(name: str, value: Array, expected: Sequence[int], axes: str, clause: str) -> None:
    """Check the whole shape of an array.

    Raises
    ------
    ValueError
        If `value` does not have the shape `expected`; the message names the axes and the clause.
    """
    if value.shape != tuple(expected):
        raise ValueError(
            f"{name} has shape {value.shape}: expected {axes} = {tuple(int(n) for n in expected)} ({clause})"
        )


def input_size(value: Sequence[int]) -> Size:
    """Check that `value` is the shape of x, "n c h w" with at least one spatial axis.

    Raises
    ------
    TypeError
        If it is no sequence of integers.
    ValueError
        If it has fewer than three entries or a negative one (clause COL2IM-3).
    """
    if isinstance(value, (int, np.integer)) or len(value) < 3:
        raise ValueError(f"input_size={value!r}: expected the whole shape of x, n c h w (COL2IM-3)")
    sizes = per_axis("input_size", value, len(value))
    if min(sizes) < 0:
        raise ValueError(f"input_size={value!r}: expected sizes of at least 0 (COL2IM-3)")
    return sizes


def window(
    rank: int,
    kernel: PerAxis,
    stride: PerAxis | None,
    padding: Padding,
    dilation: PerAxis,
    ceil_mode: bool = False,
    *,
    pooling: bool = False,
) -> Window:
    """Build the window of a call; only pooling may leave the stride out (clauses WINDOW-6 and POOL-1).

    Raises
    ------
    TypeError, ValueError
        As `Window.of` does; TypeError if the stride is None and the operator does not pool.
    """
    if stride is None and not pooling:
        raise TypeError(
            "stride=None: expected an integer or one for each axis; only pooling has a default (POOL-1)"
        )
    return Window.of(per_axis("kernel", kernel, rank), stride, padding, dilation, ceil_mode)


def accumulator(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Dtype to add up in: float32 for float16 (clause CONV-5), else the dtype itself in native byte order."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype.newbyteorder("=")


def lowest(dtype: np.dtype[Any]) -> float | int:
    """Least value of a dtype: what padding is to a maximum, and what is left where nothing is selected."""
    return -np.inf if dtype.kind == "f" else int(np.iinfo(dtype).min)


def convolution(x: Array, w: Array, b: Array | None, groups: int) -> None:
    """Check that the arrays and groups of a convolution fit together.

    Raises
    ------
    TypeError
        If an array is none, the dtypes differ (clause CONTRACT-6) or `groups` is no integer.
    ValueError
        If channels, groups, bias or axes do not fit together (clauses CONV-7 and CONTRACT-9).
    """
    array("w", w)
    if w.ndim != x.ndim:
        raise ValueError(
            f"w has shape {w.shape}: expected {x.ndim} axes (o i and the kernel) as x has (CONTRACT-9)"
        )
    arrays = {"x": x, "w": w} if b is None else {"x": x, "w": w, "b": array("b", b)}
    same_dtype(**arrays)
    if isinstance(groups, bool) or not isinstance(groups, (int, np.integer)):
        raise TypeError(f"groups={groups!r}: expected an integer (CONV-7)")
    channels, outputs = x.shape[1], w.shape[0]
    if groups < 1 or channels % groups or outputs % groups:
        raise ValueError(
            f"groups={groups}: expected a number that divides the {channels} channels of x and the {outputs} "
            "output channels of w (CONV-7)"
        )
    if w.shape[1] * groups != channels:
        raise ValueError(
            f"w has shape {w.shape}: expected {channels // groups} input channels: x has {channels} and "
            f"groups={groups} (CONV-7)"
        )
    if b is not None:
        shape("b", b, (outputs,), "o", "CONV-7")


def gradient(dy: Array, x: Array, expected: Size, own: Size | None, clause: str) -> None:
    """Check that `dy` has the dtype of `x` and the shape `expected` of the output, or the shape `own`.

    Raises
    ------
    TypeError
        If `dy` is no array of the dtype of `x` (clause CONTRACT-6).
    ValueError
        If its shape is another (`clause`).
    """
    same_dtype(x=x, dy=array("dy", dy))
    if dy.shape != own:
        shape("dy", dy, expected, "the shape of the output", clause)


def flag(name: str, value: object) -> None:
    """Check that `value` is True or False.

    Raises
    ------
    TypeError
        If it is anything else, such as 1 or "no".
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}={value!r}: expected True or False")


def averaged(x: Array) -> None:
    """Check that `x` can be averaged.

    Raises
    ------
    TypeError
        For integers, whose averages are no integers (clause AVGPOOL-1).
    """
    if x.dtype.kind != "f":
        raise TypeError(
            f"x has dtype {x.dtype}: expected floating-point numbers: an average of integers is none; "
            "use x.astype(np.float64) (AVGPOOL-1)"
        )
