"""Geometries are valid by construction: tables hold what is claimed, all of it, and nothing else."""

from __future__ import annotations

import inspect
import itertools
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from convform.adapters import Adapter
from convform.conformance.cases import geometry as geometry_module
from convform.conformance.cases.case import build
from convform.conformance.cases.geometry import (
    RANDOM,
    RANDOM_3D,
    SWEEP,
    Axis,
    Channels,
    Focus,
    Space,
    Tables,
    tables,
)
from convform.conformance.laws.index import LAWS, laws_of
from convform.conformance.laws.values import fits, leaves_rest, padded
from convform.reference.window import Window
from convform.spec.operators import OPERATORS

# ------------------------------------------------------------------------------------------- vocabulary


def space(operator="conv2d", takes=None, adapter=None, **claims):
    """Return the space of an implementation that takes everything, or the parameters named."""
    row = OPERATORS[operator]
    names = [name for name in row.inputs if name != "b"]
    names += row.parameters if takes is None else takes
    names += ["b=None"] if "b" in row.inputs else []
    wrapper = eval(f"lambda {', '.join(names)}: None")
    subject = adapter or Adapter("space")
    subject.implements(operator, **claims)(wrapper)
    return Space.of(subject.implementations[operator])


def reach_of(rank):
    return RANDOM if rank < 3 else RANDOM_3D


EVERYTHING = Focus(empty_windows=True)
SPACES = {
    "everything": space(padding="low-high"),
    "symmetric": space(),
    "scalars": space(stride="scalar", padding="scalar", dilation="scalar", kernel="square"),
    "nothing": space(takes=()),
    "one dimension": space("conv1d", padding="low-high"),
    "three dimensions": space("conv3d", padding="low-high"),
    "max pooling": space("max_pool2d", padding="low-high"),
    "square pooling": space(
        "max_pool2d", stride="scalar", padding="scalar", kernel="square", max_padding="half-kernel"
    ),
    "pooling by its kernel": space("avg_pool2d", takes=("kernel",)),
    "padding below the kernel": space("avg_pool2d", max_padding="below-kernel"),
    "single images": space(
        "im2col", adapter=Adapter("lab", input="h w", columns="(kh kw) (oh ow)"), takes=("kernel",)
    ),
}


@pytest.fixture(params=SPACES, ids=lambda name: name.replace(" ", "-"))
def claimed(request):
    return SPACES[request.param]


# ----------------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("rank", [1, 3])
def test_a_window_takes_every_axis_of_a_table(claimed, rank):
    for axis in claimed.axis_table(lambda axis: True, reach_of(rank), empty_windows=True):
        for ceil_mode in claimed.ceil_modes:
            (o,) = axis.window(ceil_mode).output_size((axis.n,))
            assert o >= 1


def test_a_table_holds_every_claimed_axis_within_reach():
    """Counted against plain nested loops over all values."""
    table = set(SPACES["everything"].axis_table(lambda axis: True, SWEEP, empty_windows=True))
    values = itertools.product(range(1, 7), range(1, 5), range(1, 5), range(4), range(4), range(1, 4))
    assert table == {axis for axis in itertools.starmap(Axis, values) if axis.room >= 0}


def test_windows_without_a_real_element_are_left_to_the_law_about_them():
    claimed = SPACES["max pooling"]
    with_empty = claimed.axis_table(lambda axis: True, SWEEP, empty_windows=True)
    real = set(claimed.axis_table(lambda axis: True, SWEEP, empty_windows=False))
    for axis in with_empty:
        taps = [
            [i * axis.s - axis.low + j * axis.d for j in range(axis.k)]
            for ceil_mode in (False, True)
            for i in range(axis.window(ceil_mode).output_size((axis.n,))[0])
        ]
        assert (axis in real) == all(any(0 <= tap < axis.n for tap in window) for window in taps)


def test_simple_axes_come_first(claimed):
    table = claimed.axis_table(lambda axis: True, reach_of(claimed.rank), empty_windows=False)
    assert list(table) == sorted(table, key=lambda axis: axis.complexity)
    assert len(set(table)) == len(table)
    assert table[0] == Axis(1, 1, 1, 0, 0, 1)


def test_simple_channels_come_first():
    table = SPACES["everything"].channel_table(lambda ch: True)
    assert table[0] == Channels(1, 1, 1, 1)
    assert [ch.groups for ch in table] == sorted(ch.groups for ch in table)


def test_channels_are_whole_groups():
    for ch in SPACES["everything"].channel_table(lambda ch: True):
        assert ch.c % ch.groups == ch.o % ch.groups == 0


# ----------------------------------------------------------------------------------------------- claims


def geometries(claimed, focus=EVERYTHING, limit=None):
    return list(Tables(claimed, focus, SWEEP).sweep(limit, seed=3))


def test_scalar_claims_give_all_axes_one_value():
    for case in geometries(SPACES["scalars"]):
        assert len({(axis.k, axis.s, axis.low, axis.high, axis.d) for axis in case.axes}) == 1


def test_pair_claims_give_axes_values_of_their_own():
    different = Counter()
    for case in geometries(SPACES["symmetric"]):
        first, second = case.axes
        for name in Axis._fields:
            different[name] += getattr(first, name) != getattr(second, name)
    assert all(different[name] > 100 for name in Axis._fields)


@pytest.mark.parametrize(("name", "expected"), [("symmetric", False), ("everything", True)])
def test_padding_differs_between_sides_only_where_that_is_claimed(name, expected):
    sides = {axis.low != axis.high for case in geometries(SPACES[name]) for axis in case.axes}
    assert sides == {False, expected}


@pytest.mark.parametrize(
    ("name", "limit"),
    [("padding below the kernel", lambda k: k - 1), ("square pooling", lambda k: k // 2)],
)
def test_padding_stays_within_its_limit_and_reaches_it(name, limit):
    axes = [axis for case in geometries(SPACES[name]) for axis in case.axes]
    assert all(max(axis.low, axis.high) <= limit(axis.k) for axis in axes)
    assert any(axis.low == limit(axis.k) > 0 for axis in axes)


def test_what_is_not_taken_has_its_default():
    for case in geometries(SPACES["nothing"]):
        assert all((axis.s, axis.low, axis.high, axis.d) == (1, 0, 0, 1) for axis in case.axes)
        assert case.channels.groups == 1
    for case in geometries(SPACES["pooling by its kernel"]):
        assert all(axis.s == axis.k for axis in case.axes)
        assert case.count_include_pad
        assert not case.ceil_mode


def test_axes_that_a_layout_leaves_out_have_length_one():
    for case in geometries(SPACES["single images"]):
        assert (case.channels.n, case.channels.c) == (1, 1)


def test_pooling_has_no_output_channels_of_its_own():
    assert {case.channels.o for case in geometries(SPACES["max pooling"])} == {1}


def test_the_default_stride_is_the_kernel():
    cases = geometries(SPACES["max pooling"])
    assert {case.default_stride for case in cases} == {False, True}
    for case in cases:
        if case.default_stride:
            assert all(axis.s == axis.k for axis in case.axes)
            assert build(OPERATORS["max_pool2d"], case).parameters["stride"] is None


def test_the_default_stride_of_a_rectangular_kernel_differs_between_axes():
    """A scalar stride is not claimed to differ, but None is no scalar."""
    claimed = space("max_pool2d", stride="scalar")
    kernels = {case.window.kernel for case in geometries(claimed) if case.default_stride}
    assert any(first != second for first, second in kernels)


def test_every_dtype_bias_and_flag_that_is_claimed_turns_up():
    cases = geometries(SPACES["max pooling"])
    assert {case.ceil_mode for case in cases} == {False, True}
    assert {case.dtype for case in cases} == {"float64", "float32"}
    assert {case.count_include_pad for case in geometries(space("avg_pool2d"))} == {False, True}


# ------------------------------------------------------------------------------------------------ sweep


@pytest.mark.parametrize("name", ["everything", "scalars", "one dimension", "three dimensions", "nothing"])
def test_a_sweep_visits_every_one_axis_geometry_once(name):
    claimed = SPACES[name]
    leading = Counter(case.axes[0] for case in geometries(claimed))
    table = claimed.axis_table(lambda axis: True, SWEEP, empty_windows=True)
    assert leading == Counter(table)


def test_a_sweep_visits_axes_of_pooling_once_for_each_way_to_give_the_stride():
    claimed = SPACES["max pooling"]
    table = claimed.axis_table(lambda axis: True, SWEEP, empty_windows=True)
    leading = Counter((case.axes[0], case.default_stride) for case in geometries(claimed))
    expected = [(axis, False) for axis in table] + [(axis, True) for axis in table if axis.s == axis.k]
    assert leading == Counter(expected)


def test_a_sweep_pairs_axes():
    """Each axis is paired with another one, and every axis of the table gets its turn in each place."""
    claimed = SPACES["everything"]
    cases = geometries(claimed)
    assert Counter(case.axes[1] for case in cases) == Counter(case.axes[0] for case in cases)
    assert sum(case.axes[0] == case.axes[1] for case in cases) < len(cases) // 100


def test_a_thinned_sweep_is_a_selection_of_the_full_one():
    claimed = SPACES["everything"]
    table = Tables(claimed, EVERYTHING, SWEEP)
    everything, some = list(table.sweep(None, seed=3)), list(table.sweep(50, seed=3))
    assert len(some) == 50
    assert set(some) <= set(everything)
    assert some == sorted(some, key=lambda case: case.complexity)


# ---------------------------------------------------------------------------------------------- focuses


def test_some_axis_holds_on_one_axis_at_least_and_each_gets_its_turn():
    focus = Focus(axis=fits, some_axis=padded)
    cases = geometries(SPACES["everything"], focus)
    assert all(any(padded(axis) for axis in case.axes) for case in cases)
    assert all(fits(axis) for case in cases for axis in case.axes)
    only = [tuple(padded(axis) for axis in case.axes) for case in cases]
    assert {(True, False), (False, True), (True, True)} <= set(only)


def test_where_the_claims_leave_nothing_a_table_is_empty():
    assert Tables(SPACES["nothing"], Focus(some_axis=padded), SWEEP).empty
    assert Tables(SPACES["nothing"], Focus(some_axis=leaves_rest), SWEEP).empty
    assert Tables(SPACES["single images"], Focus(channels=lambda ch: ch.c > 1), SWEEP).empty
    assert Tables(SPACES["nothing"], Focus(ceil_mode=True), SWEEP).empty
    assert Tables(SPACES["nothing"], Focus(default_stride=True), SWEEP).empty
    assert Tables(SPACES["nothing"], Focus(dtypes=lambda names: ()), SWEEP).empty


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_case_of_every_law_obeys_its_focus(operator):
    """For an implementation that takes everything: what a law says it is about is what it gets."""
    claimed = space(operator, padding="low-high")
    for law in laws_of(OPERATORS[operator]):
        focus = getattr(law.source, "focus", None)
        if focus is None:
            continue
        table = tables(claimed, focus)
        assert not table.empty, law.name
        for case in table.sweep(25, seed=1):
            assert all(focus.axis(axis) for axis in case.axes)
            assert focus.some_axis is None or any(focus.some_axis(axis) for axis in case.axes)
            assert focus.channels(case.channels)
            assert case.contents in focus.contents
            assert case.window.output_size(case.call.size)


def test_every_focus_is_a_value_that_tables_can_be_kept_for():
    assert all(hash(law.source.focus) for law in LAWS if hasattr(law.source, "focus"))


# -------------------------------------------------------------------------------------------- strategies


def drawn(claimed, focus, count=60):
    cases = []

    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(tables(claimed, focus).strategy())
    def collect(case):
        cases.append(case)

    collect()
    return cases


def test_a_drawn_geometry_is_a_claimed_one(claimed):
    table = set(claimed.axis_table(lambda axis: True, reach_of(claimed.rank), empty_windows=True))
    for case in drawn(claimed, EVERYTHING):
        assert set(case.axes) <= table
        assert claimed.admits(case.axes, case.default_stride)
        assert case.dtype in claimed.dtypes


def test_nothing_is_drawn_and_thrown_away():
    """Hypothesis' own health checks for filtering are on in `drawn`; and the module has no filter."""
    source = inspect.getsource(geometry_module)
    assert ".filter(" not in source
    assert "assume(" not in source
    assert ".reject" not in source


def test_same_seed_same_geometries():
    claimed = SPACES["everything"]
    table = Tables(claimed, Focus(some_axis=padded), SWEEP)
    assert list(table.sweep(40, seed=7)) == list(table.sweep(40, seed=7))
    assert list(table.sweep(40, seed=7)) != list(table.sweep(40, seed=8))
    assert drawn(claimed, EVERYTHING, 20) == drawn(claimed, EVERYTHING, 20)


def test_same_geometry_same_numbers():
    case = geometries(SPACES["everything"], limit=1)[0]
    first, second = build(OPERATORS["conv2d"], case), build(OPERATORS["conv2d"], case)
    for name, array in first.inputs.items():
        assert array.tobytes() == second.inputs[name].tobytes()
    other = build(OPERATORS["conv2d"], replace(case, seed=case.seed + 1))
    assert any(first.inputs[name].tobytes() != other.inputs[name].tobytes() for name in first.inputs)


@pytest.mark.parametrize("sweep", [True, False])
def test_words_for_padding_are_same_or_valid_along_all_axes(sweep):
    adapter = Adapter("words")
    adapter.implements("conv2d", padding="string")(lambda x, w, stride, padding, dilation: None)
    space = Space.of(adapter.implementations["conv2d"])
    found = set()
    for geometry in tables(space, Focus(), sweep).sweep(None, 0):
        window = geometry.window
        same = Window.same(geometry.call.size, window.kernel, window.stride, window.dilation)
        assert window.padding in (same.padding, ((0, 0), (0, 0)))
        found.add(window.padding == same.padding)
    assert found == {True, False}
    assert tables(space, Focus(in_numbers=True), sweep).empty
