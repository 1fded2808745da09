"""Comparing an answer with the standard's: shapes, then values, cell by cell."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import numpy as np

from convform.adapters import ReturnedWrong
from convform.conformance import oracle
from convform.conformance.case import Case
from convform.conformance.subject import Answer, Subject, SubjectRaised, call
from convform.conformance.violation import Violation


def answer(subject: Subject, case: Case) -> Answer:
    """Call the subject with a valid case; an exception or a wrong shape is a violation."""
    try:
        result = call(subject.implementation, case)
    except SubjectRaised as error:
        raise Violation(case, f"raised {error} on input that the standard accepts") from error.__cause__
    except ReturnedWrong as error:
        raise Violation(case, f"{error} (on other input it returned an answer)") from error
    if result.mismatch is not None:
        raise Violation(case, f"{result.mismatch}") from result.mismatch
    return result


def compare(
    case: Case,
    result: Answer,
    expected: oracle.Expected,
    outputs: Iterable[str],
) -> None:
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
            raise Violation(case, f"returned no {name} this time, though it did before")
        actual = result.outputs[name]
        if actual.shape != values.shape:
            raise Violation(
                case,
                f"{name} has shape {actual.shape} where the standard has {values.shape} (canonical axes)",
                {name: values},
                {name: actual},
            )
        differs = _differs(actual, values, expected.tolerance.get(name))
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


def _differs(actual: np.ndarray, expected: np.ndarray, tolerance: np.ndarray | None) -> np.ndarray:
    if tolerance is None:
        with np.errstate(invalid="ignore"):
            same = actual == expected
            if expected.dtype.kind == "f" and actual.dtype.kind == "f":
                same = same | (np.isnan(actual) & np.isnan(expected))
        return np.asarray(~same)
    error = _error(actual, expected)
    return np.asarray(~(error <= tolerance))


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


def check_exact(subject: Subject, case: Case) -> None:
    """Equal to the reference, bit for bit (averages: within one rounding of each operation)."""
    compare(case, answer(subject, case), oracle.exact(case), subject.owes(case))


def check_bounded(subject: Subject, case: Case) -> None:
    """Within the bound on rounding errors of the exact value."""
    expected = oracle.bounded(case, subject.implementation.claims.arithmetic)
    outputs = [name for name in subject.owes(case) if name in expected.values]
    compare(case, answer(subject, case), expected, outputs)
