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
    around,
    changing_inputs,
    changing_outputs,
)
from convform.reference.misreadings.steps import no_padding
from convform.spec.operators import FAMILIES, OPERATORS

PAGE = Page("contract")

GRADIENTS = tuple(family for family in FAMILIES if family.endswith(".backward"))


TWO_ARRAYS = ("conv", "conv.backward", "max_pool.backward", "avg_pool.backward")


def arrays_of(inputs: Inputs) -> dict[str, Array]:
    """Arrays that were given, by name: a bias may be None."""
    return {name: value for name, value in inputs.items() if isinstance(value, np.ndarray)}


def refusing(refused: Callable[[Array], bool], says: str) -> CallTwist:
    """Raise where an array is refused."""

    @around
    def twist(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
        if any(refused(array) for array in arrays_of(inputs).values()):
            raise ValueError(says)
        return evaluate(operator, inputs, call)

    return twist


# --- CONTRACT-1: inputs are not modified -----------------------------------------------------------------


def afterwards(act: Callable[[Outputs, Inputs, Call], None]) -> CallTwist:
    """Answer as the standard does, then do something with the arrays."""

    @around
    def twist(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
        outputs = evaluate(operator, inputs, call)
        act(outputs, inputs, call)
        return outputs

    return twist


@PAGE.call_twist("input modified in place", FAMILIES)
@afterwards
def _(outputs: Outputs, inputs: Inputs, call: Call) -> None:
    first = next(iter(arrays_of(inputs).values()))
    first[..., :1] = 0


@PAGE.call_twist("weights updated inside the backward pass", ("conv.backward",))
@afterwards
def _(outputs: Outputs, inputs: Inputs, call: Call) -> None:
    inputs["w"][...] = inputs["w"] - outputs["dw"]


@PAGE.call_twist("dy divided in place", ("avg_pool.backward",))
@afterwards
def _(outputs: Outputs, inputs: Inputs, call: Call) -> None:
    inputs["dy"][...] = inputs["dy"] / call.window.taps


# --- CONTRACT-2: outputs have their own memory -----------------------------------------------------------


def _one_tap(call: Call) -> bool:
    """Whether every window is one element, and every element has one window."""
    where = zip(call.window.positions(call.output), call.size, strict=True)
    return all(np.array_equal(p, np.arange(n)[:, None]) for p, n in where)


@PAGE.call_twist("view returned", tuple(family for family in FAMILIES if not family.startswith("conv")))
@around
def _(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
    outputs = evaluate(operator, inputs, call)
    (name, output), *_ = outputs.items()
    source = inputs.get("dy", inputs.get("x", inputs.get("cols")))
    if _one_tap(call) and source is not None:
        return {**outputs, name: source.reshape(output.shape)}
    return outputs


@PAGE.call_twist("sliding view returned", ("im2col",))
@around
def _(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
    outputs = evaluate(operator, inputs, call)
    x = inputs["x"]
    if call.window.padding != no_padding(call.window):
        return outputs
    spatial = x.strides[2:]
    within = tuple(d * step for d, step in zip(call.window.dilation, spatial, strict=True))
    between = tuple(s * step for s, step in zip(call.window.stride, spatial, strict=True))
    strides = (*x.strides[:2], *within, *between)
    return {"cols": np.lib.stride_tricks.as_strided(x, outputs["cols"].shape, strides)}


@PAGE.call_twist("output buffer reused", FAMILIES)
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


PAGE.call_twist("strides of a contiguous array assumed", FAMILIES)(
    changing_inputs(lambda inputs, call: {name: as_if_contiguous(a) for name, a in arrays_of(inputs).items()})
)

PAGE.call_twist("views refused", FAMILIES)(
    refusing(lambda array: not array.flags.c_contiguous, "array is not C-contiguous")
)

PAGE.call_twist("negative steps refused", FAMILIES)(
    refusing(lambda array: min(array.strides, default=0) < 0, "at least one stride is negative")
)

PAGE.call_twist("read-only input refused", FAMILIES)(
    refusing(lambda array: not array.flags.writeable, "buffer source array is read-only")
)

# --- CONTRACT-4: no memory between calls -----------------------------------------------------------------


@PAGE.call_twist("latest forward wins", ("conv.backward", "max_pool.backward"))
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


@PAGE.call_twist("gradients add up over calls", GRADIENTS)
def _(evaluate: Asked) -> Asked:
    sums: dict[object, Array] = {}

    def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
        outputs = evaluate(operator, inputs, call)
        # A layer keeps the gradients of its parameters; pooling has none, and keeps dx.
        for name in ("dw", "db") if "dw" in outputs else ("dx",):
            key = (operator, name, outputs[name].shape, outputs[name].dtype)
            sums[key] = outputs[name] + sums.get(key, np.zeros((), outputs[name].dtype))
            outputs[name] = sums[key].copy()
        return outputs

    return twisted


@PAGE.call_twist("stale buffer", ("im2col", "col2im", *GRADIENTS))
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


PAGE.call_twist("result in float64", FAMILIES)(
    changing_outputs(lambda outputs, inputs, call: _all_but_indices(outputs, np.float64))
)


PAGE.call_twist("result in float32", FAMILIES)(
    changing_inputs(
        lambda inputs, call: {name: array.astype(np.float32) for name, array in arrays_of(inputs).items()}
    )
)

PAGE.call_twist(
    "integers become floating point",
    tuple(family for family in FAMILIES if not family.startswith("avg_pool")),
)(
    changing_outputs(
        lambda outputs, inputs, call: (
            _all_but_indices(outputs, np.float64)
            if next(iter(arrays_of(inputs).values())).dtype.kind in "iu"
            else {}
        )
    )
)

PAGE.call_twist("indices as floating point", ("max_pool",))(
    changing_outputs(lambda outputs, inputs, call: {"indices": outputs["indices"].astype(np.float64)})
)

# --- CONTRACT-6: mixed dtypes ----------------------------------------------------------------------------


@PAGE.mend("mixed dtypes promoted", TWO_ARRAYS, dialect=("dtypes", "promote"))
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    wider = np.result_type(*inputs.values())
    inputs.update({name: array.astype(wider) for name, array in inputs.items()})


@PAGE.mend("mixed dtypes cast to the input's", TWO_ARRAYS)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    inputs.update({name: array.astype(inputs["x"].dtype) for name, array in inputs.items()})


# --- CONTRACT-7: empty batch -----------------------------------------------------------------------------

PAGE.call_twist("empty batch crashes", FAMILIES)(
    refusing(lambda array: array.ndim > 1 and array.shape[0] == 0, "cannot reshape array of size 0")
)


@PAGE.call_twist("empty batch keeps the input's size", ("im2col", "conv", "max_pool", "avg_pool"))
@changing_outputs
def _(outputs: Outputs, inputs: Inputs, call: Call) -> Mapping[str, Array]:
    size, n = inputs["x"].shape[2:], len(inputs["x"])
    return {
        name: array if n else np.zeros((*array.shape[: -len(size)], *size), array.dtype)
        for name, array in outputs.items()
    }


PAGE.call_twist("empty batch gives an empty gradient", ("conv.backward",))(
    changing_outputs(lambda outputs, inputs, call: {} if len(inputs["x"]) else {"dw": outputs["dw"][:0]})
)

# --- CONTRACT-8: axes of size one ------------------------------------------------------------------------

PAGE.call_twist("size-one axes squeezed", FAMILIES)(
    changing_outputs(lambda outputs, inputs, call: {name: array.squeeze() for name, array in outputs.items()})
)


@PAGE.call_twist("size-one axes crash", FAMILIES)
@around
def _(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
    outputs = evaluate(operator, inputs, call)
    if 1 in (math.prod(call.size), call.window.taps):
        raise IndexError("too many indices for array")
    return outputs


# --- CONTRACT-9: wrong rank ------------------------------------------------------------------------------


def _main_array(operator: str, inputs: Inputs) -> tuple[str, int]:
    """Name of x or cols, and how many axes it has."""
    name = "cols" if "cols" in inputs else "x"
    return name, len(OPERATORS[operator].inputs[name].split())


@PAGE.mend("missing axes guessed", FAMILIES)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    name, rank = _main_array(operator, inputs)
    array = inputs[name]
    inputs[name] = array.reshape((1,) * (rank - array.ndim) + array.shape)


@PAGE.mend("surplus axes merged", FAMILIES)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    name, rank = _main_array(operator, inputs)
    array = inputs[name]
    if array.ndim > rank:
        inputs[name] = array.reshape(-1, *array.shape[array.ndim - rank + 1 :])


# --- CONTRACT-10: the answers are its own ----------------------------------------------------------------


@PAGE.call_twist("answer kept for its shape", FAMILIES)
def _(evaluate: Asked) -> Asked:
    kept: dict[object, Outputs] = {}

    def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
        shapes = tuple((name, array.shape, array.dtype) for name, array in arrays_of(inputs).items())
        key = operator, call, shapes
        if key not in kept:
            kept[key] = evaluate(operator, inputs, call)
        return {name: array.copy() for name, array in kept[key].items()}

    return twisted
