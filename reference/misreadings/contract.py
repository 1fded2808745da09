"""Misreadings of the contract that every operator keeps (CONTRACT-1 to -9)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convform.reference.call import Call
from convform.reference.checks import Array
from convform.reference.evaluation import Outputs
from convform.reference.misreadings.misreading import (
    Asked,
    CallTwist,
    Inputs,
    Page,
    changing_inputs,
    changing_outputs,
)
from convform.reference.misreadings.steps import no_padding
from convform.spec.operators import FAMILIES, OPERATORS

PAGE = Page("contract", "CONTRACT")

GRADIENTS = tuple(family for family in FAMILIES if family.endswith(".backward"))


TWO_ARRAYS = ("conv", "conv.backward", "max_pool.backward", "avg_pool.backward")


def arrays_of(inputs: Inputs) -> dict[str, Array]:
    """Arrays that were given, by name: a bias may be None."""
    return {name: value for name, value in inputs.items() if isinstance(value, np.ndarray)}


def refusing(refused: Callable[[Array], bool], says: str) -> CallTwist:
    """Raise where an array is refused."""

    def twist(evaluate: Asked) -> Asked:
        def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
            if any(refused(array) for array in arrays_of(inputs).values()):
                raise ValueError(says)
            return evaluate(operator, inputs, call)

        return twisted

    return twist


# --- CONTRACT-1: inputs are not modified -----------------------------------------------------------------


def afterwards(act: Callable[[Outputs, Inputs, Call], None]) -> CallTwist:
    """Answer as the standard does, then do something with the arrays."""

    def twist(evaluate: Asked) -> Asked:
        def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
            outputs = evaluate(operator, inputs, call)
            act(outputs, inputs, call)
            return outputs

        return twisted

    return twist


def _clear_border(outputs: Outputs, inputs: Inputs, call: Call) -> None:
    first = next(iter(arrays_of(inputs).values()))
    first[..., :1] = 0


PAGE.call_twist(
    "input modified in place",
    "CONTRACT-1",
    FAMILIES,
    says="and then sets the border of its input to 0",
    look="The caller still needs its array: work on a copy, and look for in-place operations (x -= …, x[…] "
    "= …).",
)(afterwards(_clear_border))


def _train(outputs: Outputs, inputs: Inputs, call: Call) -> None:
    inputs["w"][...] = inputs["w"] - outputs["dw"]


PAGE.call_twist(
    "weights updated inside the backward pass",
    "CONTRACT-1",
    ("conv.backward",),
    says="and then takes a step of training: w is changed",
    look="A backward pass only computes gradients; the step of training belongs to the caller.",
)(afterwards(_train))


def _divide_dy(outputs: Outputs, inputs: Inputs, call: Call) -> None:
    inputs["dy"][...] = inputs["dy"] / call.window.taps


PAGE.call_twist(
    "dy divided in place",
    "CONTRACT-1",
    ("avg_pool.backward",),
    says="and leaves dy divided by the size of the kernel",
    look="dy belongs to the caller: write dy / D to a new array instead of dy /= D.",
)(afterwards(_divide_dy))

# --- CONTRACT-2: outputs have their own memory -----------------------------------------------------------


def _one_tap(call: Call) -> bool:
    """Whether every window is one element, and every element has one window."""
    window = call.window
    return {*window.kernel, *window.stride} == {1} and window.padding == no_padding(window)


@PAGE.call_twist(
    "view returned",
    "CONTRACT-2",
    tuple(family for family in FAMILIES if not family.startswith("conv")),
    says="but returns a view of its input where nothing has to be computed",
    look="Whoever changes the output would change the input: return a copy where a kernel of one tap leaves "
    "the values as they are.",
)
def _(evaluate: Asked) -> Asked:
    def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
        outputs = evaluate(operator, inputs, call)
        (name, output), *_ = outputs.items()
        source = inputs.get("dy", inputs.get("x", inputs.get("cols")))
        if _one_tap(call) and source is not None:
            return {**outputs, name: source.reshape(output.shape)}
        return outputs

    return twisted


@PAGE.call_twist(
    "sliding view returned",
    "CONTRACT-2",
    ("im2col",),
    says="but returns overlapping views of its input where there is no padding",
    look="sliding_window_view and as_strided return views whose elements share memory: return a copy.",
)
def _(evaluate: Asked) -> Asked:
    def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
        outputs = evaluate(operator, inputs, call)
        x = inputs["x"]
        if call.window.padding != no_padding(call.window):
            return outputs
        spatial = x.strides[2:]
        within = tuple(d * step for d, step in zip(call.window.dilation, spatial, strict=True))
        between = tuple(s * step for s, step in zip(call.window.stride, spatial, strict=True))
        strides = (*x.strides[:2], *within, *between)
        return {"cols": np.lib.stride_tricks.as_strided(x, outputs["cols"].shape, strides)}

    return twisted


@PAGE.call_twist(
    "output buffer reused",
    "CONTRACT-2",
    FAMILIES,
    says="but writes every answer to the same array",
    look="The next call overwrites what the caller still holds: create the output anew in each call.",
)
def _(evaluate: Asked) -> Asked:
    buffers: dict[object, Array] = {}

    def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
        outputs = evaluate(operator, inputs, call)
        for name, array in outputs.items():
            buffer = buffers.setdefault((operator, name, array.shape, array.dtype), array.copy())
            buffer[...] = array
            outputs[name] = buffer
        return outputs

    return twisted


# --- CONTRACT-3: views count -----------------------------------------------------------------------------


def as_if_contiguous(array: Array) -> Array:
    """Read an array's memory as if its elements lay there one after the other."""
    if array.flags.c_contiguous:
        return array
    owner: Any = array
    while getattr(owner, "base", None) is not None:
        owner = owner.base
    memory = owner.ravel(order="K")
    start = (array.ctypes.data - owner.ctypes.data) // array.itemsize
    # Reading beyond the end would be anybody's memory: begin again.
    read: Array = np.take(memory, start + np.arange(array.size), mode="wrap")
    return read.reshape(array.shape)


PAGE.call_twist(
    "strides of a contiguous array assumed",
    "CONTRACT-3",
    FAMILIES,
    says="for arrays that are contiguous in memory, and reads others as if they were",
    look="Elements of a view need not be neighbours in memory: use the strides of the array, or take "
    "np.ascontiguousarray first.",
)(changing_inputs(lambda inputs, call: {name: as_if_contiguous(a) for name, a in arrays_of(inputs).items()}))

PAGE.call_twist(
    "views refused",
    "CONTRACT-3",
    FAMILIES,
    says="for arrays that are contiguous in memory, and raises for others",
    look="Transposed and sliced arrays are ordinary inputs: take np.ascontiguousarray first.",
)(refusing(lambda array: not array.flags.c_contiguous, "array is not C-contiguous"))

PAGE.call_twist(
    "negative steps refused",
    "CONTRACT-3",
    FAMILIES,
    says="but raises for arrays with a negative step, such as x[:, :, ::-1]",
    look="Reversed arrays are ordinary inputs; what cannot take them, such as torch.from_numpy, needs a "
    "copy.",
)(refusing(lambda array: min(array.strides, default=0) < 0, "at least one stride is negative"))

PAGE.call_twist(
    "read-only input refused",
    "CONTRACT-3",
    FAMILIES,
    says="but raises for arrays that cannot be written to",
    look="Inputs are only read, so a read-only array will do. Does something write to its input, or ask for "
    "a writable buffer?",
)(refusing(lambda array: not array.flags.writeable, "buffer source array is read-only"))

# --- CONTRACT-4: no memory between calls -----------------------------------------------------------------


@PAGE.call_twist(
    "latest forward wins",
    "CONTRACT-4",
    ("conv.backward", "max_pool.backward"),
    says="for the input of the latest forward call, whatever input the gradient is asked for",
    look="forward(a), forward(b), backward(a) asks for the gradient of a: give every call a cache of its "
    "own instead of keeping the last one in the layer.",
)
def _(evaluate: Asked) -> Asked:
    kept: dict[str, Any] = {}

    def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
        if not operator.endswith(".backward"):
            kept.update({name: array.copy() for name, array in arrays_of(inputs).items()})
            return evaluate(operator, inputs, call)
        fitting = {
            name: kept[name]
            for name, array in arrays_of(inputs).items()
            if name in kept and kept[name].shape == array.shape and kept[name].dtype == array.dtype
        }
        return evaluate(operator, {**inputs, **fitting}, call)

    return twisted


@PAGE.call_twist(
    "gradients add up over calls",
    "CONTRACT-4",
    GRADIENTS,
    says="plus the gradients of all calls before",
    look="Every call starts at zero: set the gradients to 0 at the start of the backward pass.",
)
def _(evaluate: Asked) -> Asked:
    sums: dict[object, Array] = {}

    def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
        outputs = evaluate(operator, inputs, call)
        # A layer keeps the gradients of its call; pooling has none, and keeps dx.
        for name in ("dw", "db") if "dw" in outputs else ("dx",):
            key = (operator, name, outputs[name].shape, outputs[name].dtype)
            sums[key] = outputs[name] + sums.get(key, np.zeros((), outputs[name].dtype))
            outputs[name] = sums[key].copy()
        return outputs

    return twisted


@PAGE.call_twist(
    "stale buffer",
    "CONTRACT-4",
    ("im2col", "col2im", *GRADIENTS),
    says="but elements to which nothing is written keep what an earlier call left in the buffer",
    look="A buffer that is used again still holds the last answer: fill it with zeros first, or create it "
    "with np.zeros in each call.",
)
def _(evaluate: Asked) -> Asked:
    buffers: dict[object, Array] = {}

    def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
        outputs = evaluate(operator, inputs, call)
        name = next(iter(outputs))
        array = outputs[name]
        buffer = buffers.setdefault((operator, array.dtype), np.zeros(0, array.dtype))
        if buffer.size < array.size:
            buffer = buffers[operator, array.dtype] = np.zeros(array.size, array.dtype)
        part = buffer[: array.size].reshape(array.shape)
        part[...] = np.where(array == 0, part, array)
        return {**outputs, name: part.copy()}

    return twisted


# --- CONTRACT-5: dtype of the outputs --------------------------------------------------------------------


def _all_but_indices(outputs: Outputs, dtype: type) -> Mapping[str, Array]:
    return {name: array.astype(dtype) for name, array in outputs.items() if name != "indices"}


PAGE.call_twist(
    "result in float64",
    "CONTRACT-5",
    FAMILIES,
    says="but in float64",
    look="The output has the dtype of the input: np.zeros makes float64 unless it is given dtype=x.dtype.",
)(changing_outputs(lambda outputs, inputs, call: _all_but_indices(outputs, np.float64)))


@PAGE.call_twist(
    "result in float32",
    "CONTRACT-5",
    FAMILIES,
    says="but computed in float32 and returned in it",
    look="The output has the dtype of the input, and float64 has digits that float32 loses: remove the "
    "conversion to float32.",
)
def _(evaluate: Asked) -> Asked:
    def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
        single = {name: array.astype(np.float32) for name, array in arrays_of(inputs).items()}
        return evaluate(operator, single, call)

    return twisted


PAGE.call_twist(
    "integers become floating point",
    "CONTRACT-5",
    tuple(family for family in FAMILIES if not family.startswith("avg_pool")),
    says="but in float64 where the input holds integers",
    look="The output has the dtype of the input, integers included: create it with dtype=x.dtype.",
)(
    changing_outputs(
        lambda outputs, inputs, call: (
            _all_but_indices(outputs, np.float64)
            if next(iter(arrays_of(inputs).values())).dtype.kind in "iu"
            else {}
        )
    )
)

PAGE.call_twist(
    "indices as floating point",
    "CONTRACT-5",
    ("max_pool",),
    says="but with indices of a floating dtype",
    look="Indices are integers: create their array with dtype=np.int64.",
)(changing_outputs(lambda outputs, inputs, call: {"indices": outputs["indices"].astype(np.float64)}))

# --- CONTRACT-6: mixed dtypes ----------------------------------------------------------------------------


@PAGE.mend(
    "mixed dtypes promoted",
    "CONTRACT-6",
    TWO_ARRAYS,
    says="except that arrays of different dtypes are computed in the wider one",
    look="Arrays of different dtypes are refused: compare the dtypes first, since NumPy converts in silence.",
    dialect=("dtypes", "promote"),
)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    wider = np.result_type(*inputs.values())
    inputs.update({name: array.astype(wider) for name, array in inputs.items()})


@PAGE.mend(
    "mixed dtypes cast to the input's",
    "CONTRACT-6",
    TWO_ARRAYS,
    says="except that all arrays are converted to the dtype of x",
    look="Arrays of different dtypes are refused: compare the dtypes first; astype and np.zeros_like(x) "
    "drop digits in silence.",
)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    inputs.update({name: array.astype(inputs["x"].dtype) for name, array in inputs.items()})


# --- CONTRACT-7: empty batch -----------------------------------------------------------------------------

PAGE.call_twist(
    "empty batch crashes",
    "CONTRACT-7",
    FAMILIES,
    says="but raises for a batch without samples",
    look="N = 0 is a batch like any other: do not divide by N, and write sizes out where reshape has a −1.",
)(refusing(lambda array: array.ndim > 1 and array.shape[0] == 0, "cannot reshape array of size 0"))


def _size_of_input(outputs: Outputs, inputs: Inputs, call: Call) -> Mapping[str, Array]:
    size, n = inputs["x"].shape[2:], len(inputs["x"])
    return {
        name: array if n else np.zeros((*array.shape[: -len(size)], *size), array.dtype)
        for name, array in outputs.items()
    }


PAGE.call_twist(
    "empty batch keeps the input's size",
    "CONTRACT-7",
    ("im2col", "conv", "max_pool", "avg_pool"),
    says="but keeps the spatial size of the input for a batch without samples",
    look="The other axes of the output are as for any N: compute its shape before you look at N.",
)(changing_outputs(_size_of_input))

PAGE.call_twist(
    "empty batch gives an empty gradient",
    "CONTRACT-7",
    ("conv.backward",),
    says="but with an empty dw for a batch without samples",
    look="dw has the shape of w, and a sum over no samples is 0: start from np.zeros_like(w).",
)(changing_outputs(lambda outputs, inputs, call: {} if len(inputs["x"]) else {"dw": outputs["dw"][:0]}))

# --- CONTRACT-8: axes of size one ------------------------------------------------------------------------

PAGE.call_twist(
    "size-one axes squeezed",
    "CONTRACT-8",
    FAMILIES,
    says="but without axes of size one",
    look="Axes of size one stay: name the axis in squeeze, or index with a slice instead of an integer.",
)(changing_outputs(lambda outputs, inputs, call: {name: array.squeeze() for name, array in outputs.items()}))


@PAGE.call_twist(
    "size-one axes crash",
    "CONTRACT-8",
    FAMILIES,
    says="but raises for inputs or kernels of one element",
    look="H = W = 1 and a kernel of 1 are sizes like any other: is something squeezed, or is 1 taken for a "
    "scalar?",
)
def _(evaluate: Asked) -> Asked:
    def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
        outputs = evaluate(operator, inputs, call)
        if 1 in (math.prod(call.size), call.window.taps):
            raise IndexError("too many indices for array")
        return outputs

    return twisted


# --- CONTRACT-9: wrong rank ------------------------------------------------------------------------------


def _main_array(operator: str, inputs: Inputs) -> tuple[str, int]:
    """Name of x or cols, and how many axes it has."""
    name = "cols" if "cols" in inputs else "x"
    return name, len(OPERATORS[operator].inputs[name].split())


@PAGE.mend(
    "missing axes guessed",
    "CONTRACT-9",
    FAMILIES,
    says="except that axes of size one are put in front of an array that has too few",
    look="An array without its channel axis is refused: check the number of axes, and do not add any.",
)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    name, rank = _main_array(operator, inputs)
    array = inputs[name]
    inputs[name] = array.reshape((1,) * (rank - array.ndim) + array.shape)


@PAGE.mend(
    "surplus axes merged",
    "CONTRACT-9",
    FAMILIES,
    says="except that surplus axes in front are merged into the samples",
    look="An array with one axis too many is refused: check the number of axes; reshape(-1, c, h, w) takes "
    "what it gets.",
)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    name, rank = _main_array(operator, inputs)
    array = inputs[name]
    if array.ndim > rank:
        inputs[name] = array.reshape(-1, *array.shape[array.ndim - rank + 1 :])
