"""Every misreading is shown by the smallest input on its page; the files beside this say what hides it."""

from __future__ import annotations

import numpy as np
import pytest

from convform import reference
from convform.conformance.cases.case import normal_parameters
from convform.conformance.subjects.subject import ARRANGEMENTS
from convform.reference import definition
from convform.reference.misreadings.catalogue import MISREADINGS
from convform.reference.misreadings.misreading import misread
from convform.spec.clauses import clauses
from convform.spec.operators import OPERATORS, PARAMETERS

SMALLEST = {listed.name: listed.smallest for clause in clauses().values() for listed in clause.misreadings}
"""What the pages say, by the name of the misreading."""

FINITE = [
    name
    for name, smallest in SMALLEST.items()
    if all(np.isfinite(array).all() for array in smallest.call.inputs.values())
]

REFUSED = TypeError, ValueError
CRASHED = *REFUSED, AttributeError, IndexError


def normal(operator, given):
    """Parameters of an operator, complete and spread over the axes, as a misreading gets them.

    They may ask for what the standard refuses; what the operator does not take is left out.
    """
    entry = OPERATORS[operator]
    values = dict(normal_parameters(entry, {}, partial=True))
    for name in (name for name in entry.parameters if name in given):
        value = given[name]
        if PARAMETERS[name].kind in ("per axis", "low-high") and isinstance(value, int):
            value = (value,) * entry.rank
        if PARAMETERS[name].kind == "low-high":
            value = tuple((side, side) if isinstance(side, int) else side for side in value)
        values[name] = value
    return values


def same(one, other):
    """Whether two answers have the same outputs, with equal shapes and values."""
    equal = (np.array_equal(one[name], array, equal_nan=True) for name, array in other.items())
    return one.keys() == other.keys() and all(equal)


def answer(evaluate, smallest, raised=REFUSED):
    """Every array that is there after the call, and the inputs that an output shares; None if it raises."""

    def ask(call, inputs):
        return evaluate(call.operator, inputs, normal(call.operator, call.parameters))

    def own(call, arrange=np.copy):
        return {name: arrange(array.copy()) for name, array in call.inputs.items()}

    inputs = own(smallest.call, ARRANGEMENTS[smallest.arrangement])
    with np.errstate(all="ignore"):
        try:
            if smallest.before:
                ask(smallest.before, own(smallest.before))
            outputs = ask(smallest.call, inputs)
            if smallest.after:
                ask(smallest.after, own(smallest.after))
        except raised:
            return None
    shared = (
        name for name, array in inputs.items() for out in outputs.values() if np.shares_memory(array, out)
    )
    return {**inputs, **outputs}, tuple(shared)


def comes_to(outcome, answer, smallest):
    """Whether an answer is what the page says; inputs that it does not speak of are as they were."""
    if answer is None or outcome.raises:
        return answer is None and outcome.raises
    arrays, shared = answer
    kept = (
        np.array_equal(arrays[name], array, equal_nan=True)
        for name, array in smallest.call.inputs.items()
        if name not in outcome.arrays
    )
    said = (array.holds(arrays[name]) for name, array in outcome.arrays.items())
    return shared == outcome.shares and all(kept) and all(said)


@pytest.mark.parametrize("name", MISREADINGS)
def test_the_smallest_input_of_the_page_shows_it(name):
    smallest = SMALLEST[name]
    right, wrong = answer(reference.evaluate, smallest), answer(misread(MISREADINGS[name]), smallest, CRASHED)
    assert MISREADINGS[name].applies_to(OPERATORS[smallest.call.operator].family)
    assert comes_to(smallest.standard, right, smallest), right
    assert comes_to(smallest.misread, wrong, smallest), wrong
    assert not comes_to(smallest.standard, wrong, smallest)
    assert not comes_to(smallest.misread, right, smallest)


@pytest.mark.parametrize("name", FINITE)
def test_the_definition_gives_what_the_page_says_of_the_standard(name):
    smallest = SMALLEST[name]
    exact, right = (answer(evaluate, smallest) for evaluate in (definition.evaluate, reference.evaluate))
    if exact and right:
        exact = {key: array.astype(right[0][key].dtype) for key, array in exact[0].items()}, exact[1]
    assert comes_to(smallest.standard, exact, smallest), exact
