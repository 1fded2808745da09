"""Layouts: axes are named, moved and merged as einops does, and a wrong pattern is explained."""

from __future__ import annotations

import einops
import numpy as np
import pytest

from convform.adapters import AdapterError, Layout, ShapeMismatch

INPUT = ("n", "c", "h", "w")
COLUMNS = ("n", "c", "kh", "kw", "oh", "ow")
SIZES = {"n": 2, "c": 3, "h": 4, "w": 5, "kh": 2, "kw": 3, "oh": 6, "ow": 7}


def numbered(axes: tuple[str, ...], dtype: str = "float64", **sizes: int) -> np.ndarray:
    """Build an array of distinct values with the sizes above."""
    shape = [(SIZES | sizes)[axis] for axis in axes]
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


@pytest.mark.parametrize(
    ("axes", "pattern"),
    [
        (INPUT, "n c h w"),
        (INPUT, "n h w c"),
        (INPUT, "(n h) w c"),
        (INPUT, "w h c n"),
        (INPUT, "1 n (c h w) 1"),
        (COLUMNS, "n (c kh kw) (oh ow)"),
        (COLUMNS, "(n oh ow) (kh kw c)"),
        (COLUMNS, "(c kh kw) (oh ow n)"),
        (COLUMNS, "(n oh ow c kh kw)"),
    ],
)
def test_a_layout_means_what_einops_means_by_it(axes: tuple[str, ...], pattern: str) -> None:
    layout, array = Layout.parse(pattern, axes), numbered(axes)
    native = layout.to_native(array)
    assert np.array_equal(native, einops.rearrange(array, f"{' '.join(axes)} -> {pattern}"))
    assert np.array_equal(layout.from_native(native, SIZES), array)
    assert native.shape == layout.shape(SIZES)


def test_an_axis_left_out_has_length_one() -> None:
    layout = Layout.parse("h w", INPUT)
    assert layout.absent == ("n", "c")
    array = numbered(INPUT, n=1, c=1)
    native = layout.to_native(array)
    assert native.shape == (4, 5)
    assert np.array_equal(layout.from_native(native, {}), array)
    with pytest.raises(ValueError, match="axis 'c' is left out, so it has length 1, not 3"):
        layout.to_native(numbered(INPUT, n=1))


def test_one_pattern_serves_every_rank() -> None:
    layout = Layout.parse("n d h w c", ("n", "c", "d", "h", "w"))
    assert str(layout.restricted_to(("n", "c", "w"))) == "n w c"
    merged = Layout.parse("(n od oh ow) (c kd kh kw)", ("n", "c", "kd", "kh", "kw", "od", "oh", "ow"))
    assert str(merged.restricted_to(("n", "c", "kw", "ow"))) == "(n ow) (c kw)"
    alone = Layout.parse("n (d) c w", ("n", "c", "d", "h", "w"))
    assert str(alone.restricted_to(("n", "c", "w"))) == "n c w"


def test_native_arrays_are_fresh_contiguous_and_of_the_same_dtype() -> None:
    for pattern in ("n c h w", "n h w c", "(n c h w)"):
        for dtype in ("float64", "float16", "int32", "object"):
            array = numbered(INPUT, dtype)
            native = Layout.parse(pattern, INPUT).to_native(array)
            assert native.dtype == array.dtype
            assert native.flags.c_contiguous
            assert not np.shares_memory(native, array)


def test_reading_an_answer_never_copies_it() -> None:
    for pattern in ("n (c kh kw) (oh ow)", "(n oh ow) (kh kw c)", "n c kh kw oh ow"):
        layout = Layout.parse(pattern, COLUMNS)
        native = np.asfortranarray(layout.to_native(numbered(COLUMNS)))
        assert np.shares_memory(layout.from_native(native, SIZES), native)


def test_empty_axes_convert_like_others() -> None:
    layout = Layout.parse("(n oh ow) (c kh kw)", COLUMNS)
    array = numbered(COLUMNS, n=0)
    assert layout.to_native(array).shape == (0, 18)
    assert layout.from_native(np.zeros((0, 18)), SIZES | {"n": 0}).shape == array.shape


def test_lengths_of_lone_axes_may_be_unknown() -> None:
    layout = Layout.parse("n h w c", INPUT)
    assert layout.from_native(np.zeros((2, 4, 5, 3)), {}).shape == (2, 3, 4, 5)
    with pytest.raises(ValueError, match="the length of axis 'c' is needed"):
        Layout.parse("n (c h) w", INPUT).from_native(np.zeros((2, 12, 5)), {})


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 4, 5), (), (2, 4, 5, 3, 1), (0, 4, 5, 3)])
def test_a_wrong_shape_names_both_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeMismatch) as caught:
        Layout.parse("n h w c", INPUT).from_native(np.zeros(shape), SIZES, name="dx")
    assert (caught.value.array, caught.value.shape, caught.value.expected) == ("dx", shape, (2, 4, 5, 3))
    assert str(caught.value) == f"dx has shape {shape}, expected (2, 4, 5, 3) (layout 'n h w c')"
    assert not isinstance(caught.value, AdapterError)


def test_names_can_be_changed() -> None:
    layout = Layout.parse("n (h w) c", INPUT).renamed({"c": "o", "h": "oh", "w": "ow"})
    assert str(layout) == "n (oh ow) o"
    assert layout.axes == ("n", "o", "oh", "ow")


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("n h w k", "layout 'n h w k': there is no axis 'k'; axes of an input are n, c, h, w"),
        ("n h w h c", "layout 'n h w h c': axis 'h' stands twice"),
        ("n (h w c", "layout 'n (h w c': a '(' without its ')'"),
        ("n h) w c", "layout 'n h) w c': a ')' without its '('"),
        ("n ((h w) c)", "layout 'n ((h w) c)': a parenthesis inside a parenthesis"),
        ("n ... c", "layout 'n ... c': an ellipsis is not supported"),
        ("", "layout '': it names no axis; axes of an input are n, c, h, w"),
        (("n", "c"), "layout ('n', 'c'): expected a string of axis names, such as 'n c h w'"),
        ("nchw", "layout 'nchw': there is no axis 'nchw'; axes of an input are n, c, h, w"),
    ],
)
def test_a_wrong_pattern_is_explained(pattern: str, sentence: str) -> None:
    with pytest.raises(AdapterError) as caught:
        Layout.parse(pattern, INPUT, what="an input")
    assert str(caught.value) == sentence


def test_a_wrong_number_of_axes_is_no_input() -> None:
    with pytest.raises(ValueError, match="expected the axes n c h w"):
        Layout.parse("n h w c", INPUT).to_native(np.zeros((2, 3)))
