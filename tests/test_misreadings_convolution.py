"""Misreadings of convolution: each shows on the smallest input that its clause names, and not everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from convform import reference
from convform.reference.misreadings.catalogue import MISREADINGS
from convform.reference.misreadings.misreading import misread
from convform.spec.clauses import clauses
from convform.spec.operators import OPERATORS

PREFIXES = ("CONV-", "CONVGRAD-")
REFUSALS = ("CONV-7", "CONVGRAD-5")
MINE = [n for n, m in MISREADINGS.items() if m.clause.startswith(PREFIXES) and m.clause not in REFUSALS]


def counting(shape, dtype="float64", start=1):
    return (np.arange(np.prod(shape, dtype=int)) + start).reshape(shape).astype(dtype)


def inputs(operator, x, w, b=True, dtype="float64", **parameters):
    """A call with arrays of the given shapes, filled with consecutive integers."""
    arrays = {"x": counting(x, dtype), "w": counting(w, dtype, start=2)}
    if b:
        arrays["b"] = counting(w[:1], dtype, start=3)
    if operator.endswith(".backward"):
        forward = OPERATORS[operator].forward
        y = reference.evaluate(forward, {name: arrays[name] for name in ("x", "w")}, parameters)["y"]
        arrays["dy"] = counting(y.shape, dtype, start=4)
    return operator, arrays, parameters


def answers(name, call):
    """Answers of a misreading and of the standard; None where the misreading raises."""
    operator, arrays, parameters = call
    standard = reference.evaluate(operator, arrays, parameters)
    complete = {"stride": (1, 1), "padding": ((0, 0),) * 2, "dilation": (1, 1), "groups": 1, **parameters}
    try:
        return misread(MISREADINGS[name])(operator, arrays, complete), standard
    except (ValueError, AttributeError, IndexError):
        return None, standard


def agrees(name, call):
    misreading, standard = answers(name, call)
    return misreading is not None and all(
        misreading[key].shape == array.shape and np.array_equal(misreading[key], array)
        for key, array in standard.items()
    )


C, B = "conv2d", "conv2d.backward"
ONE = (1, 1, 1, 1)  # one sample, one channel, one element
PAD = ((0, 0), (1, 1))  # one element to the left and one to the right

# name: the smallest input that the clause names
SMALLEST = {
    "kernel mirrored": inputs(C, (1, 1, 1, 2), (1, 1, 1, 2)),
    "kernel mirrored along one axis": inputs(C, (1, 1, 1, 2), (1, 1, 1, 2)),
    "kernel transposed": inputs(C, (1, 1, 2, 2), (1, 1, 2, 2)),
    "one element for the whole window": inputs(C, (1, 1, 1, 2), (1, 1, 1, 2)),
    "last tap only": inputs(C, (1, 1, 1, 2), (1, 1, 1, 2)),
    "first input channel only": inputs(C, (1, 2, 1, 1), (1, 2, 1, 1)),
    "last input channel only": inputs(C, (1, 2, 1, 1), (1, 2, 1, 1)),
    "one kernel slice for all channels": inputs(C, (1, 2, 1, 1), (1, 2, 1, 1)),
    "one kernel for all output channels": inputs(C, ONE, (2, 1, 1, 1)),
    "weight transposed": inputs(C, (1, 2, 1, 1), (2, 2, 1, 1)),
    "weight reshaped instead of transposed": inputs(C, (1, 2, 1, 1), (3, 2, 1, 1)),
    "channels averaged": inputs(C, (1, 2, 1, 1), (1, 2, 1, 1)),
    "first sample for the whole batch": inputs(C, (2, 1, 1, 1), ONE),
    "bias forgotten": inputs(C, ONE, ONE),
    "bias per tap": inputs(C, (1, 1, 1, 2), (1, 1, 1, 2)),
    "bias per input channel": inputs(C, (1, 2, 1, 1), (1, 2, 1, 1)),
    "first bias for every channel": inputs(C, ONE, (2, 1, 1, 1)),
    "bias along the wrong axis": inputs(C, (1, 1, 1, 2), (2, 1, 1, 1)),
    "bias required": inputs(C, ONE, ONE, b=False),
    "groups ignored": inputs(C, (1, 2, 1, 1), (2, 1, 1, 1), groups=2),
    "groups interleaved": inputs(C, (1, 2, 1, 1), (4, 1, 1, 1), groups=2),
    "input channels interleaved": inputs(C, (1, 4, 1, 1), (2, 2, 1, 1), groups=2),
    "output channels interleaved": inputs(C, (1, 2, 1, 1), (4, 1, 1, 1), groups=2),
    "kernels of the first group for all groups": inputs(C, (1, 2, 1, 1), (2, 1, 1, 1), groups=2),
    "biases of the first group for all groups": inputs(C, (1, 2, 1, 1), (2, 1, 1, 1), groups=2),
    "no channels in, no channels out": inputs(C, (1, 0, 1, 1), (1, 0, 1, 1)),
    "no channels in, no bias": inputs(C, (1, 0, 1, 1), (1, 0, 1, 1)),
    "zero input channels refused": inputs(C, (1, 0, 1, 1), (1, 0, 1, 1)),
    "dx with the kernel not mirrored": inputs(B, (1, 1, 1, 2), (1, 1, 1, 2)),
    "dx with the kernel mirrored along one axis": inputs(B, (1, 1, 1, 2), (1, 1, 1, 2)),
    "dx with the channels not exchanged": inputs(B, (1, 2, 1, 1), (2, 2, 1, 1)),
    "dx ignores the stride": inputs(B, (1, 1, 1, 3), ONE, stride=(1, 2)),
    "dx ignores the dilation": inputs(B, (1, 1, 1, 3), (1, 1, 1, 2), dilation=(1, 2)),
    "dx ignores the padding": inputs(B, ONE, (1, 1, 1, 3), padding=PAD),
    "dx of the padded input": inputs(B, ONE, ONE, padding=((1, 1), (1, 1))),
    "dx cropped with a negative zero": inputs(B, ONE, ONE),
    "dx cropped by the kernel size": inputs(B, (1, 1, 1, 3), (1, 1, 1, 3)),
    "dx overlaps assigned": inputs(B, (1, 1, 1, 3), (1, 1, 1, 2)),
    "dx overlaps assigned tap by tap": inputs(B, (1, 1, 1, 3), (1, 1, 1, 2)),
    "dx over one output channel": inputs(B, ONE, (2, 1, 1, 1)),
    "dx with height and width exchanged": inputs(B, (1, 1, 1, 2), ONE),
    "dw averaged over the batch": inputs(B, (2, 1, 1, 1), ONE),
    "gradients averaged over the batch": inputs(B, (2, 1, 1, 1), ONE),
    "dw of the first sample": inputs(B, (2, 1, 1, 1), ONE),
    "dw of the last sample": inputs(B, (2, 1, 1, 1), ONE),
    "dw mirrored": inputs(B, (1, 1, 1, 2), (1, 1, 1, 2)),
    "dw reshaped without transposing": inputs(B, (1, 2, 1, 1), (2, 2, 1, 1)),
    "dw transposed": inputs(B, ONE, (2, 1, 1, 1)),
    "dw ignores the stride": inputs(B, (1, 1, 1, 3), ONE, stride=(1, 2)),
    "dw ignores the dilation": inputs(B, (1, 1, 1, 3), (1, 1, 1, 2), dilation=(1, 2)),
    "dw ignores the padding": inputs(B, ONE, (1, 1, 1, 3), padding=PAD),
    "db averaged over the batch": inputs(B, (2, 1, 1, 1), ONE),
    "db summed over the wrong axes": inputs(B, (1, 1, 1, 3), (2, 1, 1, 1)),
    "db not summed over space": inputs(B, (1, 1, 1, 2), ONE),
    "db averaged over positions": inputs(B, (1, 1, 1, 2), ONE),
    "db of the first sample": inputs(B, (2, 1, 1, 1), ONE),
    "db with further axes": inputs(B, ONE, ONE),
    "groups ignored in the gradient": inputs(B, (1, 2, 1, 1), (2, 1, 1, 1), groups=2),
    "dw of groups mixed": inputs(B, (1, 4, 1, 1), (2, 2, 1, 1), groups=2),
    "dx of groups mixed": inputs(B, (1, 4, 1, 1), (2, 2, 1, 1), groups=2),
    "dx of the first group only": inputs(B, (1, 2, 1, 1), (2, 1, 1, 1), groups=2),
}


def product(value, dtype):
    """A convolution of a single product with one."""
    arrays = {"x": np.array(value, dtype).reshape(ONE), "w": np.ones(ONE, dtype)}
    return C, arrays, {}


SMALLEST |= {
    "half types accumulated in half": (
        C,
        {"x": np.ones((1, 2050, 1, 1), "float16"), "w": np.ones((1, 2050, 1, 1), "float16")},
        {},
    ),
    "float32 products in lower precision": product(4097, "float32"),
    "float32 products in bfloat16": product(257, "float32"),
    "float64 through float32": product(16777217, "float64"),
    "integers through float32": product(16777217, "int64"),
    "integers through float64": product(2**53 + 1, "int64"),
}


def test_every_misreading_of_the_pages_is_here():
    listed = {
        misreading.name
        for clause in clauses().values()
        if clause.id.startswith(PREFIXES) and clause.id not in REFUSALS
        for misreading in clause.misreadings
    }
    assert listed == set(MINE) == set(SMALLEST)


@pytest.mark.parametrize("name", SMALLEST)
def test_misreading_shows_on_the_smallest_input_that_the_clause_names(name):
    assert not agrees(name, SMALLEST[name])


# A call with everything in it, and what has to be taken out of it for some misreadings not to show.
def ordinary(operator, **changes):
    values = {
        "x": (2, 4, 5, 6),
        "w": (4, 2, 2, 3),
        "stride": (2, 1),
        "padding": ((1, 0), (1, 2)),
        "dilation": (1, 2),
        "groups": 2,
    } | changes
    return inputs(operator, values.pop("x"), values.pop("w"), **values)


@pytest.mark.parametrize("name", MINE)
def test_misreading_does_not_show_where_there_is_nothing_to_misread(name):
    """One product of one channel and sample, no parameters: most misreadings answer as the standard does."""
    always_wrong = {
        "bias forgotten",
        "dx cropped with a negative zero",
        "db not summed over space",
        "db with further axes",
    }
    operator = C if "conv" in MISREADINGS[name].families else B
    assert agrees(name, inputs(operator, ONE, ONE)) == (name not in always_wrong)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("kernel mirrored", {"w": (4, 2, 1, 1)}),
        ("kernel transposed", {"w": (4, 2, 1, 3)}),
        ("weight transposed", {"x": (2, 2, 5, 6), "w": (2, 1, 2, 3)}),
        ("groups ignored", {"w": (4, 4, 2, 3), "groups": 1}),
        ("groups interleaved", {"w": (2, 2, 2, 3)}),
        ("input channels interleaved", {"x": (2, 2, 5, 6), "w": (4, 1, 2, 3)}),
        ("output channels interleaved", {"w": (2, 2, 2, 3)}),
        ("half types accumulated in half", {}),
        ("float32 products in bfloat16", {}),
        ("dx with the kernel mirrored along one axis", {"w": (4, 2, 2, 1)}),
        ("dx ignores the stride", {"stride": (1, 1)}),
        ("dx ignores the dilation", {"dilation": (1, 1)}),
        ("dx ignores the padding", {"padding": ((0, 0), (0, 0))}),
        ("dx of the padded input", {"padding": ((0, 0), (0, 0))}),
        ("dx cropped with a negative zero", {"padding": ((1, 2), (2, 1))}),
        ("dx cropped by the kernel size", {"padding": ((1, 1), (1, 1))}),
        ("dx overlaps assigned", {"stride": (2, 3), "dilation": (1, 1)}),
        ("dx overlaps assigned tap by tap", {"stride": (2, 3), "dilation": (1, 1)}),
        ("dx with height and width exchanged", {"x": (2, 4, 6, 6), "w": (4, 2, 3, 3)}),
        ("dw averaged over the batch", {"x": (1, 4, 5, 6)}),
        ("dw of the first sample", {"x": (1, 4, 5, 6)}),
        ("dw mirrored", {"w": (4, 2, 1, 1)}),
        ("dw ignores the stride", {"stride": (1, 1)}),
        ("dw ignores the dilation", {"dilation": (1, 1)}),
        ("dw ignores the padding", {"padding": ((0, 0), (0, 0))}),
        ("groups ignored in the gradient", {"w": (4, 4, 2, 3), "groups": 1}),
        ("dw of groups mixed", {"w": (4, 4, 2, 3), "groups": 1}),
    ],
)
def test_misreading_coincides_with_the_standard_where_it_must(name, changes):
    families = MISREADINGS[name].families
    for operator in (C, B):
        if OPERATORS[operator].family in families:
            assert agrees(name, ordinary(operator, **changes))


@pytest.mark.parametrize("name", [name for name in MINE if MISREADINGS[name].clause.startswith("CONVGRAD-1")])
def test_misreading_of_dx_leaves_the_other_gradients_alone(name):
    operator, arrays, parameters = ordinary(B, w=(4, 2, 2, 2), x=(2, 4, 5, 5))
    misreading, standard = answers(name, (operator, arrays, parameters))
    if misreading is not None:
        assert np.array_equal(misreading["dw"], standard["dw"])
        assert np.array_equal(misreading["db"], standard["db"])


def test_gradient_of_a_misread_convolution_is_its_adjoint():
    """What is misread forward and backward is misread in one and the same way."""
    for name in MINE:
        if set(MISREADINGS[name].families) != {"conv", "conv.backward"}:
            continue
        changes = {"x": (2, 4, 5, 6), "w": (4, 2, 2, 2), "b": name == "bias required"}
        operator, arrays, parameters = ordinary(B, **changes)
        gradient, _ = answers(name, (operator, arrays, parameters))
        forward, _ = answers(name, (C, {k: v for k, v in arrays.items() if k != "dy"}, parameters))
        b = np.vdot(arrays["b"], gradient["db"]) if "b" in arrays else 0
        y, dy = forward["y"], arrays["dy"]
        assert np.vdot(arrays["x"], gradient["dx"]) + b == np.vdot(y, dy)
        assert np.vdot(arrays["w"], gradient["dw"]) + b == np.vdot(y, dy)


REFUSED = {
    "channels": ({"x": counting((1, 3, 4, 4))}, {}),
    "kernel slices": ({"w": counting((2, 3, 2, 2))}, {}),
    "bias": ({"b": counting((3,))}, {}),
    "groups": ({}, {"groups": 3}),
    "dy": ({"dy": counting((1, 2, 4, 4))}, {}),
    "window": ({}, {"stride": (0, 1)}),
    "dtypes": ({"w": counting((2, 2, 2, 2), "float32")}, {}),
}


@pytest.mark.parametrize(("arrays", "parameters"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("name", MINE)
def test_misreading_accepts_nothing_that_the_standard_refuses(name, arrays, parameters):
    for operator in (C, B):
        if not MISREADINGS[name].applies_to(OPERATORS[operator].family) or not set(arrays) <= set(
            OPERATORS[operator].inputs
        ):
            continue
        _, given, _ = inputs(operator, (1, 2, 4, 4), (2, 2, 2, 2))
        complete = {"stride": (1, 1), "padding": ((0, 0),) * 2, "dilation": (1, 1), "groups": 1}
        with pytest.raises((TypeError, ValueError)), np.errstate(all="ignore"):
            misread(MISREADINGS[name])(operator, {**given, **arrays}, {**complete, **parameters})
