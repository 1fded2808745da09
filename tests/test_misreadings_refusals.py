"""Misreadings about refusals: each accepts what its own clause refuses, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from convform import reference
from convform.reference.misreadings.catalogue import MISREADINGS
from convform.reference.misreadings.misreading import misread
from convform.spec.operators import OPERATORS
from convform.tests.test_misreadings import normal, same

SHAPES = ("COL2IM-3", "CONV-7", "CONVGRAD-5", "MAXGRAD-3", "AVGGRAD-2")
CLAUSES = ("WINDOW-6", *SHAPES, "CONTRACT-6", "CONTRACT-9")
MINE = [name for name, misreading in MISREADINGS.items() if misreading.clause in CLAUSES]


def counting(*shape, dtype="float64", start=1):
    return (np.arange(np.prod(shape, dtype=int)) + start).reshape(shape).astype(dtype)


def row(*values):
    """One sample, one channel, one row."""
    return np.array(values, float).reshape(1, 1, 1, -1)


@pytest.mark.parametrize("name", MINE)
def test_misreading_answers_valid_calls_as_the_standard_does(name):
    for operator in OPERATORS.values():
        if operator.rank != 2 or not MISREADINGS[name].applies_to(operator.family):
            continue
        sizes = {"n": 2, "c": 2, "o": 4, "i": 1, "h": 5, "w": 6, "kh": 2, "kw": 3, "oh": 3, "ow": 3}
        arrays = {
            key: counting(*(sizes[axis] for axis in axes.split())) for key, axes in operator.inputs.items()
        }
        given = {
            "kernel": (2, 3),
            "stride": (2, 2),
            "padding": ((1, 0), (1, 0)),
            "groups": 2,
            "input_size": (2, 2, 5, 6),
        }
        parameters = normal(operator.name, given)
        misreading = misread(MISREADINGS[name])(operator.name, arrays, parameters)
        assert same(misreading, reference.evaluate(operator.name, arrays, parameters))


def test_negative_padding_that_crops_has_a_gradient_of_the_whole_input():
    parameters = normal("max_pool2d.backward", {"kernel": 1, "padding": ((0, 0), (-1, -1))})
    crops = misread(MISREADINGS["negative padding crops"])
    dx = crops("max_pool2d.backward", {"x": row(3, 4, 5), "dy": row(7)}, parameters)["dx"]
    assert np.array_equal(dx, row(0, 7, 0))
    indices = crops("max_pool2d", {"x": row(3, 4, 5)}, parameters)["indices"]
    assert indices.item() == 1


def test_gradient_of_an_empty_output_is_zero():
    parameters = normal("conv2d.backward", {})
    empty = misread(MISREADINGS["oversized kernel gives an empty output"])
    arrays = {"x": row(1), "w": row(1, 2), "dy": np.zeros((1, 1, 1, 0))}
    answer = empty("conv2d.backward", arrays, parameters)
    assert same(answer, {"dx": row(0), "dw": row(0, 0), "db": np.zeros(1)})


def test_a_misreading_about_one_refusal_leaves_the_others():
    operator = "conv2d"
    refused = {
        "WINDOW-6": ({}, {"stride": (0, 1)}),
        "CONV-7": ({"b": counting(3)}, {}),
        "CONTRACT-6": ({"w": counting(2, 2, 2, 2, dtype="float32")}, {}),
        "CONTRACT-9": ({"x": counting(4, 4)}, {}),
    }
    given = {"x": counting(1, 2, 4, 4), "w": counting(2, 2, 2, 2), "b": counting(2)}
    for name in MINE:
        for clause, (arrays, parameters) in refused.items():
            if clause == MISREADINGS[name].clause or not MISREADINGS[name].applies_to("conv"):
                continue
            with pytest.raises((TypeError, ValueError, IndexError)):
                misread(MISREADINGS[name])(operator, {**given, **arrays}, normal(operator, parameters))
