"""Misreadings of what pooling adds to the window (POOL-1 and POOL-2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from convform.reference.call import Call
from convform.reference.evaluation import Outputs
from convform.reference.misreadings.misreading import (
    POOLS,
    Asked,
    CallTwist,
    Inputs,
    Page,
    around,
    changing_outputs,
    first_only,
)
from convform.reference.misreadings.steps import changing, counting, on_all_axes, ones
from convform.reference.window import Size, Window

PAGE = Page("pool")

# --- POOL-1: default stride ------------------------------------------------------------------------------


def default_stride(stride_of: Callable[[Window], Size]) -> CallTwist:
    """Take another stride where none is given; a gradient fails where dy has fewer windows then."""

    @around
    def twist(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
        if not call.default_stride:
            return evaluate(operator, inputs, call)
        changed = changing(stride=stride_of)(call)
        if "dy" in inputs:
            used = tuple(slice(o) for o in changed.output)
            inputs = {**inputs, "dy": inputs["dy"][(..., *used)]}
        return evaluate(operator, inputs, changed)

    return twist


PAGE.call_twist("default stride one", POOLS)(default_stride(ones))

PAGE.call_twist("default stride two", POOLS)(default_stride(lambda window: (2,) * window.rank))

PAGE.call_twist("default stride is the first kernel size", POOLS)(
    default_stride(lambda window: on_all_axes(window.kernel))
)

PAGE.call_twist("default stride is the dilated extent", POOLS)(
    default_stride(lambda window: window.effective_kernel)
)

# --- POOL-2: channels and samples never mix --------------------------------------------------------------


def pooled_across(axis: int) -> CallTwist:
    """Pool over all channels (axis 1) or samples (axis 0) and give each of them the result."""

    def change(outputs: Outputs, inputs: Inputs, call: Call) -> Outputs:
        y = outputs["y"]
        if y.shape[axis] == 0:
            return {}
        if "indices" not in outputs:
            return {"y": np.broadcast_to(y.mean(axis, y.dtype, keepdims=True), y.shape).copy()}
        best = np.expand_dims(y.argmax(axis), axis)
        return {
            name: np.broadcast_to(np.take_along_axis(values, best, axis), values.shape).copy()
            for name, values in outputs.items()
        }

    return changing_outputs(change)


PAGE.call_twist("pooled across channels", ("max_pool", "avg_pool"))(pooled_across(1))

PAGE.call_twist("pooled across the batch", ("max_pool", "avg_pool"))(pooled_across(0))

PAGE.call_twist("first channel pooled only", POOLS)(first_only(1))

PAGE.call_twist("first sample pooled only", POOLS)(first_only(0))


PAGE.steps_twist("height and width exchanged in pooling", POOLS)(
    counting(lambda count, call: count(replace(call, size=call.size[::-1])))
)
