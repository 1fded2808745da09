"""Misreadings of the clauses about what is refused: calls that are answered all the same.

They give the standard's answer wherever the standard has one. Where it refuses, each mends the call in the
way that real code does, on purpose or by accident, and answers that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convform.reference.checks import Array
from convform.reference.evaluation import Outputs
from convform.reference.misreadings.misreading import CallTwist, Evaluate, Inputs, Parameters, call_twist
from convform.reference.window import Size, Window
from convform.spec.operators import FAMILIES, OPERATORS

CONV = ("conv", "conv.backward")
TWO_ARRAYS = ("conv", "conv.backward", "max_pool.backward", "avg_pool.backward")

Call = tuple[Mapping[str, Any], Mapping[str, Any]]
"""Inputs and parameters."""

Finish = Callable[[Outputs], Outputs]
"""What is done to the answer to a mended call."""


def _as_it_is(outputs: Outputs) -> Outputs:
    return outputs


def mending(mend: Callable[[str, dict[str, Any], dict[str, Any]], Finish | None]) -> CallTwist:
    """Answer what the standard refuses after a change.

    `mend(operator, inputs, parameters)` changes inputs and parameters in place. It may return a function
    that is applied to the outputs, and may raise; what is refused after it stays refused.
    """

    def twist(evaluate: Evaluate) -> Evaluate:
        def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
            try:
                return evaluate(operator, inputs, parameters)
            except (TypeError, ValueError):
                mended = {name: array for name, array in inputs.items() if array is not None}
                changed = dict(parameters)
                finish = mend(operator, mended, changed) or _as_it_is
                return finish(evaluate(operator, mended, changed))

        return twisted

    return twist


# --- WINDOW-6 ---------------------------------------------------------------------------------------------


def _rooms(inputs: Inputs, parameters: Parameters) -> list[int]:
    """Padded size minus the effective kernel, along each axis; negative where no window fits."""
    size = inputs["x"].shape[2:] if "x" in inputs else parameters["input_size"][2:]
    kernel = parameters.get("kernel") or inputs["w"].shape[2:]
    return [
        n + low + high - d * (k - 1) - 1
        for n, k, d, (low, high) in zip(
            size, kernel, parameters["dilation"], parameters["padding"], strict=True
        )
    ]


def _make_room(rooms: list[int], parameters: dict[str, Any]) -> None:
    """Make room for one window along every axis that has none."""
    parameters["padding"] = tuple(
        (low, high + max(-room, 0)) for room, (low, high) in zip(rooms, parameters["padding"], strict=True)
    )


@call_twist(
    "oversized kernel gives an empty output",
    "WINDOW-6",
    FAMILIES,
    says="except that a kernel that does not fit gives an empty output",
    look="An output without elements is refused: check that the padded input is at least as long as the "
    "kernel and raise, since slices that are too long do not.",
    dialect=("oversize", "empty"),
)
@mending
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> Finish:
    rooms = _rooms(inputs, parameters)
    _make_room(rooms, parameters)
    for name in {"dy", "cols"} & set(inputs):
        # No window at all adds up to what a window of zeros adds up to.
        array = inputs[name]
        windows = array.shape[array.ndim - len(rooms) :]
        if any(room < 0 < n for room, n in zip(rooms, windows, strict=True)):
            raise ValueError(f"{name} has windows along an axis that has none: {windows}")
        more = [(0, int(room < 0 and n == 0)) for room, n in zip(rooms, windows, strict=True)]
        inputs[name] = np.pad(array, [(0, 0)] * (array.ndim - len(rooms)) + more)
    kept = tuple(slice(0, 0) if room < 0 else slice(None) for room in rooms)
    return lambda outputs: {
        name: array[(..., *kept)] if name in ("y", "indices", "cols") else array
        for name, array in outputs.items()
    }


@call_twist(
    "size truncated toward zero",
    "WINDOW-6",
    FAMILIES,
    says="except that a kernel that does not fit by less than a stride gives one window",
    look="int(-0.5) is 0, so one window is left over: use // for the output size, and check that the kernel "
    "fits.",
)
@mending
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    rooms = _rooms(inputs, parameters)
    strides = parameters["stride"] or parameters["kernel"]
    if all(room > -s for room, s in zip(rooms, strides, strict=True)):
        _make_room(rooms, parameters)


@call_twist(
    "negative padding crops",
    "WINDOW-6",
    FAMILIES,
    says="except that negative padding crops the input",
    look="Padding below zero is refused: check it before it reaches a slice or np.pad.",
    dialect=("padding", "crop"),
)
@mending
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> Finish:
    padding = parameters["padding"]
    cut = [(max(-low, 0), max(-high, 0)) for low, high in padding]
    if not any(map(any, cut)):
        return _as_it_is
    parameters["padding"] = tuple((max(low, 0), max(high, 0)) for low, high in padding)
    size = inputs["x"].shape[2:] if "x" in inputs else parameters["input_size"][2:]
    kept = [slice(low, n - high) for n, (low, high) in zip(size, cut, strict=True)]
    if "x" in inputs:
        inputs["x"] = inputs["x"][:, :, *kept]
    if "input_size" in parameters:
        inside = (s.stop - s.start for s in kept)
        parameters["input_size"] = (*parameters["input_size"][:2], *inside)

    def grown(outputs: Outputs) -> Outputs:
        # What was cut off has no gradient; indices count in the whole plane.
        whole = {
            name: np.pad(array, [(0, 0), (0, 0), *cut])
            for name, array in outputs.items()
            if name in ("x", "dx")
        }
        if "indices" in outputs:
            whole["indices"] = _in_larger_plane(outputs["indices"], kept, size)
        return {**outputs, **whole}

    return grown


def _in_larger_plane(indices: Array, kept: list[slice], size: Size) -> Array:
    inner = tuple(s.stop - s.start for s in kept)
    places = np.unravel_index(np.maximum(indices, 0), inner)
    moved = np.ravel_multi_index(tuple(place + s.start for place, s in zip(places, kept, strict=True)), size)
    return np.where(indices < 0, indices, moved)


def _no_less(name: str, least: int) -> CallTwist:
    """Take values of a parameter below `least` for `least`."""

    def mend(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
        parameters[name] = tuple(max(value, least) for value in parameters[name] or parameters["kernel"])

    return mending(mend)


@call_twist(
    "negative padding is none",
    "WINDOW-6",
    FAMILIES,
    says="except that negative padding counts as 0",
    look="Padding below zero is refused: look for `if padding > 0` without an else.",
)
@mending
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    parameters["padding"] = tuple((max(low, 0), max(high, 0)) for low, high in parameters["padding"])


call_twist(
    "dilation zero is none",
    "WINDOW-6",
    FAMILIES,
    says="except that dilation 0 counts as 1",
    look="No dilation is d = 1, and d = 0 is refused: look for `dilation or 1`, or for a distance d + 1.",
)(_no_less("dilation", 1))

call_twist(
    "stride zero is one",
    "WINDOW-6",
    FAMILIES,
    says="except that stride 0 counts as 1",
    look="A stride of 0 is refused: look for `stride or 1`.",
)(_no_less("stride", 1))


@call_twist(
    "sign of the stride ignored",
    "WINDOW-6",
    FAMILIES,
    says="except that the sign of a negative stride is ignored",
    look="A stride below 1 is refused: check it before anything is computed from it.",
)
@mending
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    parameters["stride"] = tuple(abs(s) for s in parameters["stride"] or parameters["kernel"])


# --- arrays that do not fit: COL2IM-3, CONV-7, CONVGRAD-5, MAXGRAD-3 and AVGGRAD-2 ------------------------


def _output_size(size: Size, kernel: Size, parameters: Parameters) -> Size:
    """Number of windows along each axis, for parameters that are right."""
    window = Window.of(
        kernel,
        parameters["stride"],
        parameters["padding"],
        parameters["dilation"],
        bool(parameters.get("ceil_mode", False)),
    )
    return window.output_size(size)


def _cropped(array: Array, shape: tuple[int, ...]) -> Array:
    """Leave out what is too much, and refuse what is too little."""
    if any(have < need for have, need in zip(array.shape, shape, strict=True)):
        raise IndexError(f"shape {array.shape} where {shape} is read")
    return array[tuple(map(slice, shape))]


def _columns_shape(parameters: Parameters) -> tuple[int, ...]:
    n, c, *size = parameters["input_size"]
    kernel = parameters["kernel"]
    return (n, c, *kernel, *_output_size(tuple(size), kernel, parameters))


@call_twist(
    "columns broadcast",
    "COL2IM-3",
    ("col2im",),
    says="except that columns of size one along an axis are repeated",
    look="The columns must have the sizes that input_size and the window imply: check the shape, since "
    "NumPy repeats axes of length one.",
)
@mending
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    inputs["cols"] = np.broadcast_to(inputs["cols"], _columns_shape(parameters))


@call_twist(
    "surplus columns ignored",
    "COL2IM-3",
    ("col2im",),
    says="except that surplus columns are left out",
    look="The columns must have the sizes that input_size and the window imply: check the shape, since a "
    "loop over what is needed does not notice the rest.",
)
@mending
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    inputs["cols"] = _cropped(inputs["cols"], _columns_shape(parameters))


@call_twist(
    "surplus channels ignored",
    "CONV-7",
    CONV,
    says="except that input channels that no weight belongs to are left out",
    look="x has I · groups channels, or is refused: check the channels, since a loop over those of the "
    "weight does not notice the rest.",
)
@mending
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    inputs["x"] = inputs["x"][:, : inputs["w"].shape[1] * parameters["groups"]]


@call_twist(
    "surplus kernel slices ignored",
    "CONV-7",
    CONV,
    says="except that kernel slices that no input channel belongs to are left out",
    look="w has C / groups input channels, or is refused: check the channels, since a loop over those of x, "
    "or zip, does not notice the rest.",
)
@mending
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    inputs["w"] = inputs["w"][:, : inputs["x"].shape[1] // parameters["groups"]]


@call_twist(
    "weight broadcast over channels",
    "CONV-7",
    CONV,
    says="except that weights with one input channel are used for all",
    look="w has C / groups input channels, or is refused: check the channels, since NumPy repeats axes of "
    "length one.",
)
@mending
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> Finish:
    w = inputs["w"]
    channels = inputs["x"].shape[1] // parameters["groups"]
    inputs["w"] = np.broadcast_to(w, (len(w), channels, *w.shape[2:]))

    def folded(outputs: Outputs) -> Outputs:
        if "dw" not in outputs or w.shape[1] == channels:
            return outputs
        return {**outputs, "dw": outputs["dw"].sum(axis=1, keepdims=True)}

    return folded


@call_twist(
    "bias broadcast",
    "CONV-7",
    ("conv",),
    says="except that a bias of length one is added to all output channels",
    look="b has one element for each output channel, or is refused: check its length, since NumPy repeats "
    "axes of length one.",
)
@mending
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    if "b" in inputs:
        inputs["b"] = np.broadcast_to(inputs["b"], (len(inputs["w"]),))


@call_twist(
    "surplus biases ignored",
    "CONV-7",
    ("conv",),
    says="except that biases that no output channel belongs to are left out",
    look="b has one element for each output channel, or is refused: check its length, since a loop over the "
    "output channels does not notice the rest.",
)
@mending
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    if "b" in inputs:
        inputs["b"] = _cropped(inputs["b"], (len(inputs["w"]),))


@call_twist(
    "groups rounded down",
    "CONV-7",
    CONV,
    says="except that channels that do not fill a group are left out",
    look="groups divides the number of input channels and of output channels, or is refused: // leaves a "
    "rest that must be checked.",
)
@mending
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


@call_twist(
    "zero groups are one",
    "CONV-7",
    CONV,
    says="except that 0 groups count as 1",
    look="groups is at least 1: look for `groups or 1`.",
)
@mending
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    parameters["groups"] = parameters["groups"] or 1


def _dy_shape(inputs: Inputs, parameters: Parameters) -> tuple[int, ...]:
    x = inputs["x"]
    convolved = "w" in inputs
    kernel = inputs["w"].shape[2:] if convolved else parameters["kernel"]
    channels = len(inputs["w"]) if convolved else x.shape[1]
    return (len(x), channels, *_output_size(x.shape[2:], kernel, parameters))


def _broadcast_dy(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    inputs["dy"] = np.broadcast_to(inputs["dy"], _dy_shape(inputs, parameters))


def _cropped_dy(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    inputs["dy"] = _cropped(inputs["dy"], _dy_shape(inputs, parameters))


for _of, _clause, _family in (
    ("the convolution", "CONVGRAD-5", "conv.backward"),
    ("max pooling", "MAXGRAD-3", "max_pool.backward"),
    ("average pooling", "AVGGRAD-2", "avg_pool.backward"),
):
    call_twist(
        f"dy of {_of} broadcast",
        _clause,
        (_family,),
        says="except that a dy of size one along an axis is repeated",
        look="dy has the shape of the output, or is refused: check the shape, since NumPy repeats axes of "
        "length one.",
    )(mending(_broadcast_dy))
    call_twist(
        f"dy of {_of} cropped",
        _clause,
        (_family,),
        says="except that what is too much in dy is left out",
        look="dy has the shape of the output, or is refused: check the shape, since a loop over the output "
        "does not notice the rest.",
    )(mending(_cropped_dy))

# --- CONTRACT-6 -------------------------------------------------------------------------------------------


@call_twist(
    "mixed dtypes promoted",
    "CONTRACT-6",
    TWO_ARRAYS,
    says="except that arrays of different dtypes are computed in the wider one",
    look="Arrays of different dtypes are refused: compare the dtypes first, since NumPy converts in silence.",
    dialect=("dtypes", "promote"),
)
@mending
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    wider = np.result_type(*inputs.values())
    inputs.update({name: array.astype(wider) for name, array in inputs.items()})


@call_twist(
    "mixed dtypes cast to the input's",
    "CONTRACT-6",
    TWO_ARRAYS,
    says="except that all arrays are converted to the dtype of x",
    look="Arrays of different dtypes are refused: compare the dtypes first; astype and np.zeros_like(x) "
    "drop digits in silence.",
)
@mending
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    inputs.update({name: array.astype(inputs["x"].dtype) for name, array in inputs.items()})


# --- CONTRACT-9 -------------------------------------------------------------------------------------------


def _main_array(operator: str, inputs: Inputs) -> tuple[str, int]:
    """Name of x or cols, and how many axes it has."""
    name = "cols" if "cols" in inputs else "x"
    return name, len(OPERATORS[operator].inputs[name].split())


@call_twist(
    "missing axes guessed",
    "CONTRACT-9",
    FAMILIES,
    says="except that axes of size one are put in front of an array that has too few",
    look="An array without its channel axis is refused: check the number of axes, and do not add any.",
)
@mending
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    name, rank = _main_array(operator, inputs)
    array = inputs[name]
    inputs[name] = array.reshape((1,) * (rank - array.ndim) + array.shape)


@call_twist(
    "surplus axes merged",
    "CONTRACT-9",
    FAMILIES,
    says="except that surplus axes in front are merged into the samples",
    look="An array with one axis too many is refused: check the number of axes; reshape(-1, c, h, w) takes "
    "what it gets.",
)
@mending
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    name, rank = _main_array(operator, inputs)
    array = inputs[name]
    if array.ndim > rank:
        inputs[name] = array.reshape(-1, *array.shape[array.ndim - rank + 1 :])
