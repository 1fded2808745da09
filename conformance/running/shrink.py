"""Making a counterexample small: first the geometry (Hypothesis, or a sorted list), then the numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from convform.conformance.cases.case import Case
from convform.conformance.cases.contents import is_float
from convform.conformance.laws.violation import Violation

Attempt = Callable[[Case], Violation | None]
"""Run a law on a case: the violation, or None where it holds."""

ATTEMPTS = 250
"""Calls of the subject that shrinking the numbers of one counterexample may cost."""


def shrink_numbers(violation: Violation, attempt: Attempt) -> Violation:
    """Find a counterexample of the same shape with the fewest non-zeros, and those small.

    Parameters
    ----------
    violation
        What was found.
    attempt
        Runs the law on a changed case.

    Returns
    -------
    Violation
        Of a case no harder to read than the one given.
    """
    budget = ATTEMPTS
    best = violation
    improved = True
    while improved and budget > 0:
        improved = False
        for candidate in _simpler(best.case):
            budget -= 1
            if budget < 0:
                break
            found = attempt(candidate)
            if found is not None:
                best, improved = found, True
                break
    return best


def _simpler(case: Case) -> Iterator[Case]:
    """Cases that are easier to read, boldest changes first."""
    if case.example is not None:
        return
    for name, array in case.inputs.items():
        if not (is_float(array.dtype) or array.dtype.kind in "iu") or not np.all(np.isfinite(array)):
            continue
        if case.geometry is not None and case.geometry.contents == "real":
            return  # real numbers are judged by rounding; zeros would make rounding vanish
        if case.operator.row.kind == "selects" and name == "x":
            ranks = _ranks(array)
            if not np.array_equal(ranks, array):
                yield case.with_inputs(x=ranks)
            continue
        for part in _halves(array.size):
            flat = array.reshape(-1).copy()
            if np.any(flat[part]):
                flat[part] = 0
                yield case.with_inputs(**{name: flat.reshape(array.shape)})
        # Where ones will not do, halves may: they show who cuts off fractions.
        small = [1.0] if np.all(array == np.rint(array)) else [1.0, 0.5]
        for number, part in itertools.product(small, _halves(array.size)):
            flat = array.reshape(-1).copy()
            large = (flat[part] != 0) & (flat[part] != 1) & (flat[part] != number)
            if np.any(large):
                flat[part] = np.where(large, number, flat[part])
                yield case.with_inputs(**{name: flat.reshape(array.shape)})


def _ranks(array: np.ndarray) -> np.ndarray:
    """Small numbers in the same order, ties and signs kept: what max pooling looks at."""
    values, inverse = np.unique(array, return_inverse=True)
    negative = int(np.sum(values < 0))
    ranks = np.arange(values.size) - negative
    if negative and not np.any(values == 0):
        ranks = np.where(ranks >= 0, ranks + 1, ranks)
    return ranks[inverse].reshape(array.shape).astype(array.dtype)


def _halves(size: int) -> Iterator[slice]:
    """The whole range, its halves, quarters, …, single elements."""
    length = size
    while length >= 1:
        for start in range(0, size, length):
            yield slice(start, min(start + length, size))
        if length == 1:
            return
        length = (length + 1) // 2
