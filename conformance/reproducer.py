"""A few lines of Python that show a violation: literal arrays, and the call."""

from __future__ import annotations

import numpy as np

from convform.adapters import Implementation
from convform.conformance.case import parameters_as_said
from convform.conformance.subject import arrangement_of
from convform.conformance.violation import Violation

# How to write each arrangement of `convform.conformance.subject.ARRANGEMENTS` on top of a plain array.
_ARRANGED = {
    "contiguous": "{array}",
    "Fortran order": "np.asfortranarray({array})",
    "strided": "np.repeat({array}, 2, axis=-1)[..., ::2]",
    "negative strides": "np.flip(np.flip({array}).copy())",
    "zero strides": "np.broadcast_to({array}.flat[0], {shape})",
    "read-only": "np.frombuffer({array}.tobytes(), {dtype!r}).reshape({shape})",
    "one axis too many": "{array}[np.newaxis]",
    "no sample and channel axis": "{array}[0, 0]",
}

LONGEST = 110


class Source(str):
    """Python that makes the adapter, for one that no file holds."""


def reproducer(implementation: Implementation, violation: Violation, origin: str | None) -> str:
    """Write a violation as source to paste into Python.

    Parameters
    ----------
    implementation
        The wrapper; its native arguments are written out.
    violation
        What to show.
    origin
        What `convform.adapters.load` finds the adapter by, or the `Source` that makes it; None writes a
        name to fill in.
    """
    case = violation.case
    name = implementation.operator.name
    function = name.replace(".", "_")
    said = parameters_as_said(case, implementation.claims)
    arguments = [
        f"    {key}={_literal(value, arrangement_of(key, case))},"
        for key, value in implementation.native_arguments(case.inputs, said).items()
    ]
    if isinstance(origin, Source):
        finds = ["from convform.conformance.infer import infer_adapter", f"{function} = {origin}[{name!r}]"]
    else:
        target = repr(origin) if origin else '"your_file.py"'
        finds = ["from convform.adapters import load", f"{function} = load({target})[{name!r}]"]
    lines = [
        "import numpy as np",
        *finds,
        f"print({function}(",
        *arguments,
        "))",
        f"# {_expectation(violation)}",
    ]
    return "\n".join(lines)


def _literal(value: object, arrangement: str) -> str:
    if not isinstance(value, np.ndarray):
        return repr(value)
    array = f"np.array({_list(value)}, dtype={value.dtype.name!r})"
    if value.size == 0:
        array = f"np.zeros({value.shape}, dtype={value.dtype.name!r})"
    return _ARRANGED[arrangement].format(array=array, shape=value.shape, dtype=value.dtype.name)


def _list(array: np.ndarray) -> str:
    """Nested lists as short as they can be: 1. instead of 1.0."""
    text = repr(array.tolist()).replace(".0,", ".,").replace(".0]", ".]")
    return text.replace("nan", "np.nan").replace("inf", "np.inf")


def _expectation(violation: Violation) -> str:
    if violation.case.refused is not None:
        return f"expected an exception: {violation.case.refused}"
    if not violation.expected:
        return violation.says
    parts = []
    for name, array in violation.expected.items():
        values = array.astype(np.float64) if array.dtype == object else array
        text = _list(values)
        parts.append(f"{name} = {text}" if len(text) <= LONGEST else f"{name} of shape {values.shape}")
    return "expected, in canonical axes: " + "; ".join(parts)
