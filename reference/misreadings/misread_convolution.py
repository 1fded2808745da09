"""Misreadings of the clauses CONV-1 to CONV-6 and CONVGRAD-1 to CONVGRAD-4.

A forward misreading that also has a gradient, such as a kernel that is read in another order, occurs in
both families: its gradient is then the true gradient of the misread convolution. What goes wrong in the
gradient alone stands under CONVGRAD.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from convform.reference.checks import Array
from convform.reference.evaluation import Outputs
from convform.reference.misreadings.misreading import (
    CallTwist,
    Evaluate,
    Inputs,
    Parameters,
    assigned,
    call_twist,
    changing_inputs,
    changing_outputs,
    steps_twist,
)
from convform.reference.misreadings.steps import Positions, Steps, plane, real
from convform.reference.window import Size

CONV, GRADIENT, BOTH = ("conv",), ("conv.backward",), ("conv", "conv.backward")

# --- helpers: one misread array, output or sum ------------------------------------------------------------


def _spatial(array: Array) -> tuple[int, ...]:
    return tuple(range(2, array.ndim))


def _mirrored(array: Array) -> Array:
    return np.flip(array, _spatial(array))


def _blocks(w: Array, groups: int) -> Array:
    """Weights "o i …" as "g o i …", o counting within a group."""
    return w.reshape(groups, len(w) // groups, *w.shape[1:])


def weights_read_in_order(change: Callable[[Array, int], Array]) -> CallTwist:
    """Read the elements of the weights in another order, and return dw in that order.

    `change(places, groups)` moves the elements of an array of the shape of w, and keeps its shape.
    """

    def twist(evaluate: Evaluate) -> Evaluate:
        def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
            w = inputs["w"]
            places = change(np.arange(w.size).reshape(w.shape), parameters["groups"])
            outputs = evaluate(operator, {**inputs, "w": np.take(w, places)}, parameters)
            if "dw" in outputs:
                dw = np.empty_like(outputs["dw"])
                np.put(dw, places, outputs["dw"])
                outputs = {**outputs, "dw": dw}
            return outputs

        return twisted

    return twist


def channels_in_order(order: Callable[[int, int], Array], axes: Mapping[str, int]) -> CallTwist:
    """Take an axis of some arrays for another order of channels, on the way in and on the way out.

    `order(channels, groups)` gives the channel that is found at each place; `axes` gives, by array, the
    axis that channels lie along.
    """

    def twist(evaluate: Evaluate) -> Evaluate:
        def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
            lead = next(name for name in axes if name in inputs)
            found = order(inputs[lead].shape[axes[lead]], parameters["groups"])
            moved = {
                name: np.take(inputs[name], found, axis=axis)
                for name, axis in axes.items()
                # What does not fit is left for the standard to refuse.
                if inputs.get(name) is not None and inputs[name].shape[axis] == len(found)
            }
            outputs = evaluate(operator, {**inputs, **moved}, parameters)
            back = np.argsort(found)
            return {
                name: np.take(array, back, axis=axes[name]) if name in axes else array
                for name, array in outputs.items()
            }

        return twisted

    return twist


def interleaved(channels: int, groups: int) -> Array:
    """Channels 0, G, 2G, …, then 1, G + 1, …: what a group consists of when c mod G numbers the groups."""
    return np.argsort(np.arange(channels) % groups, kind="stable")


def one_output_of(
    name: str, change: Callable[[Mapping[str, Array], Parameters], Mapping[str, Array]]
) -> CallTwist:
    """Compute one output from other arrays: `change(inputs, parameters)` returns the ones to replace."""

    def twist(evaluate: Evaluate) -> Evaluate:
        def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
            outputs = evaluate(operator, inputs, parameters)
            other = evaluate(operator, {**inputs, **change(inputs, parameters)}, parameters)
            return {**outputs, name: other[name]}

        return twisted

    return twist


def changing_output(name: str, change: Callable[[Array, Inputs, Parameters], Array]) -> CallTwist:
    """Change one output: `change(output, inputs, parameters)`."""
    return changing_outputs(
        lambda outputs, inputs, parameters: {name: change(outputs[name], inputs, parameters)}
    )


def cropping_dx(crop: Callable[[Array, Inputs, Parameters], Array]) -> CallTwist:
    """Compute dx for the padded input, and crop it: `crop(padded, inputs, parameters)`."""

    def twist(evaluate: Evaluate) -> Evaluate:
        def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
            outputs = evaluate(operator, inputs, parameters)
            padding = parameters["padding"]
            padded = {**inputs, "x": np.pad(inputs["x"], [(0, 0), (0, 0), *padding])}
            none = {**parameters, "padding": ((0, 0),) * len(padding)}
            whole = evaluate(operator, padded, none)["dx"]
            return {**outputs, "dx": crop(whole, inputs, parameters)}

        return twisted

    return twist


def added_at(steps: Steps, move: Callable[[Array], Array]) -> Steps:
    """Add gradients up elsewhere: `move(p)` gives the elements "o k" along one axis."""

    def add(cols: Array, positions: Positions, size: Size) -> Array:
        return steps.add(cols, tuple(move(p) for p in positions), size)

    return replace(steps, add=add)


def read_at(steps: Steps, move: Callable[[Array], Array]) -> Steps:
    """Read the columns that dw is made of elsewhere: `move(p)` gives the elements "o k" along one axis."""

    def read(x: Array, positions: Positions, outside: Any) -> Array:
        return steps.read(x, tuple(move(p) for p in positions), outside)

    return replace(steps, read=read)


def unstrided(p: Array) -> Array:
    """Elements "o k" of windows that start one after the other."""
    return np.asarray(p[:1] + np.arange(len(p))[:, None])


def undilated(p: Array) -> Array:
    """Elements "o k" of taps that lie side by side."""
    return np.asarray(p[:, :1] + np.arange(p.shape[1]))


def unpadded(p: Array) -> Array:
    """Elements "o k" of windows of which the first starts at element 0."""
    return np.asarray(p - p[0, 0]) if p.size else p


def _first_only(array: Array, axis: int) -> Array:
    """Zero but at index 0 along one axis."""
    kept = np.zeros_like(array)
    first = (slice(None),) * axis + (slice(0, 1),)
    kept[first] = array[first]
    return kept


def _last_only(array: Array, axis: int) -> Array:
    """Zero but at the last index along one axis."""
    return np.flip(_first_only(np.flip(array, axis), axis), axis)


# --- CONV-1 -----------------------------------------------------------------------------------------------

call_twist(
    "kernel mirrored",
    "CONV-1",
    BOTH,
    says="with the kernel mirrored",
    look="The first tap of the kernel meets the first element of the window: use the weights as they stand, "
    "without a flip, or scipy.signal.correlate instead of convolve.",
    dialect=("kernel", "mirrored"),
)(weights_read_in_order(lambda w, groups: _mirrored(w)))

call_twist(
    "kernel mirrored along one axis",
    "CONV-1",
    BOTH,
    says="with the kernel mirrored along the width",
    look="No axis of the kernel is reversed: look for a [::-1] or a flip on the last axis of the weights.",
)(weights_read_in_order(lambda w, groups: np.flip(w, -1) if w.ndim > 3 else w))


def _transposed_kernel(w: Array, groups: int) -> Array:
    # A flattened kernel of kh × kw values is read column by column; nothing crashes where kh ≠ kw.
    kernel = w.reshape(*w.shape[:2], *reversed(w.shape[2:]))
    return kernel.transpose(0, 1, *reversed(_spatial(w)))


call_twist(
    "kernel transposed",
    "CONV-1",
    BOTH,
    says="with kh and kw exchanged in the kernel",
    look="The kernel's axes are kh, then kw, and columns must be flattened in the same order: look for a "
    "transposition, or for loops over the taps in the wrong order.",
)(weights_read_in_order(_transposed_kernel))


@steps_twist(
    "one element for the whole window",
    "CONV-1",
    CONV,
    says="when every tap of a window reads the window's first element",
    look="Tap (kh, kw) reads the element at kh·d and kw·d from the window's start: look for an index that "
    "lacks the position within the window.",
)
def _(steps: Steps) -> Steps:
    return read_at(steps, lambda p: np.repeat(p[:, :1], p.shape[1], axis=1))


def _without_bias(inputs: Inputs) -> dict[str, Any]:
    return {name: array for name, array in inputs.items() if name != "b"}


def _overwriting(last: Callable[[Array], Array]) -> CallTwist:
    """Keep the last term of the sum: `last(w)` is zero in all other places."""
    return changing_inputs(lambda inputs, parameters: {"w": last(inputs["w"])})


def _last_tap(w: Array) -> Array:
    for axis in _spatial(w):
        w = _last_only(w, axis)
    return w


call_twist(
    "last tap only",
    "CONV-1",
    CONV,
    says="when only the last tap of the kernel counts",
    look="The products of all taps are added: look for = where it should be += in the loop over the taps.",
)(_overwriting(_last_tap))

# --- CONV-2 -----------------------------------------------------------------------------------------------

call_twist(
    "first input channel only",
    "CONV-2",
    CONV,
    says="when only the first input channel counts",
    look="Every output channel sums over all its input channels: look for x[:, 0] or w[:, 0].",
)(changing_inputs(lambda inputs, parameters: {"w": _first_only(inputs["w"], 1)}))

call_twist(
    "last input channel only",
    "CONV-2",
    CONV,
    says="when only the last input channel counts",
    look="The products of all input channels are added: look for = where it should be += in the loop over "
    "the channels.",
)(_overwriting(lambda w: _last_only(w, 1)))

call_twist(
    "one kernel slice for all channels",
    "CONV-2",
    CONV,
    says="when every input channel meets the kernel slice of the first one",
    look="Each input channel has its own slice w[o, i] of the kernel: look for w[o, 0].",
)(changing_inputs(lambda inputs, parameters: {"w": inputs["w"][:, np.zeros(inputs["w"].shape[1], int)]}))

call_twist(
    "one kernel for all output channels",
    "CONV-2",
    CONV,
    says="when every output channel uses the kernel of the first one",
    look="Each output channel has its own kernel w[o]: look for w[0], or for a loop that forgets o.",
)(changing_inputs(lambda inputs, parameters: {"w": inputs["w"][np.zeros(len(inputs["w"]), int)]}))


def _transposed_weights(w: Array, groups: int) -> Array:
    blocks = _blocks(w, groups)
    if blocks.shape[1] != blocks.shape[2]:
        raise ValueError(f"w has {w.shape[1]} output channels and {len(w)} input channels for each group")
    return blocks.swapaxes(1, 2).reshape(w.shape)


call_twist(
    "weight transposed",
    "CONV-2",
    BOTH,
    says="with the weight's axes read as i o kh kw",
    look="The weight's first axis is the output channel and its second the input channel: look for a "
    "transposition of the two, or declare the layout that your weights have.",
)(weights_read_in_order(_transposed_weights))


def _reshaped_weights(w: Array, groups: int) -> Array:
    blocks = w.reshape(groups, w.shape[1], len(w) // groups, *w.shape[2:])
    return blocks.swapaxes(1, 2).reshape(w.shape)


call_twist(
    "weight reshaped instead of transposed",
    "CONV-2",
    BOTH,
    says="with the weight's values kept in their order and read as i o kh kw",
    look="A reshape keeps the order of the values, a transposition moves them: use w.transpose to exchange "
    "input and output channels.",
)(weights_read_in_order(_reshaped_weights))


@call_twist(
    "channels averaged",
    "CONV-2",
    CONV,
    says="with the sum divided by the number of input channels",
    look="The products of all input channels are added, not averaged: look for a mean, or a division by C.",
)
def _(evaluate: Evaluate) -> Evaluate:
    def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
        dtype = evaluate(operator, inputs, parameters)["y"].dtype  # refuses what the standard refuses
        w, b = inputs["w"], inputs.get("b")
        y = evaluate(operator, _without_bias(inputs), parameters)["y"] / w.shape[1]
        return {"y": (y if b is None else y + b.reshape(-1, *(1,) * (w.ndim - 2))).astype(dtype)}

    return twisted


call_twist(
    "first sample for the whole batch",
    "CONV-2",
    CONV,
    says="when every sample gets the result of the first one",
    look="Each sample has a result of its own: look for x[0].",
)(changing_output("y", lambda y, inputs, parameters: np.broadcast_to(y[:1], y.shape).copy()))

# --- CONV-3 -----------------------------------------------------------------------------------------------


def _changed_bias(change: Callable[[Array, Array, Parameters], Array]) -> CallTwist:
    """Add another bias: `change(b, w, parameters)`."""

    def changed(inputs: Mapping[str, Array], parameters: Parameters) -> Mapping[str, Array]:
        b = inputs.get("b")
        if b is None or b.shape != inputs["w"].shape[:1]:
            return {}  # a bias of another length is left for the standard to refuse
        return {"b": change(b, inputs["w"], parameters)}

    return changing_inputs(changed)


call_twist(
    "bias forgotten",
    "CONV-3",
    CONV,
    says="without the bias",
    look="The bias of its channel is added to every output element: it is read and then not used.",
)(_changed_bias(lambda b, w, parameters: np.zeros_like(b)))

call_twist(
    "bias per tap",
    "CONV-3",
    CONV,
    says="with the bias added once for each tap",
    look="The bias is added once to every output element: move it out of the loop over the taps.",
)(_changed_bias(lambda b, w, parameters: b * int(np.prod(w.shape[2:]))))

call_twist(
    "bias per input channel",
    "CONV-3",
    CONV,
    says="with the bias added once for each input channel",
    look="The bias is added once to every output element: move it out of the loop over the input channels.",
)(_changed_bias(lambda b, w, parameters: b * w.shape[1]))

call_twist(
    "first bias for every channel",
    "CONV-3",
    CONV,
    says="with the bias of the first output channel for all of them",
    look="Output channel o gets b[o]: look for b[0], or for a bias that is a single number.",
)(_changed_bias(lambda b, w, parameters: np.full_like(b, b[0]) if len(b) else b))


@call_twist(
    "bias along the wrong axis",
    "CONV-3",
    CONV,
    says="with the bias added along the last axis, b[ow]",
    look="NumPy lines shapes up from the right, so y + b adds b along the width: b must become "
    "b.reshape(-1, 1, 1) for outputs n o oh ow.",
)
def _(evaluate: Evaluate) -> Evaluate:
    def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
        outputs = evaluate(operator, inputs, parameters)
        if inputs.get("b") is None:
            return outputs
        # Raises, or gives the wrong shape, where y + b does.
        return {"y": evaluate(operator, _without_bias(inputs), parameters)["y"] + inputs["b"]}

    return twisted


@call_twist(
    "bias required",
    "CONV-3",
    BOTH,
    says="except that it needs a bias",
    look="A call without a bias is one whose bias is zero: test for None before b is used.",
)
def _(evaluate: Evaluate) -> Evaluate:
    def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
        if inputs.get("b") is None:
            raise AttributeError("'NoneType' object has no attribute 'reshape'")
        return evaluate(operator, inputs, parameters)

    return twisted


# --- CONV-4 -----------------------------------------------------------------------------------------------


@call_twist(
    "groups ignored",
    "CONV-4",
    BOTH,
    says="when every output channel sees the first input channels, whatever its group",
    look="Output channel o of group g = ⌊o / (O / groups)⌋ sees the input channels from g·I on, where I is "
    "the number that its kernel has.",
)
def _(evaluate: Evaluate) -> Evaluate:
    def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
        x, seen = inputs["x"], inputs["w"].shape[1]
        first = np.take(x, np.arange(x.shape[1]) % max(seen, 1), axis=1)
        outputs = evaluate(operator, {**inputs, "x": first}, parameters)
        if "dx" not in outputs or not seen:
            return outputs
        # Gradients of all groups meet in the first channels.
        dx = np.zeros_like(outputs["dx"])
        by_group = outputs["dx"].reshape(len(x), parameters["groups"], seen, *x.shape[2:])
        dx[:, :seen] = by_group.sum(axis=1)
        return {**outputs, "dx": dx}

    return twisted


call_twist(
    "groups interleaved",
    "CONV-4",
    BOTH,
    says="when output channel o belongs to group o mod groups",
    look="Groups are contiguous blocks of output channels: the group of o is o // (O // groups), not "
    "o % groups.",
)(channels_in_order(interleaved, {"w": 0, "b": 0, "dy": 1, "y": 1, "dw": 0, "db": 0}))

call_twist(
    "input channels interleaved",
    "CONV-4",
    BOTH,
    says="when input channel c belongs to group c mod groups",
    look="Groups are contiguous blocks of input channels: reshape x to n, groups, C // groups, … and not to "
    "n, C // groups, groups, ….",
)(channels_in_order(interleaved, {"x": 1, "dx": 1}))

call_twist(
    "output channels interleaved",
    "CONV-4",
    CONV,
    says="with the groups' results taken in turns instead of one after the other",
    look="The output channels of the first group come first: concatenate the groups' results along the "
    "channels, or stack them in front of the channels and not behind.",
)(
    changing_output(
        "y",
        lambda y, inputs, parameters: np.take(
            y, np.argsort(interleaved(y.shape[1], parameters["groups"])), axis=1
        ),
    )
)


def _first_block(array: Array, groups: int) -> Array:
    """Repeat the block of the first group for all of them."""
    return np.take(array, np.arange(len(array)) % max(len(array) // groups, 1), axis=0)


call_twist(
    "kernels of the first group for all groups",
    "CONV-4",
    CONV,
    says="when every group uses the kernels of the first one",
    look="The kernels of group g are w[g·O/groups : (g + 1)·O/groups]: look for an index into w that counts "
    "within the group.",
)(
    changing_inputs(lambda inputs, parameters: {"w": _first_block(inputs["w"], parameters["groups"])}),
)

call_twist(
    "biases of the first group for all groups",
    "CONV-4",
    CONV,
    says="when every group uses the biases of the first one",
    look="Output channel o gets b[o], whatever its group: look for an index into b that counts within the "
    "group.",
)(_changed_bias(lambda b, w, parameters: _first_block(b, parameters["groups"])))

# --- CONV-5 -----------------------------------------------------------------------------------------------


@steps_twist(
    "half types accumulated in half",
    "CONV-5",
    BOTH,
    says="when float16 products are added in float16",
    look="A float16 sum stops growing at 2048 when ones are added: multiply and add in float32, and round to "
    "float16 at the end.",
)
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
        lambda inputs, parameters: {name: change(inputs[name]) for name in ("x", "w", "dy") if name in inputs}
    )


call_twist(
    "float32 products in lower precision",
    "CONV-5",
    BOTH,
    says="with the factors rounded to TF32 (11 bits) first",
    look="float32 has 24 bits: switch TF32 off, for instance torch.backends.cudnn.allow_tf32 = False or "
    "jax.default_matmul_precision('highest').",
)(_factors(lambda array: _fewer_digits(array, 11)))

call_twist(
    "float32 products in bfloat16",
    "CONV-5",
    BOTH,
    says="with the factors rounded to bfloat16 (8 bits) first",
    look="float32 has 24 bits: switch bfloat16 products off, for instance "
    "torch.set_float32_matmul_precision('highest') or ONEDNN_DEFAULT_FPMATH_MODE=STRICT.",
)(_factors(lambda array: _fewer_digits(array, 8)))


def computed_in(name: str, applies: Callable[[np.dtype[Any]], bool]) -> CallTwist:
    """Convert all arrays to another dtype, compute, and convert back."""

    def twist(evaluate: Evaluate) -> Evaluate:
        def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
            dtype = inputs["x"].dtype
            given = {key: array for key, array in inputs.items() if array is not None}
            if not applies(dtype) or any(array.dtype != dtype for array in given.values()):
                return evaluate(operator, inputs, parameters)
            other = {key: array.astype(name) for key, array in given.items()}
            return {key: array.astype(dtype) for key, array in evaluate(operator, other, parameters).items()}

        return twisted

    return twist


call_twist(
    "float64 through float32",
    "CONV-5",
    BOTH,
    says="when float64 is computed in float32",
    look="float64 has 53 bits: look for a float32 buffer or conversion, or a default dtype that is float32.",
)(computed_in("float32", lambda dtype: dtype == np.float64))

call_twist(
    "integers through float32",
    "CONV-5",
    BOTH,
    says="when integers are computed in float32",
    look="float32 holds integers up to 2^24 only: compute integers in an integer dtype.",
)(computed_in("float32", lambda dtype: dtype.kind in "iu"))

call_twist(
    "integers through float64",
    "CONV-5",
    BOTH,
    says="when integers are computed in float64",
    look="float64 holds integers up to 2^53 only: compute integers in an integer dtype; np.zeros without a "
    "dtype makes a float64 buffer.",
)(computed_in("float64", lambda dtype: dtype.kind in "iu"))

# --- CONV-6 -----------------------------------------------------------------------------------------------

call_twist(
    "no channels in, no channels out",
    "CONV-6",
    CONV,
    says="except that without input channels there are no output channels either",
    look="The output has as many channels as the weights say; without input channels it holds the bias.",
)(changing_output("y", lambda y, inputs, parameters: y if inputs["x"].shape[1] else y[:, :0]))

call_twist(
    "no channels in, no bias",
    "CONV-6",
    CONV,
    says="except that without input channels the bias is left out",
    look="A sum over no channels is zero, and the bias is added to it: look for an early return of zeros.",
)(changing_output("y", lambda y, inputs, parameters: y if inputs["x"].shape[1] else np.zeros_like(y)))


@call_twist(
    "zero input channels refused",
    "CONV-6",
    BOTH,
    says="except that an input without channels is refused",
    look="A sum over no channels is zero: look for a division by the number of channels, or a check that "
    "asks for at least one.",
)
def _(evaluate: Evaluate) -> Evaluate:
    def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
        if not inputs["x"].shape[1]:
            raise ValueError("x has no channels")
        return evaluate(operator, inputs, parameters)

    return twisted


# --- CONVGRAD-1 -------------------------------------------------------------------------------------------

call_twist(
    "dx with the kernel not mirrored",
    "CONVGRAD-1",
    GRADIENT,
    says="with dx from a kernel that is not mirrored",
    look="The adjoint of a correlation is a convolution: rotate the kernel by 180° before dy is correlated "
    "with it, or use col2im.",
)(one_output_of("dx", lambda inputs, parameters: {"w": _mirrored(inputs["w"])}))

call_twist(
    "dx with the kernel mirrored along one axis",
    "CONVGRAD-1",
    GRADIENT,
    says="with dx from a kernel that is mirrored along the height only",
    look="The kernel is rotated by 180°, which reverses all its spatial axes: w[:, :, ::-1, ::-1].",
)(one_output_of("dx", lambda inputs, parameters: {"w": np.flip(inputs["w"], _spatial(inputs["w"])[1:])}))


def _square_blocks_transposed(w: Array, groups: int) -> Array:
    return np.take(w, _transposed_weights(np.arange(w.size).reshape(w.shape), groups))


call_twist(
    "dx with the channels not exchanged",
    "CONVGRAD-1",
    GRADIENT,
    says="with dx from weights whose input and output channels are not exchanged",
    look="In the gradient the output channels are what is summed over: exchange the first two axes of w "
    "before dy is correlated with it.",
)(
    one_output_of(
        "dx",
        lambda inputs, parameters: {"w": _square_blocks_transposed(inputs["w"], parameters["groups"])},
    )
)


@steps_twist(
    "dx ignores the stride",
    "CONVGRAD-1",
    GRADIENT,
    says="when window i of dx starts at element i, without the stride",
    look="Window i covers the elements from i·s on, in the gradient as well: add to dx[i*s : i*s + k].",
)
def _(steps: Steps) -> Steps:
    return added_at(steps, unstrided)


@steps_twist(
    "dx ignores the dilation",
    "CONVGRAD-1",
    GRADIENT,
    says="when the taps of dx lie side by side, without the dilation",
    look="Tap k of a window lies at k·d, in the gradient as well: add to dx[i*s + k*d].",
)
def _(steps: Steps) -> Steps:
    return added_at(steps, undilated)


@steps_twist(
    "dx ignores the padding",
    "CONVGRAD-1",
    GRADIENT,
    says="when the first window of dx starts at element 0, without the padding",
    look="Window i starts at i·s − p, in the gradient as well: add into a padded dx and crop it at the end.",
)
def _(steps: Steps) -> Steps:
    return added_at(steps, unpadded)


call_twist(
    "dx of the padded input",
    "CONVGRAD-1",
    GRADIENT,
    says="with dx of the padded input",
    look="dx has the shape of x: crop it by the padding, dx[:, :, p_h : p_h + H, p_w : p_w + W].",
)(cropping_dx(lambda dx, inputs, parameters: dx))


def _between_paddings(dx: Array, inputs: Inputs, parameters: Parameters) -> Array:
    spatial = [slice(low, -high) for low, high in parameters["padding"]]
    return dx[:, :, *spatial].copy()


call_twist(
    "dx cropped with a negative zero",
    "CONVGRAD-1",
    GRADIENT,
    says="with dx cropped by [p:-p], which is empty for p = 0",
    look="-0 is 0, so [0:-0] is empty: crop with [p : p + H].",
)(cropping_dx(_between_paddings))


def _without_half_kernels(dx: Array, inputs: Inputs, parameters: Parameters) -> Array:
    sizes = zip(inputs["w"].shape[2:], dx.shape[2:], strict=True)
    spatial = [slice(k // 2, n - k // 2) for k, n in sizes]
    return dx[:, :, *spatial].copy()


call_twist(
    "dx cropped by the kernel size",
    "CONVGRAD-1",
    GRADIENT,
    says="with dx cropped by half the kernel size instead of the padding",
    look="What was padded is cropped, and nothing else: crop by p, which is ⌊k/2⌋ only where the padding "
    "keeps the size.",
)(cropping_dx(_without_half_kernels))


@steps_twist(
    "dx overlaps assigned",
    "CONVGRAD-1",
    GRADIENT,
    says="when the last window wins where windows overlap in dx",
    look="Every window adds its share: write dx[...] += and not dx[...] =.",
)
def _(steps: Steps) -> Steps:
    return replace(
        steps, add=lambda cols, positions, size: assigned(cols, positions, size, windows_first=True)
    )


@steps_twist(
    "dx overlaps assigned tap by tap",
    "CONVGRAD-1",
    GRADIENT,
    says="when the last tap wins where windows overlap in dx",
    look="Every tap adds its share: dx[index] += … with an index array counts repeated indices once; use "
    "np.add.at, or += on slices.",
)
def _(steps: Steps) -> Steps:
    return replace(
        steps, add=lambda cols, positions, size: assigned(cols, positions, size, windows_first=False)
    )


call_twist(
    "dx over one output channel",
    "CONVGRAD-1",
    GRADIENT,
    says="with dx from the first output channel alone",
    look="Every output channel contributes to dx: sum over o.",
)(one_output_of("dx", lambda inputs, parameters: {"dy": _first_only(inputs["dy"], 1)}))


@steps_twist(
    "dx with height and width exchanged",
    "CONVGRAD-1",
    GRADIENT,
    says="when height and width are exchanged in dx",
    look="x.shape is n, c, h, w in this order: look for w, h = … where the shape is unpacked.",
)
def _(steps: Steps) -> Steps:
    def add(cols: Array, positions: Positions, size: Size) -> Array:
        kernel = [p.shape[1] for p in positions]
        if kernel != kernel[::-1]:
            raise ValueError(f"windows of shape {kernel[::-1]} do not take a kernel of shape {kernel}")
        return steps.add(cols, positions, size[::-1])

    return replace(steps, add=add)


# --- CONVGRAD-2 -------------------------------------------------------------------------------------------


def _per_sample(gradient: Array, inputs: Inputs, parameters: Parameters) -> Array:
    return (gradient / len(inputs["x"])).astype(gradient.dtype)


call_twist(
    "dw averaged over the batch",
    "CONVGRAD-2",
    GRADIENT,
    says="with dw divided by the number of samples",
    look="dw is the sum over the samples; dividing by their number belongs to the loss, where dy comes from.",
)(changing_output("dw", _per_sample))

call_twist(
    "gradients averaged over the batch",
    "CONVGRAD-2",
    GRADIENT,
    says="with dx, dw and db divided by the number of samples",
    look="Gradients are sums; dividing by the number of samples belongs to the loss, where dy comes from.",
)(
    changing_outputs(
        lambda outputs, inputs, parameters: {
            name: _per_sample(array, inputs, parameters) for name, array in outputs.items()
        }
    )
)

call_twist(
    "dw of the first sample",
    "CONVGRAD-2",
    GRADIENT,
    says="with dw from the first sample alone",
    look="Every sample contributes to dw: sum over n.",
)(one_output_of("dw", lambda inputs, parameters: {"dy": _first_only(inputs["dy"], 0)}))

call_twist(
    "dw of the last sample",
    "CONVGRAD-2",
    GRADIENT,
    says="with dw from the last sample alone",
    look="Every sample contributes to dw: look for = where it should be += in the loop over the batch.",
)(one_output_of("dw", lambda inputs, parameters: {"dy": _last_only(inputs["dy"], 0)}))

call_twist(
    "dw mirrored",
    "CONVGRAD-2",
    GRADIENT,
    says="with dw mirrored",
    look="dw[kh, kw] belongs to the tap w[kh, kw] as it stands: only dx needs the kernel rotated.",
)(changing_output("dw", lambda dw, inputs, parameters: _mirrored(dw)))

call_twist(
    "dw reshaped without transposing",
    "CONVGRAD-2",
    GRADIENT,
    says="with dw in the order i o kh kw, reshaped to o i kh kw",
    look="A reshape keeps the order of the values, a transposition moves them: use dw.transpose to exchange "
    "input and output channels.",
)(
    changing_output(
        "dw",
        lambda dw, inputs, parameters: _blocks(dw, parameters["groups"]).swapaxes(1, 2).reshape(dw.shape),
    )
)

call_twist(
    "dw transposed",
    "CONVGRAD-2",
    GRADIENT,
    says="with dw in the order i o kh kw",
    look="dw has the axes of w, output channels first: exchange its first two axes.",
)(changing_output("dw", lambda dw, inputs, parameters: dw.swapaxes(0, 1).copy()))


@steps_twist(
    "dw ignores the stride",
    "CONVGRAD-2",
    GRADIENT,
    says="when window i of dw reads from element i on, without the stride",
    look="Window i read the elements from i·s on, and dw pairs dy with what it read: x[i*s + k].",
)
def _(steps: Steps) -> Steps:
    return read_at(steps, unstrided)


@steps_twist(
    "dw ignores the dilation",
    "CONVGRAD-2",
    GRADIENT,
    says="when the taps of dw lie side by side, without the dilation",
    look="Tap k of a window read the element at k·d, and dw pairs dy with what it read: x[i*s + k*d].",
)
def _(steps: Steps) -> Steps:
    return read_at(steps, undilated)


@steps_twist(
    "dw ignores the padding",
    "CONVGRAD-2",
    GRADIENT,
    says="with dw from the input without its padding",
    look="Windows start in the padding, in the gradient as well: compute dw from the padded x.",
)
def _(steps: Steps) -> Steps:
    return read_at(steps, unpadded)


# --- CONVGRAD-3 -------------------------------------------------------------------------------------------

call_twist(
    "db averaged over the batch",
    "CONVGRAD-3",
    GRADIENT,
    says="with db divided by the number of samples",
    look="db is the sum over the samples; dividing by their number belongs to the loss, where dy comes from.",
)(changing_output("db", _per_sample))


def _sum_of_dy(axes: Callable[[int], tuple[int, ...]]) -> CallTwist:
    """Compute db by summing dy over other axes: `axes(ndim)`."""
    return changing_output(
        "db", lambda db, inputs, parameters: inputs["dy"].sum(axis=axes(inputs["dy"].ndim)).astype(db.dtype)
    )


call_twist(
    "db summed over the wrong axes",
    "CONVGRAD-3",
    GRADIENT,
    says="with db summed over all axes but the last",
    look="db keeps the output channels, which are axis 1 of dy in the order n o oh ow: sum over (0, 2, 3). "
    "Summing over (0, 1, 2) is for channels-last arrays.",
)(_sum_of_dy(lambda ndim: tuple(range(ndim - 1))))

call_twist(
    "db not summed over space",
    "CONVGRAD-3",
    GRADIENT,
    says="with db summed over the batch only",
    look="One bias is added at every position of its channel, so db sums over all: sum over (0, 2, 3).",
)(_sum_of_dy(lambda ndim: (0,)))

call_twist(
    "db averaged over positions",
    "CONVGRAD-3",
    GRADIENT,
    says="with db divided by the number of positions",
    look="db is the sum over all positions: look for a mean.",
)(
    changing_output(
        "db",
        lambda db, inputs, parameters: (db / int(np.prod(inputs["dy"].shape[2:]))).astype(db.dtype),
    )
)

call_twist(
    "db of the first sample",
    "CONVGRAD-3",
    GRADIENT,
    says="with db from the first sample alone",
    look="Every sample contributes to db: sum over n.",
)(one_output_of("db", lambda inputs, parameters: {"dy": _first_only(inputs["dy"], 0)}))

call_twist(
    "db with further axes",
    "CONVGRAD-3",
    GRADIENT,
    says="with db of shape (o, 1)",
    look="db has the axis o alone: leave keepdims=True out, or declare the layout that your bias has, "
    'bias="o 1".',
)(changing_output("db", lambda db, inputs, parameters: db.reshape(-1, 1)))

# --- CONVGRAD-4 -------------------------------------------------------------------------------------------


@call_twist(
    "groups ignored in the gradient",
    "CONVGRAD-4",
    GRADIENT,
    says="when gradients flow between all channels, whatever their group",
    look="dx of a channel collects the output channels of its own group only, and dw pairs the two within "
    "one group: loop over the groups, or split both arrays along the channels.",
)
def _(evaluate: Evaluate) -> Evaluate:
    def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
        outputs = evaluate(operator, inputs, parameters)
        w, groups = inputs["w"], parameters["groups"]
        # Every output channel sees every group, with the same kernel.
        everywhere = np.concatenate([w] * groups, axis=1)
        mixed = evaluate(operator, {**inputs, "w": everywhere}, {**parameters, "groups": 1})
        dw = mixed["dw"].reshape(len(w), groups, *w.shape[1:]).sum(axis=1)
        return {**outputs, "dx": mixed["dx"], "dw": dw}

    return twisted


def _interleaved_input(inputs: Mapping[str, Array], parameters: Parameters) -> Mapping[str, Array]:
    x = inputs["x"]
    return {"x": np.take(x, interleaved(x.shape[1], parameters["groups"]), axis=1)}


call_twist(
    "dw of groups mixed",
    "CONVGRAD-4",
    GRADIENT,
    says="with dw from input channels of other groups",
    look="Group g of dy belongs to the input channels from g·I on: reshape x to n, groups, C // groups, …, "
    "groups first.",
)(one_output_of("dw", _interleaved_input))

call_twist(
    "dx of groups mixed",
    "CONVGRAD-4",
    GRADIENT,
    says="with dx of the groups taken in turns instead of one after the other",
    look="The input channels of the first group come first in dx: concatenate the groups along the channels.",
)(
    changing_output(
        "dx",
        lambda dx, inputs, parameters: np.take(
            dx, np.argsort(interleaved(dx.shape[1], parameters["groups"])), axis=1
        ),
    )
)


def _first_group(inputs: Mapping[str, Array], parameters: Parameters) -> Mapping[str, Array]:
    dy = inputs["dy"].copy()
    dy[:, dy.shape[1] // parameters["groups"] :] = 0
    return {"dy": dy}


call_twist(
    "dx of the first group only",
    "CONVGRAD-4",
    GRADIENT,
    says="with dx of the first group alone",
    look="Every group has its own part of dx: look for a return, or an assignment, inside the loop over the "
    "groups.",
)(one_output_of("dx", _first_group))
