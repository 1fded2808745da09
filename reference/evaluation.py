"""The one calling convention by which the judge asks the reference, the definition and the matrices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from convform.reference.call import Call, row_of, widened
from convform.reference.checks import Array
from convform.spec.operators import FAMILIES

Outputs = dict[str, Array]
Parameters = Call | Mapping[str, Any]
Functions = Mapping[str, Callable[..., Any]]


def by_family(module: Mapping[str, Any], prefix: str = "") -> Functions:
    """Find the functions of a module that are named like families, "conv.backward" ``conv_backward``."""
    names = {family: prefix + family.replace(".", "_") for family in FAMILIES}
    return MappingProxyType({family: module[name] for family, name in names.items() if name in module})


def evaluate_with(
    functions: Functions, operator: str, inputs: Mapping[str, Any], parameters: Parameters
) -> Outputs:
    """Call the function of an operator's family and name its outputs.

    Parameters
    ----------
    functions
        A function for each family of the operator table. It takes the call and the family's inputs (by name)
        and returns the outputs in the order of the table: the array where there is one, else a tuple.
        ``cols`` has its axes kept apart, as in the table.
    operator
        A name of the operator table, such as ``"conv2d.backward"``.
    inputs
        Arrays by name, with the axes of the operator table; ``b`` may be missing or None.
    parameters
        Any of the operator's parameters; the others have the defaults of the table. Or the `Call` that was
        made of these inputs: then nothing is parsed or checked again.

    Returns
    -------
    outputs
        Every output by name.

    Raises
    ------
    TypeError, ValueError
        As `Call.of` does.
    """
    row = row_of(operator)
    given, narrow = widened(inputs)
    call = parameters if isinstance(parameters, Call) else Call.of(row, given, parameters)
    if "b" in row.inputs:
        given = {"b": None, **given}
    outputs = functions[row.family](call, **given)
    named = outputs if isinstance(outputs, tuple) else (outputs,)
    return narrowed(dict(zip(row.outputs, named, strict=True)), narrow)


def narrowed(outputs: Outputs, dtype: np.dtype[Any] | None) -> Outputs:
    """Round the float32 outputs of `widened` inputs, once (clause CONV-5)."""
    if dtype is None:
        return outputs
    return {
        name: array.astype(dtype) if array.dtype == np.float32 else array for name, array in outputs.items()
    }
