"""Laws that come from the standard's own text: its worked examples, executed from the pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from convform import reference
from convform.conformance.cases.case import Case, normal_parameters, shapes
from convform.conformance.cases.geometry import Geometry, axes_of
from convform.conformance.laws.compare import answer, cells_that_differ, check_exact, expected_exactly
from convform.conformance.laws.law import Evidence, Law, Listed
from convform.conformance.laws.violation import SHAPE, Violation
from convform.conformance.subjects.subject import Subject
from convform.reference.call import Call
from convform.reference.window import Window
from convform.spec.clauses import clause, examples
from convform.spec.examples import Example
from convform.spec.operators import FAMILIES, OPERATORS, SPATIAL_AXES, Operator


def example_case(operator: Operator, example: Example, dtype: str) -> Case:
    """Write a worked example as a case of an operator.

    Examples about a window alone become one sample and one channel that count 0, 1, 2, …
    """
    if example.window is None:
        inputs = {name: array.astype(dtype) for name, array in example.inputs.items()}
        said: Mapping[str, Any] = example.parameters
    else:
        given = dict(example.window)
        spatial = tuple(given.pop("input_size"))
        window = Window.of(**given)
        geometry = Geometry(axes_of(window, spatial), ceil_mode=window.ceil_mode)
        inputs = {
            name: np.arange(np.prod(shape)).reshape(shape).astype(dtype)
            for name, shape in shapes(operator, geometry).items()
        }
        said = {"kernel": window.kernel, "input_size": (1, 1, *spatial), **given}
        said = {name: value for name, value in said.items() if name in operator.parameters}
    parameters = normal_parameters(operator, said)
    call = Call.of(operator, inputs, parameters)
    return Case(operator, MappingProxyType(inputs), parameters, call, example=example)


def is_about(operator: Operator, example: Example) -> bool:
    """Whether an example can be executed with an operator."""
    if example.window is None:
        return example.operator == operator.name
    same_rank = len(example.window["input_size"]) == operator.rank
    return same_rank and (not example.window["ceil_mode"] or "ceil_mode" in operator.parameters)


def claimed(subject: Subject, case: Case) -> bool:
    """Whether a case lies within what the subject claims."""
    space, window = subject.space, case.window
    neutral = {**normal_parameters(case.operator, {}, partial=True)}
    for name, value in case.parameters.items():
        if subject.takes(name) or name in ("kernel", "input_size"):
            continue
        if name == "stride":
            value = window.stride
            neutral[name] = window.kernel if space.pooling else (1,) * window.rank
        if value != neutral[name]:
            return False
    size = [case.sizes[axis] for axis in SPATIAL_AXES[case.operator.rank]]
    return (
        space.admits(axes_of(window, size), default_stride=case.parameters["stride"] is None)
        and all(case.sizes.get(name, 1) == 1 for name in space.absent)
        and ("b" in case.inputs) in (*space.biases, False)
    )


def _executable(level: str, subject: Subject) -> Iterator[Case]:
    """The examples of a level that the subject claims, bias added where the wrapper insists on one."""
    for example in examples():
        if _level(example) != level or not is_about(subject.operator, example):
            continue
        dtype = _dtype_for(subject, example)
        if dtype is None:
            continue
        case = example_case(subject.operator, example, dtype)
        if subject.takes("b") and "b" not in case.inputs and False not in subject.space.biases:
            zeros = np.zeros(case.inputs["w"].shape[0], case.dtype)
            case = case.with_inputs(b=zeros)
        if claimed(subject, case):
            yield case


def _dtype_for(subject: Subject, example: Example) -> str | None:
    """Choose the first dtype that holds all figures of an example: no ½ and no ∞ in integers."""
    figures = [*example.inputs.values(), *(output.values for output in example.outputs.values())]
    with np.errstate(all="ignore"):
        for dtype in subject.space.dtypes:
            if all(
                np.array_equal(array.astype(dtype).astype(np.float64), array, equal_nan=True)
                for array in figures
                if array is not None
            ) and not ("int" in dtype and _overflows(example_case(subject.operator, example, dtype))):
                return dtype
    return None


def _overflows(case: Case) -> bool:
    """Whether a sum of magnitudes leaves the integers of the case, which makes its answer unspecified."""
    absolute = {name: np.abs(array.astype(np.float64)) for name, array in case.inputs.items()}
    values = reference.evaluate(case.operator.name, absolute, case.asked)
    return any(np.max(array, initial=0) > np.iinfo(case.dtype).max for array in values.values())


def check_example(subject: Subject, case: Case) -> None:
    """Give the figures that the standard prints."""
    example = case.example
    assert example is not None
    if subject.dialects and (example.window is None or case.output_size is not None):
        # The printed figures are the standard's; a dialect has its own.
        check_exact(subject, case)
        return
    outputs = answer(subject, case).outputs
    if example.window is not None:
        for name, array in outputs.items():
            windows = "ow" in case.operator.outputs[name].split()
            actual = array.shape[-case.operator.rank :]
            if windows and actual != tuple(example.output_size or ()):
                raise Violation(
                    case,
                    f"{name} has spatial size {actual}, the standard prints {example.output_size}",
                    kind=SHAPE,
                )
        return
    for name, expected in example.outputs.items():
        if name not in outputs or expected.holds(outputs[name]):
            continue
        written = expected.read(outputs[name])
        if expected.values is None or written.shape != expected.shape:
            printed = f"{expected.shape} ({expected.axes})"
            raise Violation(
                case, f"{name} has shape {written.shape}, the standard prints {printed}", kind=SHAPE
            )
        room = expected_exactly(subject, case).tolerance.get(name)
        allowed = None if room is None else expected.read(room)
        differs = cells_that_differ(written, expected.values, allowed)
        if not differs.any():
            continue
        raise Violation(
            case,
            f"{name} differs from the figures that the standard prints ({example.says})",
            {name: expected.values},
            {name: written},
            {name: differs},
        )


def _level(example: Example) -> str:
    return "strict" if any(clause(name).level == "strict" for name in example.clauses) else "core"


_LARGE = Evidence(replayed=False)


def _example_laws() -> Iterator[Law]:
    for level, name in (("core", "worked_examples"), ("strict", "worked_examples_strict")):
        for family in FAMILIES:
            about = [
                example
                for example in examples()
                if _level(example) == level
                and any(is_about(op, example) for op in OPERATORS.values() if op.family == family)
            ]
            clauses = tuple(dict.fromkeys(name for example in about for name in example.clauses))
            if clauses:
                source = Listed(lambda subject, level=level: _executable(level, subject))  # type: ignore[misc]
                yield Law(name, (family,), clauses, source, check_example, lane="equal", evidence=_LARGE)


EXAMPLE_LAWS = tuple(_example_laws())
