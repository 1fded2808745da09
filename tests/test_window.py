"""The window: sizes, rounding, where taps land, and what it refuses."""

from __future__ import annotations

import itertools

import pytest

from convform.reference import selection as matrix
from convform.reference.window import Window

# Every window along one axis with these sizes: n, k, s, d, low, high, ceil_mode.
SMALL = list(
    itertools.product(range(6), range(1, 4), range(1, 4), range(1, 3), range(3), range(3), (False, True))
)


def size(n, k, s=1, p=0, d=1, *, ceil_mode=False):
    return Window.of((k,), s, p, d, ceil_mode).output_size((n,))[0]


@pytest.mark.parametrize(
    ("n", "k", "s", "p", "d", "o"),
    [
        (5, 2, 1, 1, 1, 6),
        (32, 3, 1, 0, 1, 30),
        (8, 3, 1, 1, 1, 8),
        (5, 2, 2, 0, 1, 2),  # the stride does not fit: floor
        (6, 3, 4, 0, 1, 1),
        (5, 2, 1, 0, 4, 1),
        (5, 3, 1, 0, 2, 1),
        (7, 3, 2, 1, 2, 3),
    ],
)
def test_output_size_is_rounded_down(n, k, s, p, d, o):
    assert size(n, k, s, p, d) == o


@pytest.mark.parametrize(
    ("n", "k", "s", "p", "floor", "ceil"),
    [
        (5, 2, 2, 0, 2, 3),
        (6, 1, 2, 0, 3, 3),  # a fourth window would start at 6, beyond the input
        (5, 2, 2, 1, 3, 3),  # a fourth window would start in the padding behind the input
        (6, 3, 2, 0, 2, 3),
        (4, 2, 2, 0, 2, 2),
    ],
)
def test_ceil_rounding_keeps_a_window_only_if_it_starts_before_the_end(n, k, s, p, floor, ceil):
    assert (size(n, k, s, p), size(n, k, s, p, ceil_mode=True)) == (floor, ceil)


def test_ceil_rounding_lets_a_single_window_hang_over():
    assert size(3, 4, 2, ceil_mode=True) == 1
    with pytest.raises(ValueError, match="WINDOW-6"):
        size(3, 5, 2, ceil_mode=True)


def test_a_kernel_larger_than_the_input_is_valid_when_padding_makes_room():
    assert size(2, 4, p=1) == 1
    with pytest.raises(ValueError, match=r"kernel=\(5,\).*WINDOW-6"):
        size(2, 5, p=1)


def test_counting_windows_one_by_one_gives_the_same_sizes():
    for n, k, s, d, low, high, ceil_mode in SMALL:
        count = len(matrix.starts_along(n, k, s, d, low, high, ceil_mode))
        window = Window.of((k,), s, ((low, high),), d, ceil_mode)
        if count:
            assert window.output_size((n,)) == (count,)
        else:
            with pytest.raises(ValueError, match="WINDOW-6"):
                window.output_size((n,))


def test_overhang_is_what_the_last_window_needs_beyond_the_padding():
    assert Window.of((2,), 2, 0, 1, ceil_mode=True).overhang((5,)) == (1,)
    assert Window.of((2,), 2, 0, 1, ceil_mode=False).overhang((5,)) == (0,)


def test_landings_are_where_the_definition_reads_real_elements():
    for n, k, s, d, low, high, ceil_mode in SMALL:
        window = Window.of((k,), s, ((low, high),), d, ceil_mode)
        try:
            (o,) = window.output_size((n,))
        except ValueError:
            continue
        for tap, landing in enumerate(window.landings((n,))[0]):
            reads = {i: window.element((i,), (tap,))[0] for i in range(o)}
            real = {i: j for i, j in reads.items() if 0 <= j < n}
            assert dict(zip(range(o)[landing.windows], range(n)[landing.elements], strict=True)) == real
            for start, stop in itertools.combinations(range(o + 1), 2):
                part = landing.within(start, stop)
                windows = range(start, stop)[part.windows]
                assert dict(zip(windows, range(n)[part.elements], strict=True)) == {
                    i: j for i, j in real.items() if start <= i < stop
                }


def test_parameters_are_spread_over_the_axes():
    window = Window.of((2, 3), stride=None, padding=1, dilation=(1, 2))
    assert window == Window((2, 3), (2, 3), ((1, 1), (1, 1)), (1, 2), False)
    assert window.effective_kernel == (2, 5)
    assert window.taps == 6
    assert Window.of((2, 3), padding=(0, 3)).padding == ((0, 0), (3, 3))
    assert Window.of((2, 3), padding=((0, 1), (2, 3))).padding == ((0, 1), (2, 3))
    assert list(Window.of((2, 2)).offsets()) == [(0, 0), (0, 1), (1, 0), (1, 1)]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("kernel", (0, 2)),
        ("stride", 0),
        ("stride", (1, -1)),
        ("stride", (1, 2, 3)),
        ("dilation", 0),
        ("padding", -1),
        ("padding", ((0, 0), (-1, 0))),
        ("padding", (1, 2, 3)),
        ("padding", ((1, 2), (3, 4), (5, 6))),
    ],
)
def test_values_that_make_no_window_are_refused_by_name(argument, value):
    with pytest.raises(ValueError, match=f"{argument}="):
        Window.of(**{"kernel": (2, 2), argument: value})


@pytest.mark.parametrize(
    ("argument", "value"),
    [("kernel", (2.0, 2)), ("stride", 1.5), ("stride", True), ("dilation", "2"), ("padding", "SAME")],
)
def test_what_is_no_integer_is_refused_by_name(argument, value):
    with pytest.raises(TypeError, match=f"{argument}="):
        Window.of(**{"kernel": (2, 2), argument: value})


def test_ceil_mode_is_true_or_false():
    with pytest.raises(TypeError, match="ceil_mode=1"):
        Window.of((2, 2), ceil_mode=1)


def test_another_rank_than_the_kernel_is_refused():
    with pytest.raises(ValueError, match="input_size"):
        Window.of((2, 2)).output_size((5,))


@pytest.mark.parametrize(
    ("n", "k", "s", "d", "padding"),
    [
        (5, 3, 1, 1, (1, 1)),
        (5, 2, 1, 1, (0, 1)),
        (6, 3, 2, 1, (0, 1)),
        (5, 3, 2, 1, (1, 1)),
        (5, 3, 1, 2, (2, 2)),
        (5, 1, 3, 1, (0, 0)),
        (1, 4, 1, 1, (1, 2)),
    ],
)
def test_same_padding_gives_one_window_for_every_stride(n, k, s, d, padding):
    window = Window.same((n,), (k,), s, d)
    assert window.padding == (padding,)
    assert window.output_size((n,)) == (-(-n // s),)
