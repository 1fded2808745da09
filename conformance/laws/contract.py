"""Laws of the contract that every operator keeps: clauses CONTRACT-1 to CONTRACT-8."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from convform.adapters import Implementation, ReturnedWrong
from convform.adapters.process.client import share_elsewhere, share_memory
from convform.conformance.cases.case import Arrays, Case, build
from convform.conformance.cases.geometry import Axis, Channels, Focus, Geometry, tables
from convform.conformance.laws.compare import answer, cells_that_differ, check_exact, expected_exactly
from convform.conformance.laws.examples import claimed
from convform.conformance.laws.law import Drawn, Evidence, Law, Listed
from convform.conformance.laws.values import fits
from convform.conformance.laws.violation import DTYPE, OTHER, SHAPE, VALUES, Violation
from convform.conformance.subjects.hosting import Proxy
from convform.conformance.subjects.subject import Subject, SubjectRaised, call
from convform.spec.operators import FAMILIES, ROWS

_ORDINARY = Focus(axis=fits)

GRADIENTS = tuple(row.name for row in ROWS.values() if row.gradient_of is not None)


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
                OTHER,
            )


def check_no_shared_memory(subject: Subject, case: Case) -> None:
    """No returned array lies in the memory of an argument, or of another array that was returned."""
    result = answer(subject, case)
    outputs = list(returned_arrays(result.returned))
    for name, argument in result.arguments.items():
        if isinstance(argument, np.ndarray) and any(share_memory(out, argument) for out in outputs):
            raise Violation(case, f"a returned array shares memory with the argument {name}", kind=OTHER)
    if _share_memory(itertools.combinations(outputs, 2)):
        raise Violation(case, "two returned arrays share memory", kind=OTHER)
    later = list(returned_arrays(answer(subject, case).returned))
    if _share_memory(itertools.product(outputs, later)):
        raise Violation(case, "a returned array shares memory with what an earlier call returned", kind=OTHER)


def _share_memory(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> bool:
    """Whether writing to one array of some pair changes the other."""
    return any(
        (a.flags.writeable or b.flags.writeable) and (np.shares_memory(a, b) or share_elsewhere(a, b))
        for a, b in pairs
    )


def check_no_memory_between_calls(subject: Subject, case: Case) -> None:
    """Call with zeros, with a, with b, with a and with zeros again: equal calls have equal answers.

    The first answer to a is still the same when all is done.
    """
    assert case.geometry is not None
    other = subject.fitted(build(case.operator, replace(case.geometry, seed=case.geometry.seed + 1)))
    quiet = case.with_inputs(**{name: np.zeros_like(array) for name, array in case.inputs.items()})
    silence = _copied(answer(subject, quiet).outputs)
    first = answer(subject, case).outputs
    kept = _copied(first)
    answer(subject, other)
    _same(case, kept, first, "was overwritten by a later call")
    again = answer(subject, case).outputs
    _same(case, kept, again, "is another one when the same call is made again after a different one")
    silence_again = answer(subject, quiet).outputs
    _same(
        quiet, silence, silence_again, "is another one when the same call is made again after a different one"
    )
    _same(case, kept, first, "was overwritten by a later call")


def _copied(outputs: Arrays) -> Arrays:
    return {name: array.copy() for name, array in outputs.items()}


def check_two_forwards(subject: Subject, case: Case) -> None:
    """forward(a), forward(b), backward(a) gives the gradient of a, as forward(a), backward(a) does."""
    assert subject.forward is not None
    assert case.geometry is not None
    other = subject.fitted(build(case.operator, replace(case.geometry, seed=case.geometry.seed + 1)))
    try:
        call(subject.forward, forward_case(subject.forward, case))
        expected = _copied(answer(subject, case).outputs)
        call(subject.forward, forward_case(subject.forward, case))
        call(subject.forward, forward_case(subject.forward, other))
    except (SubjectRaised, ReturnedWrong):
        return  # a question for the laws of the forward pass
    again = answer(subject, case).outputs
    _same(case, expected, again, "is another one after a forward call with other input")


def forward_case(forward: Implementation, case: Case) -> Case:
    """The forward call that belongs to a call of a gradient."""
    operator = forward.operator
    inputs = {name: case.inputs[name] for name in operator.inputs if name in case.inputs}
    if "b" in forward.takes and not forward.claims.bias_optional and "b" not in inputs:
        inputs["b"] = np.zeros(len(case.inputs["w"]), case.dtype)
    parameters = {name: case.parameters[name] for name in operator.parameters}
    return Case(operator, MappingProxyType(inputs), parameters, case.call, case.geometry)


def _with_forward(subject: Subject) -> Iterable[Case]:
    """Ordinary calls of a gradient whose forward pass the adapter has and claims."""
    if subject.forward is None:
        return
    forward = Subject(subject.forward, frozenset())
    for geometry in ordinary_geometries(subject):
        case = build(subject.operator, geometry)
        if geometry.dtype in forward.space.dtypes and claimed(forward, forward_case(subject.forward, case)):
            yield case


ARRANGED = ("Fortran order", "strided", "negative strides", "read-only")


def check_views(subject: Subject, case: Case) -> None:
    """Every arrangement in memory gives what the contiguous copy gives.

    Where answers may round, they may round otherwise: NumPy itself adds up in the order of memory.
    """
    # With zero strides every element is one and the same, so the arrays must be constant.
    constant = {
        name: np.full_like(array, array.reshape(-1)[0] if array.size else 0)
        for name, array in case.inputs.items()
    }
    flat = replace(case, inputs=MappingProxyType(constant))
    for plain, arrangements in ((case, ARRANGED), (flat, ("zero strides",))):
        expected = answer(subject, plain).outputs
        room = expected_exactly(subject, plain).tolerance
        for arrangement in arrangements:
            arranged = replace(plain, arrangement=arrangement)
            outputs = answer(subject, arranged).outputs
            _same(arranged, expected, outputs, f"differs for {arrangement} arrays", room, VALUES)


def _same(
    case: Case, expected: Arrays, actual: Arrays, says: str, room: Arrays | None = None, kind: str = OTHER
) -> None:
    """Raise a violation where two answers of the subject are not equal, or further apart than `room`."""
    for name, array in expected.items():
        other = actual[name]
        if array.shape != other.shape:
            shape = SHAPE if kind == VALUES else kind
            raise Violation(case, f"{name} {says}: shape {other.shape} instead of {array.shape}", kind=shape)
        allowed = (room or {}).get(name)
        # Both may be off by what is allowed, in opposite directions.
        differs = cells_that_differ(other, array, None if allowed is None else 2 * allowed)
        if differs.any():
            raise Violation(case, f"{name} {says}", {name: array}, {name: other}, {name: differs}, kind)


def check_dtype(subject: Subject, case: Case) -> None:
    """Outputs have the dtype of the inputs; indices have some integer dtype."""
    for name, array in answer(subject, case, as_numbers=False).outputs.items():
        if name == "indices":
            if array.dtype.kind not in "iu":
                raise Violation(case, f"indices have dtype {array.dtype}, expected integers", kind=DTYPE)
        elif array.dtype != case.dtype:
            raise Violation(
                case, f"{name} has dtype {array.dtype} for inputs of dtype {case.dtype}", kind=DTYPE
            )


def _every_dtype(subject: Subject) -> Iterable[Case]:
    """Every dtype with every flag: a bias, or a divisor that is counted, may bring a dtype of its own."""
    space = subject.space
    for geometry in ordinary_geometries(subject):
        variants = itertools.product(space.dtypes, space.biases, space.ceil_modes, space.include_pads)
        for dtype, bias, ceil_mode, include in variants:
            flagged = replace(geometry, dtype=dtype, bias=bias, ceil_mode=ceil_mode)
            yield build(subject.operator, replace(flagged, count_include_pad=include))


def ordinary_geometries(subject: Subject) -> list[Geometry]:
    """A few small geometries from the claimed space; none where it is empty."""
    table = tables(subject.space, _ORDINARY, sweep=True)
    return [] if table.empty else list(table.sweep(3, seed=1))


def _easily_shared(subject: Subject) -> Iterable[Case]:
    """Windows of one tap, which leave the input as it is; unpadded ones, which are views; ordinary ones."""
    space = subject.space
    for k in (1, 2):
        s = 1 if space.strides or not space.pooling else k
        geometry = Geometry((Axis(3, k, s, 0, 0, 1),) * space.rank, Channels(), space.dtypes[0], seed=k)
        yield build(subject.operator, replace(geometry, bias=space.biases[0]))
    for geometry in ordinary_geometries(subject):
        yield build(subject.operator, geometry)


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


def check_other_numbers(subject: Subject, case: Case) -> None:
    """Arrays of the same shapes with other numbers have an answer of their own.

    A wrong answer that is not the first one again is a matter of other laws.
    """
    assert case.geometry is not None
    first = _copied(answer(subject, case).outputs)
    other = subject.fitted(build(case.operator, replace(case.geometry, seed=case.geometry.seed + 1)))
    second = answer(subject, other).outputs
    if first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first):
        check_exact(subject, other)


def check_own_answers(subject: Subject, case: Case) -> None:
    """The subject's process has neither looked for the answers nor imported what is forbidden."""
    answer(subject, case)
    function = subject.implementation.function
    if isinstance(function, Proxy) and (breaches := function.process.breaches):
        raise Violation(case, f"your code {'; and '.join(breaches[:3])}", kind=OTHER)


def _smallest(subject: Subject) -> Iterable[Case]:
    axes = (Axis(1, 1, 1, 0, 0, 1),) * subject.space.rank
    geometry = Geometry(axes, Channels(), subject.space.dtypes[0], bias=subject.space.biases[0])
    return [build(subject.operator, geometry)]


def check_asked_again(subject: Subject, case: Case) -> None:
    """A question that was answered right before is answered right again, after many others."""
    _, check = subject.answered.get(id(case), (case, None))
    if check is None:
        return
    try:
        check(subject, case)
    except Violation as found:
        says = f"was answered right before, and when it was asked again: {found.says}"
        raise Violation(case, says, found.expected, found.actual, found.differs, found.kind) from None


FEWEST_AGAIN, FEWEST_CALLS = 32, 640
"""Questions that return at least; and calls that every operator of a quick subject gets in the end."""

AGAIN_SECONDS = 2.0
"""Time after which those that return are no more than the fewest."""


def _answered_before(subject: Subject) -> Iterable[Case]:
    function = subject.implementation.function
    calls = function.calls if isinstance(function, Proxy) else 0
    known = list(subject.answered.values())
    random.Random(len(known)).shuffle(known)
    until = time.monotonic() + AGAIN_SECONDS
    for number, (case, check) in zip(range(max(FEWEST_AGAIN, FEWEST_CALLS - calls)), itertools.cycle(known)):
        if number >= FEWEST_AGAIN and time.monotonic() > until:
            return
        again = replace(case)
        subject.answered[id(again)] = again, check
        yield again


def _contract() -> Iterator[Law]:
    drawn, memory = Drawn(_ORDINARY, costly=True), Evidence(memory=True)
    views, again = Evidence(arrangements=ARRANGED), Evidence(repeated=4)
    shared, forwards, dtypes = Listed(_easily_shared), Listed(_with_forward), Listed(_every_dtype)
    for name, families, clause, source, check, evidence in (
        ("inputs_unmodified", FAMILIES, "CONTRACT-1", drawn, check_inputs_unmodified, memory),
        ("views", FAMILIES, "CONTRACT-3", drawn, check_views, views),
        ("no_memory_between_calls", FAMILIES, "CONTRACT-4", drawn, check_no_memory_between_calls, again),
        ("no_shared_memory", FAMILIES, "CONTRACT-2", shared, check_no_shared_memory, memory),
        ("two_forwards", GRADIENTS, "CONTRACT-4", forwards, check_two_forwards, Evidence()),
        ("dtype", FAMILIES, "CONTRACT-5", dtypes, check_dtype, Evidence(dtypes=True)),
    ):
        yield Law(name, families, (clause,), source, check, lane="contract", evidence=evidence)
    yield Law("empty_batch", FAMILIES, ("CONTRACT-7",), Listed(_empty_batches), check_exact)
    yield Law("size_one_axes", FAMILIES, ("CONTRACT-8",), Listed(_size_one), check_exact)
    source = Drawn(_ORDINARY, costly=True)
    yield Law("other_numbers", FAMILIES, ("CONTRACT-10",), source, check_other_numbers)
    for name, cases, check in (
        ("own_answers", _smallest, check_own_answers),
        ("asked_again", _answered_before, check_asked_again),
    ):
        evidence = Evidence(replayed=False)
        yield Law(
            name,
            FAMILIES,
            ("CONTRACT-10",),
            Listed(cases),
            check,
            lane="contract",
            evidence=evidence,
            of_process=True,
        )


CONTRACT_LAWS = tuple(_contract())
