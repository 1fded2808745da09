"""Misreadings: named wrong, or merely different, readings of a clause, as changes to the reference.

A misreading is registered once, on the page of its clause, and serves three purposes: the clause
lists it; run as a subject it proves that a law catches it; and when a subject fails, what the subject
answered is replayed against it. It changes the steps of an operator (`convform.reference.misreadings.steps`),
wraps the evaluation as a whole, or mends what the standard refuses; two misreadings combine by applying one
after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypedDict, TypeVar, Unpack

import numpy as np

from convform.reference.call import Call, row_of, widened
from convform.reference.checks import Array
from convform.reference.evaluation import Outputs, Parameters, narrowed
from convform.reference.misreadings.steps import (
    STANDARD,
    Steps,
    StepsTwist,
    changing,
    evaluate_steps,
    no_padding,
)
from convform.reference.window import Size, Window
from convform.spec.clauses import ListedMisreading, listed_misreadings
from convform.spec.operators import OPERATORS

Inputs = Mapping[str, Any]
Evaluate = Callable[[str, Inputs, Parameters], Outputs]
Asked = Callable[[str, Inputs, Call], Outputs]
CallTwist = Callable[[Asked], Asked]
Families = tuple[str, ...]
Reorder = Callable[[Array], Array]
Finish = Callable[[Outputs], Outputs]
Mend = Callable[[str, dict[str, Any], dict[str, Any]], Finish | None]
T = TypeVar("T")

POOLS = ("max_pool", "max_pool.backward", "avg_pool", "avg_pool.backward")


def as_is(value: Any) -> Any:
    """Change nothing."""
    return value


@dataclass(frozen=True)
class Misreading:
    """One misreading of one clause: what its page lists, and how it is done.

    Attributes
    ----------
    name
        As the clause lists it: ``"kernel mirrored"``.
    families
        Operator families in which it can occur.
    steps
        Change to the steps of the operators.
    call
        Change around the whole evaluation of a call that the standard answers; called once for each subject,
        so that it may keep state.
    mend
        Changes a call that the standard refuses, inputs and parameters in place, in the way that real code
        does, on purpose or by accident; what is refused after it stays refused. It may return a function that
        is applied to the outputs.
    dialect
        ``(claim, value)`` where some library documents the reading as its choice: ``("ties", "split")``.
    within_rounding
        Whether its answers differ from the standard's by no more than rounding, so that it conforms.
    of_half_types
        Whether it is about half types, so that it must see bfloat16 arrays as they are; all others are
        shown float32 instead (`convform.reference.call.widened`).
    """

    name: str
    families: tuple[str, ...]
    steps: StepsTwist = as_is
    call: CallTwist = as_is
    mend: Mend | None = None
    dialect: tuple[str, str] | None = None
    within_rounding: bool = False
    of_half_types: bool = False

    @property
    def listed(self) -> ListedMisreading:
        """What the page says of it."""
        return listed_misreadings()[self.name]

    @property
    def clause(self) -> str:
        """Id of the clause, ``"CONV-1"``."""
        return self.listed.clause

    @property
    def says(self) -> str:
        """Completes "your operator gives what the standard gives …": ``"with the kernel mirrored"``."""
        return self.listed.says

    @property
    def look(self) -> str:
        """What the standard asks for and where to look, for the person who made the mistake."""
        return self.listed.look

    def applies_to(self, family: str) -> bool:
        """Whether it can occur in operators of a family."""
        return family in self.families


class Marks(TypedDict, total=False):
    """What a misreading may say about itself besides; see `Misreading`."""

    dialect: tuple[str, str]
    within_rounding: bool
    of_half_types: bool


@dataclass(frozen=True)
class Page:
    """The misreadings of one page of the standard, in the module of its name.

    Attributes
    ----------
    name
        Of the page, and of the module: ``"conv_backward"``.
    entries
        The misreadings by name, in the order in which they were registered.
    """

    name: str
    entries: dict[str, Misreading] = field(default_factory=dict)

    def _registering(self, part: str, name: str, families: Families, marks: Marks) -> Callable[[T], T]:
        def register(change: T) -> T:
            if name in self.entries:
                raise ValueError(f"the misreading {name!r} is registered twice")
            how: dict[str, Any] = {part: change, **marks}
            self.entries[name] = Misreading(name, families, **how)
            return change

        return register

    def steps_twist(
        self, name: str, families: Families, **marks: Unpack[Marks]
    ) -> Callable[[StepsTwist], StepsTwist]:
        """Register a function Steps → Steps as a misreading."""
        return self._registering("steps", name, families, marks)

    def call_twist(
        self, name: str, families: Families, **marks: Unpack[Marks]
    ) -> Callable[[CallTwist], CallTwist]:
        """Register a change around the evaluation as a misreading."""
        return self._registering("call", name, families, marks)

    def mend(self, name: str, families: Families, **marks: Unpack[Marks]) -> Callable[[Mend], Mend]:
        """Register a change of what the standard refuses as a misreading."""
        return self._registering("mend", name, families, marks)


def misread(*misreadings: Misreading) -> Evaluate:
    """Evaluate as the standard does, but for some misreadings, applied in the order given.

    With no misreading at all this is the standard, step by step.
    """
    steps = STANDARD
    for misreading in misreadings:
        steps = misreading.steps(steps)
    result: Evaluate = partial(evaluate_steps, steps)
    outside = [misreading for misreading in misreadings if misreading.mend or misreading.call is not as_is]
    if outside:
        result = _checked(steps)
        for misreading in outside:
            if misreading.mend:
                result = _mended(misreading.mend, steps, result)
            else:
                result = _twisted(misreading.call, result)
        result = _called(steps, result)
    return result if any(misreading.of_half_types for misreading in misreadings) else _in_float32(result)


def _called(steps: Steps, evaluate: Evaluate) -> Evaluate:
    """Make the call once for all; what the standard refuses has none, and its parameters go as they came."""

    def whole(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
        return evaluate(operator, inputs, _call_or_parameters(steps, operator, inputs, parameters))

    return whole


def _call_or_parameters(steps: Steps, operator: str, inputs: Inputs, parameters: Parameters) -> Parameters:
    if isinstance(parameters, Call):
        return parameters
    try:
        return Call.of(row_of(operator), inputs, parameters, steps.output_size)
    except (TypeError, ValueError):
        return parameters


def _checked(steps: Steps) -> Evaluate:
    """Evaluate step by step what a misreading asks, which may have changed call and arrays."""

    def evaluate(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
        if isinstance(parameters, Call):
            parameters = parameters.again(row_of(operator).family, inputs, steps.output_size)
        return evaluate_steps(steps, operator, inputs, parameters)

    return evaluate


def _twisted(twist: CallTwist, evaluate: Evaluate) -> Evaluate:
    """Misread the calls that the standard answers; what it refuses stays refused."""
    twisted = twist(evaluate)

    def whole(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
        if isinstance(parameters, Call):
            return twisted(operator, inputs, parameters)
        return evaluate(operator, inputs, parameters)

    return whole


def _mended(mend: Mend, steps: Steps, evaluate: Evaluate) -> Evaluate:
    """Answer what the standard refuses after a change."""

    def whole(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
        if isinstance(parameters, Call):
            return evaluate(operator, inputs, parameters)
        try:
            return evaluate(operator, inputs, parameters)
        except (TypeError, ValueError):
            mended = {name: array for name, array in inputs.items() if array is not None}
            changed = dict(parameters)
            finish = mend(operator, mended, changed) or as_is
            call = _call_or_parameters(steps, operator, mended, changed)
            return finish(evaluate(operator, mended, call))

    return whole


def _in_float32(evaluate: Evaluate) -> Evaluate:
    """Evaluate bfloat16 arrays in float32, and round the outputs."""

    def wide(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
        given, dtype = widened(inputs)
        return narrowed(evaluate(operator, given, parameters), dtype)

    return wide


# --- common shapes of call twists ------------------------------------------------------------------------


def around(answer: Callable[[Asked, str, Inputs, Call], Outputs]) -> CallTwist:
    """Answer a call in one's own way, with the standard at hand; nothing is remembered between calls."""
    return lambda evaluate: partial(answer, evaluate)


def changing_inputs(change: Callable[[dict[str, Array], Call], Mapping[str, Array]]) -> CallTwist:
    """Evaluate with other arrays: `change(inputs, call)` returns the ones to replace."""
    return lambda evaluate: (
        lambda operator, inputs, call: evaluate(operator, {**inputs, **change(dict(inputs), call)}, call)
    )


def changing_call(change: Callable[[Call], Call]) -> CallTwist:
    """Evaluate another call of the same arrays."""
    return lambda evaluate: lambda operator, inputs, call: evaluate(operator, inputs, change(call))


def changing_outputs(change: Callable[[Outputs, Inputs, Call], Mapping[str, Array]]) -> CallTwist:
    """Change what the standard answers: `change(outputs, inputs, call)` returns the ones to replace."""

    @around
    def twist(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
        outputs = evaluate(operator, inputs, call)
        return {**outputs, **change(outputs, inputs, call)}

    return twist


def changing_output(name: str, change: Callable[[Array, Inputs, Call], Array]) -> CallTwist:
    """Change one output: `change(output, inputs, call)`."""
    return changing_outputs(lambda outputs, inputs, call: {name: change(outputs[name], inputs, call)})


def one_output_of(name: str, change: Callable[[Inputs, Call], Mapping[str, Array]]) -> CallTwist:
    """Compute one output from other arrays: `change(inputs, call)` returns the ones to replace."""

    @around
    def twist(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
        outputs = evaluate(operator, inputs, call)
        return {**outputs, name: evaluate(operator, {**inputs, **change(inputs, call)}, call)[name]}

    return twist


def kept_first(array: Array, axis: int) -> Array:
    """Zero but at index 0 along one axis."""
    kept = np.zeros_like(array)
    first = (slice(None),) * axis + (slice(1),)
    kept[first] = array[first]
    return kept


def first_only(axis: int) -> CallTwist:
    """Compute the first channel (axis 1) or sample (axis 0) and leave zeros for the others."""
    return changing_outputs(
        lambda outputs, inputs, call: {name: kept_first(values, axis) for name, values in outputs.items()}
    )


def put_back(array: Array, places: Array) -> Array:
    """Undo ``np.take(array, places)``, where `places` has every element once."""
    undone = np.empty_like(array)
    np.put(undone, places, array)
    return undone


def in_order(array: Array) -> Array:
    """Number the elements of an array, in its shape."""
    return np.arange(array.size).reshape(array.shape)


def weights_read_in_order(change: Callable[[Array, int], Array]) -> CallTwist:
    """Read the elements of the weights in another order, and return dw in that order.

    `change(places, groups)` moves the elements of an array of the shape of w, and keeps its shape.
    """

    @around
    def twist(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
        places = change(in_order(inputs["w"]), call.groups)
        outputs = evaluate(operator, {**inputs, "w": np.take(inputs["w"], places)}, call)
        return {**outputs, "dw": put_back(outputs["dw"], places)} if "dw" in outputs else outputs

    return twist


def rank_of(cols: Array) -> int:
    """Count the spatial axes of columns "n c kh kw oh ow"."""
    return (cols.ndim - 2) // 2


def reordered(columns: Reorder, y: Reorder | None = None) -> CallTwist:
    """Put the elements of columns (and of a convolution's y) in another order.

    `columns` is what im2col does to its result, and what col2im undoes before it starts: a function that
    keeps the shape. Written with the same mistake, the two fit together.
    """

    @around
    def twist(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
        family = OPERATORS[operator].family
        if family == "col2im":
            cols = inputs["cols"]
            return evaluate(operator, {**inputs, "cols": put_back(cols, columns(in_order(cols)))}, call)
        outputs = evaluate(operator, inputs, call)
        if family == "im2col":
            return {"cols": columns(outputs["cols"])}
        return {name: y(array) if y else array for name, array in outputs.items()}

    return twist


def cropping(name: str, crop: Callable[[int, int, int, int], slice]) -> CallTwist:
    """Compute x or dx with its padding, then crop each axis by `crop(padded size, p_lo, p_hi, k)`."""

    @around
    def twist(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
        outputs = evaluate(operator, inputs, call)
        pads, kernel = call.window.padding, call.window.kernel
        given = {"x": np.pad(inputs["x"], [(0, 0), (0, 0), *pads])} if "x" in inputs else {}
        size = tuple(n + low + high for n, (low, high) in zip(call.size, pads, strict=True))
        bare = replace(changing(padding=no_padding)(call), size=size)
        whole = evaluate(operator, {**inputs, **given}, bare)[name]
        kept = [crop(n, *pair, k) for n, pair, k in zip(size, pads, kernel, strict=True)]
        return {**outputs, name: whole[:, :, *kept].copy()}

    return twist


# --- what the standard refuses, answered all the same ----------------------------------------------------


def size_of_output(size: Size, kernel: Size, parameters: Mapping[str, Any]) -> Size:
    """Number of windows along each axis, for parameters that are right."""
    window = Window.of(
        kernel,
        parameters["stride"],
        parameters["padding"],
        parameters["dilation"],
        bool(parameters.get("ceil_mode", False)),
    )
    return window.output_size(size)


def cropped(array: Array, shape: tuple[int, ...]) -> Array:
    """Leave out what is too much, and refuse what is too little."""
    if any(have < need for have, need in zip(array.shape, shape, strict=True)):
        raise IndexError(f"shape {array.shape} where {shape} is read")
    return array[tuple(map(slice, shape))]


def _dy_shape(inputs: Inputs, parameters: Mapping[str, Any]) -> tuple[int, ...]:
    x = inputs["x"]
    convolved = "w" in inputs
    kernel = inputs["w"].shape[2:] if convolved else parameters["kernel"]
    channels = len(inputs["w"]) if convolved else x.shape[1]
    return (len(x), channels, *size_of_output(x.shape[2:], kernel, parameters))


def _broadcast_dy(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    inputs["dy"] = np.broadcast_to(inputs["dy"], _dy_shape(inputs, parameters))


def _cropped_dy(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    inputs["dy"] = cropped(inputs["dy"], _dy_shape(inputs, parameters))


def misread_dy(page: Page, family: str, of: str) -> None:
    """Register what is done to a dy that does not have the shape of the output."""
    page.mend(f"dy of {of} broadcast", (family,))(_broadcast_dy)
    page.mend(f"dy of {of} cropped", (family,))(_cropped_dy)
