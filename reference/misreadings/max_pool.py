"""Misreadings of max pooling (MAXPOOL-1 to -6)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
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
    changing_outputs,
)
from convform.reference.misreadings.steps import Positions, Steps, StepsTwist, step
from convform.reference.window import Window

PAGE = Page("max_pool")

MAX, MAX_GRADIENT = "max_pool", "max_pool.backward"


LARGE_NEGATIVE = -1e9
"""What people take for minus infinity."""


def lowest_finite(dtype: np.dtype[Any]) -> float:
    """Most negative finite number of a dtype."""
    return float(np.finfo(dtype).min) if dtype.kind == "f" else int(np.iinfo(dtype).min)


def as_element(value: float, dtype: np.dtype[Any]) -> Array:
    """Write a number in a dtype; what an integer dtype cannot hold becomes its smallest number."""
    with np.errstate(over="ignore"):
        return np.asarray(value if dtype.kind == "f" else max(value, lowest_finite(dtype))).astype(dtype)


def starting_at(start: Callable[[np.dtype[Any]], float]) -> CallTwist:
    """Start the running maximum at a number: a window below it selects nothing."""

    @around
    def twist(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
        x = inputs["x"]
        first = as_element(start(x.dtype), x.dtype)
        if not operator.endswith(".backward"):
            outputs = evaluate(operator, inputs, call)
            below = outputs["y"] < first
            index = np.where(below, -1, outputs["indices"])
            return {**outputs, "y": np.where(below, first, outputs["y"]), "indices": index}
        y = evaluate(operator.removesuffix(".backward"), {"x": x}, call)["y"]
        # Let the standard refuse a dy of another shape.
        dy = np.where(y < first, 0, inputs["dy"]) if y.shape == inputs["dy"].shape else inputs["dy"]
        return evaluate(operator, {**inputs, "dy": dy.astype(inputs["dy"].dtype)}, call)

    return twist


def padding_with(value: Callable[[np.dtype[Any]], float]) -> StepsTwist:
    """Let padding, and whatever lies beyond it, take part in the comparison with a number."""

    def twist(steps: Steps) -> Steps:
        def read(x: Array, positions: Positions, outside: Any) -> Array:
            return steps.read(x, positions, as_element(value(x.dtype), x.dtype))

        def select(cols: Array, real: Array) -> Array:
            return steps.select(cols, np.ones_like(real))

        return replace(steps, read=read, select=select)

    return twist


def row_major(coordinates: Sequence[Array], size: Sequence[int]) -> Array:
    """Number positions row by row: h·W + w."""
    index = np.zeros_like(coordinates[0])
    for coordinate, n in zip(coordinates, size, strict=True):
        index = index * n + coordinate
    return index


def numbering(formula: Callable[[list[Array], Window, tuple[int, ...]], Array]) -> CallTwist:
    """Number the selected elements in another way: `formula(coordinates, window, shape of x)`."""

    def change(outputs: Outputs, inputs: Inputs, call: Call) -> Outputs:
        index, shape = outputs["indices"], inputs["x"].shape
        coordinates: list[Array] = []
        rest = index
        for n in reversed(shape[2:]):
            rest, coordinate = np.divmod(rest, n)
            coordinates.insert(0, coordinate)
        return {"indices": np.where(index < 0, index, formula(coordinates, call.window, shape))}

    return changing_outputs(change)


# --- MAXPOOL-1: value ------------------------------------------------------------------------------------

PAGE.call_twist("maximum starts at zero", (MAX, MAX_GRADIENT))(starting_at(lambda dtype: 0))

PAGE.call_twist("maximum starts at a large negative number", (MAX, MAX_GRADIENT))(
    starting_at(lambda dtype: LARGE_NEGATIVE)
)


@PAGE.call_twist("first window only", (MAX,))
@changing_outputs
def _(outputs: Outputs, inputs: Inputs, call: Call) -> Outputs:
    first = np.zeros(outputs["y"].shape[2:], bool)
    first[(slice(0, 1),) * first.ndim] = True
    return {name: np.where(first, array, np.zeros((), array.dtype)) for name, array in outputs.items()}


@PAGE.steps_twist("largest magnitude", (MAX, MAX_GRADIENT))
@step("select")
def _(steps: Steps, cols: Array, real: Array) -> Array:
    return steps.select(np.where(real, np.abs(cols), cols), real)


# --- MAXPOOL-2: padding never wins -----------------------------------------------------------------------

PAGE.steps_twist("padding counts as zero", (MAX, MAX_GRADIENT), dialect=("maxpad", "zero"))(
    padding_with(lambda dtype: 0)
)

PAGE.steps_twist("padding counts as a large negative number", (MAX, MAX_GRADIENT))(
    padding_with(lambda dtype: LARGE_NEGATIVE)
)

# --- MAXPOOL-3: window with no real element --------------------------------------------------------------

PAGE.steps_twist("empty window gives the lowest finite number", (MAX,), dialect=("maxpad", "lowest"))(
    padding_with(lowest_finite)
)


def _no_element(outputs: Outputs) -> Array:
    """Windows that see no element of the input."""
    return np.asarray(outputs["indices"] < 0)


PAGE.call_twist("empty window gives zero", (MAX,))(
    changing_outputs(lambda outputs, inputs, call: {"y": np.where(_no_element(outputs), 0, outputs["y"])})
)


@PAGE.call_twist("empty window has an index outside of the plane", (MAX,))
@changing_outputs
def _(outputs: Outputs, inputs: Inputs, call: Call) -> Outputs:
    """Walk from the start of an empty window in steps of the dilation until the border is passed."""
    starts = [p[:, 0] for p in call.window.positions(outputs["y"].shape[2:])]
    beyond = [np.where(p < 0, p % d, p) for p, d in zip(starts, call.window.dilation, strict=True)]
    place = row_major(np.meshgrid(*beyond, indexing="ij"), call.size)
    return {"indices": np.where(_no_element(outputs), place, outputs["indices"])}


# --- MAXPOOL-4: NaN and infinities -----------------------------------------------------------------------


@PAGE.steps_twist("nan ignored", (MAX,), dialect=("nan", "ignore"))
@step("select")
def _(steps: Steps, cols: Array, real: Array) -> Array:
    seen = real & ~np.isnan(cols)
    numbers = np.where(np.isnan(cols), -np.inf, cols) if cols.dtype.kind == "f" else cols
    return np.where(seen.any(axis=2), steps.select(numbers, seen), steps.select(cols, real))


@PAGE.steps_twist("nan only where it comes first", (MAX,))
@step("select")
def _(steps: Steps, cols: Array, real: Array) -> Array:
    seen = real & ~np.isnan(cols)
    first = np.broadcast_to(real.argmax(axis=0), cols[:, :, 0].shape)
    number = ~np.isnan(np.take_along_axis(cols, first[:, :, None], axis=2)[:, :, 0])
    numbers = np.where(np.isnan(cols), -np.inf, cols) if cols.dtype.kind == "f" else cols
    return np.where(number & real.any(axis=0), steps.select(numbers, seen), np.where(number, -1, first))


PAGE.call_twist("nan has no index", (MAX,))(
    changing_outputs(
        lambda outputs, inputs, call: {
            "indices": np.where(np.isnan(outputs["y"]), math.prod(inputs["x"].shape[2:]), outputs["indices"])
        }
    )
)

PAGE.call_twist("minus infinity replaced", (MAX, MAX_GRADIENT))(starting_at(lowest_finite))

# --- MAXPOOL-5: indices ----------------------------------------------------------------------------------


@PAGE.call_twist("index in the window", (MAX,), dialect=("index", "window"))
@numbering
def _(coordinates: list[Array], window: Window, shape: tuple[int, ...]) -> Array:
    output = coordinates[0].shape[2:]
    read = zip(coordinates, window.positions(output), np.indices(output), strict=True)
    return row_major([(p[i] == q[..., None]).argmax(axis=-1) for q, p, i in read], window.kernel)


@PAGE.call_twist("index in the padded plane", (MAX,))
@numbering
def _(coordinates: list[Array], window: Window, shape: tuple[int, ...]) -> Array:
    padded = window.counted(shape[2:], True)
    places = [q - first for q, (first, _) in zip(coordinates, padded, strict=True)]
    return row_major(places, [end - first for first, end in padded])


@PAGE.call_twist("index in the whole array", (MAX,), dialect=("index", "nchw"))
@numbering
def _(coordinates: list[Array], window: Window, shape: tuple[int, ...]) -> Array:
    samples, channels = np.indices(coordinates[0].shape)[:2]
    return row_major([samples, channels, *coordinates], shape)


@PAGE.call_twist("index with channels last", (MAX,), dialect=("index", "nhwc"))
@numbering
def _(coordinates: list[Array], window: Window, shape: tuple[int, ...]) -> Array:
    channels = np.indices(coordinates[0].shape)[1]
    return row_major([*coordinates, channels], (*shape[2:], shape[1]))


@PAGE.call_twist("index column by column", (MAX,))
@numbering
def _(coordinates: list[Array], window: Window, shape: tuple[int, ...]) -> Array:
    return row_major(coordinates[::-1], shape[:1:-1])


# --- MAXPOOL-6: ties -------------------------------------------------------------------------------------


def last_of_equals(steps: Steps) -> Steps:
    """Select the last maximum of every window."""

    def select(cols: Array, real: Array) -> Array:
        tap = steps.select(cols[:, :, ::-1], real[::-1])
        return np.where(tap < 0, tap, cols.shape[2] - 1 - tap)

    return replace(steps, select=select)


PAGE.steps_twist("last maximum", (MAX,), dialect=("ties", "last"))(last_of_equals)


@PAGE.call_twist("ties counted column by column", (MAX, MAX_GRADIENT))
def _(evaluate: Asked) -> Asked:
    # In the plane with its spatial axes reversed, columns are rows.
    def reversed_axes(array: Array) -> Array:
        return array.transpose(0, 1, *range(array.ndim - 1, 1, -1))

    def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
        turned = replace(call, window=call.window.with_axes_reversed())
        outputs = evaluate(operator, {name: reversed_axes(array) for name, array in inputs.items()}, turned)
        answer = {name: reversed_axes(array) for name, array in outputs.items()}
        if "indices" not in answer:
            return answer
        # What was counted row by row in the reversed plane is now counted column by column.
        shape = inputs["x"].shape
        back = numbering(lambda coordinates, window, _: row_major(coordinates[::-1], shape[2:]))
        plane = {"x": reversed_axes(inputs["x"])}
        return back(lambda *_: answer)(operator, plane, call)

    return twisted
