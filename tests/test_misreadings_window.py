"""Misreadings of windows, layouts and columns: what hides each of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convform import reference
from convform.conformance.cases.case import build
from convform.conformance.cases.geometry import Axis, Channels, Geometry
from convform.reference.misreadings.catalogue import MISREADINGS
from convform.reference.misreadings.misreading import misread
from convform.spec.clauses import clauses
from convform.spec.operators import OPERATORS
from convform.tests.test_misreadings import SMALLEST, normal, same

PAGES = ("window", "layout", "im2col", "col2im", "pool")
OTHERS = ("WINDOW-6", "COL2IM-3")  # refusals are tested by themselves
CLAUSES = [clause for clause in clauses().values() if clause.page in PAGES and clause.id not in OTHERS]
NAMES = [name for name, entry in MISREADINGS.items() if entry.clause in {c.id for c in CLAUSES}]


def answers(evaluate, operator, inputs, parameters):
    """All outputs, or the exception that such code ends in."""
    with np.errstate(all="ignore"):
        try:
            return evaluate(operator, {name: array.copy() for name, array in inputs.items()}, parameters)
        except (IndexError, ValueError) as error:
            return error


@pytest.mark.parametrize(
    ("name", "size", "kernel", "output"),
    [
        ("plus one missing", (4, 5), 2, (2, 3)),
        ("height and width exchanged in pooling", (1, 2), 1, (2, 1)),
    ],
)
def test_an_output_size_is_misread_for_other_inputs_as_well(name, size, kernel, output):
    parameters = normal("max_pool2d", {"kernel": kernel, "stride": 1})
    answer = misread(MISREADINGS[name])("max_pool2d", {"x": np.ones((1, 1, *size))}, parameters)
    assert answer["y"].shape[2:] == output


@pytest.mark.parametrize(
    ("name", "expected"), [("taps mirrored in col2im", [3, 5, 2]), ("crop by the kernel size", [5])]
)
def test_col2im_of_two_overlapping_windows(name, expected):
    parameters = normal("col2im", {"input_size": (1, 1, 1, 3), "kernel": (1, 2)})
    cols = np.array([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 1, 2, 1, 2)  # 2 and 3 overlap
    assert misread(MISREADINGS[name])("col2im", {"cols": cols}, parameters)["x"].ravel().tolist() == expected


def test_overlaps_that_are_added_in_half_are_right_in_float32():
    call = SMALLEST["overlaps added in half"].call
    single = {"cols": call.inputs["cols"].astype(np.float32)}
    evaluate = misread(MISREADINGS["overlaps added in half"])
    assert evaluate("col2im", single, normal("col2im", call.parameters))["x"][0, 0, 0, 2] == 2050


# --- where a misreading cannot be told from the standard -------------------------------------------------

SYMMETRIC = (Axis(5, 2, 2, 1, 1, 2),) * 3
"""All axes alike, padding alike on both sides."""
PLAIN = tuple(Axis(n, k, 1, 0, 0, 1) for n, k in ((4, 2), (5, 3), (3, 2)))
"""Stride and dilation one, no padding; every axis has its own sizes."""
RICH = (Axis(5, 2, 2, 1, 0, 1), Axis(6, 3, 1, 0, 2, 2), Axis(4, 2, 3, 2, 1, 1))
"""Every axis another."""


AXES_MIXED_UP = (
    "on all axes",
    "axes swapped",
    "strides swapped",
    "dilations swapped",
    "reversed",
    "mixed up",
)
SIZES_MIXED_UP = ("width from height", "height's kernel", "height and width exchanged in pooling")
ABOUT_AXES = [name for name in NAMES if any(part in name for part in (*AXES_MIXED_UP, *SIZES_MIXED_UP))]
ABOUT_STRIDE = [name for name in NAMES if MISREADINGS[name].clause == "WINDOW-2"]
ABOUT_REST = ["only dividing strides", "size rounded up", "plus one under the fraction"]
ABOUT_PADDING = [
    name for name in NAMES if MISREADINGS[name].clause == "WINDOW-3" and name != "surprising default padding"
] + ["padding counted once", "output size forgets padding", "kernel must fit the unpadded input"]
ABOUT_DILATION = [
    name for name in NAMES if MISREADINGS[name].clause == "WINDOW-4" and name != "dilation counts the gaps"
] + ["dilation forgotten in col2im"]
ABOUT_CEIL = [name for name in NAMES if MISREADINGS[name].clause == "WINDOW-5"]
ABOUT_DEFAULTS = [name for name in NAMES if MISREADINGS[name].clause == "POOL-1"]
ABOUT_MIXING = [name for name in NAMES if name.startswith(("pooled across", "first channel", "first sample"))]


def cases(name, axes, **changes):
    """One case of every operator in which a misreading can occur, ranks 1 to 3."""
    for operator in OPERATORS.values():
        if MISREADINGS[name].applies_to(operator.family):
            channels = Channels(n=2, c=2, o=2 if operator.family.startswith("conv") else 1)
            geometry = Geometry(axes[: operator.rank], channels, seed=operator.rank)
            yield build(operator, replace(geometry, **changes))


def assert_coincides(name, axes, **changes):
    for case in cases(name, axes, **changes):
        call = (case.operator.name, dict(case.inputs), case.parameters)
        wrong = answers(misread(MISREADINGS[name]), *call)
        assert not isinstance(wrong, Exception), call[0]
        assert same(wrong, reference.evaluate(*call)), call[0]


@pytest.mark.parametrize("name", ABOUT_AXES)
def test_square_inputs_and_windows_hide_what_mixes_axes_up(name):
    assert_coincides(name, SYMMETRIC)


@pytest.mark.parametrize("name", ["low and high padding swapped", "low padding on both sides"])
def test_symmetric_padding_hides_what_mixes_sides_up(name):
    assert_coincides(name, SYMMETRIC)


@pytest.mark.parametrize("name", [*ABOUT_STRIDE, *ABOUT_REST, *ABOUT_PADDING, *ABOUT_DILATION])
def test_plain_windows_hide_what_is_about_stride_padding_and_dilation(name):
    assert_coincides(name, PLAIN)


@pytest.mark.parametrize("name", ABOUT_CEIL)
def test_floor_rounding_hides_what_is_about_ceil_rounding(name):
    assert_coincides(name, RICH, ceil_mode=False)


@pytest.mark.parametrize("name", ABOUT_DEFAULTS)
def test_a_given_stride_hides_what_is_about_the_default(name):
    assert_coincides(name, RICH)


@pytest.mark.parametrize("name", ABOUT_MIXING)
def test_one_sample_and_channel_hide_what_mixes_them(name):
    assert_coincides(name, RICH, channels=Channels())


@pytest.mark.parametrize("name", NAMES)
def test_it_occurs_for_every_rank_and_fails_as_such_code_would(name):
    """Values, or an index or shape that does not fit; nothing that only our machinery could raise."""
    for case in (*cases(name, RICH), *cases(name, PLAIN)):
        answers(misread(MISREADINGS[name]), case.operator.name, dict(case.inputs), case.parameters)


@pytest.mark.parametrize("name", [name for name, entry in MISREADINGS.items() if entry.clause != "WINDOW-6"])
def test_what_the_standard_refuses_stays_refused(name):
    for case in cases(name, PLAIN):
        negative = {**case.parameters, "padding": ((-1, -1),) * case.operator.rank}
        call = (case.operator.name, dict(case.inputs), negative)
        with pytest.raises(ValueError, match="negative"):
            misread(MISREADINGS[name])(*call)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_another_shape_stay_refused(name):
    for case in cases(name, PLAIN):
        if "dy" in case.inputs:
            longer = np.concatenate([case.inputs["dy"]] * 2, axis=-1)
            call = (case.operator.name, {**case.inputs, "dy": longer}, case.parameters)
            assert isinstance(answers(misread(MISREADINGS[name]), *call), Exception), call[0]
