"""Twins: an evaluation of the standard, misread or not, dressed up as a subject that claims everything."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from convform.adapters import Adapter, Implementation, Layout, ShapeMismatch
from convform.conformance.cases.case import Case
from convform.reference.misreadings.misreading import Evaluate
from convform.spec.operators import Operator


def wrapper(operator: Operator, evaluate: Evaluate) -> Callable[..., Any]:
    """Write an evaluation as a wrapper that takes everything the operator has."""
    names = [*operator.inputs, *operator.parameters]
    outputs = [name for name in operator.outputs if name != "indices"]

    def call(**arguments: Any) -> Any:
        inputs = {name: arguments[name] for name in operator.inputs if arguments.get(name) is not None}
        parameters = {name: arguments[name] for name in operator.parameters}
        answer = evaluate(operator.name, inputs, parameters)
        if "indices" in operator.outputs:
            return answer["y"], answer["indices"]
        return {name: answer[name] for name in outputs} if len(outputs) > 1 else answer[outputs[0]]

    keyword = inspect.Parameter.KEYWORD_ONLY
    call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(name, keyword, default=None if name == "b" else inspect.Parameter.empty)
            for name in names
        ]
    )
    return call


def adapter_of(name: str, evaluate: Evaluate, operators: Sequence[Operator], **dialects: Any) -> Adapter:
    """Describe an evaluation as an adapter that claims everything, in canonical layouts.

    Parameters
    ----------
    name
        Name of the adapter.
    evaluate
        What its wrappers answer with.
    operators
        What it implements.
    dialects
        How it reads the standard, by claim: what it says beside everything else that it claims.
    """
    adapter = Adapter(name, columns="n c kd kh kw od oh ow")
    for operator in operators:
        claims: dict[str, Any] = {}
        if "padding" in operator.parameters:
            claims["padding"] = "low-high"
        if "indices" in operator.outputs:
            claims["indices"] = True
        dtypes = ("float64", "float32", "float16")
        claims["dtypes"] = dtypes if operator.row.divides else (*dtypes, "int64")
        for claim, value in dialects.items():
            if claim == "dtypes":
                claims[claim] += (value,)
            else:
                claims[claim] = f"{claims[claim]} {value}" if claim in claims else value
        adapter.implements(operator.name, **claims)(wrapper(operator, evaluate))
    return adapter


def twin_of(implementation: Implementation, evaluate: Evaluate, case: Case) -> Implementation:
    """Describe a subject with the layouts and claims of another, whose mathematics is `evaluate`.

    It is good for one case: evaluations take canonical parameters, which are those of the case.
    """
    operator, layouts = implementation.operator, implementation.layouts

    def mimic(**native: Any) -> Any:
        inputs = {**case.inputs}
        for name in case.inputs:
            if name in native:
                inputs[name] = _canonical(
                    layouts[name], operator.inputs[name], case.inputs[name], native[name]
                )
        outputs = {
            name: layouts[name].to_native(array)
            if array.ndim == len(operator.outputs[name].split())
            else array
            for name, array in evaluate(operator.name, inputs, case.asked).items()
        }
        if "indices" in outputs:
            claimed = implementation.claims.indices
            return (outputs["y"], outputs["indices"]) if claimed else outputs["y"]
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    return replace(implementation, function=mimic)


def _canonical(layout: Layout, axes: str, array: np.ndarray, native: np.ndarray) -> np.ndarray:
    """View a native array with named axes; one of the wrong rank stays as it is."""
    try:
        return layout.from_native(native, dict(zip(axes.split(), array.shape, strict=True)))
    except ShapeMismatch:
        return native
