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
    kept_first,
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
    changing_output,
    changing_outputs,
    misread_dy,
)
from convform.reference.misreadings.steps import Positions, Steps, assigned, no_padding, read_at
from convform.reference.window import Size

PAGE = Page("conv_backward", "CONVGRAD")


def one_output_of(name: str, change: Callable[[Mapping[str, Array], Call], Mapping[str, Array]]) -> CallTwist:
    """Compute one output from other arrays: `change(inputs, call)` returns the ones to replace."""

    def twist(evaluate: Asked) -> Asked:
        def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
            outputs = evaluate(operator, inputs, call)
            other = evaluate(operator, {**inputs, **change(inputs, call)}, call)
            return {**outputs, name: other[name]}

        return twisted

    return twist


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


def cropping_dx(crop: Callable[[Array, Inputs, Call], Array]) -> CallTwist:
    """Compute dx for the padded input, and crop it: `crop(padded, inputs, call)`."""

    def twist(evaluate: Asked) -> Asked:
        def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
            outputs = evaluate(operator, inputs, call)
            padded = {**inputs, "x": np.pad(inputs["x"], [(0, 0), (0, 0), *call.window.padding])}
            bare = replace(call.window, padding=no_padding(call.window))
            whole = evaluate(operator, padded, replace(call, window=bare))["dx"]
            return {**outputs, "dx": crop(whole, inputs, call)}

        return twisted

    return twist


def added_at(steps: Steps, move: Callable[[Array], Array]) -> Steps:
    """Add gradients up elsewhere: `move(p)` gives the elements "o k" along one axis."""

    def add(cols: Array, positions: Positions, size: Size) -> Array:
        return steps.add(cols, tuple(move(p) for p in positions), size)

    return replace(steps, add=add)


PAGE.call_twist(
    "dx with the kernel not mirrored",
    "CONVGRAD-1",
    GRADIENT,
    says="with dx from a kernel that is not mirrored",
    look="The adjoint of a correlation is a convolution: rotate the kernel by 180° before dy is correlated "
    "with it, or use col2im.",
)(one_output_of("dx", lambda inputs, call: {"w": mirrored(inputs["w"])}))

PAGE.call_twist(
    "dx with the kernel mirrored along one axis",
    "CONVGRAD-1",
    GRADIENT,
    says="with dx from a kernel that is mirrored along the height only",
    look="The kernel is rotated by 180°, which reverses all its spatial axes: w[:, :, ::-1, ::-1].",
)(one_output_of("dx", lambda inputs, call: {"w": np.flip(inputs["w"], spatial(inputs["w"])[1:])}))


def _square_blocks_transposed(w: Array, groups: int) -> Array:
    return np.take(w, transposed_weights(np.arange(w.size).reshape(w.shape), groups))


PAGE.call_twist(
    "dx with the channels not exchanged",
    "CONVGRAD-1",
    GRADIENT,
    says="with dx from weights whose input and output channels are not exchanged",
    look="In the gradient the output channels are what is summed over: exchange the first two axes of w "
    "before dy is correlated with it.",
)(
    one_output_of(
        "dx",
        lambda inputs, call: {"w": _square_blocks_transposed(inputs["w"], call.groups)},
    )
)


@PAGE.steps_twist(
    "dx ignores the stride",
    "CONVGRAD-1",
    GRADIENT,
    says="when window i of dx starts at element i, without the stride",
    look="Window i covers the elements from i·s on, in the gradient as well: add to dx[i*s : i*s + k].",
)
def _(steps: Steps) -> Steps:
    return added_at(steps, unstrided)


@PAGE.steps_twist(
    "dx ignores the dilation",
    "CONVGRAD-1",
    GRADIENT,
    says="when the taps of dx lie side by side, without the dilation",
    look="Tap k of a window lies at k·d, in the gradient as well: add to dx[i*s + k*d].",
)
def _(steps: Steps) -> Steps:
    return added_at(steps, undilated)


@PAGE.steps_twist(
    "dx ignores the padding",
    "CONVGRAD-1",
    GRADIENT,
    says="when the first window of dx starts at element 0, without the padding",
    look="Window i starts at i·s − p, in the gradient as well: add into a padded dx and crop it at the end.",
)
def _(steps: Steps) -> Steps:
    return added_at(steps, unpadded)


PAGE.call_twist(
    "dx of the padded input",
    "CONVGRAD-1",
    GRADIENT,
    says="with dx of the padded input",
    look="dx has the shape of x: crop it by the padding, dx[:, :, p_h : p_h + H, p_w : p_w + W].",
)(cropping_dx(lambda dx, inputs, call: dx))


def _between_paddings(dx: Array, inputs: Inputs, call: Call) -> Array:
    spatial = [slice(low, -high) for low, high in call.window.padding]
    return dx[:, :, *spatial].copy()


PAGE.call_twist(
    "dx cropped with a negative zero",
    "CONVGRAD-1",
    GRADIENT,
    says="with dx cropped by [p:-p], which is empty for p = 0",
    look="-0 is 0, so [0:-0] is empty: crop with [p : p + H].",
)(cropping_dx(_between_paddings))


def _without_half_kernels(dx: Array, inputs: Inputs, call: Call) -> Array:
    sizes = zip(inputs["w"].shape[2:], dx.shape[2:], strict=True)
    spatial = [slice(k // 2, n - k // 2) for k, n in sizes]
    return dx[:, :, *spatial].copy()


PAGE.call_twist(
    "dx cropped by the kernel size",
    "CONVGRAD-1",
    GRADIENT,
    says="with dx cropped by half the kernel size instead of the padding",
    look="What was padded is cropped, and nothing else: crop by p, which is ⌊k/2⌋ only where the padding "
    "keeps the size.",
)(cropping_dx(_without_half_kernels))


@PAGE.steps_twist(
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


@PAGE.steps_twist(
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


PAGE.call_twist(
    "dx over one output channel",
    "CONVGRAD-1",
    GRADIENT,
    says="with dx from the first output channel alone",
    look="Every output channel contributes to dx: sum over o.",
)(one_output_of("dx", lambda inputs, call: {"dy": kept_first(inputs["dy"], 1)}))


@PAGE.steps_twist(
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


# --- CONVGRAD-2: gradient in the weight ------------------------------------------------------------------

PAGE.call_twist(
    "dw averaged over the batch",
    "CONVGRAD-2",
    GRADIENT,
    says="with dw divided by the number of samples",
    look="dw is the sum over the samples; dividing by their number belongs to the loss, where dy comes from.",
)(changing_output("dw", _per_sample))

PAGE.call_twist(
    "gradients averaged over the batch",
    "CONVGRAD-2",
    GRADIENT,
    says="with dx, dw and db divided by the number of samples",
    look="Gradients are sums; dividing by the number of samples belongs to the loss, where dy comes from.",
)(
    changing_outputs(
        lambda outputs, inputs, call: {
            name: _per_sample(array, inputs, call) for name, array in outputs.items()
        }
    )
)

PAGE.call_twist(
    "dw of the first sample",
    "CONVGRAD-2",
    GRADIENT,
    says="with dw from the first sample alone",
    look="Every sample contributes to dw: sum over n.",
)(one_output_of("dw", lambda inputs, call: {"dy": kept_first(inputs["dy"], 0)}))

PAGE.call_twist(
    "dw of the last sample",
    "CONVGRAD-2",
    GRADIENT,
    says="with dw from the last sample alone",
    look="Every sample contributes to dw: look for = where it should be += in the loop over the batch.",
)(one_output_of("dw", lambda inputs, call: {"dy": kept_last(inputs["dy"], 0)}))

PAGE.call_twist(
    "dw mirrored",
    "CONVGRAD-2",
    GRADIENT,
    says="with dw mirrored",
    look="dw[kh, kw] belongs to the tap w[kh, kw] as it stands: only dx needs the kernel rotated.",
)(changing_output("dw", lambda dw, inputs, call: mirrored(dw)))

PAGE.call_twist(
    "dw reshaped without transposing",
    "CONVGRAD-2",
    GRADIENT,
    says="with dw in the order i o kh kw, reshaped to o i kh kw",
    look="A reshape keeps the order of the values, a transposition moves them: use dw.transpose to exchange "
    "input and output channels.",
)(
    changing_output(
        "dw",
        lambda dw, inputs, call: by_group(dw, call.groups).swapaxes(1, 2).reshape(dw.shape),
    )
)

PAGE.call_twist(
    "dw transposed",
    "CONVGRAD-2",
    GRADIENT,
    says="with dw in the order i o kh kw",
    look="dw has the axes of w, output channels first: exchange its first two axes.",
)(changing_output("dw", lambda dw, inputs, call: dw.swapaxes(0, 1).copy()))


@PAGE.steps_twist(
    "dw ignores the stride",
    "CONVGRAD-2",
    GRADIENT,
    says="when window i of dw reads from element i on, without the stride",
    look="Window i read the elements from i·s on, and dw pairs dy with what it read: x[i*s + k].",
)
def _(steps: Steps) -> Steps:
    return read_at(steps, unstrided)


@PAGE.steps_twist(
    "dw ignores the dilation",
    "CONVGRAD-2",
    GRADIENT,
    says="when the taps of dw lie side by side, without the dilation",
    look="Tap k of a window read the element at k·d, and dw pairs dy with what it read: x[i*s + k*d].",
)
def _(steps: Steps) -> Steps:
    return read_at(steps, undilated)


@PAGE.steps_twist(
    "dw ignores the padding",
    "CONVGRAD-2",
    GRADIENT,
    says="with dw from the input without its padding",
    look="Windows start in the padding, in the gradient as well: compute dw from the padded x.",
)
def _(steps: Steps) -> Steps:
    return read_at(steps, unpadded)


# --- CONVGRAD-3: gradient in the bias --------------------------------------------------------------------

PAGE.call_twist(
    "db averaged over the batch",
    "CONVGRAD-3",
    GRADIENT,
    says="with db divided by the number of samples",
    look="db is the sum over the samples; dividing by their number belongs to the loss, where dy comes from.",
)(changing_output("db", _per_sample))


def _sum_of_dy(axes: Callable[[int], tuple[int, ...]]) -> CallTwist:
    """Compute db by summing dy over other axes: `axes(ndim)`."""
    return changing_output(
        "db", lambda db, inputs, call: inputs["dy"].sum(axis=axes(inputs["dy"].ndim)).astype(db.dtype)
    )


PAGE.call_twist(
    "db summed over the wrong axes",
    "CONVGRAD-3",
    GRADIENT,
    says="with db summed over all axes but the last",
    look="db keeps the output channels, which are axis 1 of dy in the order n o oh ow: sum over (0, 2, 3). "
    "Summing over (0, 1, 2) is for channels-last arrays.",
)(_sum_of_dy(lambda ndim: tuple(range(ndim - 1))))

PAGE.call_twist(
    "db not summed over space",
    "CONVGRAD-3",
    GRADIENT,
    says="with db summed over the batch only",
    look="One bias is added at every position of its channel, so db sums over all: sum over (0, 2, 3).",
)(_sum_of_dy(lambda ndim: (0,)))

PAGE.call_twist(
    "db averaged over positions",
    "CONVGRAD-3",
    GRADIENT,
    says="with db divided by the number of positions",
    look="db is the sum over all positions: look for a mean.",
)(
    changing_output(
        "db",
        lambda db, inputs, call: (db / int(np.prod(inputs["dy"].shape[2:]))).astype(db.dtype),
    )
)

PAGE.call_twist(
    "db of the first sample",
    "CONVGRAD-3",
    GRADIENT,
    says="with db from the first sample alone",
    look="Every sample contributes to db: sum over n.",
)(one_output_of("db", lambda inputs, call: {"dy": kept_first(inputs["dy"], 0)}))

PAGE.call_twist(
    "db with further axes",
    "CONVGRAD-3",
    GRADIENT,
    says="with db of shape (o, 1)",
    look="db has the axis o alone: leave keepdims=True out, or declare the layout that your bias has, "
    'bias="o 1".',
)(changing_output("db", lambda db, inputs, call: db.reshape(-1, 1)))

# --- CONVGRAD-4: groups in the gradients -----------------------------------------------------------------


@PAGE.call_twist(
    "groups ignored in the gradient",
    "CONVGRAD-4",
    GRADIENT,
    says="when gradients flow between all channels, whatever their group",
    look="dx of a channel collects the output channels of its own group only, and dw pairs the two within "
    "one group: loop over the groups, or split both arrays along the channels.",
)
def _(evaluate: Asked) -> Asked:
    def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
        outputs = evaluate(operator, inputs, call)
        w, groups = inputs["w"], call.groups
        # Every output channel sees every group, with the same kernel.
        everywhere = np.concatenate([w] * groups, axis=1)
        mixed = evaluate(operator, {**inputs, "w": everywhere}, replace(call, groups=1))
        dw = mixed["dw"].reshape(len(w), groups, *w.shape[1:]).sum(axis=1)
        return {**outputs, "dx": mixed["dx"], "dw": dw}

    return twisted


def _interleaved_input(inputs: Mapping[str, Array], call: Call) -> Mapping[str, Array]:
    x = inputs["x"]
    return {"x": np.take(x, interleaved(x.shape[1], call.groups), axis=1)}


PAGE.call_twist(
    "dw of groups mixed",
    "CONVGRAD-4",
    GRADIENT,
    says="with dw from input channels of other groups",
    look="Group g of dy belongs to the input channels from g·I on: reshape x to n, groups, C // groups, …, "
    "groups first.",
)(one_output_of("dw", _interleaved_input))

PAGE.call_twist(
    "dx of groups mixed",
    "CONVGRAD-4",
    GRADIENT,
    says="with dx of the groups taken in turns instead of one after the other",
    look="The input channels of the first group come first in dx: concatenate the groups along the channels.",
)(
    changing_output(
        "dx",
        lambda dx, inputs, call: np.take(dx, np.argsort(interleaved(dx.shape[1], call.groups)), axis=1),
    )
)


def _first_group(inputs: Mapping[str, Array], call: Call) -> Mapping[str, Array]:
    dy = inputs["dy"].copy()
    dy[:, dy.shape[1] // call.groups :] = 0
    return {"dy": dy}


PAGE.call_twist(
    "dx of the first group only",
    "CONVGRAD-4",
    GRADIENT,
    says="with dx of the first group alone",
    look="Every group has its own part of dx: look for a return, or an assignment, inside the loop over the "
    "groups.",
)(one_output_of("dx", _first_group))

# --- CONVGRAD-5: refused dy ------------------------------------------------------------------------------

misread_dy(PAGE, "CONVGRAD-5", "conv.backward", "the convolution")
