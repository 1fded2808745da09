"""The oracle: what the standard's answer to a case is, and how far an answer may be from it.

In the exact lane the expectation comes from the fast reference and the tolerance is zero, except for
averages whose divisor is no power of two. In the bounded lane the expectation is the definition evaluated
on exact integers, and the tolerance is the classical bound on a sum of K rounded products.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from convform import reference
from convform.conformance.cases.case import Arrays, Case
from convform.conformance.cases.contents import HALF_TYPES, smallest_subnormal, unit_roundoff
from convform.reference import definition
from convform.reference.misreadings.misreading import Evaluate
from convform.reference.misreadings.steps import divisor


@dataclass(frozen=True)
class Expected:
    """The standard's answer.

    Attributes
    ----------
    values
        Arrays by name, in canonical axes. Exact numbers (object dtype) in the bounded lane.
    tolerance
        Allowed absolute difference per element; an output that is missing here must be equal.
    rms_tolerance
        Allowed root-mean-square of the difference divided by `scale`, per output.
    scale
        u Σ|x||w| per element: the unit that errors are measured in.
    """

    values: Arrays
    tolerance: Mapping[str, np.ndarray]
    rms_tolerance: Mapping[str, float]
    scale: Mapping[str, np.ndarray]


@np.errstate(all="ignore")  # a homework may have asked NumPy to raise, which is not the oracle's business
def exact(case: Case, evaluate: Evaluate = reference.evaluate, arithmetic: str = "sum") -> Expected:
    """Answer in the exact lane: equal, or within the rounding of one division for averages.

    Parameters
    ----------
    case
        A valid case.
    evaluate
        The standard that the subject is held to: the reference, or a dialect of it.
    arithmetic
        ``"sum"``, or ``"transform"`` for subjects that round even integers: theirs is the bound of
        transforms, on the same cases.
    """
    values = evaluate(case.operator.name, case.inputs, case.asked)
    tolerance = {}
    if arithmetic == "transform" and case.operator.is_linear:
        for name, magnitude in _magnitudes(case, evaluate).items():
            tolerance[name] = _transform_bound(case, name, magnitude)
    elif case.operator.row.divides and not (
        # A dialect may have divisors of its own.
        evaluate is reference.evaluate and _divisors_are_powers_of_two(case)
    ):
        for name, magnitude in _magnitudes(case, evaluate).items():
            tolerance[name] = (case.terms(name) + 2) * unit_roundoff(case.dtype.name) * magnitude
    elif case.operator.is_gradient and not case.operator.is_linear and evaluate is not reference.evaluate:
        # A dialect may split a tie's gradient: shares are rounded quotients, unless they are integers.
        magnitude = _of_absolute_gradient(case, evaluate)
        if np.any(magnitude != np.rint(magnitude)):
            tolerance["dx"] = (case.terms("dx") + 2) * unit_roundoff(case.dtype.name) * magnitude
    return Expected(values, tolerance, {}, {})


def _of_absolute_gradient(case: Case, evaluate: Evaluate) -> np.ndarray:
    """Σ|dy| of every element of dx, in float64: the selection is that of the case."""
    inputs = {name: array.astype(np.float64) for name, array in case.inputs.items()}
    inputs["dy"] = np.abs(inputs["dy"])
    return np.asarray(evaluate(case.operator.name, inputs, case.asked)["dx"])


@np.errstate(all="ignore")
def bounded(case: Case, arithmetic: str = "sum", evaluate: Evaluate = reference.evaluate) -> Expected:
    """Answer in the bounded lane: exact value, and a tolerance per element that follows from K.

    A sum of K products, in any order, accumulated with unit roundoff u, is off by at most
    (K + 2) u Σ|x||w|; half types accumulate in float32 and round once. If roundings are independent, the
    root-mean-square error is below √(K + 2) u Σ|x||w|, which stays sharp when K is large.
    Subjects that declare ``arithmetic="transform"`` are held to a norm-wise bound instead.
    """
    if evaluate is reference.evaluate:
        values, slack = _evaluated_exactly(case), 1
    else:
        # A dialect is evaluated in float64, whose own rounding is within the same bound.
        doubles = {name: array.astype(np.float64) for name, array in case.inputs.items()}
        values, slack = evaluate(case.operator.name, doubles, case.asked), 2
    u = _accumulation_u(case)
    tolerance, rms, scale = {}, {}, {}
    for name, magnitude in _magnitudes(case, evaluate).items():
        magnitude = slack * magnitude
        if arithmetic == "transform":
            tolerance[name] = slack * _transform_bound(case, name, magnitude)
            continue
        k = case.terms(name)
        last = _output_rounding(case, np.abs(values[name]).astype(np.float64))
        scale[name] = u * magnitude + last
        tolerance[name] = (k + 2) * u * magnitude + last
        rms[name] = math.sqrt(k + 2)
    return Expected(values, tolerance, rms, scale)


def _accumulation_u(case: Case) -> float:
    """Unit roundoff of the sums: half types accumulate in at least float32 (CONV-5)."""
    return min(unit_roundoff(case.dtype.name), unit_roundoff("float32"))


def _output_rounding(case: Case, magnitude: np.ndarray) -> np.ndarray:
    """Error of rounding results of a magnitude to a half type, once; tiny ones round absolutely."""
    dtype = case.dtype
    if dtype.name not in HALF_TYPES:
        return np.zeros_like(magnitude)
    return unit_roundoff(dtype.name) * magnitude + smallest_subnormal(dtype.name) / 2


def _transform_bound(case: Case, output: str, magnitude: np.ndarray) -> np.ndarray:
    """8 u log2(N) ‖x‖‖w‖ for every element: a transform mixes whole planes before it separates them again.

    So its errors follow from all elements, those that no window holds included, and not from Σ|x||w|.
    """
    factors = [case.inputs[name].astype(np.float64) for name in case.operator.row.factors[output]]
    size = sum(factor.size for factor in factors)
    norm = math.prod(float(np.linalg.norm(factor)) for factor in factors)
    if len(factors) == 1:
        norm *= math.sqrt(max(size, 1))  # Σ|x| ≤ √N ‖x‖
    if "b" in case.inputs and output == "y":
        norm += float(np.max(np.abs(case.inputs["b"]), initial=0))
    return 8 * _accumulation_u(case) * math.log2(size + 2) * norm + _output_rounding(case, magnitude)


def rounding(
    case: Case, evaluate: Evaluate = reference.evaluate, arithmetic: str = "sum"
) -> Mapping[str, np.ndarray]:
    """How far correct answers to a case may lie apart, per output; empty where they are equal."""
    if case.geometry is not None and case.geometry.contents == "real":
        return bounded(case, arithmetic, evaluate).tolerance
    return exact(case, evaluate, arithmetic).tolerance


def _magnitudes(case: Case, evaluate: Evaluate) -> dict[str, np.ndarray]:
    """Σ|x||w| of every output, in float64 and rounded up."""
    absolute = {name: np.abs(array).astype(np.float64) for name, array in case.inputs.items()}
    values = evaluate(case.operator.name, absolute, case.asked)
    return {name: np.asarray(array) * (1 + 2.0**-20) for name, array in values.items()}


def _evaluated_exactly(case: Case) -> dict[str, np.ndarray]:
    """Evaluate the definition on fractions: every float64 is one."""
    doubles = {name: array.astype(np.float64) for name, array in case.inputs.items()}
    values = definition.evaluate(case.operator.name, doubles, case.asked)
    return {name: array for name, array in values.items() if name != "indices"}


def _divisors_are_powers_of_two(case: Case) -> bool:
    """Whether every window of an average is divided by a power of two, so that division is exact."""
    call = case.call
    assert call is not None
    if any(call.window.overhang(call.size)):
        return False
    counts = divisor(call, call.window.positions(call.output))
    return bool(np.all(counts & (counts - 1) == 0))
