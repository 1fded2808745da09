"""Misreadings of col2im (COL2IM-1 to -3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from convform.reference.call import Call
from convform.reference.checks import Array
from convform.reference.columns import add
from convform.reference.evaluation import Outputs
from convform.reference.misreadings.im2col import taps_mirrored
from convform.reference.misreadings.misreading import (
    Asked,
    Inputs,
    Page,
    around,
    cropped,
    cropping,
    first_only,
    reordered,
    size_of_output,
)
from convform.reference.misreadings.steps import (
    Positions,
    Steps,
    assigning,
    ones,
    placing,
    step,
)
from convform.reference.window import Size

PAGE = Page("col2im")

# --- COL2IM-1: overlaps accumulate -----------------------------------------------------------------------


PAGE.steps_twist("overlaps assigned", ("col2im",))(assigning())


@PAGE.call_twist("overlaps added in half", ("col2im",), dialect=("scatter", "native"), of_half_types=True)
@around
def _(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
    outputs = evaluate(operator, inputs, call)
    cols = inputs.get("cols")
    if cols is None or cols.dtype.name not in ("float16", "bfloat16"):
        return outputs
    x = np.zeros(outputs["x"].shape, cols.dtype)
    add(x, cols, call.window.landings(call.size))
    return {"x": x}


PAGE.steps_twist("overlaps assigned tap by tap", ("col2im",))(assigning(windows_first=False))


@PAGE.steps_twist("overlaps averaged", ("col2im",))
@step("add")
def _(steps: Steps, cols: Array, where: Positions, size: Size) -> Array:
    count = steps.add(np.ones_like(cols), where, size)
    mean = steps.add(cols, where, size) / np.maximum(count, 1)
    return np.asarray(mean).astype(cols.dtype)


PAGE.steps_twist("dilation forgotten in col2im", ("col2im",))(placing(dilation=ones))

PAGE.steps_twist("stride forgotten in col2im", ("col2im",))(placing(stride=ones))


PAGE.call_twist("taps mirrored in col2im", ("col2im",))(reordered(taps_mirrored))

PAGE.call_twist("first sample added up only", ("col2im",))(first_only(0))

# --- COL2IM-2: what fell into padding is dropped ---------------------------------------------------------

PAGE.call_twist("padded result returned", ("col2im",))(cropping("x", lambda size, low, high, k: slice(None)))

PAGE.call_twist("crop with a negative zero", ("col2im",))(
    cropping("x", lambda size, low, high, k: slice(low, -high))
)

PAGE.call_twist("crop by the kernel size", ("col2im",))(
    cropping("x", lambda size, low, high, k: slice(k // 2, size - k // 2))
)

PAGE.call_twist("crop by the low padding twice", ("col2im",))(
    cropping("x", lambda size, low, high, k: slice(low, size - low))
)

# --- COL2IM-3: refused columns ---------------------------------------------------------------------------


def _columns_shape(parameters: Mapping[str, Any]) -> tuple[int, ...]:
    n, c, *size = parameters["input_size"]
    kernel = parameters["kernel"]
    return (n, c, *kernel, *size_of_output(tuple(size), kernel, parameters))


@PAGE.mend("columns broadcast", ("col2im",))
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    inputs["cols"] = np.broadcast_to(inputs["cols"], _columns_shape(parameters))


@PAGE.mend("surplus columns ignored", ("col2im",))
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    inputs["cols"] = cropped(inputs["cols"], _columns_shape(parameters))
