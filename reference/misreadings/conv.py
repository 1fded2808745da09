"""Misreadings of convolution (CONV-1 to -7).

A misreading that also has a gradient, such as a kernel that is read in another order, occurs in both
families: its gradient is then the true gradient of the misread convolution. What goes wrong in the gradient
alone stands in `conv_backward`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from convform.reference.call import Call
from convform.reference.checks import Array
from convform.reference.evaluation import Outputs
from convform.reference.misreadings.misreading import (
    Asked,
    CallTwist,
    Finish,
    Inputs,
    Page,
    around,
    changing_inputs,
    changing_output,
    cropped,
    kept_first,
    weights_read_in_order,
)
from convform.reference.misreadings.steps import Positions, Steps, plane, read_at, real
from convform.reference.window import Size

PAGE = Page("conv")

CONV, GRADIENT, BOTH = ("conv",), ("conv.backward",), ("conv", "conv.backward")


def kept_last(array: Array, axis: int) -> Array:
    """Zero but at the last index along one axis."""
    return np.flip(kept_first(np.flip(array, axis), axis), axis)


def _without_bias(inputs: Inputs) -> dict[str, Any]:
    return {name: array for name, array in inputs.items() if name != "b"}


def _overwriting(last: Callable[[Array], Array]) -> CallTwist:
    """Keep the last term of the sum: `last(w)` is zero in all other places."""
    return changing_inputs(lambda inputs, call: {"w": last(inputs["w"])})


def _changed_bias(change: Callable[[Array, Array, Call], Array]) -> CallTwist:
    """Add another bias: `change(b, w, call)`."""

    def changed(inputs: Mapping[str, Array], call: Call) -> Mapping[str, Array]:
        b = inputs.get("b")
        return {} if b is None else {"b": change(b, inputs["w"], call)}

    return changing_inputs(changed)


# --- CONV-1: cross-correlation ---------------------------------------------------------------------------


def spatial(array: Array) -> tuple[int, ...]:
    """Spatial axes of an array."""
    return tuple(range(2, array.ndim))


def mirrored(array: Array) -> Array:
    """Reverse all spatial axes."""
    return np.flip(array, spatial(array))


PAGE.call_twist("kernel mirrored", BOTH, dialect=("kernel", "mirrored"))(
    weights_read_in_order(lambda w, groups: mirrored(w))
)

PAGE.call_twist("kernel mirrored along one axis", BOTH)(
    weights_read_in_order(lambda w, groups: np.flip(w, -1) if w.ndim > 3 else w)
)


@PAGE.call_twist("kernel transposed", BOTH)
@weights_read_in_order
def _(w: Array, groups: int) -> Array:
    # A flattened kernel of kh × kw values is read column by column; nothing crashes where kh ≠ kw.
    kernel = w.reshape(*w.shape[:2], *reversed(w.shape[2:]))
    return kernel.transpose(0, 1, *reversed(spatial(w)))


PAGE.steps_twist("one element for the whole window", CONV)(
    read_at(lambda p: np.repeat(p[:, :1], p.shape[1], axis=1))
)


@PAGE.call_twist("last tap only", CONV)
@_overwriting
def _(w: Array) -> Array:
    for axis in spatial(w):
        w = kept_last(w, axis)
    return w


# --- CONV-2: channels ------------------------------------------------------------------------------------


def by_group(w: Array, groups: int) -> Array:
    """Weights "o i …" as "g o i …", o counting within a group."""
    return w.reshape(groups, len(w) // groups, *w.shape[1:])


PAGE.call_twist("first input channel only", CONV)(
    changing_inputs(lambda inputs, call: {"w": kept_first(inputs["w"], 1)})
)

PAGE.call_twist("last input channel only", CONV)(_overwriting(lambda w: kept_last(w, 1)))

PAGE.call_twist("one kernel slice for all channels", CONV)(
    changing_inputs(lambda inputs, call: {"w": inputs["w"][:, np.zeros(inputs["w"].shape[1], int)]})
)

PAGE.call_twist("one kernel for all output channels", CONV)(
    changing_inputs(lambda inputs, call: {"w": inputs["w"][np.zeros(len(inputs["w"]), int)]})
)


def transposed_weights(w: Array, groups: int) -> Array:
    """Read the blocks of the groups, which must be square, as "i o …"."""
    blocks = by_group(w, groups)
    if blocks.shape[1] != blocks.shape[2]:
        raise ValueError(f"w has {w.shape[1]} output channels and {len(w)} input channels for each group")
    return blocks.swapaxes(1, 2).reshape(w.shape)


PAGE.call_twist("weight transposed", BOTH)(weights_read_in_order(transposed_weights))


@PAGE.call_twist("weight reshaped instead of transposed", BOTH)
@weights_read_in_order
def _(w: Array, groups: int) -> Array:
    blocks = w.reshape(groups, w.shape[1], len(w) // groups, *w.shape[2:])
    return blocks.swapaxes(1, 2).reshape(w.shape)


@PAGE.call_twist("channels averaged", CONV)
@around
def _(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
    w, b = inputs["w"], inputs.get("b")
    y = evaluate(operator, _without_bias(inputs), call)["y"] / w.shape[1]
    return {"y": (y if b is None else y + b.reshape(-1, *(1,) * (w.ndim - 2))).astype(w.dtype)}


PAGE.call_twist("first sample for the whole batch", CONV)(
    changing_output("y", lambda y, inputs, call: np.broadcast_to(y[:1], y.shape).copy())
)

# --- CONV-3: bias ----------------------------------------------------------------------------------------

PAGE.call_twist("bias forgotten", CONV)(_changed_bias(lambda b, w, call: np.zeros_like(b)))

PAGE.call_twist("bias per tap", CONV)(_changed_bias(lambda b, w, call: b * int(np.prod(w.shape[2:]))))

PAGE.call_twist("bias per input channel", CONV)(_changed_bias(lambda b, w, call: b * w.shape[1]))

PAGE.call_twist("first bias for every channel", CONV)(
    _changed_bias(lambda b, w, call: np.full_like(b, b[0]) if len(b) else b)
)


@PAGE.call_twist("bias along the wrong axis", CONV)
@around
def _(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
    outputs = evaluate(operator, inputs, call)
    if inputs.get("b") is None:
        return outputs
    # Raises, or gives the wrong shape, where y + b does.
    return {"y": evaluate(operator, _without_bias(inputs), call)["y"] + inputs["b"]}


@PAGE.call_twist("bias required", BOTH)
@around
def _(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
    if inputs.get("b") is None:
        raise AttributeError("'NoneType' object has no attribute 'reshape'")
    return evaluate(operator, inputs, call)


# --- CONV-4: groups --------------------------------------------------------------------------------------


def channels_in_order(order: Callable[[int, int], Array], axes: Mapping[str, int]) -> CallTwist:
    """Take an axis of some arrays for another order of channels, on the way in and on the way out.

    `order(channels, groups)` gives the channel that is found at each place; `axes` gives, by array, the
    axis that channels lie along.
    """

    @around
    def twist(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
        lead = next(name for name in axes if name in inputs)
        found = order(inputs[lead].shape[axes[lead]], call.groups)
        moved = {
            name: np.take(inputs[name], found, axis=axis)
            for name, axis in axes.items()
            if inputs.get(name) is not None
        }
        outputs = evaluate(operator, {**inputs, **moved}, call)
        back = np.argsort(found)
        return {
            name: np.take(array, back, axis=axes[name]) if name in axes else array
            for name, array in outputs.items()
        }

    return twist


def interleaved(channels: int, groups: int) -> Array:
    """Channels 0, G, 2G, …, then 1, G + 1, …: what a group consists of when c mod G numbers the groups."""
    return np.argsort(np.arange(channels) % groups, kind="stable")


@PAGE.call_twist("groups ignored", BOTH)
@around
def _(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
    x, seen = inputs["x"], inputs["w"].shape[1]
    first = np.take(x, np.arange(x.shape[1]) % max(seen, 1), axis=1)
    outputs = evaluate(operator, {**inputs, "x": first}, call)
    if "dx" not in outputs or not seen:
        return outputs
    # Gradients of all groups meet in the first channels.
    dx = np.zeros_like(outputs["dx"])
    by_group = outputs["dx"].reshape(len(x), call.groups, seen, *x.shape[2:])
    dx[:, :seen] = by_group.sum(axis=1)
    return {**outputs, "dx": dx}


PAGE.call_twist("groups interleaved", BOTH)(
    channels_in_order(interleaved, {"w": 0, "b": 0, "dy": 1, "y": 1, "dw": 0, "db": 0})
)

PAGE.call_twist("input channels interleaved", BOTH)(channels_in_order(interleaved, {"x": 1, "dx": 1}))

PAGE.call_twist("output channels interleaved", CONV)(
    changing_output(
        "y",
        lambda y, inputs, call: np.take(y, np.argsort(interleaved(y.shape[1], call.groups)), axis=1),
    )
)


def _first_block(array: Array, groups: int) -> Array:
    """Repeat the block of the first group for all of them."""
    return np.take(array, np.arange(len(array)) % max(len(array) // groups, 1), axis=0)


PAGE.call_twist("kernels of the first group for all groups", CONV)(
    changing_inputs(lambda inputs, call: {"w": _first_block(inputs["w"], call.groups)}),
)

PAGE.call_twist("biases of the first group for all groups", CONV)(
    _changed_bias(lambda b, w, call: _first_block(b, call.groups))
)

# --- CONV-5: rounding ------------------------------------------------------------------------------------


@PAGE.steps_twist("half types accumulated in half", BOTH)
def _(steps: Steps) -> Steps:
    def multiply(left: Array, right: Array) -> Array:
        if left.dtype != np.float16:
            return steps.multiply(left, right)
        total = np.zeros((left @ right).shape, np.float16)
        for k in range(left.shape[-1]):
            total = total + left[..., :, k, None] * right[..., None, k, :]
        return total

    def add(cols: Array, positions: Positions, size: Size) -> Array:
        if cols.dtype != np.float16:
            return steps.add(cols, positions, size)
        dx = np.zeros((*cols.shape[:2], int(np.prod(size))), np.float16)
        inside = real(positions, size)
        index: Any = (slice(None), slice(None), plane(positions, size)[inside])
        np.add.at(dx, index, cols[:, :, inside])
        return dx.reshape(*cols.shape[:2], *size)

    return replace(steps, multiply=multiply, add=add)


def _fewer_digits(array: Array, bits: int) -> Array:
    """Round float32 numbers to `bits` bits of significand, ties to even."""
    if array.dtype != np.float32:
        return array
    drop = 24 - bits
    pattern = np.ascontiguousarray(array).view(np.uint32).astype(np.uint64)
    odd = (pattern >> np.uint64(drop)) & np.uint64(1)
    rounded = pattern + np.uint64((1 << (drop - 1)) - 1) + odd
    kept = rounded & np.uint64(~((1 << drop) - 1) & 0xFFFFFFFF)
    return np.where(np.isfinite(array), kept.astype(np.uint32).view(np.float32), array).reshape(array.shape)


def _factors(change: Callable[[Array], Array]) -> CallTwist:
    """Change the factors of every product: x, w and dy, not the bias."""
    return changing_inputs(
        lambda inputs, call: {name: change(inputs[name]) for name in ("x", "w", "dy") if name in inputs}
    )


PAGE.call_twist("float32 products in lower precision", BOTH)(_factors(lambda array: _fewer_digits(array, 11)))

PAGE.call_twist("float32 products in bfloat16", BOTH)(_factors(lambda array: _fewer_digits(array, 8)))


def computed_in(name: str, applies: Callable[[np.dtype[Any]], bool]) -> CallTwist:
    """Convert all arrays to another dtype, compute, and convert back."""

    @around
    def twist(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
        dtype = inputs["x"].dtype
        given = {key: array for key, array in inputs.items() if array is not None}
        if not applies(dtype) or any(array.dtype != dtype for array in given.values()):
            return evaluate(operator, inputs, call)
        other = {key: array.astype(name) for key, array in given.items()}
        return {key: array.astype(dtype) for key, array in evaluate(operator, other, call).items()}

    return twist


PAGE.call_twist("float64 through float32", BOTH)(computed_in("float32", lambda dtype: dtype == np.float64))

PAGE.call_twist("integers through float32", BOTH)(computed_in("float32", lambda dtype: dtype.kind in "iu"))

PAGE.call_twist("integers through float64", BOTH)(computed_in("float64", lambda dtype: dtype.kind in "iu"))

# --- CONV-6: zero input channels -------------------------------------------------------------------------

PAGE.call_twist("no channels in, no channels out", CONV)(
    changing_output("y", lambda y, inputs, call: y if inputs["x"].shape[1] else y[:, :0])
)

PAGE.call_twist("no channels in, no bias", CONV)(
    changing_output("y", lambda y, inputs, call: y if inputs["x"].shape[1] else np.zeros_like(y))
)


@PAGE.call_twist("zero input channels refused", BOTH)
@around
def _(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
    if not inputs["x"].shape[1]:
        raise ValueError("x has no channels")
    return evaluate(operator, inputs, call)


# --- CONV-7: refused channels and bias -------------------------------------------------------------------


@PAGE.mend("surplus channels ignored", BOTH)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    inputs["x"] = inputs["x"][:, : inputs["w"].shape[1] * parameters["groups"]]


@PAGE.mend("surplus kernel slices ignored", BOTH)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    inputs["w"] = inputs["w"][:, : inputs["x"].shape[1] // parameters["groups"]]


@PAGE.mend("weight broadcast over channels", BOTH)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> Finish:
    w = inputs["w"]
    channels = inputs["x"].shape[1] // parameters["groups"]
    inputs["w"] = np.broadcast_to(w, (len(w), channels, *w.shape[2:]))

    def folded(outputs: Outputs) -> Outputs:
        if "dw" not in outputs or w.shape[1] == channels:
            return outputs
        return {**outputs, "dw": outputs["dw"].sum(axis=1, keepdims=True)}

    return folded


@PAGE.mend("bias broadcast", ("conv",))
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    if "b" in inputs:
        inputs["b"] = np.broadcast_to(inputs["b"], (len(inputs["w"]),))


@PAGE.mend("surplus biases ignored", ("conv",))
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    if "b" in inputs:
        inputs["b"] = cropped(inputs["b"], (len(inputs["w"]),))


@PAGE.mend("groups rounded down", BOTH)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> Finish:
    groups, given = parameters["groups"], dict(inputs)
    c = inputs["x"].shape[1] // groups * groups
    o = len(inputs["w"]) // groups * groups
    inputs["x"] = inputs["x"][:, :c]
    for name, axis in (("w", 0), ("b", 0), ("dy", 1)):
        if name in inputs and inputs[name].shape[axis] == len(given["w"]):
            inputs[name] = np.take(inputs[name], range(o), axis=axis)

    def filled(outputs: Outputs) -> Outputs:
        """Zeros in the channels that were left out."""
        channels = {"y": len(given["w"]), "dx": given["x"].shape[1]}
        rows = {"dw": len(given["w"]), "db": len(given["w"])}
        whole = {}
        for name, array in outputs.items():
            axis = 0 if name in rows else 1
            missing = {**channels, **rows}[name] - array.shape[axis]
            whole[name] = np.pad(array, [(0, missing if i == axis else 0) for i in range(array.ndim)])
        return whole

    return filled


@PAGE.mend("zero groups are one", BOTH)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    parameters["groups"] = parameters["groups"] or 1
