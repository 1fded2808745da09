"""Misreadings about refusals: each accepts the smallest input that its clause names; nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from convform import reference
from convform.reference.misreadings.catalogue import MISREADINGS
from convform.reference.misreadings.misreading import misread
from convform.spec.clauses import clauses
from convform.spec.operators import OPERATORS

SHAPES = ("COL2IM-3", "CONV-7", "CONVGRAD-5", "MAXGRAD-3", "AVGGRAD-2")
CLAUSES = ("WINDOW-6", *SHAPES, "CONTRACT-6", "CONTRACT-9")
MINE = [name for name, misreading in MISREADINGS.items() if misreading.clause in CLAUSES]


def counting(*shape, dtype="float64", start=1):
    return (np.arange(np.prod(shape, dtype=int)) + start).reshape(shape).astype(dtype)


def row(*values):
    """One sample, one channel, one row."""
    return np.array(values, float).reshape(1, 1, 1, -1)


def parameters_of(operator, given):
    """All parameters of an operator in normal form."""
    defaults = {
        "kernel": (1, 1),
        "stride": (1, 1),
        "padding": ((0, 0), (0, 0)),
        "dilation": (1, 1),
        "groups": 1,
        "ceil_mode": False,
        "count_include_pad": True,
    }
    return {name: given.get(name, defaults.get(name)) for name in OPERATORS[operator].parameters}


def same(one, other):
    return all(
        one[name].shape == array.shape and np.array_equal(one[name], array) for name, array in other.items()
    )


WIDE = {"kernel": (1, 2)}
CROP = ((0, 0), (-1, -1))

# name: operator, the smallest arrays that the clause names, parameters, what the misreading answers
SMALLEST = {
    "oversized kernel gives an empty output": (
        "max_pool2d",
        {"x": row(1)},
        WIDE,
        {"y": np.zeros((1, 1, 1, 0)), "indices": np.zeros((1, 1, 1, 0))},
    ),
    "size truncated toward zero": ("max_pool2d", {"x": row(1)}, {**WIDE, "stride": (1, 2)}, {"y": row(1)}),
    "negative padding crops": ("max_pool2d", {"x": row(3, 4, 5)}, {"padding": CROP}, {"y": row(4)}),
    "negative padding is none": ("max_pool2d", {"x": row(3, 4)}, {"padding": CROP}, {"y": row(3, 4)}),
    "dilation zero is none": ("max_pool2d", {"x": row(3, 4)}, {**WIDE, "dilation": (1, 0)}, {"y": row(4)}),
    "stride zero is one": ("max_pool2d", {"x": row(3, 4)}, {"stride": (1, 0)}, {"y": row(3, 4)}),
    "sign of the stride ignored": ("max_pool2d", {"x": row(3, 4)}, {"stride": (1, -1)}, {"y": row(3, 4)}),
    "columns broadcast": (
        "col2im",
        {"cols": counting(1, 1, 1, 1, 1, 1, start=7)},
        {"input_size": (1, 1, 1, 2)},
        {"x": row(7, 7)},
    ),
    "surplus columns ignored": (
        "col2im",
        {"cols": counting(1, 1, 1, 1, 1, 2, start=7)},
        {"input_size": (1, 1, 1, 1)},
        {"x": row(7)},
    ),
    "surplus channels ignored": (
        "conv2d",
        {"x": counting(1, 2, 1, 1, start=3), "w": counting(1, 1, 1, 1)},
        {},
        {"y": row(3)},
    ),
    "surplus kernel slices ignored": (
        "conv2d",
        {"x": row(3), "w": counting(1, 2, 1, 1)},
        {},
        {"y": row(3)},
    ),
    "weight broadcast over channels": (
        "conv2d",
        {"x": counting(1, 2, 1, 1, start=3), "w": counting(1, 1, 1, 1)},
        {},
        {"y": row(7)},
    ),
    "bias broadcast": (
        "conv2d",
        {"x": row(3), "w": counting(2, 1, 1, 1), "b": np.array([10.0])},
        {},
        {"y": np.array([13.0, 16.0]).reshape(1, 2, 1, 1)},
    ),
    "surplus biases ignored": (
        "conv2d",
        {"x": row(3), "w": counting(1, 1, 1, 1), "b": np.array([10.0, 20.0])},
        {},
        {"y": row(13)},
    ),
    "groups rounded down": (
        "conv2d",
        {"x": counting(1, 3, 1, 1), "w": np.ones((2, 1, 1, 1))},
        {"groups": 2},
        {"y": np.array([1.0, 2.0]).reshape(1, 2, 1, 1)},
    ),
    "zero groups are one": ("conv2d", {"x": row(3), "w": row(2)}, {"groups": 0}, {"y": row(6)}),
    "dy of the convolution broadcast": (
        "conv2d.backward",
        {"x": row(1, 2), "w": row(3), "dy": row(1)},
        {},
        {"dx": row(3, 3), "dw": row(3), "db": np.array([2.0])},
    ),
    "dy of the convolution cropped": (
        "conv2d.backward",
        {"x": row(2), "w": row(3), "dy": row(1, 9)},
        {},
        {"dx": row(3), "dw": row(2), "db": np.array([1.0])},
    ),
    "dy of max pooling broadcast": (
        "max_pool2d.backward",
        {"x": row(1, 2), "dy": row(5)},
        {},
        {"dx": row(5, 5)},
    ),
    "dy of max pooling cropped": ("max_pool2d.backward", {"x": row(1), "dy": row(5, 6)}, {}, {"dx": row(5)}),
    "dy of average pooling broadcast": (
        "avg_pool2d.backward",
        {"x": row(1, 2), "dy": row(5)},
        {},
        {"dx": row(5, 5)},
    ),
    "dy of average pooling cropped": (
        "avg_pool2d.backward",
        {"x": row(1), "dy": row(5, 6)},
        {},
        {"dx": row(5)},
    ),
    "mixed dtypes promoted": (
        "conv2d",
        {"x": row(1).astype("float32"), "w": row(0.1)},
        {},
        {"y": row(0.1)},
    ),
    "mixed dtypes cast to the input's": (
        "conv2d",
        {"x": row(1).astype("float32"), "w": row(0.1)},
        {},
        {"y": row(0.1).astype("float32")},
    ),
    "missing axes guessed": ("max_pool2d", {"x": row(3, 4)[0, 0]}, {}, {"y": row(3, 4)}),
    "surplus axes merged": ("max_pool2d", {"x": row(3, 4)[None]}, {}, {"y": row(3, 4)}),
}


def test_every_misreading_of_the_clauses_is_here():
    listed = {m.name for clause in clauses().values() if clause.id in CLAUSES for m in clause.misreadings}
    assert listed == set(MINE) == set(SMALLEST)


@pytest.mark.parametrize("name", SMALLEST)
def test_misreading_accepts_what_the_clause_refuses(name):
    operator, arrays, given, expected = SMALLEST[name]
    parameters = parameters_of(operator, given)
    with pytest.raises((TypeError, ValueError)):
        reference.evaluate(operator, arrays, parameters)
    answer = misread(MISREADINGS[name])(operator, arrays, parameters)
    assert same(answer, expected)
    assert all(answer[key].dtype == array.dtype for key, array in expected.items() if key != "indices")


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
        parameters = parameters_of(operator.name, given)
        misreading = misread(MISREADINGS[name])(operator.name, arrays, parameters)
        assert same(misreading, reference.evaluate(operator.name, arrays, parameters))


def test_negative_padding_that_crops_has_a_gradient_of_the_whole_input():
    parameters = parameters_of("max_pool2d.backward", {"padding": CROP})
    crops = misread(MISREADINGS["negative padding crops"])
    dx = crops("max_pool2d.backward", {"x": row(3, 4, 5), "dy": row(7)}, parameters)["dx"]
    assert np.array_equal(dx, row(0, 7, 0))
    indices = crops("max_pool2d", {"x": row(3, 4, 5)}, parameters)["indices"]
    assert indices.item() == 1


def test_gradient_of_an_empty_output_is_zero():
    parameters = parameters_of("conv2d.backward", {})
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
                misread(MISREADINGS[name])(operator, {**given, **arrays}, parameters_of(operator, parameters))
