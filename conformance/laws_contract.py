"""Laws of the contract that every operator keeps: clauses CONTRACT-1 to CONTRACT-8."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from convform.conformance.case import Arrays, Case, build
from convform.conformance.compare import answer, check_exact
from convform.conformance.geometry import Axis, Channels, Focus, Geometry, tables
from convform.conformance.law import Drawn, Law, Listed
from convform.conformance.laws_values import ALL, fits
from convform.conformance.subject import Subject
from convform.conformance.violation import Violation

_ORDINARY = Focus(axis=fits)


def returned_arrays(returned: object) -> Iterator[np.ndarray]:
    """All NumPy arrays in what a wrapper returned."""
    if isinstance(returned, np.ndarray):
        yield returned
    elif isinstance(returned, Mapping):
        for value in returned.values():
            yield from returned_arrays(value)
    elif isinstance(returned, (tuple, list)):
        for value in returned:
            yield from returned_arrays(value)


def check_inputs_unmodified(subject: Subject, case: Case) -> None:
    """The arguments hold the same bytes after the call as before it."""
    result = answer(subject, case)
    for name, before in result.before.items():
        after = result.arguments[name]
        assert isinstance(after, np.ndarray)
        if after.shape != before.shape or after.tobytes() != before.tobytes():
            differs = after != before if after.shape == before.shape else None
            raise Violation(
                case,
                f"the argument {name} was changed by the call (shown in your layout, before and after)",
                {name: before},
                {name: after},
                {} if differs is None else {name: np.asarray(differs)},
            )


def check_no_shared_memory(subject: Subject, case: Case) -> None:
    """No returned array lies in the memory of an argument."""
    result = answer(subject, case)
    for name, argument in result.arguments.items():
        if not isinstance(argument, np.ndarray):
            continue
        for output in returned_arrays(result.returned):
            if np.may_share_memory(output, argument):
                raise Violation(case, f"a returned array shares memory with the argument {name}")


def check_no_memory_between_calls(subject: Subject, case: Case) -> None:
    """Call with a, with b, and with a again: both answers to a are equal, and the first one is untouched."""
    assert case.geometry is not None
    other = build(case.operator, replace(case.geometry, seed=case.geometry.seed + 1))
    first = answer(subject, case).outputs
    kept = {name: array.copy() for name, array in first.items()}
    answer(subject, other)
    _same(case, kept, first, "was overwritten by a later call")
    again = answer(subject, case).outputs
    _same(case, kept, again, "is another one when the same call is made again after a different one")


def check_views(subject: Subject, case: Case) -> None:
    """Every arrangement in memory gives what the contiguous copy gives."""
    expected = answer(subject, case).outputs
    for arrangement in ("Fortran order", "strided", "negative strides", "read-only"):
        arranged = replace(case, arrangement=arrangement)
        _same(arranged, expected, answer(subject, arranged).outputs, f"differs for {arrangement} arrays")
    # With zero strides every element is one and the same, so the arrays must be constant.
    constant = {
        name: np.full_like(array, array.reshape(-1)[0] if array.size else 0)
        for name, array in case.inputs.items()
    }
    flat = replace(case, inputs=MappingProxyType(constant))
    arranged = replace(flat, arrangement="zero strides")
    expected = answer(subject, flat).outputs
    _same(arranged, expected, answer(subject, arranged).outputs, "differs for zero strides arrays")


def _same(case: Case, expected: Arrays, actual: Arrays, says: str) -> None:
    """Raise a violation where two answers of the subject itself are not equal."""
    for name, array in expected.items():
        other = actual[name]
        if array.shape != other.shape:
            raise Violation(case, f"{name} {says}: shape {other.shape} instead of {array.shape}")
        differs = (array != other) & ~((array != array) & (other != other))  # NaN equals NaN
        if differs.any():
            raise Violation(case, f"{name} {says}", {name: array}, {name: other}, {name: differs})


def check_dtype(subject: Subject, case: Case) -> None:
    """Outputs have the dtype of the inputs; indices have some integer dtype."""
    for name, array in answer(subject, case, as_numbers=False).outputs.items():
        if name == "indices":
            if array.dtype.kind not in "iu":
                raise Violation(case, f"indices have dtype {array.dtype}, expected integers")
        elif array.dtype != case.dtype:
            raise Violation(case, f"{name} has dtype {array.dtype} for inputs of dtype {case.dtype}")


def _every_dtype(subject: Subject) -> Iterable[Case]:
    for geometry in ordinary_geometries(subject):
        for dtype in subject.space.dtypes:
            yield build(subject.operator, replace(geometry, dtype=dtype))


def ordinary_geometries(subject: Subject) -> list[Geometry]:
    """A few small geometries from the claimed space; none where it is empty."""
    table = tables(subject.space, _ORDINARY, sweep=True)
    return [] if table.empty else list(table.sweep(3, seed=1))


def _empty_batches(subject: Subject) -> Iterable[Case]:
    if "n" in subject.space.absent:
        return
    for geometry in ordinary_geometries(subject):
        yield build(subject.operator, replace(geometry, channels=replace(geometry.channels, n=0)))


def _size_one(subject: Subject) -> Iterable[Case]:
    """All axes of size one; then a kernel of one tap on a larger input; then one long, thin axis."""
    space = subject.space
    one = Axis(1, 1, 1, 0, 0, 1)
    variants = [(one,) * space.rank]
    variants.append((Axis(3, 1, 1, 0, 0, 1),) * space.rank)
    thin = "k" not in space.shared
    for position in range(space.rank) if thin else ():
        strides = 1 if space.strides or not space.pooling else 2
        long = Axis(4, 2, strides, 0, 0, 1)
        variants.append(tuple(long if i == position else one for i in range(space.rank)))
    for axes in variants:
        if "s" in space.shared and len({axis.s for axis in axes}) > 1:
            continue
        for bias in space.biases:
            geometry = Geometry(axes, Channels(), space.dtypes[0], seed=5, bias=bias)
            yield build(subject.operator, geometry)


def _contract() -> Iterator[Law]:
    for name, clause, check in (
        ("inputs_unmodified", "CONTRACT-1", check_inputs_unmodified),
        ("no_shared_memory", "CONTRACT-2", check_no_shared_memory),
        ("views", "CONTRACT-3", check_views),
        ("no_memory_between_calls", "CONTRACT-4", check_no_memory_between_calls),
    ):
        yield Law(name, ALL, (clause,), Drawn(_ORDINARY, costly=True), check, lane="contract")
    yield Law("dtype", ALL, ("CONTRACT-5",), Listed(_every_dtype), check_dtype, lane="contract")
    yield Law("empty_batch", ALL, ("CONTRACT-7",), Listed(_empty_batches), check_exact)
    yield Law("size_one_axes", ALL, ("CONTRACT-8",), Listed(_size_one), check_exact)


CONTRACT_LAWS = tuple(_contract())
