"""Refusal laws: what the standard refuses must raise before it returns; which exception is free.

A refused case is a valid one with one thing wrong. Each is built here from a small valid case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from convform.adapters import ShapeMismatch
from convform.conformance.cases.case import Case, build
from convform.conformance.cases.geometry import Axis, Channels, Geometry
from convform.conformance.cases.oracle import Expected
from convform.conformance.laws.compare import compare, expected_exactly
from convform.conformance.laws.law import Law, Listed
from convform.conformance.laws.values import topics
from convform.conformance.laws.violation import ANSWERS, RAISES, SHAPE, Violation
from convform.conformance.subjects.subject import WRONG_RANKS, Answer, Subject, SubjectRaised, call
from convform.spec.operators import FAMILIES, ROWS, SPATIAL_AXES


def check_refused(subject: Subject, case: Case) -> None:
    """The call raises, whatever it raises; unless a declared dialect has an answer, which it must give."""
    if subject.dialects and case.arrangement not in WRONG_RANKS:
        try:
            expected = subject.standard(case.operator.name, case.inputs, case.parameters)
        except (TypeError, ValueError):
            pass
        else:
            _check_dialect(subject, case, expected)
            return
    try:
        result = call(subject.implementation, case)
    except SubjectRaised:
        return
    kind = type(result.returned).__name__
    shape = f" of shape {result.returned.shape}" if isinstance(result.returned, np.ndarray) else ""
    raise Violation(
        case, f"accepted {case.refused}: expected an exception, got a {kind}{shape}", kind=ANSWERS
    )


def _check_dialect(subject: Subject, case: Case, expected: Mapping[str, np.ndarray]) -> None:
    """Compare with what a dialect answers to a case that the standard refuses."""
    operator = case.operator
    arrays = [(operator.inputs[name], array) for name, array in case.inputs.items()]
    arrays += [(operator.outputs[name], array) for name, array in expected.items()]
    sizes = {
        axis: size for axes, array in arrays for axis, size in zip(axes.split(), array.shape, strict=True)
    }
    try:
        returned = call(subject.implementation, case).returned
        outputs = subject.implementation.canonical_outputs(returned, sizes)
    except (SubjectRaised, ShapeMismatch) as error:
        kind = RAISES if isinstance(error, SubjectRaised) else SHAPE
        raise Violation(case, f"{error}; the declared dialect has an answer", kind=kind) from error
    # Every answer of a transform is rounded, also that to a case which the standard refuses.
    transform = subject.implementation.claims.arithmetic == "transform"
    held_to = expected_exactly(subject, case) if transform else Expected(expected, {}, {}, {})
    compare(case, Answer(outputs, {}, returned), held_to, [name for name in expected if name in outputs])


_SEVERAL = Channels(n=2, c=2, o=2)


def _base(subject: Subject, channels: Channels = _SEVERAL) -> Case:
    """A small valid case: one that every implementation claims, up to its numbers of channels."""
    space = subject.space
    here = Channels(
        n=1 if "n" in space.absent else channels.n,
        c=1 if "c" in space.absent else channels.c,
        o=1 if "o" in space.absent or not space.has_out_channels else channels.o,
    )
    stride = 1 if space.strides or not space.pooling else 2
    axes = (Axis(4, 2, stride, 0, 0, 1),) * space.rank
    return build(subject.operator, Geometry(axes, here, space.dtypes[0], bias=space.biases[0]))


def _with(
    case: Case, refused: str, *, arrays: Mapping[str, np.ndarray] | None = None, **parameters: object
) -> Case:
    inputs = MappingProxyType({**case.inputs, **(arrays or {})})
    return replace(
        case, inputs=inputs, parameters={**case.parameters, **parameters}, call=None, refused=refused
    )


def _longer(array: np.ndarray, axis: int, by: int = 1) -> np.ndarray:
    """The array with `by` more entries along one axis."""
    extra = np.take(array, range(by), axis=axis, mode="wrap")
    return np.concatenate([array, extra], axis=axis)


def _shorter(array: np.ndarray, lengths: Mapping[int, int]) -> np.ndarray:
    """The array with the first `lengths[axis]` entries along some axes."""
    return array[tuple(slice(lengths.get(axis)) for axis in range(array.ndim))]


def _somewhere(subject: Subject, field: str) -> Iterator[tuple[bool, ...]]:
    """Where something is wrong: along every axis, and along one at a time where axes may differ."""
    rank = subject.operator.rank
    yield (True,) * rank
    if rank > 1 and field not in subject.space.shared:
        yield from (tuple(i == axis for i in range(rank)) for axis in range(rank))


def _along(where: tuple[bool, ...]) -> str:
    """Say which axes are meant."""
    return "" if all(where) else f" along axis {where.index(True)}"


def refused_windows(subject: Subject) -> Iterator[Case]:
    """Strides, dilations and kernels below one, negative padding, kernels that do not fit.

    What belongs to a gradient has the shape that it would have if the value were taken for a valid one.
    """
    case, takes = _base(subject), subject.takes
    window = case.window

    def values(where: tuple[bool, ...], wrong: object, right: tuple[object, ...]) -> tuple[object, ...]:
        return tuple(wrong if here else value for here, value in zip(where, right, strict=True))

    for where in _somewhere(subject, "s") if takes("stride") else ():
        for wrong in (0, -1):
            stride = values(where, wrong, window.stride)
            yield _with(case, f"stride {wrong}{_along(where)}", stride=stride)
    for where in _somewhere(subject, "d") if takes("dilation") else ():
        yield _with(case, f"dilation 0{_along(where)}", dilation=values(where, 0, window.dilation))
    for where in _somewhere(subject, "low") if takes("padding") and not subject.space.words else ():
        padding = values(where, (-1, -1), window.padding)
        for larger in (_cropped_by_padding(case, where), case):
            yield _with(larger, f"padding −1{_along(where)}", padding=padding)
    for where in _somewhere(subject, "k"):
        if takes("kernel"):
            yield _with(case, f"kernel size 0{_along(where)}", kernel=values(where, 0, window.kernel))
        if "w" in case.inputs:
            taps = {2 + axis: 0 for axis, here in enumerate(where) if here}
            arrays = {"w": _shorter(case.inputs["w"], taps)}
            yield _with(case, f"kernel size 0{_along(where)}", arrays=arrays)
        yield from _oversized(subject, case, where)


def _cropped_by_padding(case: Case, where: tuple[bool, ...]) -> Case:
    """Enlarge the input so that everything else fits if padding −1 cut one element off at each end."""
    inputs, parameters = dict(case.inputs), dict(case.parameters)
    more = [2 * here for here in (False, False, *where)]
    if "x" in inputs:
        inputs["x"] = np.pad(inputs["x"], [(0, grow) for grow in more], mode="wrap")
    if "input_size" in parameters:
        size = parameters["input_size"]
        assert isinstance(size, tuple)
        parameters["input_size"] = tuple(n + grow for n, grow in zip(size, more, strict=True))
    return replace(case, inputs=MappingProxyType(inputs), parameters=parameters, geometry=None)


def _oversized(subject: Subject, case: Case, where: tuple[bool, ...]) -> Iterator[Case]:
    """A kernel that is one tap longer than the input; gradients and columns of no window, and of one."""
    rank, window = subject.operator.rank, case.window
    spatial = [case.sizes[axis] for axis in SPATIAL_AXES[rank]]
    kernel = tuple(n + 1 if here else k for here, n, k in zip(where, spatial, window.kernel, strict=True))
    # The kernel lacks half a stride: a quotient that is truncated toward zero does not see it.
    stride = (2,) * rank if subject.takes("stride") else window.stride
    arrays = dict(case.inputs)
    for name in {"w", "cols"} & set(arrays):
        for axis, k in enumerate(kernel, start=2):
            arrays[name] = _longer(arrays[name], axis, k - arrays[name].shape[axis])
    changed = {name: value for name, value in (("kernel", kernel), ("stride", stride)) if subject.takes(name)}
    says = f"a kernel of {kernel} taps for an input of {tuple(spatial)}"
    for count in (0, 1):
        output = [
            count if here else (n - k) // s + 1
            for here, n, k, s in zip(where, spatial, kernel, stride, strict=True)
        ]
        windows = {
            name: _shorter(arrays[name], dict(enumerate(output, start=arrays[name].ndim - rank)))
            for name in {"dy", "cols"} & set(arrays)
        }
        yield _with(case, says, arrays={**arrays, **windows}, **changed)
        if not windows:
            return


def refused_shapes(subject: Subject) -> Iterator[Case]:
    """Arrays of a convolution that do not belong together, also where NumPy would repeat one."""
    case, absent = _base(subject), subject.space.absent
    x, w = case.inputs["x"], case.inputs["w"]
    if not {"c", "i"} & absent:
        yield _with(case, "weights with one input channel too many", arrays={"w": _longer(w, 1)})
        yield _with(case, "an input with one channel too many", arrays={"x": _longer(x, 1)})
        one = _shorter(w, {1: 1})
        yield _with(case, "weights with one input channel for two channels", arrays={"w": one})
    if subject.takes("b") and "o" not in absent and "b" in case.inputs and not subject.operator.is_gradient:
        b = case.inputs["b"]
        yield _with(case, "a bias with one element too many", arrays={"b": _longer(b, 0)})
        yield _with(case, "a bias with one element for two channels", arrays={"b": b[:1]})
    if subject.takes("groups"):
        for channels, refused in (
            (Channels(1, 3, 2), "2 groups for 3 input channels"),
            (Channels(1, 2, 3), "2 groups for 3 output channels"),
        ):
            uneven = _base(subject, channels)
            halved = {"w": uneven.inputs["w"][:, : max(channels.c // 2, 1)]}
            yield _with(uneven, refused, arrays=halved, groups=2)
        yield _with(case, "0 groups", groups=0)


def _wrong_lengths(case: Case, name: str, absent: Iterable[str]) -> Iterator[Case]:
    """One entry too many along each axis of an array; then one entry for every window, and one for all."""
    array, axes = case.inputs[name], case.operator.inputs[name].split()
    for axis, of in enumerate(axes):
        if of not in absent:
            yield _with(
                case,
                f"{name} with {of} = {array.shape[axis] + 1} instead of {array.shape[axis]}",
                arrays={name: _longer(array, axis)},
            )
    rank = case.operator.rank
    for lengths, says in (
        ({array.ndim - rank + axis: 1 for axis in range(rank)}, "one window"),
        (dict.fromkeys(range(array.ndim), 1), "one element"),
    ):
        short = _shorter(array, lengths)
        if short.size < array.size:
            yield _with(case, f"{name} of {says}, shape {short.shape}", arrays={name: short})


def refused_dy(subject: Subject) -> Iterator[Case]:
    """A dy of another shape than the output's."""
    if subject.takes("dy"):
        yield from _wrong_lengths(_base(subject), "dy", subject.space.absent)


def refused_columns(subject: Subject) -> Iterator[Case]:
    """Columns that do not match input_size."""
    if subject.takes("cols") and subject.takes("input_size"):
        yield from _wrong_lengths(_base(subject), "cols", subject.space.absent)


def refused_mixture(subject: Subject) -> Iterator[Case]:
    """One array in another dtype than the others, each array in turn."""
    case = _base(subject)
    if "float64" not in subject.space.dtypes:
        return
    double = {name: array.astype(np.float64) for name, array in case.inputs.items()}
    taken = [name for name in double if subject.takes(name)]
    # Whether a gradient looks at the bias at all is its own business.
    mixed = [name for name in taken if name != "b" or "dy" not in double]
    for other in ("float32", "int64"):
        for name in mixed if len(taken) > 1 and other in subject.space.dtypes else ():
            single: dict[str, np.ndarray] = {**double, name: double[name].astype(other)}
            yield _with(
                case, f"{name} of dtype {other} with {_others(taken, name)} of dtype float64", arrays=single
            )


def _others(names: list[str], name: str) -> str:
    return " and ".join(other for other in names if other != name)


def refused_ranks(subject: Subject) -> Iterator[Case]:
    """One axis too many on the first array, and no sample and channel axis."""
    case = _base(subject)
    name = "cols" if "cols" in case.inputs else "x"
    if not subject.takes(name):
        return
    if not {"n", "c"} & subject.space.absent:  # else it could be the form with a batch, which is unspecified
        yield replace(case, arrangement="one axis too many", refused=f"{name} with one axis too many")
    # A single sample and channel, so that nothing else is wrong.
    single = _base(subject, Channels())
    layout = subject.implementation.layouts[name]
    if len(layout.shape(single.sizes)) > 2:
        yield replace(
            single,
            arrangement="no sample and channel axis",
            refused=f"{name} without its first two axes",
        )


def _refusals() -> Iterator[Law]:
    about: list[tuple[str, tuple[str, ...], str, Callable[[Subject], Iterable[Case]]]] = [
        ("refuses_windows", FAMILIES, "WINDOW-6", refused_windows)
    ]
    own = {"refuses_shapes": refused_shapes, "refuses_columns": refused_columns, "refuses_dy": refused_dy}
    for name, refused in own.items():
        about += [(name, (row.name,), clause, refused) for row, (clause,) in topics(name)]
    with_two_arrays = tuple(row.name for row in ROWS.values() if len(row.inputs) > 1)
    about.append(("refuses_mixed_dtypes", with_two_arrays, "CONTRACT-6", refused_mixture))
    about.append(("refuses_ranks", FAMILIES, "CONTRACT-9", refused_ranks))
    for name, families, clause, cases in about:
        yield Law(name, families, (clause,), Listed(cases), check_refused, lane="contract")


REFUSAL_LAWS = tuple(_refusals())
