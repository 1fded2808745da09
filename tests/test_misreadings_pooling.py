"""Misreadings of pooling: where each cannot be told from the standard, and what the suite finds."""

from __future__ import annotations

import numpy as np
import pytest

from convform import reference
from convform.conformance.laws.index import laws_of
from convform.conformance.laws.law import QUICK
from convform.conformance.running.smoke import smoke
from convform.conformance.running.trial import run_law
from convform.conformance.subjects.twin import adapter_of
from convform.reference.misreadings.catalogue import MISREADINGS
from convform.reference.misreadings.misreading import misread
from convform.spec.operators import OPERATORS
from convform.tests.test_misreadings import normal, same

PAGES = ("MAXPOOL-", "MAXGRAD-1", "MAXGRAD-2", "AVGPOOL-", "AVGGRAD-1")
NAMES = [name for name, m in MISREADINGS.items() if m.clause.startswith(PAGES)]


def standard(operator, inputs, parameters):
    return reference.evaluate(operator, inputs, normal(operator, parameters))


def misread_by(name, operator, inputs, parameters):
    with np.errstate(all="ignore"):
        return misread(MISREADINGS[name])(operator, inputs, normal(operator, parameters))


def test_a_reciprocal_of_a_power_of_two_is_exact():
    call = "avg_pool2d", {"x": np.array([7.0, 0, 0, 0]).reshape(1, 1, 1, 4)}, {"kernel": (1, 4)}
    assert np.array_equal(misread_by("multiplied by the reciprocal", *call)["y"], standard(*call)["y"])


# --- where they coincide with the standard ---------------------------------------------------------------

ALWAYS_WRONG = {
    "first window only",
    "gradient times the value",
    "backward windows ignore the stride",
    "average gradient ignores the stride",
    "average not divided",
    "average rounded to integers",
    "average gradient not divided",
    "average gradient rounded to integers",
    "index in the window",
    "index in the whole array",
    "index with channels last",
    "index column by column",
}
"""Those that show even on windows that tile the plane."""


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ALWAYS_WRONG])
def test_on_positive_square_windows_that_tile_the_plane_it_is_right(name, rank):
    rng = np.random.default_rng(rank)
    shape = (2, 3, *(4,) * rank)
    inputs = {"x": 1.0 + rng.permutation(int(np.prod(shape))).reshape(shape)}
    for family in MISREADINGS[name].families:
        operator = family.replace("pool", f"pool{rank}d")
        given = {**inputs}
        if family.endswith(".backward"):
            given["dy"] = rng.integers(-8, 8, (2, 3, *(2,) * rank)) * 1.0
        parameters = {"kernel": (2,) * rank}
        right = standard(operator, given, parameters)
        answer = misread_by(name, operator, given, parameters)
        assert same(answer, right), operator


@pytest.mark.parametrize("name", NAMES)
def test_what_the_standard_refuses_is_still_refused(name):
    for family in MISREADINGS[name].families:
        operator = family.replace("pool", "pool2d")
        inputs = {"x": np.ones((1, 1, 2, 2))}
        if family.endswith(".backward"):
            inputs["dy"] = np.ones((1, 1, 3, 3))
            with pytest.raises(ValueError, match="dy has shape"):
                misread_by(name, operator, inputs, {"kernel": (2, 2)})
        with pytest.raises(ValueError, match="kernel"):
            misread_by(name, operator, inputs, {"kernel": (3, 3)})


# --- what the suite does with them -----------------------------------------------------------------------


def counterexample(name, operator, law_name):
    adapter = adapter_of(name, misread(MISREADINGS[name]), [OPERATORS[operator]])
    subject, _ = smoke(adapter.implementations[operator])
    law = next(law for law in laws_of(subject.operator) if law.name == law_name)
    return run_law(subject, law, QUICK, seed=0).violation.case


def test_a_lost_fraction_is_shown_by_one_half():
    case = counterexample("gradient truncated to integers", "max_pool2d.backward", "values")
    assert case.inputs["dy"].reshape(-1).tolist() == [0.5]


def test_a_large_negative_start_is_shown_by_an_element_below_it():
    case = counterexample("maximum starts at a large negative number", "max_pool2d", "together")
    assert case.inputs["x"].min() < -1e9
