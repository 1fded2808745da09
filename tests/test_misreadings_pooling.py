"""Misreadings of pooling: the smallest input that the page names shows each one, and others do not."""

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

PAGES = ("MAXPOOL-", "MAXGRAD-1", "MAXGRAD-2", "AVGPOOL-", "AVGGRAD-1")
NAMES = [name for name, m in MISREADINGS.items() if m.clause.startswith(PAGES)]

INF, NAN, LOWEST = np.inf, np.nan, np.finfo(np.float64).min
MAX, MAX_GRADIENT = "max_pool2d", "max_pool2d.backward"
AVG, AVG_GRADIENT = "avg_pool2d", "avg_pool2d.backward"

COLUMN_PADDED = {"kernel": (1, 2), "stride": 1, "padding": ((0, 0), (1, 1))}
"""A 1×2 kernel that slides over a row with one padded element on each side."""

EMPTY = {**COLUMN_PADDED, "dilation": (1, 2)}
"""On a row of one element both taps of the only window lie beside it."""

OVERLAPPING = {"kernel": (1, 2), "stride": 1}


def plane(rows):
    """One sample and one channel: a row, or a list of rows."""
    return np.atleast_2d(np.array(rows, dtype=np.float64))[None, None]


def complete(operator, parameters):
    """Add the defaults of pooling: a stride of the kernel size, no padding, no dilation."""
    rank = len(parameters["kernel"])
    defaults = {"stride": None, "padding": ((0, 0),) * rank, "dilation": (1,) * rank, "ceil_mode": False}
    if operator.startswith("avg"):
        defaults["count_include_pad"] = True
    return defaults | parameters


def standard(operator, inputs, parameters):
    return reference.evaluate(operator, inputs, complete(operator, parameters))


def misread_by(name, operator, inputs, parameters):
    with np.errstate(all="ignore"):
        return misread(MISREADINGS[name])(operator, inputs, complete(operator, parameters))


# name: operator, x, (dy), parameters, output, what the misreading gives
SHOWN = {
    "maximum starts at zero": (MAX, [-1], {"kernel": (1, 1)}, "y", [0]),
    "maximum starts at a large negative number": (MAX, [-1e10], {"kernel": (1, 1)}, "y", [-1e9]),
    "first window only": (MAX, [1, 2], {"kernel": (1, 1)}, "y", [1, 0]),
    "largest magnitude": (MAX, [-2, 1], {"kernel": (1, 2)}, "y", [-2]),
    "padding counts as zero": (
        MAX,
        [-1],
        {"kernel": (2, 2), "stride": 1, "padding": 1},
        "y",
        [[0, 0], [0, 0]],
    ),
    "padding counts as a large negative number": (
        MAX,
        [-1e10],
        {"kernel": (2, 2), "stride": 1, "padding": 1},
        "y",
        [[-1e9, -1e9], [-1e9, -1e9]],
    ),
    "empty window gives the lowest finite number": (MAX, [7], EMPTY, "y", [LOWEST]),
    "empty window gives zero": (MAX, [7], EMPTY, "y", [0]),
    "empty window has an index outside of the plane": (MAX, [7], EMPTY, "indices", [1]),
    "nan ignored": (MAX, [NAN, 1], {"kernel": (1, 2)}, "y", [1]),
    "nan only where it comes first": (MAX, [1, NAN], {"kernel": (1, 2)}, "y", [1]),
    "nan has no index": (MAX, [NAN], {"kernel": (1, 1)}, "indices", [1]),
    "minus infinity replaced": (MAX, [-INF], {"kernel": (1, 1)}, "y", [LOWEST]),
    "index in the window": (MAX, [1, 2], {"kernel": (1, 1)}, "indices", [0, 0]),
    "index in the padded plane": (MAX, [1], {"kernel": (3, 3), "padding": 1}, "indices", [4]),
    "index column by column": (MAX, [[1, 3], [2, 0]], {"kernel": (2, 2)}, "indices", [2]),
    "last maximum": (MAX, [1, 1], {"kernel": (1, 2)}, "indices", [1]),
    "ties counted column by column": (MAX, [[1, 2], [2, 1]], {"kernel": (2, 2)}, "indices", [2]),
    "every tie gets the gradient": (MAX_GRADIENT, [1, 1], [6], {"kernel": (1, 2)}, "dx", [6, 6]),
    "ties split": (MAX_GRADIENT, [1, 1], [6], {"kernel": (1, 2)}, "dx", [3, 3]),
    "gradient to the last maximum": (MAX_GRADIENT, [1, 1], [6], {"kernel": (1, 2)}, "dx", [0, 6]),
    "gradient times the value": (MAX_GRADIENT, [2], [6], {"kernel": (1, 1)}, "dx", [12]),
    "backward windows ignore the stride": (
        MAX_GRADIENT,
        [1, 2, 3],
        [6, 7],
        {"kernel": (1, 1), "stride": 2},
        "dx",
        [6, 7, 0],
    ),
    "max gradient ignores the dilation": (
        MAX_GRADIENT,
        [1, 2, 3],
        [6],
        {"kernel": (1, 2), "dilation": 2},
        "dx",
        [0, 6, 0],
    ),
    "max gradient ignores the padding": (MAX_GRADIENT, [1, 2], [6, 7, 8], COLUMN_PADDED, "dx", [0, 13]),
    "gradient truncated to integers": (MAX_GRADIENT, [1], [0.5], {"kernel": (1, 1)}, "dx", [0]),
    "overlapping gradients assigned": (MAX_GRADIENT, [1, 5, 2], [6, 7], OVERLAPPING, "dx", [0, 7, 0]),
    "overlapping windows overwritten": (MAX_GRADIENT, [1, 5, 9], [6, 7], OVERLAPPING, "dx", [0, 0, 7]),
    "one mask for the whole plane": (MAX_GRADIENT, [1, 2, 3], [6, 7], OVERLAPPING, "dx", [0, 13, 7]),
    "divisor is the squared height": (AVG, [2, 4], {"kernel": (1, 2)}, "y", [6]),
    "divisor is the product of the strides": (AVG, [2, 4], OVERLAPPING, "y", [6]),
    "average not divided": (AVG, [2, 4], {"kernel": (1, 2)}, "y", [6]),
    "average rounded to integers": (AVG, [1, 2], {"kernel": (1, 2)}, "y", [1]),
    "padding never counted": (AVG, [4], COLUMN_PADDED, "y", [4, 4]),
    "padding always counted": (AVG, [4], {**COLUMN_PADDED, "count_include_pad": False}, "y", [2, 2]),
    "counting modes exchanged": (AVG, [4], {**COLUMN_PADDED, "count_include_pad": False}, "y", [2, 2]),
    "overhang counted": (AVG, [2, 4, 6], {"kernel": (1, 2), "ceil_mode": True}, "y", [3, 3]),
    "overhang uncounted, and padding with it": (
        AVG,
        [3, 6, 9, 6],
        {"kernel": (1, 3), "stride": 2, "padding": ((0, 0), (1, 1)), "ceil_mode": True},
        "y",
        [3, 7, 6],
    ),
    "average gradient not divided": (AVG_GRADIENT, [0, 0], [6], {"kernel": (1, 2)}, "dx", [6, 6]),
    "average gradient assigned": (AVG_GRADIENT, [0, 0, 0], [6, 8], OVERLAPPING, "dx", [3, 4, 4]),
    "wrong count at the border": (
        AVG_GRADIENT,
        [0],
        [6, 8],
        {**COLUMN_PADDED, "count_include_pad": False},
        "dx",
        [7],
    ),
    "overhang counted in the gradient": (
        AVG_GRADIENT,
        [0, 0, 0],
        [6, 8],
        {"kernel": (1, 2), "ceil_mode": True},
        "dx",
        [3, 3, 4],
    ),
    "average gradient ignores the stride": (
        AVG_GRADIENT,
        [0, 0, 0],
        [6, 7],
        {"kernel": (1, 1), "stride": 2},
        "dx",
        [6, 7, 0],
    ),
    "average gradient ignores the dilation": (
        AVG_GRADIENT,
        [0, 0, 0],
        [6],
        {"kernel": (1, 2), "dilation": 2},
        "dx",
        [3, 3, 0],
    ),
    "average gradient ignores the padding": (AVG_GRADIENT, [0], [6, 8], COLUMN_PADDED, "dx", [3]),
    "average gradient rounded to integers": (AVG_GRADIENT, [0, 0], [1], {"kernel": (1, 2)}, "dx", [0, 0]),
}


@pytest.mark.parametrize("name", SHOWN)
def test_the_input_that_the_page_names_shows_it(name):
    operator, x, *dy, parameters, output, misread_answer = SHOWN[name]
    inputs = dict(zip(("x", "dy"), map(plane, (x, *dy)), strict=False))
    right = standard(operator, inputs, parameters)[output]
    answer = misread_by(name, operator, inputs, parameters)[output]
    assert np.array_equal(answer, plane(misread_answer)), answer
    assert not np.array_equal(answer, right)


def test_indices_of_other_libraries_count_channels():
    two = {"x": np.ones((1, 2, 1, 2))}
    whole = misread_by("index in the whole array", MAX, two, {"kernel": (1, 1)})["indices"]
    last = misread_by("index with channels last", MAX, two, {"kernel": (1, 1)})["indices"]
    assert whole.reshape(-1).tolist() == [0, 1, 2, 3]
    assert last.reshape(-1).tolist() == [0, 2, 1, 3]


def test_ones_accumulated_in_half_stop_counting():
    ones = {"x": np.ones((1, 1, 64, 64), np.float16)}
    answer = misread_by("average accumulated in half", AVG, ones, {"kernel": (64, 64)})
    assert answer["y"].item() == 0.5


def test_a_reciprocal_differs_in_the_last_bit_or_not_at_all():
    x = plane([7, 0, 0])
    right = standard(AVG, {"x": x}, {"kernel": (1, 3)})["y"]
    answer = misread_by("multiplied by the reciprocal", AVG, {"x": x}, {"kernel": (1, 3)})["y"]
    assert answer.item() in (right.item(), np.nextafter(right.item(), 0), np.nextafter(right.item(), 9))
    x = plane([7, 0, 0, 0])
    right = standard(AVG, {"x": x}, {"kernel": (1, 4)})["y"]
    answer = misread_by("multiplied by the reciprocal", AVG, {"x": x}, {"kernel": (1, 4)})["y"]
    assert np.array_equal(answer, right)


def test_every_misreading_of_these_pages_is_shown():
    elsewhere = {
        "index in the whole array",
        "index with channels last",
        "average accumulated in half",
        "multiplied by the reciprocal",
    }
    assert {name for name in NAMES if name not in elsewhere} == set(SHOWN)


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
        for output, values in right.items():
            assert np.array_equal(answer[output], values), (operator, output)


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
    case = counterexample("gradient truncated to integers", MAX_GRADIENT, "values")
    assert case.inputs["dy"].reshape(-1).tolist() == [0.5]


def test_a_large_negative_start_is_shown_by_an_element_below_it():
    case = counterexample("maximum starts at a large negative number", MAX, "together")
    assert case.inputs["x"].min() < -1e9
