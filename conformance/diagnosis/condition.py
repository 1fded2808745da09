"""When does it fail? The shortest condition over features of a case that separates failing from passing."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from convform.conformance.cases.case import Case
from convform.conformance.diagnosis.findings import Condition
from convform.reference.window import Window

FEWEST = 4
"""Failing and passing cases that are needed at least for a condition to mean anything."""

Feature = Callable[[Case, Window], bool]


def _size(case: Case) -> tuple[int, ...]:
    """Spatial sizes of x."""
    assert case.call is not None
    return case.call.size


def _floored(case: Case, window: Window) -> tuple[int, ...]:
    """Number of windows along each axis without rounding up."""
    return replace(window, ceil_mode=False).count(_size(case))


def _uneven(values: Sequence[Any]) -> bool:
    return len(set(values)) > 1


FEATURES: Mapping[str, Feature] = {
    "H ≠ W": lambda case, window: _uneven(_size(case)),
    "the kernel is not square": lambda case, window: _uneven(window.kernel),
    "the kernel has more than one tap": lambda case, window: window.taps > 1,
    "stride > 1": lambda case, window: max(window.stride) > 1,
    "the strides differ": lambda case, window: _uneven(window.stride),
    "stride is left to its default": lambda case, window: case.parameters["stride"] is None,
    "stride does not divide n + p − e": lambda case, window: (
        replace(window, ceil_mode=True).count(_size(case), clipped=False) != _floored(case, window)
    ),
    "there is padding": lambda case, window: any(max(pair) > 0 for pair in window.padding),
    "padding differs before and after": lambda case, window: any(low != high for low, high in window.padding),
    "the paddings of the axes differ": lambda case, window: _uneven(window.padding),
    "dilation > 1": lambda case, window: max(window.dilation) > 1,
    "windows overlap": lambda case, window: any(
        len(p) > 1 and p[1, 0] <= p[0, -1] for p in window.positions(_floored(case, window))
    ),
    "the kernel exceeds the input": lambda case, window: any(
        e > n for e, n in zip(window.effective_kernel, _size(case), strict=True)
    ),
    "there is more than one window": lambda case, window: max(_floored(case, window)) > 1,
    "N > 1": lambda case, window: case.sizes["n"] > 1,
    "C > 1": lambda case, window: case.sizes["c"] > 1,
    "O > 1": lambda case, window: case.sizes.get("o", 1) > 1,
    "groups > 1": lambda case, window: int(case.parameters.get("groups", 1)) > 1,  # type: ignore[call-overload]
    "there is no bias": lambda case, window: "b" in case.operator.inputs and "b" not in case.inputs,
    "ceil_mode is on": lambda case, window: bool(case.parameters.get("ceil_mode", False)),
    "a window overhangs": lambda case, window: any(window.overhang(_size(case))),
    "padding does not count": lambda case, window: not case.parameters.get("count_include_pad", True),
    "x has negative elements": lambda case, window: bool(np.any(_data(case) < 0)),
    "x has no positive element": lambda case, window: not np.any(_data(case) > 0),
    "x has equal elements": lambda case, window: np.unique(_data(case)).size < _data(case).size,
    "x has elements that are no integers": lambda case, window: bool(
        np.any(_data(case) != np.rint(_data(case)))
    ),
    "the dtype is float32": lambda case, window: case.dtype == np.float32,
    "the dtype is float16": lambda case, window: case.dtype == np.float16,
    "the dtype is bfloat16": lambda case, window: case.dtype.name == "bfloat16",
    "the dtype is an integer": lambda case, window: case.dtype.kind in "iu",
    "arrays are not C-contiguous": lambda case, window: case.arrangement not in ("contiguous", "read-only"),
    "arrays are read-only": lambda case, window: case.arrangement == "read-only",
}
"""Named properties of a case, those that people think of first in front."""

PARTICULAR: Mapping[str, Feature] = {
    "there are no channels": lambda case, window: case.sizes["c"] == 0,
    "the output has one column": lambda case, window: _floored(case, window)[-1] < 2,
    "the last stride > 1": lambda case, window: window.stride[-1] > 1,
    "a stride exceeds the kernel": lambda case, window: any(
        s > e for s, e in zip(window.stride, window.effective_kernel, strict=True)
    ),
    "padding reaches the kernel": lambda case, window: any(
        max(pair) >= k for k, pair in zip(window.kernel, window.padding, strict=True)
    ),
}
"""Properties that a known limit may name as well: nobody would think of them first, so none is learned."""

WORDS: Mapping[str, Feature] = {**FEATURES, **PARTICULAR}
"""The vocabulary of the condition of a known limit."""

_WORD = "|".join(re.escape(word) for word in sorted(WORDS, key=len, reverse=True))
_LITERAL = re.compile(rf"(?:not \((?P<without>{_WORD})\)|(?P<word>{_WORD}))(?:(?P<join> and |, or )|$)")


@functools.cache
def parsed(condition: str) -> tuple[tuple[tuple[Feature, bool], ...], ...]:
    """Read a condition: alternatives, each of features that must hold or must not.

    Raises
    ------
    ValueError
        If there is a word outside of the vocabulary; the message is the rest of the condition, from there.
    """
    alternatives: list[list[tuple[Feature, bool]]] = [[]]
    place, goes_on = 0, True
    while goes_on:
        found = _LITERAL.match(condition, place)
        if found is None:
            raise ValueError(condition[place:])
        word = found["word"] or found["without"]
        alternatives[-1].append((WORDS[word], found["word"] is not None))
        place, goes_on = found.end(), found["join"] is not None
        if found["join"] == ", or ":
            alternatives.append([])
    return tuple(map(tuple, alternatives))


def holds(condition: str, case: Case) -> bool:
    """Whether a condition holds for a case; for one that the standard refuses, none does."""
    if case.refused is not None:
        return False
    window = case.window
    return any(
        all(feature(case, window) == wanted for feature, wanted in features) for features in parsed(condition)
    )


def _data(case: Case) -> np.ndarray:
    data = case.inputs.get("x", case.inputs.get("cols"))
    assert data is not None
    # ml_dtypes warns where NaN is compared.
    return data.astype(np.float32) if data.dtype.name == "bfloat16" else data


def learn(cases: Sequence[Case], right: Sequence[bool]) -> Condition | None:
    """Find the shortest condition that separates failing from passing cases.

    Parameters
    ----------
    cases
        Valid cases.
    right
        Whether the subject was right, case by case.

    Returns
    -------
    Condition or None
        One feature, its negation, or two of them joined by "and" or "or"; None where nothing so short
        separates them, or there are too few cases of one kind to tell.
    """
    valid = [(case, ok) for case, ok in zip(cases, right, strict=True) if case.refused is None]
    fails, passes = sum(not ok for _, ok in valid), sum(ok for _, ok in valid)
    if min(fails, passes) < FEWEST:
        return None
    wrong = np.array([not ok for _, ok in valid])
    literals: list[tuple[str, np.ndarray]] = []
    windows = [case.window for case, _ in valid]
    for name, feature in FEATURES.items():
        holds = np.array([feature(case, window) for (case, _), window in zip(valid, windows, strict=True)])
        literals += [(name, holds), (f"not ({name})", ~holds)]
    for name, holds in literals:
        if np.array_equal(holds, wrong):
            return Condition(name, (fails, fails), (passes, passes))
    for join, combined in ((" and ", np.logical_and), (", or ", np.logical_or)):
        for (first, a), (second, b) in itertools.combinations(literals, 2):
            if np.array_equal(combined(a, b), wrong):
                return Condition(f"{first}{join}{second}", (fails, fails), (passes, passes))
    return None
