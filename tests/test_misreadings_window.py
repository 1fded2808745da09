"""Misreadings of windows, layouts and columns: the smallest input shows each, and some inputs cannot."""

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

PAGES = ("window", "layout", "im2col", "col2im", "pool")
OTHERS = ("WINDOW-6", "COL2IM-3")  # refusals are tested by themselves
CLAUSES = [clause for clause in clauses().values() if clause.page in PAGES and clause.id not in OTHERS]
LISTED = {entry.name: clause.id for clause in CLAUSES for entry in clause.misreadings}
NAMES = [name for name, entry in MISREADINGS.items() if entry.clause in {c.id for c in CLAUSES}]


def parameters_of(operator, kernel, given):
    """Complete and normal parameters, as a misreading gets them."""
    entry = OPERATORS[operator]
    rank = len(kernel)
    values = {
        "kernel": kernel,
        "stride": None if entry.is_pooling else (1,) * rank,
        "padding": ((0, 0),) * rank,
        "dilation": (1,) * rank,
        "groups": 1,
        "ceil_mode": False,
        "count_include_pad": True,
        **given,
    }
    return {name: values[name] for name in entry.parameters if name in values}


def call_of(operator, shape, kernel, **given):
    """Inputs that count 1, 2, 3, … and parameters, for an input of a shape "n c h w"."""
    entry = OPERATORS[operator]

    def counted(*sizes):
        return np.arange(1.0, 1 + np.prod(sizes)).reshape(sizes)

    parameters = parameters_of(operator, kernel, given)
    inputs = {}
    if "x" in entry.inputs:
        inputs["x"] = counted(*shape)
    if "w" in entry.inputs:
        inputs["w"] = counted(2, shape[1], *kernel)
    if entry.family == "col2im":
        parameters["input_size"] = shape
        window = {name: parameters[name] for name in ("kernel", "stride", "padding", "dilation")}
        inputs["cols"] = counted(*reference.evaluate("im2col", {"x": counted(*shape)}, window)["cols"].shape)
    return operator, inputs, parameters


def answers(evaluate, operator, inputs, parameters):
    """All outputs, or the exception that such code ends in."""
    with np.errstate(all="ignore"):
        try:
            return evaluate(operator, {name: array.copy() for name, array in inputs.items()}, parameters)
        except (IndexError, ValueError) as error:
            return error


def agree(one, other):
    if isinstance(one, Exception) or isinstance(other, Exception):
        return False
    same = (np.array_equal(one[name], other[name], equal_nan=True) for name in one)
    return all(same) and set(one) == set(other)


ONE = (1, 1, 1, 1)
WIDE_TWO, WIDE_THREE, WIDE_FIVE = (1, 1, 1, 2), (1, 1, 1, 3), (1, 1, 1, 5)
TAP, PAIR = (1, 1), (1, 2)
AROUND, BESIDE = ((1, 1), (1, 1)), ((0, 0), (1, 1))
LEFT, RIGHT = ((0, 0), (1, 0)), ((0, 0), (0, 1))

# name: operator, shape of x, kernel, what else is given
SMALLEST = {
    "width from height": ("im2col", WIDE_TWO, TAP, {}),
    "first kernel size on all axes": ("max_pool2d", (1, 1, 2, 2), (2, 1), {"stride": (1, 1)}),
    "kernel size reversed": ("im2col", WIDE_TWO, PAIR, {}),
    "height's kernel in the width's size": ("conv2d", (1, 1, 2, 2), (2, 1), {}),
    "plus one missing": ("im2col", WIDE_TWO, TAP, {}),
    "plus one under the fraction": ("im2col", ONE, TAP, {"stride": (1, 2)}),
    "padding counted once": ("im2col", ONE, TAP, {"padding": AROUND}),
    "output size forgets padding": ("im2col", ONE, TAP, {"padding": AROUND}),
    "only dividing strides": ("im2col", WIDE_TWO, TAP, {"stride": (1, 2)}),
    "size rounded up": ("conv2d", WIDE_THREE, PAIR, {"stride": (1, 2)}),
    "first stride on all axes": ("im2col", WIDE_TWO, TAP, {"stride": (1, 2)}),
    "strides swapped": ("im2col", WIDE_TWO, TAP, {"stride": (1, 2)}),
    "stride on the first axis only": ("im2col", WIDE_TWO, TAP, {"stride": (1, 2)}),
    "stride ignored": ("im2col", WIDE_THREE, TAP, {"stride": (2, 2)}),
    "last window moved to the end": ("im2col", WIDE_TWO, TAP, {"stride": (1, 2)}),
    "padding axes swapped": ("im2col", ONE, TAP, {"padding": BESIDE}),
    "first padding on all axes": ("im2col", ONE, TAP, {"padding": BESIDE}),
    "padding on the first axis only": ("im2col", ONE, TAP, {"padding": BESIDE}),
    "low and high padding swapped": ("im2col", ONE, TAP, {"padding": LEFT}),
    "low padding on both sides": ("im2col", ONE, TAP, {"padding": LEFT}),
    "beginnings and ends mixed up": ("im2col", ONE, TAP, {"padding": ((1, 1), (0, 0))}),
    "padding on one side only": ("im2col", ONE, TAP, {"padding": AROUND}),
    "padding at the end only": ("im2col", ONE, TAP, {"padding": AROUND}),
    "padding never applied": ("im2col", ONE, TAP, {"padding": AROUND}),
    "padding applied twice": ("im2col", ONE, TAP, {"padding": AROUND}),
    "padding taken as the total": ("im2col", ONE, TAP, {"padding": AROUND}),
    "padding with the edge value": ("im2col", ONE, TAP, {"padding": AROUND}),
    "samples and channels padded too": ("im2col", ONE, TAP, {"padding": AROUND}),
    "surprising default padding": ("im2col", ONE, TAP, {}),
    "dilation ignored": ("im2col", WIDE_THREE, PAIR, {"dilation": (2, 2)}),
    "dilation in the size only": ("im2col", WIDE_THREE, PAIR, {"dilation": (2, 2)}),
    "extent is dilation times kernel": ("im2col", (1, 1, 2, 2), TAP, {"dilation": (2, 2)}),
    "dilation applied twice": ("im2col", WIDE_THREE, PAIR, {"dilation": (2, 2)}),
    "dilation counts the gaps": ("im2col", WIDE_TWO, PAIR, {}),
    "first dilation on all axes": ("im2col", WIDE_THREE, PAIR, {"dilation": (1, 2)}),
    "dilation on the first axis only": ("im2col", WIDE_THREE, PAIR, {"dilation": (1, 2)}),
    "dilations swapped": ("im2col", WIDE_THREE, PAIR, {"dilation": (1, 2)}),
    "height's kernel in the width's extent": ("im2col", WIDE_THREE, PAIR, {"dilation": (2, 2)}),
    "stride multiplied by the dilation": ("im2col", (1, 1, 1, 4), PAIR, {"dilation": (1, 2)}),
    "padding multiplied by the dilation": ("im2col", ONE, TAP, {"padding": AROUND, "dilation": (2, 2)}),
    "ceil taken as floor": ("max_pool2d", WIDE_THREE, PAIR, {"stride": (1, 2), "ceil_mode": True}),
    "ceil without clipping": ("max_pool2d", WIDE_TWO, TAP, {"stride": (1, 2), "ceil_mode": True}),
    "ceil clipped only if padded": ("max_pool2d", WIDE_TWO, TAP, {"stride": (1, 2), "ceil_mode": True}),
    "ceil clipped without the low padding": ("avg_pool2d", ONE, TAP, {"padding": LEFT, "ceil_mode": True}),
    "ceil clipped with the whole padding": (
        "avg_pool2d",
        ONE,
        TAP,
        {"padding": ((0, 0), (0, 1)), "ceil_mode": True},
    ),
    "kernel must fit the unpadded input": ("im2col", ONE, PAIR, {"padding": LEFT}),
    "columns ordered tap first": ("im2col", (1, 2, 1, 2), PAIR, {}),
    "taps transposed": ("im2col", (1, 1, 2, 2), (2, 2), {}),
    "windows transposed": ("im2col", (1, 1, 2, 2), TAP, {}),
    "samples mixed into columns": ("im2col", (2, 1, 1, 2), TAP, {}),
    "height and width exchanged": ("im2col", WIDE_TWO, TAP, {}),
    "reshape instead of transpose": ("conv2d", (1, 2, 1, 2), TAP, {}),
    "taps mirrored in columns": ("im2col", WIDE_TWO, PAIR, {}),
    "windows without overlap": ("im2col", WIDE_THREE, PAIR, {}),
    "first channel gathered only": ("im2col", (1, 2, 1, 1), TAP, {}),
    "first sample gathered only": ("im2col", (2, 1, 1, 1), TAP, {}),
    "padding reads the other end": ("im2col", ONE, TAP, {"padding": AROUND}),
    "overlaps assigned": ("col2im", WIDE_THREE, PAIR, {}),
    "overlaps assigned tap by tap": ("col2im", WIDE_THREE, PAIR, {}),
    "overlaps averaged": ("col2im", WIDE_THREE, PAIR, {}),
    "dilation forgotten in col2im": ("col2im", WIDE_THREE, PAIR, {"dilation": (2, 2)}),
    "stride forgotten in col2im": ("col2im", WIDE_THREE, TAP, {"stride": (2, 2)}),
    "taps mirrored in col2im": ("col2im", WIDE_TWO, PAIR, {}),
    "first sample added up only": ("col2im", (2, 1, 1, 1), TAP, {}),
    "padded result returned": ("col2im", ONE, TAP, {"padding": AROUND}),
    "crop with a negative zero": ("col2im", ONE, TAP, {}),
    "crop by the kernel size": ("col2im", WIDE_THREE, (1, 3), {}),
    "crop by the low padding twice": ("col2im", ONE, TAP, {"padding": LEFT}),
    "default stride one": ("max_pool2d", WIDE_THREE, PAIR, {}),
    "default stride two": ("max_pool2d", WIDE_TWO, TAP, {}),
    "default stride is the first kernel size": ("max_pool2d", WIDE_THREE, PAIR, {}),
    "default stride is the dilated extent": ("max_pool2d", WIDE_FIVE, PAIR, {"dilation": (1, 2)}),
    "pooled across channels": ("avg_pool2d", (1, 2, 1, 1), TAP, {}),
    "pooled across the batch": ("max_pool2d", (2, 1, 1, 1), TAP, {}),
    "first channel pooled only": ("max_pool2d", (1, 2, 1, 1), TAP, {}),
    "first sample pooled only": ("max_pool2d", (2, 1, 1, 1), TAP, {}),
    "height and width exchanged in pooling": ("max_pool2d", WIDE_TWO, PAIR, {}),
    # The padding of each is what "same" comes to for its window.
    "same padding with the surplus in front": ("im2col", ONE, PAIR, {"padding": RIGHT}),
    "same padding of half a kernel": ("im2col", ONE, PAIR, {"padding": RIGHT}),
    "same padding without the stride": ("im2col", WIDE_TWO, (1, 3), {"stride": (1, 2), "padding": RIGHT}),
    "same padding without the dilation": ("im2col", ONE, PAIR, {"dilation": (1, 2), "padding": BESIDE}),
}


def test_what_the_pages_list_is_registered_under_its_clause():
    assert {name: MISREADINGS[name].clause for name in NAMES} == LISTED


def test_every_name_has_a_smallest_input():
    assert set(SMALLEST) | {"gather by multiplication", "overlaps added in half"} == set(NAMES)


@pytest.mark.parametrize("name", SMALLEST)
def test_the_smallest_input_shows_it(name):
    operator, shape, kernel, given = SMALLEST[name]
    call = call_of(operator, shape, kernel, **given)
    expected = reference.evaluate(*call)
    assert not agree(expected, answers(misread(MISREADINGS[name]), *call))


def test_a_gather_by_multiplication_spreads_infinity():
    x = np.array([np.inf, 1.0]).reshape(WIDE_TWO)
    evaluate = misread(MISREADINGS["gather by multiplication"])
    cols = answers(evaluate, "im2col", {"x": x}, parameters_of("im2col", TAP, {}))["cols"]
    assert cols[..., 0].item() == np.inf
    assert np.isnan(cols[..., 1].item())


def test_ones_added_in_half_get_lost_behind_a_large_value():
    evaluate = misread(MISREADINGS["overlaps added in half"])
    # One tap of three windows sees the element in the middle: 1, then 2048, then 1.
    cols = np.ones((1, 1, 1, 3, 1, 3), np.float16)
    cols[0, 0, 0, 1, 0, 1] = 2048
    parameters = parameters_of("col2im", (1, 3), {"input_size": (1, 1, 1, 5)})
    x = answers(evaluate, "col2im", {"cols": cols}, parameters)["x"]
    assert x.tolist() == [[[[1, 2, 2048, 2, 1]]]]
    assert reference.evaluate("col2im", {"cols": cols}, parameters)["x"][0, 0, 0, 2] == 2050
    single = {"cols": cols.astype(np.float32)}
    assert answers(evaluate, "col2im", single, parameters)["x"][0, 0, 0, 2] == 2050


@pytest.mark.parametrize(
    ("name", "shape", "kernel", "given", "output"),
    [
        ("plus one missing", (4, 5), (2, 2), {}, (2, 3)),
        ("padding counted once", (1, 1), (1, 1), {"padding": AROUND}, (2, 2)),
        ("extent is dilation times kernel", (1, 2), (1, 1), {"dilation": (1, 2)}, (1, 1)),
        ("dilation counts the gaps", (1, 2), (1, 2), {}, (1, 0)),
        ("ceil taken as floor", (1, 3), (1, 2), {"stride": (1, 2), "ceil_mode": True}, (1, 1)),
        ("ceil without clipping", (1, 2), (1, 1), {"stride": (1, 2), "ceil_mode": True}, (1, 2)),
        ("ceil clipped only if padded", (1, 2), (1, 1), {"stride": (1, 2), "ceil_mode": True}, (1, 2)),
        (
            "ceil clipped without the low padding",
            (1, 1),
            (1, 1),
            {"stride": (1, 1), "padding": LEFT, "ceil_mode": True},
            (1, 1),
        ),
        (
            "ceil clipped with the whole padding",
            (1, 1),
            (1, 1),
            {"stride": (1, 1), "padding": ((0, 0), (0, 1)), "ceil_mode": True},
            (1, 2),
        ),
        ("height and width exchanged in pooling", (1, 2), (1, 1), {}, (2, 1)),
    ],
)
def test_a_size_is_the_one_that_the_page_prints(name, shape, kernel, given, output):
    call = call_of("max_pool2d", (1, 1, *shape), kernel, **{"stride": (1, 1), **given})
    assert answers(misread(MISREADINGS[name]), *call)["y"].shape[2:] == output


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("overlaps assigned", [1, 2, 4]),  # the last window is written last
        ("overlaps assigned tap by tap", [1, 3, 4]),  # the last tap is
        ("overlaps averaged", [1, 2.5, 4]),
        ("taps mirrored in col2im", [3, 5, 2]),
        ("crop by the kernel size", [5]),
    ],
)
def test_col2im_of_two_overlapping_windows(name, expected):
    call = call_of("col2im", WIDE_THREE, PAIR)  # columns [[1, 2], [3, 4]], of which 2 and 3 overlap
    x = answers(misread(MISREADINGS[name]), *call)["x"].reshape(-1)
    assert x.tolist() == expected


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
        assert agree(reference.evaluate(*call), answers(misread(MISREADINGS[name]), *call)), call[0]


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


@pytest.mark.parametrize("name", NAMES)
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
