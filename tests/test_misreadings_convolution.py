"""Misreadings of convolution: where each cannot be told from the standard."""

from __future__ import annotations

import numpy as np
import pytest

from convform import reference
from convform.reference.misreadings.catalogue import MISREADINGS
from convform.reference.misreadings.misreading import misread
from convform.spec.operators import OPERATORS
from convform.tests.test_misreadings import normal, same

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
    try:
        return misread(MISREADINGS[name])(operator, arrays, normal(operator, parameters)), standard
    except (ValueError, AttributeError, IndexError):
        return None, standard


def agrees(name, call):
    misreading, standard = answers(name, call)
    return misreading is not None and same(misreading, standard)


C, B = "conv2d", "conv2d.backward"
ONE = (1, 1, 1, 1)  # one sample, one channel, one element


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
        with pytest.raises((TypeError, ValueError)), np.errstate(all="ignore"):
            misread(MISREADINGS[name])(operator, {**given, **arrays}, normal(operator, parameters))
