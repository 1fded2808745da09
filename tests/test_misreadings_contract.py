"""Misreadings of the contract: right values, and something wrong beside them."""

from __future__ import annotations

import numpy as np
import pytest

from convform import reference
from convform.reference.misreadings.catalogue import MISREADINGS
from convform.reference.misreadings.misreading import misread
from convform.spec.operators import OPERATORS
from convform.tests.test_misreadings import normal, same

ELSEWHERE = ("CONTRACT-6", "CONTRACT-9")
"""Clauses about refusals."""

NAMES = [
    name for name, m in MISREADINGS.items() if m.clause.startswith("CONTRACT-") and m.clause not in ELSEWHERE
]
OF_FAMILIES = [(name, family) for name in NAMES for family in MISREADINGS[name].families]


def operator_of(family, rank=2):
    return next(op for op in OPERATORS.values() if op.family == family and op.rank == rank)


def call_of(family, *, n=2, size=4, kernel=2, rank=2, dtype=np.float64, seed=1):
    """Inputs and parameters of an ordinary call: two channels, stride 1, no padding."""
    rng = np.random.default_rng(seed)
    operator, out = operator_of(family, rank), size - kernel + 1
    lengths = {"n": n, "c": 2, "o": 2, "i": 2}
    for axis in ("d", "h", "w"):
        lengths |= {axis: size, "k" + axis: kernel, "o" + axis: out}
    inputs = {
        name: rng.integers(1, 100, [lengths[axis] for axis in axes.split()]).astype(dtype)
        for name, axes in operator.inputs.items()
    }
    given = {"input_size": (n, 2, *(size,) * rank), "kernel": (kernel,) * rank, "stride": (1,) * rank}
    return operator.name, inputs, normal(operator.name, given)


def subject(name):
    return misread(MISREADINGS[name])


@pytest.mark.parametrize(("name", "family"), OF_FAMILIES)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_first_ordinary_call_has_the_right_values(name, family, rank):
    operator, inputs, parameters = call_of(family, rank=rank)
    right = reference.evaluate(operator, inputs, parameters)
    assert same(subject(name)(operator, inputs, parameters), right)


# --- CONTRACT-2 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", MISREADINGS["view returned"].families)
def test_a_kernel_of_one_tap_gives_a_view(family):
    operator, inputs, parameters = call_of(family, kernel=1)
    outputs = subject("view returned")(operator, inputs, parameters)
    assert same(outputs, reference.evaluate(operator, inputs, parameters))
    assert np.shares_memory(next(iter(outputs.values())), list(inputs.values())[-1])


def test_unpadded_columns_are_a_view():
    operator, inputs, parameters = call_of("im2col")
    twisted = subject("sliding view returned")
    assert np.shares_memory(twisted(operator, inputs, parameters)["cols"], inputs["x"])
    padded = parameters | {"padding": ((1, 1), (1, 1))}
    assert not np.shares_memory(twisted(operator, inputs, padded)["cols"], inputs["x"])


# --- CONTRACT-3 ---------------------------------------------------------------------------------------------


def test_contiguous_strides_read_what_lies_between_and_never_beyond():
    gaps = np.arange(16.0).reshape(1, 1, 4, 4)
    operator, _, parameters = call_of("max_pool", kernel=1)
    twisted = subject("strides of a contiguous array assumed")
    every_second = twisted(operator, {"x": gaps[:, :, ::2, ::2]}, parameters)["y"]
    assert every_second.reshape(-1).tolist() == [0, 1, 2, 3]
    backwards = twisted(operator, {"x": gaps[:, :, ::-2, ::-2]}, parameters)["y"]
    assert backwards.reshape(-1).tolist() == [15, 0, 1, 2]


def test_a_slice_is_refused():
    operator, inputs, parameters = call_of("avg_pool", size=6)
    with pytest.raises(ValueError, match="contiguous"):
        subject("views refused")(operator, {"x": inputs["x"][:, :, ::2]}, parameters)


# --- CONTRACT-4 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", MISREADINGS["latest forward wins"].families)
def test_the_gradient_of_the_latest_forward_call_is_given(family):
    twisted = subject("latest forward wins")
    backward, a, parameters = call_of(family)
    forward, b, forward_parameters = call_of(family.removesuffix(".backward"), seed=2)
    twisted(forward, b, forward_parameters)
    right = reference.evaluate(backward, a, parameters)
    assert not same(twisted(backward, a, parameters), right)
    latest = reference.evaluate(backward, a | b, parameters)
    assert same(twisted(backward, a, parameters), latest)


@pytest.mark.parametrize("family", MISREADINGS["gradients add up over calls"].families)
def test_a_second_call_gives_twice_the_gradient(family):
    twisted = subject("gradients add up over calls")
    operator, inputs, parameters = call_of(family)
    first = twisted(operator, inputs, parameters)
    second = twisted(operator, inputs, parameters)
    for name in ("dw", "db") if family == "conv.backward" else ("dx",):
        assert np.array_equal(second[name], 2 * first[name])


@pytest.mark.parametrize("family", MISREADINGS["stale buffer"].families)
def test_zeros_after_ones_give_ones(family):
    twisted = subject("stale buffer")
    operator, inputs, parameters = call_of(family)
    large = twisted(operator, inputs, parameters)
    operator, inputs, parameters = call_of(family, size=3)
    small = twisted(operator, {name: 0 * array for name, array in inputs.items()}, parameters)
    name = next(iter(small))
    assert np.array_equal(small[name].reshape(-1), large[name].reshape(-1)[: small[name].size])


def test_subjects_have_memories_of_their_own():
    operator, inputs, parameters = call_of("avg_pool.backward")
    right = reference.evaluate(operator, inputs, parameters)
    for _ in range(2):
        assert same(subject("gradients add up over calls")(operator, inputs, parameters), right)


# --- CONTRACT-5 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "answered"),
    [
        ("result in float64", np.float32, np.float64),
        ("result in float32", np.float64, np.float32),
        ("integers become floating point", np.int64, np.float64),
        ("integers become floating point", np.float32, np.float32),
    ],
)
def test_the_output_has_another_dtype(name, given, answered):
    for family in MISREADINGS[name].families:
        operator, inputs, parameters = call_of(family, dtype=given)
        outputs = subject(name)(operator, inputs, parameters)
        assert {a.dtype for output, a in outputs.items() if output != "indices"} == {np.dtype(answered)}
        assert same(outputs, reference.evaluate(operator, inputs, parameters))


# --- CONTRACT-7 and CONTRACT-8 ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", MISREADINGS["empty batch crashes"].families)
def test_an_empty_batch_crashes(family):
    with pytest.raises(ValueError, match="size 0"):
        subject("empty batch crashes")(*call_of(family, n=0))


@pytest.mark.parametrize("family", MISREADINGS["empty batch keeps the input's size"].families)
def test_an_empty_batch_keeps_the_size_of_the_input(family):
    for output in subject("empty batch keeps the input's size")(*call_of(family, n=0)).values():
        assert output.shape[0] == 0
        assert output.shape[-2:] == (4, 4)


@pytest.mark.parametrize("family", MISREADINGS["size-one axes squeezed"].families)
def test_axes_of_size_one_are_missing(family):
    call = call_of(family, n=1, size=1, kernel=1)
    outputs, right = subject("size-one axes squeezed")(*call), reference.evaluate(*call)
    assert outputs.keys() == right.keys()
    assert all(1 not in array.shape for array in outputs.values())


@pytest.mark.parametrize("family", MISREADINGS["size-one axes crash"].families)
def test_axes_of_size_one_crash(family):
    for size, kernel in ((1, 1), (4, 1)):
        with pytest.raises(IndexError):
            subject("size-one axes crash")(*call_of(family, size=size, kernel=kernel))
