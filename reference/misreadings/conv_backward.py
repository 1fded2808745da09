"""Misreadings of the gradients of a convolution (CONVGRAD-1 to -5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from convform.reference.call import Call
from convform.reference.checks import Array
from convform.reference.evaluation import Outputs
from convform.reference.misreadings.conv import (
    GRADIENT,
    by_group,
    interleaved,
    kept_last,
    mirrored,
    spatial,
    transposed_weights,
)
from convform.reference.misreadings.misreading import (
    Asked,
    CallTwist,
    Inputs,
    Page,
    around,
    changing_output,
    changing_outputs,
    cropping,
    kept_first,
    misread_dy,
    one_output_of,
)
from convform.reference.misreadings.steps import (
    Positions,
    Steps,
    StepsTwist,
    assigning,
    read_at,
    step,
)
from convform.reference.window import Size

PAGE = Page("conv_backward")


def unstrided(p: Array) -> Array:
    """Elements "o k" of windows that start one after the other."""
    return np.asarray(p[:1] + np.arange(len(p))[:, None])


def undilated(p: Array) -> Array:
    """Elements "o k" of taps that lie side by side."""
    return np.asarray(p[:, :1] + np.arange(p.shape[1]))


def unpadded(p: Array) -> Array:
    """Elements "o k" of windows of which the first starts at element 0."""
    return np.asarray(p - p[0, 0]) if p.size else p


def _per_sample(gradient: Array, inputs: Inputs, call: Call) -> Array:
    return (gradient / len(inputs["x"])).astype(gradient.dtype)


# --- CONVGRAD-1: gradient in the input -------------------------------------------------------------------


def added_at(move: Callable[[Array], Array]) -> StepsTwist:
    """Add gradients up elsewhere: `move(p)` gives the elements "o k" along one axis."""

    @step("add")
    def twist(steps: Steps, cols: Array, positions: Positions, size: Size) -> Array:
        return steps.add(cols, tuple(move(p) for p in positions), size)

    return twist


PAGE.call_twist("dx with the kernel not mirrored", GRADIENT)(
    one_output_of("dx", lambda inputs, call: {"w": mirrored(inputs["w"])})
)

PAGE.call_twist("dx with the kernel mirrored along one axis", GRADIENT)(
    one_output_of("dx", lambda inputs, call: {"w": np.flip(inputs["w"], spatial(inputs["w"])[1:])})
)


PAGE.call_twist("dx with the channels not exchanged", GRADIENT)(
    one_output_of("dx", lambda inputs, call: {"w": transposed_weights(inputs["w"], call.groups)})
)


PAGE.steps_twist("dx ignores the stride", GRADIENT)(added_at(unstrided))

PAGE.steps_twist("dx ignores the dilation", GRADIENT)(added_at(undilated))

PAGE.steps_twist("dx ignores the padding", GRADIENT)(added_at(unpadded))

PAGE.call_twist("dx of the padded input", GRADIENT)(cropping("dx", lambda size, low, high, k: slice(None)))

PAGE.call_twist("dx cropped with a negative zero", GRADIENT)(
    cropping("dx", lambda size, low, high, k: slice(low, -high))
)

PAGE.call_twist("dx cropped by the kernel size", GRADIENT)(
    cropping("dx", lambda size, low, high, k: slice(k // 2, size - k // 2))
)

PAGE.steps_twist("dx overlaps assigned", GRADIENT)(assigning())

PAGE.steps_twist("dx overlaps assigned tap by tap", GRADIENT)(assigning(windows_first=False))

PAGE.call_twist("dx over one output channel", GRADIENT)(
    one_output_of("dx", lambda inputs, call: {"dy": kept_first(inputs["dy"], 1)})
)


@PAGE.steps_twist("dx with height and width exchanged", GRADIENT)
@step("add")
def _(steps: Steps, cols: Array, positions: Positions, size: Size) -> Array:
    kernel = [p.shape[1] for p in positions]
    if kernel != kernel[::-1]:
        raise ValueError(f"windows of shape {kernel[::-1]} do not take a kernel of shape {kernel}")
    return steps.add(cols, positions, size[::-1])


# --- CONVGRAD-2: gradient in the weight ------------------------------------------------------------------

PAGE.call_twist("dw averaged over the batch", GRADIENT)(changing_output("dw", _per_sample))

PAGE.call_twist("gradients averaged over the batch", GRADIENT)(
    changing_outputs(
        lambda outputs, inputs, call: {
            name: _per_sample(array, inputs, call) for name, array in outputs.items()
        }
    )
)

PAGE.call_twist("dw of the first sample", GRADIENT)(
    one_output_of("dw", lambda inputs, call: {"dy": kept_first(inputs["dy"], 0)})
)

PAGE.call_twist("dw of the last sample", GRADIENT)(
    one_output_of("dw", lambda inputs, call: {"dy": kept_last(inputs["dy"], 0)})
)

PAGE.call_twist("dw mirrored", GRADIENT)(changing_output("dw", lambda dw, inputs, call: mirrored(dw)))

PAGE.call_twist("dw reshaped without transposing", GRADIENT)(
    changing_output(
        "dw",
        lambda dw, inputs, call: by_group(dw, call.groups).swapaxes(1, 2).reshape(dw.shape),
    )
)

PAGE.call_twist("dw transposed", GRADIENT)(
    changing_output("dw", lambda dw, inputs, call: dw.swapaxes(0, 1).copy())
)


PAGE.steps_twist("dw ignores the stride", GRADIENT)(read_at(unstrided))

PAGE.steps_twist("dw ignores the dilation", GRADIENT)(read_at(undilated))

PAGE.steps_twist("dw ignores the padding", GRADIENT)(read_at(unpadded))

# --- CONVGRAD-3: gradient in the bias --------------------------------------------------------------------

PAGE.call_twist("db averaged over the batch", GRADIENT)(changing_output("db", _per_sample))


def _sum_of_dy(axes: Callable[[int], tuple[int, ...]]) -> CallTwist:
    """Compute db by summing dy over other axes: `axes(ndim)`."""
    return changing_output(
        "db", lambda db, inputs, call: inputs["dy"].sum(axis=axes(inputs["dy"].ndim)).astype(db.dtype)
    )


PAGE.call_twist("db summed over the wrong axes", GRADIENT)(_sum_of_dy(lambda ndim: tuple(range(ndim - 1))))

PAGE.call_twist("db not summed over space", GRADIENT)(_sum_of_dy(lambda ndim: (0,)))

PAGE.call_twist("db averaged over positions", GRADIENT)(
    changing_output(
        "db",
        lambda db, inputs, call: (db / int(np.prod(inputs["dy"].shape[2:]))).astype(db.dtype),
    )
)

PAGE.call_twist("db of the first sample", GRADIENT)(
    one_output_of("db", lambda inputs, call: {"dy": kept_first(inputs["dy"], 0)})
)

PAGE.call_twist("db with further axes", GRADIENT)(
    changing_output("db", lambda db, inputs, call: db.reshape(-1, 1))
)

# --- CONVGRAD-4: groups in the gradients -----------------------------------------------------------------


@PAGE.call_twist("groups ignored in the gradient", GRADIENT)
@around
def _(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
    outputs = evaluate(operator, inputs, call)
    w, groups = inputs["w"], call.groups
    # Every output channel sees every group, with the same kernel.
    everywhere = np.concatenate([w] * groups, axis=1)
    mixed = evaluate(operator, {**inputs, "w": everywhere}, replace(call, groups=1))
    dw = mixed["dw"].reshape(len(w), groups, *w.shape[1:]).sum(axis=1)
    return {**outputs, "dx": mixed["dx"], "dw": dw}


def _interleaved_input(inputs: Mapping[str, Array], call: Call) -> Mapping[str, Array]:
    x = inputs["x"]
    return {"x": np.take(x, interleaved(x.shape[1], call.groups), axis=1)}


PAGE.call_twist("dw of groups mixed", GRADIENT)(one_output_of("dw", _interleaved_input))

PAGE.call_twist("dx of groups mixed", GRADIENT)(
    changing_output(
        "dx",
        lambda dx, inputs, call: np.take(dx, np.argsort(interleaved(dx.shape[1], call.groups)), axis=1),
    )
)


def _first_group(inputs: Mapping[str, Array], call: Call) -> Mapping[str, Array]:
    dy = inputs["dy"].copy()
    dy[:, dy.shape[1] // call.groups :] = 0
    return {"dy": dy}


PAGE.call_twist("dx of the first group only", GRADIENT)(one_output_of("dx", _first_group))

# --- CONVGRAD-5: refused dy ------------------------------------------------------------------------------

misread_dy(PAGE, "conv.backward", "the convolution")
