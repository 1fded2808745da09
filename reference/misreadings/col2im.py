"""Misreadings of col2im (COL2IM-1 to -3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from convform.reference.call import Call
from convform.reference.checks import Array
from convform.reference.columns import add
from convform.reference.evaluation import Outputs
from convform.reference.misreadings.im2col import taps_mirrored
from convform.reference.misreadings.misreading import (
    Asked,
    CallTwist,
    Inputs,
    Page,
    cropped,
    first_only,
    reordered,
    size_of_output,
)
from convform.reference.misreadings.steps import Positions, Steps, assigned, no_padding, placing
from convform.reference.window import Size

PAGE = Page("col2im", "COL2IM")


# --- COL2IM-1: overlaps accumulate -----------------------------------------------------------------------


@PAGE.steps_twist(
    "overlaps assigned",
    "COL2IM-1",
    ("col2im",),
    says="when the last window wins where windows overlap",
    look="Every window adds its values: write x[...] += and not x[...] =.",
)
def _(steps: Steps) -> Steps:
    return replace(steps, add=lambda cols, where, size: assigned(cols, where, size, windows_first=True))


def _added_in_half(evaluate: Asked) -> Asked:
    def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
        outputs = evaluate(operator, inputs, call)
        cols = inputs.get("cols")
        if cols is None or cols.dtype.name not in ("float16", "bfloat16"):
            return outputs
        x = np.zeros(outputs["x"].shape, cols.dtype)
        add(x, cols, call.window.landings(call.size))
        return {"x": x}

    return twisted


PAGE.call_twist(
    "overlaps added in half",
    "COL2IM-1",
    ("col2im",),
    says="when half types are added up in half",
    look="In float16 2048 + 1 is 2048, in bfloat16 256 + 1 is 256: add up in float32, round at the end.",
    dialect=("scatter", "native"),
    of_half_types=True,
)(_added_in_half)


@PAGE.steps_twist(
    "overlaps assigned tap by tap",
    "COL2IM-1",
    ("col2im",),
    says="when the last tap wins where windows overlap",
    look="x[index] += … with an index array counts a repeated index once: use np.add.at, or += on slices.",
)
def _(steps: Steps) -> Steps:
    return replace(steps, add=lambda cols, where, size: assigned(cols, where, size, windows_first=False))


@PAGE.steps_twist(
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


@PAGE.steps_twist(
    "dilation forgotten in col2im",
    "COL2IM-1",
    ("col2im",),
    says="with the taps added to adjacent elements",
    look="Tap t of a window belongs to the element t·d after its first, as in im2col.",
)
def _(steps: Steps) -> Steps:
    return placing(steps, lambda window: replace(window, dilation=(1,) * window.rank))


@PAGE.steps_twist(
    "stride forgotten in col2im",
    "COL2IM-1",
    ("col2im",),
    says="with window i added at i",
    look="Window i starts at i·s, as in im2col: multiply the index of the window by the stride.",
)
def _(steps: Steps) -> Steps:
    return placing(steps, lambda window: replace(window, stride=(1,) * window.rank))


PAGE.call_twist(
    "taps mirrored in col2im",
    "COL2IM-1",
    ("col2im",),
    says="with the last tap of every window taken for the first",
    look="Row (kh, kw) belongs to the element kh below and kw right of the window's first one: "
    "nothing is flipped.",
)(reordered(taps_mirrored, taps_mirrored))

PAGE.call_twist(
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

    def twist(evaluate: Asked) -> Asked:
        def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
            pads = call.window.padding
            padded = tuple(n + low + high for n, (low, high) in zip(call.size, pads, strict=True))
            bare = replace(call.window, padding=no_padding(call.window))
            x = evaluate(operator, inputs, replace(call, size=padded, window=bare))["x"]
            axes = zip(padded, pads, call.window.kernel, strict=True)
            kept = [crop(each, low, high, k) for each, (low, high), k in axes]
            return {"x": x[(slice(None), slice(None), *kept)]}

        return twisted

    return twist


PAGE.call_twist(
    "padded result returned",
    "COL2IM-2",
    ("col2im",),
    says="with the padding still around the result",
    look="The result has the shape input_size: cut p_lo elements off before it and p_hi after it.",
)(cropping(lambda size, low, high, k: slice(None)))

PAGE.call_twist(
    "crop with a negative zero",
    "COL2IM-2",
    ("col2im",),
    says="but an empty result where there is no padding",
    look="x[p:-p] is empty for p = 0, because −0 is 0: crop with x[p : p + n].",
)(cropping(lambda size, low, high, k: slice(low, -high)))

PAGE.call_twist(
    "crop by the kernel size",
    "COL2IM-2",
    ("col2im",),
    says="with ⌊k/2⌋ elements cut off each side of the padded result",
    look="Cut off the padding, which need not be half of the kernel: crop with x[p_lo : p_lo + n].",
)(cropping(lambda size, low, high, k: slice(k // 2, size - k // 2)))

PAGE.call_twist(
    "crop by the low padding twice",
    "COL2IM-2",
    ("col2im",),
    says="with p_lo elements cut off both ends of the padded result",
    look="The padding after the input may be another one than before it: crop with x[p_lo : p_lo + n].",
)(cropping(lambda size, low, high, k: slice(low, size - low)))

# --- COL2IM-3: refused columns ---------------------------------------------------------------------------


def _columns_shape(parameters: Mapping[str, Any]) -> tuple[int, ...]:
    n, c, *size = parameters["input_size"]
    kernel = parameters["kernel"]
    return (n, c, *kernel, *size_of_output(tuple(size), kernel, parameters))


@PAGE.mend(
    "columns broadcast",
    "COL2IM-3",
    ("col2im",),
    says="except that columns of size one along an axis are repeated",
    look="The columns must have the sizes that input_size and the window imply: check the shape, since "
    "NumPy repeats axes of length one.",
)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    inputs["cols"] = np.broadcast_to(inputs["cols"], _columns_shape(parameters))


@PAGE.mend(
    "surplus columns ignored",
    "COL2IM-3",
    ("col2im",),
    says="except that surplus columns are left out",
    look="The columns must have the sizes that input_size and the window imply: check the shape, since a "
    "loop over what is needed does not notice the rest.",
)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    inputs["cols"] = cropped(inputs["cols"], _columns_shape(parameters))
