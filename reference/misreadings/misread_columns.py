"""Misreadings of layouts and columns: clauses LAYOUT-1, IM2COL-1 to -3, COL2IM-1 and COL2IM-2."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from convform.reference import checks
from convform.reference.checks import Array
from convform.reference.columns import add
from convform.reference.evaluation import Outputs
from convform.reference.misreadings.misread_convolution import weights_read_in_order
from convform.reference.misreadings.misread_window import first_only, placing, windowed
from convform.reference.misreadings.misreading import (
    CallTwist,
    Evaluate,
    Inputs,
    Parameters,
    assigned,
    call_twist,
    changing_inputs,
    changing_parameters,
    steps_twist,
)
from convform.reference.misreadings.steps import Positions, Steps
from convform.reference.window import Size
from convform.spec.operators import OPERATORS

COLUMNS = ("im2col", "col2im")

Reorder = Callable[[Array], Array]


def rank_of(cols: Array) -> int:
    """Count the spatial axes of columns "n c kh kw oh ow"."""
    return (cols.ndim - 2) // 2


def reordered(columns: Reorder, back: Reorder, y: Reorder | None = None) -> CallTwist:
    """Put the elements of columns (and of a convolution's y) in another order.

    `columns` is what im2col does to its result, `back` what col2im undoes before it starts: two functions
    that keep the shape, each the inverse of the other. Written with the same mistake, the two fit together.
    """

    def twist(evaluate: Evaluate) -> Evaluate:
        def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
            family = OPERATORS[operator].family
            if family == "col2im":
                evaluate(operator, inputs, parameters)  # what the standard refuses stays refused
                return evaluate(operator, {**inputs, "cols": back(inputs["cols"])}, parameters)
            outputs = evaluate(operator, inputs, parameters)
            if family == "im2col":
                return {"cols": columns(outputs["cols"])}
            return {name: y(array) if y else array for name, array in outputs.items()}

        return twisted

    return twist


# --- LAYOUT-1: named axes --------------------------------------------------------------------------------


def tap_first(cols: Array) -> Array:
    """Order the rows (kh kw c) and read them as (c kh kw)."""
    rank = rank_of(cols)
    return np.moveaxis(cols, 1, 1 + rank).reshape(cols.shape)


def channel_first(cols: Array) -> Array:
    """Undo `tap_first`."""
    rank = rank_of(cols)
    n, c, *rest = cols.shape
    return np.moveaxis(cols.reshape(n, *rest[:rank], c, *rest[rank:]), 1 + rank, 1)


def tap_first_weights(w: Array, groups: int) -> Array:
    """Read weights "o i kh kw" as if their rows were (kh kw i)."""
    o, i, *kernel = w.shape
    return np.moveaxis(w.reshape(o, *kernel, i), -1, 1)


def _columns_tap_first() -> CallTwist:
    in_columns = reordered(tap_first, channel_first)
    in_weights = weights_read_in_order(tap_first_weights)

    def twist(evaluate: Evaluate) -> Evaluate:
        columns, weights = in_columns(evaluate), in_weights(evaluate)

        def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
            chosen = weights if "w" in inputs else columns
            return chosen(operator, inputs, parameters)

        return twisted

    return twist


call_twist(
    "columns ordered tap first",
    "LAYOUT-1",
    (*COLUMNS, "conv", "conv.backward"),
    says="with the rows of the columns in the order (kh kw c)",
    look="Rows are (c kh kw), the taps of one channel together, and so are the weights i kh kw. "
    "Move the channel in front of the taps before you merge the axes, or declare the layout that you have.",
)(_columns_tap_first())


def _reversed_axes(array: Array, first: int, count: int) -> Array:
    axes = list(range(array.ndim))
    axes[first : first + count] = axes[first : first + count][::-1]
    return array.transpose(axes)


def _axes_reversed_within(first: Callable[[int], int]) -> tuple[Reorder, Reorder]:
    """Reverse the spatial axes that start at `first(rank)` without changing the shape; and undo that."""

    def forth(cols: Array) -> Array:
        rank = rank_of(cols)
        return _reversed_axes(cols, first(rank), rank).reshape(cols.shape)

    def back(cols: Array) -> Array:
        rank = rank_of(cols)
        start, shape = first(rank), list(cols.shape)
        shape[start : start + rank] = shape[start : start + rank][::-1]
        return _reversed_axes(cols.reshape(shape), start, rank)

    return forth, back


call_twist(
    "taps transposed",
    "LAYOUT-1",
    COLUMNS,
    says="with the taps of a window in the order (kw kh)",
    look="The taps are (kh kw), those of one row together: the loop over kw is the inner one.",
)(reordered(*_axes_reversed_within(lambda rank: 2)))

call_twist(
    "windows transposed",
    "LAYOUT-1",
    (*COLUMNS, "conv"),
    says="with the windows in the order (ow oh)",
    look="The windows are (oh ow), those of one row together: the loop over ow is the inner one.",
)(
    reordered(
        *_axes_reversed_within(lambda rank: 2 + rank),
        lambda y: _reversed_axes(y, 2, y.ndim - 2).reshape(y.shape),
    )
)


def _samples_last(cols: Array) -> Array:
    """Order the columns (oh ow n) and read them as (n oh ow)."""
    rank, (n, *rest) = rank_of(cols), cols.shape
    mixed = np.moveaxis(cols, 0, -1).reshape(*rest[: 1 + rank], n, *rest[1 + rank :])
    return np.moveaxis(mixed, 1 + rank, 0)


def _samples_first(cols: Array) -> Array:
    """Undo `_samples_last`."""
    rank, (n, *rest) = rank_of(cols), cols.shape
    return np.moveaxis(np.moveaxis(cols, 0, 1 + rank).reshape(*rest, n), -1, 0)


def _samples_last_in_y(y: Array) -> Array:
    n, o, *windows = y.shape
    return np.moveaxis(y, 0, -1).reshape(o, n, *windows).swapaxes(0, 1)


call_twist(
    "samples mixed into columns",
    "LAYOUT-1",
    (*COLUMNS, "conv"),
    says="with columns of different samples interleaved",
    look="A matrix for the whole batch has its columns either as (n oh ow) or as (oh ow n): "
    "reshape it in the order in which it was built.",
)(reordered(_samples_last, _samples_first, _samples_last_in_y))


def _windows_then_taps(cols: Array) -> Array:
    """Order the axes n c oh ow kh kw and read them as n c kh kw oh ow."""
    rank = rank_of(cols)
    return _exchanged(cols, rank).reshape(cols.shape)


def _taps_then_windows(cols: Array) -> Array:
    """Undo `_windows_then_taps`."""
    rank, (n, c, *rest) = rank_of(cols), cols.shape
    return _exchanged(cols.reshape(n, c, *rest[rank:], *rest[:rank]), rank)


def _exchanged(cols: Array, rank: int) -> Array:
    return np.moveaxis(cols, range(2, 2 + rank), range(-rank, 0))


call_twist(
    "reshape instead of transpose",
    "LAYOUT-1",
    (*COLUMNS, "conv"),
    says="with the right shape but the axes still in their old order",
    look="reshape cuts the values in the order in which they lie; it moves no axis. Transpose first.",
)(reordered(_windows_then_taps, _taps_then_windows, lambda y: np.moveaxis(y, 1, -1).reshape(y.shape)))


def _transposed(inputs: dict[str, Array], parameters: Parameters) -> dict[str, Array]:
    if "x" not in inputs:
        return {}
    return {"x": _reversed_axes(inputs["x"], 2, inputs["x"].ndim - 2)}


def _transposed_size(parameters: dict[str, Any], inputs: Inputs) -> dict[str, Any]:
    if "input_size" not in parameters:
        return {}
    n, c, *spatial = parameters["input_size"]
    return {"input_size": (n, c, *spatial[::-1])}


call_twist(
    "height and width exchanged",
    "LAYOUT-1",
    (*COLUMNS, "conv"),
    says="with x read as n c w h",
    look="The axes of x are n c h w: rows come before columns. Look where you unpack the shape.",
)(lambda evaluate: changing_inputs(_transposed)(changing_parameters(_transposed_size)(evaluate)))


# --- IM2COL-1 to -3: gather ------------------------------------------------------------------------------


def _taps_mirrored(cols: Array) -> Array:
    return np.flip(cols, tuple(range(2, 2 + rank_of(cols))))


call_twist(
    "taps mirrored in columns",
    "IM2COL-1",
    ("im2col",),
    says="with the last tap of every window first",
    look="Row (kh, kw) holds the element kh below and kw right of the window's first one: "
    "nothing is flipped.",
)(reordered(_taps_mirrored, _taps_mirrored))


@steps_twist(
    "windows without overlap",
    "IM2COL-1",
    ("im2col",),
    says="with windows that lie side by side, a kernel size apart",
    look="Windows are a stride apart, and with stride 1 they overlap: each gets its own column.",
)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, stride=window.kernel))


call_twist(
    "first channel gathered only",
    "IM2COL-1",
    ("im2col",),
    says="for the first channel, and zeros for all others",
    look="Every channel has its rows. Look for an index 0, or for a return inside of the loop over channels.",
)(first_only(1))

call_twist(
    "first sample gathered only",
    "IM2COL-1",
    ("im2col",),
    says="for the first sample, and zeros for all others",
    look="Every sample has its columns. Look for an index 0, or for a return inside the loop over samples.",
)(first_only(0))


@steps_twist(
    "padding reads the other end",
    "IM2COL-2",
    ("im2col",),
    says="with elements from the other end of the input in the padding before it",
    look="A negative index counts from the end in Python: test for it, or pad the input with zeros.",
)
def _(steps: Steps) -> Steps:
    def read(x: Array, where: Positions, outside: Any) -> Array:
        if any((p < -n).any() for p, n in zip(where, x.shape[2:], strict=True)):
            raise IndexError("index is out of bounds: below minus the size of the axis")
        wrapped = tuple(np.where(p < 0, p + n, p) for p, n in zip(where, x.shape[2:], strict=True))
        return steps.read(x, wrapped, outside)

    return replace(steps, read=read)


@steps_twist(
    "gather by multiplication",
    "IM2COL-3",
    ("im2col",),
    says="with every element computed as a product with zeros and ones",
    look="0·∞ is NaN, and adding 0 takes the sign from −0.0: copy the elements, do not multiply.",
)
def _(steps: Steps) -> Steps:
    def read(x: Array, where: Positions, outside: Any) -> Array:
        size = x.shape[2:]
        elements = math.prod(size)
        ones = np.eye(elements, dtype=x.dtype).reshape(1, elements, *size)
        selected = steps.read(ones, where, outside)[0]
        return np.tensordot(x.reshape(*x.shape[:2], elements), selected, 1)

    return replace(steps, read=read)


# --- COL2IM-1: overlaps accumulate -----------------------------------------------------------------------


@steps_twist(
    "overlaps assigned",
    "COL2IM-1",
    ("col2im",),
    says="when the last window wins where windows overlap",
    look="Every window adds its values: write x[...] += and not x[...] =.",
)
def _(steps: Steps) -> Steps:
    return replace(steps, add=lambda cols, where, size: assigned(cols, where, size, windows_first=True))


def _added_in_half(evaluate: Evaluate) -> Evaluate:
    def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
        outputs = evaluate(operator, inputs, parameters)
        cols = inputs.get("cols")
        if cols is None or cols.dtype.name not in ("float16", "bfloat16"):
            return outputs
        given = {"stride": 1, "padding": 0, "dilation": 1, **parameters}
        del given["input_size"]
        size = outputs["x"].shape[2:]
        x = np.zeros(outputs["x"].shape, cols.dtype)
        add(x, cols, checks.window(len(size), **given).landings(size))
        return {"x": x}

    return twisted


call_twist(
    "overlaps added in half",
    "COL2IM-1",
    ("col2im",),
    says="when half types are added up in half",
    look="In float16 2048 + 1 is 2048, in bfloat16 256 + 1 is 256: add up in float32, round at the end.",
    dialect=("scatter", "native"),
    of_half_types=True,
)(_added_in_half)


@steps_twist(
    "overlaps assigned tap by tap",
    "COL2IM-1",
    ("col2im",),
    says="when the last tap wins where windows overlap",
    look="x[index] += … with an index array counts a repeated index once: use np.add.at, or += on slices.",
)
def _(steps: Steps) -> Steps:
    return replace(steps, add=lambda cols, where, size: assigned(cols, where, size, windows_first=False))


@steps_twist(
    "overlaps averaged",
    "COL2IM-1",
    ("col2im",),
    says="with every sum divided by the number of windows that see the element",
    look="col2im is the adjoint of im2col and not its inverse: add, and do not divide by the overlap count.",
)
def _(steps: Steps) -> Steps:
    def add(cols: Array, where: Positions, size: Size) -> Array:
        count = steps.add(np.ones_like(cols), where, size)
        mean = steps.add(cols, where, size) / np.maximum(count, 1)
        return np.asarray(mean).astype(cols.dtype)

    return replace(steps, add=add)


@steps_twist(
    "dilation forgotten in col2im",
    "COL2IM-1",
    ("col2im",),
    says="with the taps added to adjacent elements",
    look="Tap t of a window belongs to the element t·d after its first, as in im2col.",
)
def _(steps: Steps) -> Steps:
    return placing(steps, lambda window: replace(window, dilation=(1,) * window.rank))


@steps_twist(
    "stride forgotten in col2im",
    "COL2IM-1",
    ("col2im",),
    says="with window i added at i",
    look="Window i starts at i·s, as in im2col: multiply the index of the window by the stride.",
)
def _(steps: Steps) -> Steps:
    return placing(steps, lambda window: replace(window, stride=(1,) * window.rank))


call_twist(
    "taps mirrored in col2im",
    "COL2IM-1",
    ("col2im",),
    says="with the last tap of every window taken for the first",
    look="Row (kh, kw) belongs to the element kh below and kw right of the window's first one: "
    "nothing is flipped.",
)(reordered(_taps_mirrored, _taps_mirrored))

call_twist(
    "first sample added up only",
    "COL2IM-1",
    ("col2im",),
    says="for the first sample, and zeros for all others",
    look="Every sample is added up. Look for an index 0, or for a return inside of the loop over the batch.",
)(first_only(0))


# --- COL2IM-2: what fell into padding is dropped ---------------------------------------------------------

Crop = Callable[[int, int, int, int], slice]


def cropping(crop: Crop) -> CallTwist:
    """Add up with the padding, then crop each axis by `crop(padded size, p_lo, p_hi, k)`."""

    def twist(evaluate: Evaluate) -> Evaluate:
        def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
            evaluate(operator, inputs, parameters)  # what the standard refuses stays refused
            (n, c, *size), pads = parameters["input_size"], parameters["padding"]
            padded = [each + low + high for each, (low, high) in zip(size, pads, strict=True)]
            larger = {"input_size": (n, c, *padded), "padding": ((0, 0),) * len(pads)}
            x = evaluate(operator, inputs, {**parameters, **larger})["x"]
            axes = zip(padded, pads, parameters["kernel"], strict=True)
            kept = [crop(each, low, high, k) for each, (low, high), k in axes]
            return {"x": x[(slice(None), slice(None), *kept)]}

        return twisted

    return twist


call_twist(
    "padded result returned",
    "COL2IM-2",
    ("col2im",),
    says="with the padding still around the result",
    look="The result has the shape input_size: cut p_lo elements off before it and p_hi after it.",
)(cropping(lambda size, low, high, k: slice(None)))

call_twist(
    "crop with a negative zero",
    "COL2IM-2",
    ("col2im",),
    says="but an empty result where there is no padding",
    look="x[p:-p] is empty for p = 0, because −0 is 0: crop with x[p : p + n].",
)(cropping(lambda size, low, high, k: slice(low, -high)))

call_twist(
    "crop by the kernel size",
    "COL2IM-2",
    ("col2im",),
    says="with ⌊k/2⌋ elements cut off each side of the padded result",
    look="Cut off the padding, which need not be half of the kernel: crop with x[p_lo : p_lo + n].",
)(cropping(lambda size, low, high, k: slice(k // 2, size - k // 2)))

call_twist(
    "crop by the low padding twice",
    "COL2IM-2",
    ("col2im",),
    says="with p_lo elements cut off both ends of the padded result",
    look="The padding after the input may be another one than before it: crop with x[p_lo : p_lo + n].",
)(cropping(lambda size, low, high, k: slice(low, size - low)))
