"""A few lines of Python that show a violation: literal arrays, and the call."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np

from convform.adapters import Implementation
from convform.adapters.scripts import Script
from convform.conformance.cases.case import Case, parameters_as_said
from convform.conformance.laws.violation import Violation
from convform.conformance.subjects.subject import arrangement_of

# How to write each of `convform.conformance.subjects.subject.ARRANGEMENTS` on top of a plain array.
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

ATTEMPTS = 300
"""Times that a program repeats a call that has ended a process."""


class Expression(str):
    """What makes the adapter in Python, for one that no file holds."""


def reproducer(implementation: Implementation, violation: Violation, origin: str | None) -> str:
    """Write a violation as source to paste into Python.

    Parameters
    ----------
    implementation
        The wrapper; its native arguments are written out.
    violation
        What to show.
    origin
        What `convform.adapters.load` finds the adapter by, or the `Expression` that makes it; None writes a
        name to fill in.
    """
    case = violation.case
    name = implementation.operator.name
    function = name.replace(".", "_")
    arguments = [
        f"    {key}={_literal(value, arrangement_of(key, case))},"
        for key, value in _native_arguments(implementation, case).items()
    ]
    if isinstance(origin, Expression):
        finds = [
            "from convform.conformance.inference.infer import infer_adapter",
            f"{function} = {origin}[{name!r}]",
        ]
    else:
        target = repr(origin) if origin else '"your_file.py"'
        finds = ["from convform.adapters import load", f"{function} = load({target})[{name!r}]"]
    lines = [
        *_imports(case, "NumPy knows bfloat16 from then on"),
        *finds,
        f"print({function}(",
        *arguments,
        "))",
        f"# {_expectation(violation)}",
    ]
    return "\n".join(lines)


def standalone(script: Script, implementation: Implementation, violation: Violation) -> str | None:
    """Write a violation as a program that needs NumPy and the judged library, and nothing of convform.

    Parameters
    ----------
    script
        The adapter's `convform.adapters.Adapter.script`.
    implementation
        The wrapper that was called.
    violation
        What to show.

    Returns
    -------
    str or None
        The program; it prints a line for each output: name, dtype, shape, values. None where the adapter
        cannot say the call.
    """
    case, operator = violation.case, implementation.operator
    arguments = _native_arguments(implementation, case)
    call = script(
        operator.name, {name: value for name, value in arguments.items() if name not in operator.inputs}
    )
    if call is None:
        return None
    lines = [*_imports(case, "NumPy has its bfloat16 from there"), ""]
    for name in operator.inputs:
        value = arguments.get(name)
        if name not in arguments and name in case.inputs:  # the wrapper does not take it, its script may
            value = implementation.layouts[name].to_native(case.inputs[name])
        lines.append(f"{name} = {_literal(value, arrangement_of(name, case))}")
    call = call.strip()
    if violation.outcome is not None:
        # What is read or written beside an array does not end a process every time.
        call = f"for attempt in range({ATTEMPTS}):\n{textwrap.indent(call, '    ')}"
    return "\n".join([*lines, "", call, "", *_PRINTS, f"# {_expectation(violation)}"]) + "\n"


_PRINTS = (
    "for name, value in answer.items():",
    "    value = np.asarray(value)",
    "    print(name, value.dtype, value.shape, value.tolist())",
)


def _native_arguments(implementation: Implementation, case: Case) -> dict[str, Any]:
    return implementation.native_arguments(case.inputs, parameters_as_said(case, implementation.claims))


def _imports(case: Case, why_ml_dtypes: str) -> list[str]:
    lines = ["import numpy as np"]
    if any(array.dtype.name == "bfloat16" for array in case.inputs.values()):
        lines.append(f"import ml_dtypes  # {why_ml_dtypes}")
    return lines


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
