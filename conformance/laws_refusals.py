"""Refusal laws: what the standard refuses must raise before it returns; which exception is free.

A refused case is a valid one with one thing wrong. Each is built here from a small valid case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from convform.adapters import ShapeMismatch
from convform.conformance.case import Case, build
from convform.conformance.compare import compare
from convform.conformance.geometry import Channels, Geometry
from convform.conformance.law import Law, Listed
from convform.conformance.laws_contract import ordinary_geometries
from convform.conformance.laws_values import ALL, CONV
from convform.conformance.oracle import Expected
from convform.conformance.subject import Answer, Subject, SubjectRaised, call
from convform.conformance.violation import Violation


def check_refused(subject: Subject, case: Case) -> None:
    """The call raises, whatever it raises; unless a declared dialect has an answer, which it must give."""
    if subject.dialects:
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
    raise Violation(case, f"accepted {case.refused}: expected an exception, got a {kind}{shape}")


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
        raise Violation(case, f"{error}; the declared dialect has an answer") from error
    answer = Answer(outputs, {}, returned)
    compare(case, answer, Expected(expected, {}, {}, {}), [name for name in expected if name in outputs])


def _base(subject: Subject, channels: Channels | None = None) -> Case | None:
    """A small valid case; None where the claims leave none."""
    geometries = ordinary_geometries(subject)
    if not geometries:
        return None
    space = subject.space
    geometry: Geometry = geometries[-1]
    wanted = channels or Channels(n=2, c=2, o=2)
    here = Channels(
        n=1 if "n" in space.absent else wanted.n,
        c=1 if "c" in space.absent else wanted.c,
        o=1 if "o" in space.absent or not space.has_out_channels else wanted.o,
    )
    return build(subject.operator, replace(geometry, channels=here))


def _with(
    case: Case, refused: str, *, arrays: Mapping[str, np.ndarray] | None = None, **parameters: object
) -> Case:
    inputs = MappingProxyType({**case.inputs, **(arrays or {})})
    return replace(case, inputs=inputs, parameters={**case.parameters, **parameters}, refused=refused)


def _longer(array: np.ndarray, axis: int, by: int = 1) -> np.ndarray:
    """The array with `by` more entries along one axis."""
    extra = np.take(array, range(by), axis=axis, mode="wrap")
    return np.concatenate([array, extra], axis=axis)


def refused_windows(subject: Subject) -> Iterator[Case]:
    """Strides, dilations and kernels below one, negative padding, kernels that do not fit."""
    case = _base(subject)
    if case is None:
        return
    if "ceil_mode" in case.parameters:
        # Rounding up can make room for one window of a kernel that is slightly too large.
        case = _with(case, "", ceil_mode=False)
    rank, takes = subject.operator.rank, subject.takes
    if takes("stride"):
        yield _with(case, "stride 0", stride=(0,) * rank)
        yield _with(case, "stride −1", stride=(-1,) * rank)
    if takes("dilation"):
        yield _with(case, "dilation 0", dilation=(0,) * rank)
    if takes("padding"):
        yield _with(case, "padding −1", padding=((-1, -1),) * rank)
    if takes("kernel"):
        yield _with(case, "kernel size 0", kernel=(0,) * rank)
    if "x" not in case.inputs:
        return
    spatial = case.inputs["x"].shape[2:]
    size = max(n + low + high for n, (low, high) in zip(spatial, case.window.padding, strict=True)) + 1
    if takes("kernel") and "dy" not in case.inputs:
        yield _with(case, f"a kernel of {size} taps along each axis of {spatial}", kernel=(size,) * rank)
    if subject.operator.family == "conv":
        w = case.inputs["w"]
        for axis in range(2, w.ndim):
            w = _longer(w, axis, size - w.shape[axis])
        yield _with(case, f"a kernel of {size} taps along each axis of {spatial}", arrays={"w": w})


def refused_shapes(subject: Subject) -> Iterator[Case]:
    """Arrays of a convolution that do not belong together."""
    case, absent = _base(subject), subject.space.absent
    if case is None:
        return
    w = case.inputs["w"]
    if not {"c", "i"} & absent:
        yield _with(case, "weights with one input channel too many", arrays={"w": _longer(w, 1)})
    if subject.takes("b") and "o" not in absent and "b" in case.inputs and subject.operator.family == "conv":
        yield _with(case, "a bias with one element too many", arrays={"b": _longer(case.inputs["b"], 0)})
    if subject.takes("groups"):
        for channels, refused in (
            (Channels(1, 3, 2), "2 groups for 3 input channels"),
            (Channels(1, 2, 3), "2 groups for 3 output channels"),
        ):
            uneven = _base(subject, channels)
            assert uneven is not None
            halved = {"w": uneven.inputs["w"][:, : max(channels.c // 2, 1)]}
            yield _with(uneven, refused, arrays=halved, groups=2)
        yield _with(case, "0 groups", groups=0)


def refused_dy(subject: Subject) -> Iterator[Case]:
    """A dy with one row or one channel too many."""
    case, absent = _base(subject), subject.space.absent
    if case is None or not subject.takes("dy"):
        return
    dy = case.inputs["dy"]
    axes = subject.operator.inputs["dy"].split()
    for axis, name in enumerate(axes):
        if name in ("o", "c", "oh", "ow") and name not in absent:
            yield _with(
                case,
                f"dy with {name} = {dy.shape[axis] + 1} instead of {dy.shape[axis]}",
                arrays={"dy": _longer(dy, axis)},
            )


def refused_columns(subject: Subject) -> Iterator[Case]:
    """Columns that do not match input_size."""
    case, absent = _base(subject), subject.space.absent
    if case is None or not (subject.takes("cols") and subject.takes("input_size")):
        return
    cols = case.inputs["cols"]
    if "ow" not in absent:
        yield _with(case, "columns with one window too many", arrays={"cols": _longer(cols, cols.ndim - 1)})
    if "c" not in absent:
        yield _with(case, "columns with one channel too many", arrays={"cols": _longer(cols, 1)})


def refused_mixture(subject: Subject) -> Iterator[Case]:
    """One array in float32 while the others are in float64, each array in turn."""
    case = _base(subject)
    if case is None or not {"float64", "float32"} <= set(subject.space.dtypes):
        return
    double = {name: array.astype(np.float64) for name, array in case.inputs.items()}
    taken = [name for name in double if subject.takes(name)]
    # Whether a gradient looks at the bias at all is its own business.
    mixed = [name for name in taken if name != "b" or "dy" not in double]
    for name in mixed if len(taken) > 1 else ():
        single: dict[str, np.ndarray] = {**double, name: double[name].astype(np.float32)}
        yield _with(
            case, f"{name} of dtype float32 with {_others(taken, name)} of dtype float64", arrays=single
        )


def _others(names: list[str], name: str) -> str:
    return " and ".join(other for other in names if other != name)


def refused_ranks(subject: Subject) -> Iterator[Case]:
    """One axis too many on every array, and no sample and channel axis."""
    case = _base(subject)
    if case is None:
        return
    name = "cols" if "cols" in case.inputs else "x"
    if not subject.takes(name):
        return
    yield replace(case, arrangement="one axis too many", refused=f"{name} with one axis too many")
    layout = subject.implementation.layouts[name]
    if len(layout.shape(case.sizes)) > 2:
        yield replace(
            case,
            arrangement="no sample and channel axis",
            refused=f"{name} without its first two axes",
        )


def _refusals() -> Iterator[Law]:
    def law(
        name: str, families: tuple[str, ...], clause: str, cases: Callable[[Subject], Iterable[Case]]
    ) -> Law:
        return Law(name, families, (clause,), Listed(cases), check_refused, lane="contract")

    yield law("refuses_windows", ALL, "WINDOW-6", refused_windows)
    yield law("refuses_shapes", CONV, "CONV-7", refused_shapes)
    yield law("refuses_columns", ("col2im",), "COL2IM-3", refused_columns)
    for family, clause in (
        ("conv.backward", "CONVGRAD-5"),
        ("max_pool.backward", "MAXGRAD-3"),
        ("avg_pool.backward", "AVGGRAD-2"),
    ):
        yield law("refuses_dy", (family,), clause, refused_dy)
    with_two_arrays = ("conv", "conv.backward", "max_pool.backward", "avg_pool.backward")
    yield law("refuses_mixed_dtypes", with_two_arrays, "CONTRACT-6", refused_mixture)
    yield law("refuses_ranks", ALL, "CONTRACT-9", refused_ranks)


REFUSAL_LAWS = tuple(_refusals())
