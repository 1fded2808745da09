"""The oracle: what is exact is exact in any order, and bounds reject errors without rejecting rounding."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from convform import reference
from convform.adapters import load
from convform.conformance.cases import oracle
from convform.conformance.cases.case import build
from convform.conformance.cases.contents import exact_limit, unit_roundoff
from convform.conformance.cases.geometry import (
    RANDOM,
    RANDOM_3D,
    Axis,
    Channels,
    Focus,
    Geometry,
    Space,
    Tables,
)
from convform.conformance.laws.compare import cells_that_differ, compare
from convform.conformance.laws.values import fits
from convform.conformance.laws.violation import Violation
from convform.conformance.subjects.subject import Answer
from convform.spec.operators import OPERATORS

SUMS = [name for name, operator in OPERATORS.items() if operator.family != "max_pool"]


def geometries(name, dtype, count, **focus):
    """Return random geometries of an operator, everything claimed."""
    space = replace(Space.of(load("reference").implementations[name]), dtypes=(dtype,))
    reach = RANDOM if space.rank < 3 else RANDOM_3D
    return Tables(space, Focus(**focus), reach).sweep(count, seed=count)


# ------------------------------------------------------------------------------------------- exact lane


def unit_of(array):
    """Half or one: every element is a multiple of it."""
    unit = 1.0 if np.all(array == np.rint(array)) else 0.5
    assert np.all(array % unit == 0)
    return unit


def largest_partial_sum(case):
    """Bound on every partial sum in any order, in units that all terms are multiples of.

    It is the same call on magnitudes, before averages divide; max pooling adds dy up, not x.
    """
    summed = [name for name in case.inputs if name != "x" or not case.operator.family.startswith("max_pool")]
    unit = math.prod(unit_of(case.inputs[name]) for name in summed)
    magnitudes = {name: np.abs(array.astype(np.float64)) for name, array in case.inputs.items()}
    outputs = reference.evaluate(case.operator.name, magnitudes, case.parameters)
    largest = max(np.max(array, initial=0) for name, array in outputs.items() if name != "indices")
    return largest / unit * (case.window.taps if case.operator.family.startswith("avg_pool") else 1)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("name", SUMS)
def test_no_partial_sum_leaves_the_exact_range(name, dtype):
    for geometry in geometries(name, dtype, 25):
        case = build(OPERATORS[name], geometry)
        assert largest_partial_sum(case) < exact_limit(dtype), geometry


@pytest.mark.parametrize("dtype", ["int64", "int32", "int16"])
@pytest.mark.parametrize("name", ["conv2d", "conv2d.backward", "col2im", "max_pool2d.backward"])
def test_no_sum_of_integers_overflows(name, dtype):
    for geometry in geometries(name, dtype, 25):
        assert largest_partial_sum(build(OPERATORS[name], geometry)) < exact_limit(dtype)


def test_the_range_is_as_wide_as_the_dtype_allows():
    """A wrong sum passes with probability 2/(2M + 1): M must not be smaller than it needs to be."""
    axis = Axis(5, 3, 1, 0, 0, 1)
    for dtype, least in (("float64", 2**20), ("float32", 900), ("float16", 10)):
        case = build(OPERATORS["conv2d"], Geometry((axis, axis), Channels(2, 2, 2), dtype))
        assert max(np.abs(case.inputs["x"]).max(), np.abs(case.inputs["w"]).max()) > 0.9 * least


def test_exact_answers_are_printed_by_the_definition_as_well():
    from convform.reference import definition

    for name in ("conv2d", "conv2d.backward", "col2im", "max_pool2d.backward"):
        for geometry in geometries(name, "float32", 4, axis=fits):
            case = build(OPERATORS[name], geometry)
            doubles = {key: array.astype(np.float64) for key, array in case.inputs.items()}
            values = definition.evaluate(name, doubles, case.parameters)
            for output, array in oracle.exact(case).values.items():
                assert np.array_equal(array, values[output].astype(np.float64))


# ------------------------------------------------------------------------------------------- averages


@pytest.mark.parametrize("name", ["avg_pool2d", "avg_pool2d.backward"])
def test_averages_have_no_tolerance_where_every_divisor_is_a_power_of_two(name):
    seen = set()
    for geometry in geometries(name, "float64", 150, axis=fits):
        case = build(OPERATORS[name], geometry)
        divisors = set(_divisors(case))
        powers = all(divisor & (divisor - 1) == 0 for divisor in divisors)
        expected = oracle.exact(case)
        if expected.tolerance:
            (tolerance,) = expected.tolerance.values()
            (values,) = expected.values.values()
            assert np.all(tolerance <= 2.0**-40 * (1 + np.abs(case.inputs.get("dy", case.inputs["x"])).max()))
            assert tolerance.shape == values.shape
        else:
            assert powers, (divisors, geometry)
        seen.add(bool(expected.tolerance))
    assert seen == {False, True}


def _divisors(case):
    """Count the taps of every window that count, tap by tap."""
    window, spatial = case.window, case.inputs["x"].shape[2:]
    padded = bool(case.parameters["count_include_pad"])
    counts = []
    for position in np.ndindex(*window.output_size(spatial)):
        count = 1
        for i, n, k, s, d, (low, high) in zip(
            position, spatial, window.kernel, window.stride, window.dilation, window.padding, strict=True
        ):
            taps = [i * s - low + j * d for j in range(k)]
            first, last = (-low, n + high) if padded else (0, n)
            count *= sum(first <= tap < last for tap in taps)
        counts.append(max(count, 1))
    return counts


# ------------------------------------------------------------------------------------------- bounded lane


def terms_of(case):
    """Return the factors of every output element of a 2-D convolution: two arrays n o oh ow K."""
    parameters = {key: case.parameters[key] for key in ("stride", "padding", "dilation")}
    x, w = case.inputs["x"], case.inputs["w"]
    cols = reference.evaluate("im2col", {"x": x}, {"kernel": w.shape[2:], **parameters})["cols"]
    n, _, _, _, oh, ow = cols.shape
    groups = case.parameters["groups"]
    cols = cols.reshape(n, groups, w[0].size, oh, ow).transpose(0, 1, 3, 4, 2)
    left = np.repeat(cols, len(w) // groups, axis=1)
    right = np.broadcast_to(w.reshape(len(w), 1, 1, -1), left.shape[1:])
    return left, np.broadcast_to(right, left.shape)


def bias_of(case, dtype):
    b = case.inputs.get("b")
    return np.zeros((1, 1, 1), dtype) if b is None else b.astype(dtype)[:, None, None]


def forward(products, bias):
    total = np.zeros(products.shape[:-1], products.dtype)
    for k in range(products.shape[-1]):
        total = total + products[..., k]
    return total + bias


def backward(products, bias):
    return forward(products[..., ::-1], np.zeros_like(bias)) + bias


def bias_first(products, bias):
    total = np.broadcast_to(bias, products.shape[:-1])
    for k in range(products.shape[-1]):
        total = total + products[..., k]
    return total


def pairwise(products, bias):
    while products.shape[-1] > 1:
        if products.shape[-1] % 2:
            products = np.concatenate([products, np.zeros_like(products[..., :1])], axis=-1)
        products = products[..., ::2] + products[..., 1::2]
    return products[..., 0] + bias


def in_blocks(products, bias):
    """Eight running sums, as vector instructions keep them."""
    lanes = [forward(products[..., i::8], np.zeros_like(bias)) for i in range(min(8, products.shape[-1]))]
    return forward(np.stack(lanes, axis=-1), bias)


def compensated(products, bias):
    total = correction = np.zeros(products.shape[:-1], products.dtype)
    for k in range(products.shape[-1]):
        term = products[..., k] - correction
        new = total + term
        total, correction = new, (new - total) - term
    return total + bias


def largest_first(products, bias):
    order = np.argsort(-np.abs(products), axis=-1)
    return forward(np.take_along_axis(products, order, -1), bias)


ORDERS = [forward, backward, bias_first, pairwise, in_blocks, compensated, largest_first]


def summed(case, order):
    """Answer to a convolution: products and sums in the working type, half types in float32."""
    working = np.float32 if case.dtype == np.float16 else case.dtype
    left, right = terms_of(case)
    y = order(left.astype(working) * right.astype(working), bias_of(case, working))
    with np.errstate(over="ignore"):
        return y.astype(case.dtype)


def fused(case):
    """One rounding for each multiply-add, as hardware with FMA does it."""
    working = np.float32 if case.dtype == np.float16 else case.dtype
    left, right = terms_of(case)
    total = np.zeros(left.shape[:-1], working)
    for k in range(left.shape[-1]):
        if working == np.float64:
            exact = left[..., k].astype(np.longdouble) * right[..., k] + total
        else:
            exact = left[..., k].astype(np.float64) * right[..., k] + total
        total = exact.astype(working)
    return (total + bias_of(case, working)).astype(case.dtype)


def multiplied(case):
    """One matrix product, by BLAS."""
    working = np.float32 if case.dtype == np.float16 else case.dtype
    left, right = terms_of(case)
    y = (left.astype(working)[..., None, :] @ right.astype(working)[..., :, None])[..., 0, 0]
    return (y + bias_of(case, working)).astype(case.dtype)


def verdict(case, y, expected=None):
    """None, or what the judge says about an answer."""
    try:
        compare(case, Answer({"y": y}, {}, y), expected or oracle.bounded(case), ["y"])
    except Violation as violation:
        return violation.says
    return None


def real_cases(dtype, count):
    for geometry in geometries("conv2d", dtype, count, axis=fits, contents=("real",)):
        yield build(OPERATORS["conv2d"], geometry)


def long_sum(dtype, seed, channels=64, kernel=6):
    """A convolution that adds up 2304 products for each of its two outputs."""
    axes = (Axis(kernel, kernel, 1, 0, 0, 1), Axis(kernel + 1, kernel, 1, 0, 0, 1))
    geometry = Geometry(axes, Channels(1, channels, 1), dtype, "real", seed, bias=bool(seed % 2))
    return build(OPERATORS["conv2d"], geometry)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_no_order_of_summation_is_a_false_alarm(dtype):
    for case in real_cases(dtype, 30):
        expected = oracle.bounded(case)
        answers = {order.__name__: summed(case, order) for order in ORDERS}
        answers |= {"fused": fused(case), "multiplied": multiplied(case)}
        for name, y in answers.items():
            assert verdict(case, y, expected) is None, (name, case.geometry)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("seed", range(3))
def test_no_order_of_a_long_sum_is_a_false_alarm(dtype, seed):
    case = long_sum(dtype, seed)
    expected = oracle.bounded(case)
    for order in ORDERS:
        assert verdict(case, summed(case, order), expected) is None, order.__name__
    assert verdict(case, fused(case), expected) is None
    assert verdict(case, multiplied(case), expected) is None


def test_half_types_below_their_normal_range_round_absolutely():
    """A product of 2^-20 has no relative precision in float16; an error of half a subnormal is rounding."""
    axis = Axis(2, 1, 1, 0, 0, 1)
    case = build(OPERATORS["conv2d"], Geometry((axis, axis), dtype="float16", contents="real", bias=False))
    tiny = {"x": np.full((1, 1, 2, 2), 2.0**-10, np.float16), "w": np.full((1, 1, 1, 1), 1.4 * 2.0**-12)}
    case = case.with_inputs(x=tiny["x"], w=tiny["w"].astype(np.float16))
    assert verdict(case, summed(case, forward)) is None


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_one_dropped_tap_in_one_cell_is_seen(dtype):
    """Wherever the tap is worth more than the rounding of its sum."""
    seen = total = 0
    for case in real_cases(dtype, 40):
        left, right = terms_of(case)
        y = summed(case, forward)
        cell = tuple(size // 2 for size in y.shape)
        worth = np.abs(left[cell] * right[cell].astype(np.float64))
        y[cell] -= (left[cell] * right[cell])[worth.argmax()]
        if worth.max() > 0:
            seen, total = seen + (verdict(case, y) is not None), total + 1
    assert total > 25
    assert seen == total


def ten_bits(array):
    """Round to ten bits behind the point, as tensor cores read float32."""
    mantissa, exponent = np.frexp(array.astype(np.float64))
    return np.ldexp(np.rint(mantissa * 2**11) / 2**11, exponent).astype(array.dtype)


PRECISION_LOST = {
    "weights in float16": lambda x, w: (x, w.astype(np.float16).astype(w.dtype)),
    "factors with ten bits": lambda x, w: (ten_bits(x), ten_bits(w)),
    "factors in bfloat16": lambda x, w: ((x.view(np.uint32) & 0xFFFF0000).view(np.float32), w),
}


@pytest.mark.parametrize("lost", PRECISION_LOST)
def test_precision_lost_in_the_factors_is_seen(lost):
    found = []
    for case in real_cases("float32", 12):
        x, w = PRECISION_LOST[lost](case.inputs["x"], case.inputs["w"])
        found.append(verdict(case, summed(case.with_inputs(x=x, w=w), pairwise)) is not None)
    assert sum(found) >= 10


@pytest.mark.parametrize("lost", PRECISION_LOST)
def test_precision_lost_in_a_long_sum_is_seen(lost):
    """At K = 2304 half precision of one factor is about what the worst order of summation may lose."""
    cases = [long_sum("float32", seed) for seed in range(3)]
    lossy = [
        case.with_inputs(
            **dict(zip("xw", PRECISION_LOST[lost](case.inputs["x"], case.inputs["w"]), strict=True))
        )
        for case in cases
    ]
    assert any(verdict(case, summed(other, pairwise)) for case, other in zip(cases, lossy, strict=True))


def test_sums_in_float16_are_seen():
    """Half types accumulate in at least float32 (CONV-5)."""
    case = long_sum("float16", 1)
    left, right = terms_of(case)
    y = forward(left * right, bias_of(case, np.float16)).astype(np.float16)
    assert verdict(case, y) is not None


def test_float32_inside_float64_is_seen():
    for case in itertools.islice(real_cases("float64", 10), 10):
        y = summed(case, pairwise)
        if np.any(y != y.astype(np.float32)):
            assert verdict(case, y.astype(np.float32).astype(np.float64)) is not None


def test_the_root_mean_square_has_teeth_where_the_maximum_has_none():
    """4√K units everywhere: far below the bound of K + 2 per element, far above what rounding does."""
    case = long_sum("float32", 2, channels=64)
    expected = oracle.bounded(case)
    y = summed(case, pairwise).astype(np.float64)
    k = 2304
    off = y + 4 * math.sqrt(k) * expected.scale["y"]
    assert not cells_that_differ(off, expected.values["y"], expected.tolerance["y"]).any()
    says = verdict(case, off, expected)
    assert says is not None
    assert "root mean square" in says


# ------------------------------------------------------------------------------------------- transforms


def fourier(case):
    """Convolve through spectra, in the working type."""
    x, w = case.inputs["x"], case.inputs["w"]
    (sh, sw), padding = case.parameters["stride"], case.parameters["padding"]
    x = np.pad(x, ((0, 0), (0, 0), *padding))
    size = x.shape[2:]
    product = np.einsum("nchw,ochw->nohw", np.fft.rfft2(x), np.conj(np.fft.rfft2(w, size)))
    rows, columns = size[0] - w.shape[2] + 1, size[1] - w.shape[3] + 1
    y = np.fft.irfft2(product, size)[:, :, :rows:sh, :columns:sw] + bias_of(case, x.dtype)
    return y.astype(x.dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("contents", ["real", "ordinary"])
def test_a_transform_is_held_to_its_own_bound(dtype, contents):
    """Elements outside every window count: a transform mixes them in, and out again but for rounding."""
    focus = {"axis": lambda axis: fits(axis) and axis.d == 1, "channels": lambda ch: ch.groups == 1}
    for geometry in geometries("conv2d", dtype, 40, contents=(contents,), **focus):
        case = build(OPERATORS["conv2d"], geometry)
        expected = (
            oracle.bounded(case, "transform")
            if contents == "real"
            else oracle.exact(case, arithmetic="transform")
        )
        assert verdict(case, fourier(case), expected) is None, geometry


def test_a_transform_that_forgets_a_tap_is_seen():
    focus = {"axis": lambda axis: fits(axis) and axis.d == 1, "channels": lambda ch: ch.groups == 1}
    for geometry in geometries("conv2d", "float32", 30, **focus):
        case = build(OPERATORS["conv2d"], geometry)
        w = case.inputs["w"].copy()
        w[..., -1, -1] = 0
        y = fourier(case.with_inputs(w=w))
        expected = oracle.exact(case, arithmetic="transform")
        truth = oracle.exact(case.with_inputs(w=w)).values["y"]
        assert np.array_equal(truth, expected.values["y"]) or verdict(case, y, expected) is not None


# ------------------------------------------------------------------------------------------- arithmetic


def test_bounded_expectations_are_exact_numbers():
    case = next(real_cases("float64", 1))
    left, right = terms_of(case)
    cell = (0, 0, 0, 0)
    total = sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(left[cell], right[cell], strict=True))
    total += Fraction(float(np.broadcast_to(bias_of(case, np.float64), left.shape[1:-1])[cell[1:]]))
    assert oracle.bounded(case).values["y"][cell] == total


def test_units_are_half_the_distance_to_the_next_number():
    for dtype in ("float64", "float32", "float16"):
        assert unit_roundoff(dtype) == np.finfo(dtype).eps / 2
        assert np.dtype(dtype).type(exact_limit(dtype)) + np.dtype(dtype).type(1) == exact_limit(dtype)
