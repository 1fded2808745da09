"""Laws about values: one question of the standard at a time, then everything together.

The laws of an operator form a ladder. Each rung varies one thing (stride, padding, groups, …) and holds
the rest at its default, so that the first rung that breaks names the clause; the sweeps at the end vary
everything at once. All rungs make the same comparison with the oracle.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from convform.conformance.cases.case import Case, build, sum_size
from convform.conformance.cases.contents import HALF_TYPES, exact_limit, wide
from convform.conformance.cases.geometry import Axis, AxisRule, Channels, Focus, Geometry
from convform.conformance.laws.compare import (
    answer,
    cells_that_differ,
    check_bounded,
    check_exact,
    compare,
    expected_exactly,
)
from convform.conformance.laws.law import Check, Drawn, Law, Listed, Swept
from convform.conformance.laws.violation import OTHER, Violation
from convform.conformance.subjects.subject import Subject, SubjectRaised, call
from convform.spec.operators import ROWS, Family

# --- rules on one axis, and on channels ----------------------------------------------------------------


def fits(axis: Axis) -> bool:
    """Hold where the kernel fits into the input without padding."""
    return axis.n >= axis.extent


def small(axis: Axis) -> bool:
    """Hold where the kernel only fits thanks to padding."""
    return axis.n < axis.extent


def unpadded(axis: Axis) -> bool:
    """Hold where there is no padding."""
    return axis.low == axis.high == 0


def padded(axis: Axis) -> bool:
    """Hold where there is padding on some side."""
    return axis.low + axis.high > 0


def uneven(axis: Axis) -> bool:
    """Hold where the two sides have different padding."""
    return axis.low != axis.high


def same_padded(axis: Axis) -> bool:
    """Hold where the padding is the one that the word "same" stands for."""
    return axis.is_same


def undilated(axis: Axis) -> bool:
    """Hold where neighbouring taps are neighbouring elements."""
    return axis.d == 1


def dilated(axis: Axis) -> bool:
    """Hold where dilation makes a difference."""
    return axis.d > 1 and axis.k > 1


def steps_of_one(axis: Axis) -> bool:
    """Hold where the stride is one."""
    return axis.s == 1


def strided(axis: Axis) -> bool:
    """Hold where stride makes a difference: there is a second window."""
    return axis.s > 1 and axis.room >= axis.s


def one_or_kernel(axis: Axis) -> bool:
    """Hold where the stride is one of the two that pooling cannot do without."""
    return axis.s in (1, axis.k)


def tiled(axis: Axis) -> bool:
    """Hold where windows tile the input without gaps, overlap or rest."""
    return axis.s == axis.k and axis.room % axis.s == 0


def unlike_kernel(axis: Axis) -> bool:
    """Hold where stride differs from the kernel size."""
    return axis.s != axis.k and axis.room >= axis.s


def overlapping(axis: Axis) -> bool:
    """Hold where two windows share elements."""
    return axis.s < axis.extent and axis.room >= axis.s


def leaves_rest(axis: Axis) -> bool:
    """Hold where the stride does not divide n + p − e: floor and ceil differ."""
    return axis.room % axis.s != 0


def several_taps(axis: Axis) -> bool:
    """Hold where the kernel has more than one tap."""
    return axis.k > 1


def every(*rules: AxisRule) -> AxisRule:
    """All of the rules."""
    return lambda axis: all(rule(axis) for rule in rules)


def single(ch: Channels) -> bool:
    """One sample, one channel, one filter."""
    return ch.n == ch.c == ch.o == ch.groups == 1


def several(ch: Channels) -> bool:
    """One sample of more than one channel, and any number of filters."""
    return ch.groups == ch.n == 1 and ch.c > 1


def batched(ch: Channels) -> bool:
    """More than one sample."""
    return ch.groups == 1 and ch.n > 1


def grouped(ch: Channels) -> bool:
    """More than one group."""
    return ch.groups > 1


def ungrouped(ch: Channels) -> bool:
    """One group."""
    return ch.groups == 1


_PLAIN = every(unpadded, undilated, fits)


# --- checks beyond comparison with the oracle ------------------------------------------------------------


def check_output(name: str) -> Check:
    """Compare one output only."""

    def check(subject: Subject, case: Case) -> None:
        owed = [output for output in subject.owes(case) if output == name]
        compare(case, answer(subject, case), expected_exactly(subject, case), owed)

    return check


def check_bits(subject: Subject, case: Case) -> None:
    """Equal bit for bit, signs of zeros included; any NaN equals any NaN."""
    result, expected = answer(subject, case), expected_exactly(subject, case)
    compare(case, result, expected, subject.owes(case))
    for name in subject.owes(case):
        values, actual = expected.values[name], result.outputs[name]
        differs = (np.signbit(actual) != np.signbit(values)) & ~np.isnan(values)
        if differs.any():
            raise Violation(
                case,
                f"{name} has zeros of the wrong sign in {int(differs.sum())} of {differs.size} cells",
                {name: values},
                {name: actual},
                {name: differs},
            )


def check_adjoint(subject: Subject, case: Case) -> None:
    """⟨dy, forward(x)⟩ = ⟨backward(dy), x⟩, with the reference's forward pass and exact integers."""
    result = answer(subject, case)
    rng = np.random.default_rng(case.geometry.seed if case.geometry else 0)
    row = case.operator.row
    if row.adjoint_of is not None:
        target = ROWS[row.adjoint_of].named(case.operator.rank)
        probes, forward, given = {"x": "x"}, {}, case.inputs["cols"]
    else:
        target = case.operator.forward
        probes, given = {"dx": "x", "dw": "w"}, case.inputs["dy"]
        forward = {name: case.inputs[name] for name in ("x", "w")}
    for output, name in probes.items():
        if output not in subject.answers:
            continue
        shape = result.outputs[output].shape
        probe = rng.integers(-9, 9, shape, endpoint=True).astype(np.float64)
        inputs = {**{key: array.astype(np.float64) for key, array in forward.items()}, name: probe}
        (forward_values,) = subject.standard(target, inputs, case.asked).values()
        left, right = _inner(given, forward_values), _inner(result.outputs[output], probe)
        if left != right:
            raise Violation(
                case,
                f"⟨dy, forward({name}')⟩ = {left} but ⟨{output}, {name}'⟩ = {right}: not the adjoint",
            )


def _inner(a: np.ndarray, b: np.ndarray) -> int | float:
    """Inner product without rounding."""
    pairs = zip(a.reshape(-1).tolist(), b.reshape(-1).tolist(), strict=True)
    total = sum(int(p) * int(q) if np.isfinite(p) and p == int(p) else p * q for p, q in pairs)
    return total if isinstance(total, int) else float(total)


def check_special(subject: Subject, case: Case) -> None:
    """NaN wins, −∞ stays; which index a window with NaN reports is unspecified."""
    result, expected = answer(subject, case), expected_exactly(subject, case)
    outputs = dict(expected.values)
    if "indices" in subject.answers and "indices" in result.outputs:
        # Take over whatever was reported for windows with NaN.
        undecided = np.isnan(outputs["y"])
        reported = result.outputs["indices"]
        if reported.shape == undecided.shape:
            outputs["indices"] = np.where(undecided, reported, outputs["indices"])
    compare(case, result, replace(expected, values=outputs), subject.owes(case))


def check_names_an_element(subject: Subject, case: Case) -> None:
    """Whatever a window holds, its index names one of its elements, as is declared, or is −1."""
    result = answer(subject, case)
    if "indices" not in result.outputs:
        raise Violation(case, "returned no indices this time, though it did before", kind=OTHER)
    reported = result.outputs["indices"]
    expected = expected_exactly(subject, case).values["indices"]  # in a dialect, padding may be selected
    doubtful = (reported != -1) & (reported != expected)
    if not doubtful.any():
        return
    names_one, has_one = np.zeros(reported.shape, bool), np.zeros(reported.shape, bool)
    for place in np.ndindex(*case.inputs["x"].shape[2:]):
        # An element that is larger than all others is the one that its windows select.
        x = np.full_like(case.inputs["x"], -1)
        x[(..., *place)] = 1
        told = subject.standard(case.operator.name, {"x": x}, case.asked)
        selects = told["y"] == 1
        has_one |= selects
        names_one |= selects & (told["indices"] == reported)
    nowhere = doubtful & has_one & ~names_one
    if nowhere.any():
        raise Violation(
            case,
            f"indices name no element of their window, and are not −1, in {nowhere.sum()} of {nowhere.size}",
            {"indices": expected},
            {"indices": reported},
            {"indices": nowhere},
        )


MANY_CHANNELS = 16
"""As many channels as a processor takes at once, at least: where code for several and for one may part."""


def check_channels_apart(subject: Subject, case: Case) -> None:
    """A channel among many gives what it gives alone, whatever that is."""
    x = case.inputs["x"]
    alone = [answer(subject, case.with_inputs(x=x[:, c : c + 1])).outputs["y"] for c in range(x.shape[1])]
    copies = -(-MANY_CHANNELS // x.shape[1])
    many = case.with_inputs(x=np.concatenate([x] * copies, axis=1))
    expected, actual = np.concatenate(alone * copies, axis=1), answer(subject, many).outputs["y"]
    differs = cells_that_differ(actual, expected, None)
    if differs.any():
        raise Violation(
            many,
            f"y of a channel among {actual.shape[1]} is not that of the channel alone, in {differs.sum()} of "
            f"{differs.size} cells",
            {"y": expected},
            {"y": actual},
            {"y": differs},
        )


def check_no_real_element(subject: Subject, case: Case) -> None:
    """Answer −∞, index −1 and gradient 0, or refuse."""
    try:
        call(subject.implementation, case)
    except SubjectRaised:
        return
    check_exact(subject, case)


# --- the ladder -----------------------------------------------------------------------------------------


Topic = tuple[Family, tuple[str, ...]]
"""A row of the operator table, and the clauses that it cites on a topic."""


def topics(topic: str) -> list[Topic]:
    """Rows that speak of a topic, each with its clauses.

    Raises
    ------
    ValueError
        If none does: a law without a family is a slip.
    """
    found = [(row, row.clauses[topic]) for row in ROWS.values() if topic in row.clauses]
    if not found:
        raise ValueError(f"no family of the operator table cites clauses about {topic!r}")
    return found


def _drawn(
    name: str,
    row: Family,
    clauses: tuple[str, ...],
    focus: Focus,
    check: Check = check_exact,
    *,
    needs: tuple[str, ...] = (),
    output: str | None = None,
) -> Law:
    return Law(name, (row.name,), clauses, Drawn(focus), check, needs, output)


_PLAIN_FOCUS = Focus(axis=every(_PLAIN, steps_of_one), channels=single, bias=None)
_TILES = Focus(axis=every(_PLAIN, tiled), channels=single, default_stride=False)


def _plain(row: Family) -> Focus:
    """One sample, one channel, nothing but the kernel; windows of pooling side by side."""
    return _TILES if row.pooling else _PLAIN_FOCUS


def _first_rungs() -> Iterable[Law]:
    """The kernel alone, then the axes that are not spatial."""
    for row in ROWS.values():
        if row.any_outputs:
            for output in row.outputs:
                checked = check_output(output)
                yield _drawn(output, row, row.clauses[output], _plain(row), checked, output=output)
    for row, cited in topics("values"):
        yield _drawn("values", row, cited, _plain(row))
    for row, cited in topics("channels"):
        yield _drawn("channels", row, cited, replace(_plain(row), channels=several))
    for row, cited in topics("batch"):
        yield _drawn("batch", row, cited, replace(_plain(row), channels=batched))
    channels = replace(_PLAIN_FOCUS, channels=several)
    for row, cited in topics("bias"):
        yield _drawn("bias", row, cited, replace(channels, bias=True), needs=("b",))
    for row, cited in topics("no_bias"):
        yield _drawn("no_bias", row, cited, replace(channels, bias=False), needs=("b",))
    for row, cited in topics("groups"):
        yield _drawn("groups", row, cited, replace(_PLAIN_FOCUS, channels=grouped), needs=("groups",))


def _stride_rungs() -> Iterable[Law]:
    """The stride, and what is left over behind the last window."""
    stride = Focus(axis=_PLAIN, some_axis=every(strided, several_taps), channels=ungrouped)
    pool_stride = replace(stride, some_axis=every(unlike_kernel, several_taps), default_stride=False)
    rest = replace(stride, some_axis=every(leaves_rest, several_taps), ceil_mode=False, default_stride=False)
    default = Focus(axis=_PLAIN, some_axis=several_taps, default_stride=True)
    for row in ROWS.values():
        focus = pool_stride if row.pooling else stride
        yield _drawn("stride", row, ("WINDOW-2", *row.clauses.get("windows", ())), focus, needs=("stride",))
    for row in ROWS.values():
        yield _drawn("floor", row, ("WINDOW-1",), rest, needs=() if row.pooling else ("stride",))
    for row in ROWS.values():
        if row.pooling:
            yield _drawn("default_stride", row, ("POOL-1",), default, needs=("stride",))


def _padding_rungs() -> Iterable[Law]:
    """Padding; from here on the stride stays out of the way: one, or for pooling the kernel size as well."""
    padding = Focus(
        axis=every(undilated, fits, steps_of_one), some_axis=padded, channels=ungrouped, in_numbers=True
    )
    pool_padding = replace(padding, axis=every(undilated, fits, one_or_kernel), ceil_mode=False)
    for row, cited in topics("padding"):
        focus = pool_padding if row.pooling else padding
        if row.kind == "selects":
            focus = replace(focus, contents=("negative",))
        yield _drawn("padding", row, cited, focus, needs=("padding",))
        uneven_focus = replace(focus, some_axis=uneven)
        yield _drawn("asymmetric_padding", row, cited, uneven_focus, needs=("padding",))
    same = Focus(axis=every(same_padded, fits), some_axis=uneven, channels=ungrouped, ceil_mode=False)
    for row in ROWS.values():
        yield _drawn("same_padding", row, ("WINDOW-8",), same, needs=("padding",))
    exclude = replace(pool_padding, in_numbers=False, count_include_pad=False)
    for row, cited in topics("exclude_padding"):
        yield _drawn("exclude_padding", row, cited, exclude, needs=("padding", "count_include_pad"))


def _dilation_rungs() -> Iterable[Law]:
    """Dilation, and rounding up."""
    dilation = Focus(axis=every(unpadded, fits, steps_of_one), some_axis=dilated, channels=ungrouped)
    pool_dilation = replace(dilation, axis=every(unpadded, fits, one_or_kernel))
    for row in ROWS.values():
        focus = pool_dilation if row.pooling else dilation
        cited = ("WINDOW-4", *row.clauses.get("windows", ()))
        yield _drawn("dilation", row, cited, focus, needs=("dilation",))
    dilated_default = replace(dilation, axis=every(unpadded, fits), default_stride=True)
    for row in ROWS.values():
        if row.pooling:
            needs = ("stride", "dilation")
            clauses = ("POOL-1", "WINDOW-4")
            yield _drawn("default_stride_dilated", row, clauses, dilated_default, needs=needs)
    ceil = Focus(axis=every(undilated, fits), some_axis=leaves_rest, ceil_mode=True)
    for row, cited in topics("ceil"):
        yield _drawn("ceil", row, cited, ceil, needs=("ceil_mode",))


def _own_rungs() -> Iterable[Law]:
    """What only some operators have."""
    overlap = Focus(axis=_PLAIN, some_axis=overlapping)
    for row, cited in topics("overlap"):
        yield _drawn("overlap", row, cited, overlap)
    anything = Focus(axis=fits)
    for row, cited in topics("adjoint"):
        source = Drawn(anything, costly=True)
        yield Law("adjoint", (row.name,), cited, source, check_adjoint, lane="equal")
    for row, cited in topics("indices"):
        yield _drawn("indices", row, cited, anything, check_output("indices"), output="indices")
    tied = replace(anything, some_axis=several_taps, contents=("ties",))
    for row, cited in topics("ties"):
        # Only an index tells which of several maxima was selected; a gradient does so by itself.
        yield _drawn("ties", row, cited, tied, output="indices" if "indices" in row.outputs else None)


def _combined_rungs() -> Iterable[Law]:
    """Everything at once: random, then every small geometry."""
    for row, cited in topics("everything"):
        kinds = ("ordinary", "negative", "ties") if row.kind == "selects" else ("ordinary",)
        together = Focus(axis=fits, contents=kinds)
        window: tuple[str, ...] = ("WINDOW-1", "WINDOW-2", "WINDOW-3", "WINDOW-4")
        window += ("WINDOW-5",) if "ceil_mode" in row.parameters else ()
        yield _drawn("together", row, (*cited, *window), together)
        sweep = replace(together, channels=lambda ch: ch.n + ch.c + ch.o <= 5 and ch.groups <= 2)
        yield Law("sweep", (row.name,), (*window, *cited), Swept(sweep), check_exact)
        small_input = replace(together, axis=lambda axis: True, some_axis=small)
        yield _drawn("small_input", row, ("WINDOW-7",), small_input, needs=("padding",))


def _number_rungs() -> Iterable[Law]:
    """Real numbers, long sums, large integers, and sizes beyond the tables."""
    floats = Focus(axis=fits, contents=("real",), dtypes=_floats)
    for row, cited in topics("rounding"):
        source = Drawn(floats, costly=True)
        yield Law("rounding", (row.name,), cited, source, check_bounded, lane="bounded")
    for row, cited in topics("long_sums"):
        listed = Listed(_long_averages if row.divides else _long_sums)
        yield Law("long_sums", (row.name,), cited, listed, check_bounded, lane="bounded")
    for row, cited in topics("integers"):
        yield Law("many_ones", (row.name,), cited, Listed(_many_ones), check_exact)
    for row, cited in topics("large_and_small"):
        yield Law("large_and_small", (row.name,), cited, Listed(_large_and_small), check_exact)
    for row, cited in topics("integers"):
        listed = Listed(_large_integers)
        yield Law("large_integers", (row.name,), cited, listed, check_exact, lane="equal")
    for row, cited in topics("long_axes"):
        yield Law("long_axes", (row.name,), (*cited, "LAYOUT-1"), Listed(_long_axes), check_exact)


def _special_rungs() -> Iterable[Law]:
    """NaN, infinities, signed zeros; windows and sums of nothing."""
    special = Focus(axis=fits, contents=("special", "infinite"), dtypes=_floats)
    infinite = replace(special, contents=("infinite",))
    for row, cited in topics("special_values"):
        if row.kind == "gathers":
            yield _drawn("special_values", row, cited, special, check_bits)
        elif row.gradient_of is None:
            yield _drawn("special_values", row, cited, special, check_special)
        else:
            yield _drawn("special_values", row, cited, infinite)
    for row, cited in topics("special_indices"):
        yield _drawn("special_indices", row, cited, special, check_names_an_element, output="indices")
    for row, cited in topics("special_channels"):
        many = replace(special, channels=several)
        yield _drawn("special_channels", row, cited, many, check_channels_apart)
    empty = Focus(
        axis=lambda axis: True,
        some_axis=lambda axis: not (axis.windows_are_real() and axis.windows_are_real(True)),
        empty_windows=True,
    )
    for row, cited in topics("no_real_element"):
        yield _drawn("no_real_element", row, cited, empty, check_no_real_element, needs=("padding",))
    for row, cited in topics("zero_channels"):
        yield Law("zero_channels", (row.name,), cited, Listed(_zero_channels), check_exact)


def _floats(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if "float" in name)


LONG = 2304
"""Terms of a long sum: more ones than half types can count one by one."""


def _long_axes(subject: Subject) -> Iterable[Case]:
    """One long axis at a time: beyond tiles and vector registers, planes beyond what a byte can index."""
    space = subject.space
    dtypes = [name for name in space.dtypes if exact_limit(name) >= exact_limit("float16")]
    if not dtypes:
        return
    stride = 1 if space.strides or not space.pooling else 2
    small, long = Axis(2, 2, stride, 0, 0, 1), Axis(300 // 2 ** (space.rank - 1), 2, stride, 0, 0, 1)
    cases = [
        (tuple(long if i == axis else small for i in range(space.rank)), Channels())
        for axis in range(space.rank)
    ]
    many = (Channels(n=37), Channels(c=37), Channels(o=37))
    cases += [((small,) * space.rank, channels) for channels in many]
    for axes, channels in cases:
        if any(getattr(channels, name) > 1 and name in space.absent for name in ("n", "c", "o")):
            continue
        if channels.o > 1 and not space.has_out_channels:
            continue
        yield build(subject.operator, Geometry(axes, channels, dtypes[0], seed=7, bias=space.biases[0]))


def _long_sums(subject: Subject) -> Iterable[Case]:
    """Long sums, where a bound per element has lost its power and the RMS has not."""
    space = subject.space
    # A gradient has three sums to be long, and the oracle is slow.
    terms = LONG // 4 if subject.operator.is_gradient else LONG
    for seed, dtype in enumerate(("float64", "float32")):
        for axes, channels in _long_geometries(subject, terms) if dtype in space.dtypes else ():
            geometry = Geometry(axes, channels, dtype, "real", seed, space.biases[0])
            yield build(subject.operator, geometry)


def _many_ones(subject: Subject) -> Iterable[Case]:
    """Long sums of ones: half types have all of the results, but only wider types all that is on the way."""
    for dtype in _floats(subject.space.dtypes):
        for axes, channels in _long_geometries(subject, LONG):
            case = build(subject.operator, Geometry(axes, channels, dtype, bias=subject.space.biases[0]))
            yield case.with_inputs(**{name: np.ones_like(array) for name, array in case.inputs.items()})


def _large_and_small(subject: Subject) -> Iterable[Case]:
    """An element that a large value and many ones are added to, in half types.

    They hold the sum, but not the large value and one more: in whatever order a half type adds them up, the
    ones that come after the large value are lost.
    """
    space, rank = subject.space, subject.operator.rank
    k = {1: 65, 2: 9, 3: 5}[rank]
    axes = (Axis(2 * k - 1, k, 1, 0, 0, 1),) * rank
    for dtype in space.dtypes:
        if dtype in HALF_TYPES:
            case = build(subject.operator, Geometry(axes, dtype=dtype))
            cols = np.ones_like(case.inputs["cols"])
            # The tap and the window in the middle belong to the element in the middle.
            cols[(0, 0, *(k // 2,) * (2 * rank))] = exact_limit(dtype)
            yield case.with_inputs(cols=cols)


def _long_averages(subject: Subject) -> Iterable[Case]:
    """One window of many taps; in half types, of ones."""
    sides = {1: LONG, 2: 48, 3: 14}[subject.operator.rank]
    axes = (Axis(sides, sides, sides, 0, 0, 1),) * subject.operator.rank
    for dtype in _floats(subject.space.dtypes):
        case = build(subject.operator, Geometry(axes, Channels(), dtype, "real"))
        yield case.with_inputs(x=np.ones_like(case.inputs["x"])) if dtype in HALF_TYPES else case


def _long_geometries(subject: Subject, terms: int) -> Iterable[tuple[tuple[Axis, ...], Channels]]:
    """Every output of a convolution and its gradients as a sum of so many terms; few products in all."""
    space, rank = subject.space, subject.operator.rank
    if subject.operator.is_gradient:
        side = math.isqrt(terms)
        sides = (*(1,) * (rank - 2), side, side) if rank > 1 else (terms,)
        yield tuple(Axis(n, 1, 1, 0, 0, 1) for n in sides), Channels()  # dw and db sum over windows
        if "o" not in space.absent:
            # dx sums over output channels.
            yield (Axis(1, 1, 1, 0, 0, 1),) * (rank - 1) + (Axis(2, 1, 1, 0, 0, 1),), Channels(o=terms)
    elif not {"c", "i"} & space.absent:
        taps = {1: (6,), 2: (6, 6), 3: (4, 4, 4)}[rank]
        # Two windows along the last axis, one along the others.
        two = (0,) * (rank - 1) + (1,)
        axes = tuple(Axis(k + more, k, 1, 0, 0, 1) for k, more in zip(taps, two, strict=True))
        yield axes, Channels(c=terms // math.prod(taps))


def _large_integers(subject: Subject) -> Iterable[Case]:
    """Integers whose products take all the bits that the dtype has."""
    space, operator = subject.space, subject.operator
    for dtype in (name for name in space.dtypes if "int" in name):
        axes = (Axis(3, 2, 1, 0, 0, 1),) * space.rank
        geometry = Geometry(axes, Channels(), dtype, bias=space.biases[0])
        terms, degree, _ = sum_size(operator, geometry)
        largest = int((exact_limit(dtype) // terms) ** (1 / degree))
        case = build(operator, geometry)
        rng = np.random.default_rng(1)
        yield case.with_inputs(
            **{name: wide(rng, array.shape, largest).astype(dtype) for name, array in case.inputs.items()}
        )


def _zero_channels(subject: Subject) -> Iterable[Case]:
    space = subject.space
    if {"c", "i"} & space.absent:
        return
    axes = (Axis(3, 2, 1, 0, 0, 1),) * space.rank
    out = 1 if "o" in space.absent else 2
    for bias in space.biases:
        geometry = Geometry(axes, Channels(1, 1, out), space.dtypes[0], bias=bias)
        case = build(subject.operator, geometry)
        empty = {name: case.inputs[name][:, :0] for name in ("x", "w")}
        yield replace(case, inputs=MappingProxyType({**case.inputs, **empty}), geometry=None)


VALUE_LAWS = tuple(
    itertools.chain(
        _first_rungs(),
        _stride_rungs(),
        _padding_rungs(),
        _dilation_rungs(),
        _own_rungs(),
        _combined_rungs(),
        _number_rungs(),
        _special_rungs(),
    )
)
