"""Comparing an answer with the standard's: shapes, then values, cell by cell."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

import numpy as np

from convform.adapters import ReturnedWrong
from convform.conformance.cases import oracle
from convform.conformance.cases.case import Case
from convform.conformance.cases.contents import is_float
from convform.conformance.laws.violation import DTYPE, OTHER, RAISES, SHAPE, Violation
from convform.conformance.subjects.subject import Answer, Subject, SubjectRaised, call


def answer(subject: Subject, case: Case, *, as_numbers: bool = True) -> Answer:
    """Call the subject with a valid case; an exception or a wrong shape is a violation.

    Parameters
    ----------
    subject
        The subject.
    case
        A valid case.
    as_numbers
        Read complex numbers without imaginary part, and objects that are numbers, as real numbers; which
        dtype an answer must have is a question of its own (CONTRACT-5).
    """
    try:
        result = call(subject.implementation, case)
    except SubjectRaised as error:
        raise Violation(case, f"raised {error} on input that the standard accepts", kind=RAISES) from error
    except ReturnedWrong as error:
        raise Violation(case, f"{error} (on other input it returned an answer)", kind=OTHER) from error
    if result.mismatch is not None:
        raise Violation(case, f"{result.mismatch}", kind=SHAPE) from result.mismatch
    if as_numbers and any(array.dtype.kind in "cO" for array in result.outputs.values()):
        outputs = {name: _real(case, name, array) for name, array in result.outputs.items()}
        return replace(result, outputs=outputs)
    return result


def _real(case: Case, name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "cO":
        return array
    try:
        if not np.any(np.imag(array)):
            return np.real(array).astype(np.float64)
    except (TypeError, ValueError):
        pass
    raise Violation(case, f"{name} holds something that is no real number (dtype {array.dtype})", kind=DTYPE)


def compare(case: Case, result: Answer, expected: oracle.Expected, outputs: Iterable[str]) -> None:
    """Hold every output in `outputs` against the expectation.

    Raises
    ------
    Violation
        If an output is missing or has another shape, or a cell differs by more than is allowed.
    """
    wrong: dict[str, np.ndarray] = {}
    says: list[str] = []
    for name in outputs:
        values = expected.values[name]
        if name not in result.outputs:
            raise Violation(case, f"returned no {name} this time, though it did before", kind=OTHER)
        actual = result.outputs[name]
        if actual.shape != values.shape:
            raise Violation(
                case,
                f"{name} has shape {actual.shape} where the standard has {values.shape} (canonical axes)",
                {name: values},
                {name: actual},
                kind=SHAPE,
            )
        differs = cells_that_differ(actual, values, expected.tolerance.get(name))
        if differs.any():
            wrong[name] = differs
            says.append(_how_far(name, actual, values, differs, name in expected.tolerance))
        elif name in expected.rms_tolerance:
            rms = _rms(actual, values, expected.scale[name])
            if rms > expected.rms_tolerance[name]:
                wrong[name] = np.ones_like(differs)
                says.append(
                    f"{name} is off by {rms:.1f} units u·Σ|x||w| in the root mean square, "
                    f"more than √(K+2) = {expected.rms_tolerance[name]:.1f}: precision is lost everywhere"
                )
    if wrong:
        raise Violation(
            case,
            "; ".join(says),
            {name: expected.values[name] for name in wrong},
            {name: result.outputs[name] for name in wrong},
            wrong,
        )


def cells_that_differ(actual: np.ndarray, expected: np.ndarray, tolerance: np.ndarray | None) -> np.ndarray:
    """Mark the cells in which two arrays of one shape differ; NaN equals NaN.

    Parameters
    ----------
    actual, expected
        Arrays of one shape.
    tolerance
        Allowed difference per element; None for none at all.
    """
    with np.errstate(invalid="ignore"):
        same = actual == expected if tolerance is None else _error(actual, expected) <= tolerance
    if is_float(expected.dtype) and is_float(actual.dtype):
        same = same | (np.isnan(actual) & np.isnan(expected))
    return np.asarray(~same)


def _error(actual: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """|actual − expected| in float64; exact differences where the expectation is exact."""
    if expected.dtype != object:
        with np.errstate(invalid="ignore"):
            return np.abs(actual.astype(np.float64) - expected.astype(np.float64))
    # float64 − Fraction would round the expectation first: subtract as fractions.
    differences = [
        float(abs(Fraction(a) - e)) if np.isfinite(a) else np.inf
        for a, e in zip(
            actual.astype(np.float64).reshape(-1).tolist(), expected.reshape(-1).tolist(), strict=True
        )
    ]
    return np.array(differences, dtype=np.float64).reshape(expected.shape)


def _rms(actual: np.ndarray, expected: np.ndarray, scale: np.ndarray) -> float:
    error = _error(actual, expected)
    used = scale > 0
    if not used.any():
        return 0.0
    return float(np.sqrt(np.mean((error[used] / scale[used]) ** 2)))


def _how_far(name: str, actual: np.ndarray, expected: np.ndarray, differs: np.ndarray, bounded: bool) -> str:
    count, total = int(differs.sum()), differs.size
    cells = f"{name} differs in {count} of {total} cell{'s' if total > 1 else ''}"
    if not bounded:
        return cells
    error = _error(actual, expected)
    return f"{cells}, by up to {float(np.max(error[differs])):.2g}, more than rounding explains"


def expected_exactly(subject: Subject, case: Case) -> oracle.Expected:
    """Return the standard's answer in the exact lane, as far as the subject's arithmetic can be exact."""
    return oracle.exact(case, subject.standard, subject.implementation.claims.arithmetic)


def check_exact(subject: Subject, case: Case) -> None:
    """Equal to the reference, bit for bit (averages: within one rounding of each operation)."""
    compare(case, answer(subject, case), expected_exactly(subject, case), subject.owes(case))


def check_bounded(subject: Subject, case: Case) -> None:
    """Within the bound on rounding errors of the exact value."""
    expected = oracle.bounded(case, subject.implementation.claims.arithmetic, subject.standard)
    outputs = [name for name in subject.owes(case) if name in expected.values]
    compare(case, answer(subject, case), expected, outputs)
