"""The one calling convention by which the judge asks the reference, the definition and the matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convform.reference.checks import Array
from convform.spec.operators import OPERATORS, PARAMETERS, Operator

Outputs = dict[str, Array]
Functions = Mapping[str, Callable[..., Any]]


def evaluate_with(
    functions: Functions, operator: str, inputs: Mapping[str, Any], parameters: Mapping[str, Any]
) -> Outputs:
    """Call the function of an operator's family and name its outputs.

    Parameters
    ----------
    functions
        A function for each family of the operator table. It takes the family's inputs (by name) and
        parameters (by name) and returns the outputs in the order of the table: the array where there is
        one, else a tuple. ``cols`` has its axes kept apart, as in the table.
    operator
        A name of the operator table, such as ``"conv2d.backward"``.
    inputs
        Arrays by name, with the axes of the operator table; ``b`` may be missing or None.
    parameters
        Any of the operator's parameters; the others have the defaults of the table.

    Returns
    -------
    outputs
        Every output by name.

    Raises
    ------
    ValueError
        For an unknown operator, input or parameter, a missing one, and an array of another rank than the
        operator's (clause CONTRACT-9).
    """
    if operator not in OPERATORS:
        raise ValueError(f"operator={operator!r}: expected one of {', '.join(OPERATORS)}")
    entry = OPERATORS[operator]
    given, narrow = widened(inputs)
    outputs = functions[entry.family](**_inputs(entry, given), **_parameters(entry, parameters))
    named = outputs if isinstance(outputs, tuple) else (outputs,)
    return narrowed(dict(zip(entry.outputs, named, strict=True)), narrow)


def widened(inputs: Mapping[str, Any]) -> tuple[Mapping[str, Any], np.dtype[Any] | None]:
    """Write bfloat16 arrays, which NumPy can hardly calculate with, in float32.

    Returns
    -------
    inputs
        The arrays by name, as they came where they are of other dtypes, or of several.
    dtype
        The dtype that `narrowed` has to bring the outputs back to; None where nothing was changed.
    """
    arrays = {name: value for name, value in inputs.items() if value is not None}
    dtypes = {getattr(array, "dtype", None) for array in arrays.values()}
    if len(dtypes) != 1 or getattr(next(iter(dtypes)), "name", None) != "bfloat16":
        return inputs, None
    wide = {name: array.astype(np.float32) for name, array in arrays.items()}
    return {**inputs, **wide}, next(iter(dtypes))


def narrowed(outputs: Outputs, dtype: np.dtype[Any] | None) -> Outputs:
    """Round the float32 outputs of `widened` inputs, once (clause CONV-5)."""
    if dtype is None:
        return outputs
    return {
        name: array.astype(dtype) if array.dtype == np.float32 else array for name, array in outputs.items()
    }


def _inputs(operator: Operator, inputs: Mapping[str, Any]) -> dict[str, Any]:
    arrays = {"b": None, **inputs} if "b" in operator.inputs else dict(inputs)
    if set(arrays) != set(operator.inputs):
        raise ValueError(
            f"{operator.name} got inputs {sorted(inputs)}: expected {', '.join(operator.inputs)}"
        )
    for name, axes in operator.inputs.items():
        value = arrays[name]
        if value is not None and getattr(value, "ndim", len(axes.split())) != len(axes.split()):
            raise ValueError(
                f"{name} has shape {value.shape}: {operator.name} expects the axes {axes} (CONTRACT-9)"
            )
    return arrays


def _parameters(operator: Operator, parameters: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [name for name in parameters if name not in operator.parameters]
    if unknown:
        raise ValueError(
            f"{operator.name} got parameter {unknown[0]!r}: expected any of {', '.join(operator.parameters)}"
        )
    complete = {}
    for name in operator.parameters:
        default = PARAMETERS[name].default
        if name in parameters:
            complete[name] = parameters[name]
        elif default is None:
            raise ValueError(f"{operator.name} got no {name}: it has no default ({PARAMETERS[name].says})")
        else:
            complete[name] = default if name != "padding" else 0
    return complete
