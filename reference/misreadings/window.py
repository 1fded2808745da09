"""Misreadings of the window (WINDOW-1 to -8).

Three kinds of code make these mistakes, and a helper of `steps` stands for each: a size formula that is wrong
while the windows lie where they should (`counting`), windows that lie elsewhere while their number is right
(`placing`), and one that has another window in mind altogether (`windowed`). A gradient with a wrong formula
visits as many windows as it counts and fails where dy has fewer; one with a wrong window visits those of dy.
Elements that a misplaced window reads outside of the input count as padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from operator import mul
from typing import Any

import numpy as np

from convform.reference.call import Call
from convform.reference.checks import Array, lowest
from convform.reference.evaluation import Outputs
from convform.reference.misreadings.misreading import POOLS, Asked, Finish, Inputs, Mend, Page, around, as_is
from convform.reference.misreadings.steps import (
    Count,
    Positions,
    Steps,
    StepsTwist,
    calling,
    changing,
    counting,
    counting_as,
    no_padding,
    on_all_axes,
    ones,
    placing,
    step,
    windowed,
)
from convform.reference.window import Size, Window
from convform.spec.operators import FAMILIES

PAGE = Page("window")

Pads = tuple[tuple[int, int], ...]

FORWARD = ("im2col", "conv", "max_pool", "avg_pool")
WITH_KERNEL = ("im2col", "col2im", *POOLS)
"""Families with a parameter `kernel`; a convolution finds its kernel size in its weights."""


def first_axis_only(values: Size) -> Size:
    """Keep the first value and let the others be one: ``(2, 3) → (2, 1)``."""
    return values[:1] + (1,) * (len(values) - 1)


def is_padded(window: Window) -> bool:
    """Whether there is padding on any side."""
    return any(map(any, window.padding))


def padded_by(pair: Callable[[int, int], tuple[int, int]]) -> Callable[[Window], Pads]:
    """Take other padding along every axis: `pair(low, high)`."""
    return lambda window: tuple(pair(low, high) for low, high in window.padding)


# --- WINDOW-1: output size -------------------------------------------------------------------------------

PAGE.steps_twist("width from height", FAMILIES)(
    counting(lambda count, call: count(replace(call, size=on_all_axes(call.size))))
)

PAGE.steps_twist("first kernel size on all axes", WITH_KERNEL)(
    windowed(kernel=lambda window: on_all_axes(window.kernel))
)

PAGE.steps_twist("kernel size reversed", ("im2col", *POOLS))(
    windowed(kernel=lambda window: window.kernel[::-1])
)

PAGE.steps_twist("height's kernel in the width's size", FAMILIES)(
    counting_as(kernel=lambda window: on_all_axes(window.kernel))
)

PAGE.steps_twist("plus one missing", FAMILIES)(
    counting(lambda count, call: tuple(o - 1 for o in count(call)))
)

_one_more = changing(padding=padded_by(lambda low, high: (low, high + 1)))

PAGE.steps_twist("plus one under the fraction", FAMILIES)(
    counting(lambda count, call: tuple(o - 1 for o in count(_one_more(call))))
)

PAGE.steps_twist("padding counted once", FAMILIES)(counting_as(padding=padded_by(lambda low, high: (low, 0))))

PAGE.steps_twist("output size forgets padding", FAMILIES)(counting_as(padding=no_padding))


@PAGE.steps_twist("only dividing strides", FAMILIES)
@counting
def _(count: Count, call: Call) -> Size:
    window = call.window
    room = zip(call.size, window.padding, window.effective_kernel, strict=True)
    rooms = [n + low + high - e for n, (low, high), e in room]
    if any(room % s for room, s in zip(rooms, window.stride, strict=True)):
        raise ValueError(f"the stride {window.stride} does not divide {rooms}")
    return count(call)


PAGE.steps_twist("size rounded up", FORWARD)(counting_as(ceil_mode=lambda window: True))

# --- WINDOW-2: stride ------------------------------------------------------------------------------------

PAGE.steps_twist("first stride on all axes", FAMILIES)(
    windowed(stride=lambda window: on_all_axes(window.stride))
)

PAGE.steps_twist("strides swapped", FAMILIES)(windowed(stride=lambda window: window.stride[::-1]))

PAGE.steps_twist("stride on the first axis only", FAMILIES)(
    windowed(stride=lambda window: first_axis_only(window.stride))
)

PAGE.steps_twist("stride ignored", (*FORWARD, "conv.backward"))(placing(stride=ones))


@PAGE.steps_twist("last window moved to the end", FORWARD)
@step("positions")
def _(steps: Steps, call: Call, output: Size) -> Positions:
    where = tuple(p.copy() for p in steps.positions(call, output))
    for p, (_, end) in zip(where, call.window.counted(call.size, True), strict=True):
        p[-1:] += end - 1 - p[-1:, -1:]
    return where


# --- WINDOW-3: padding -----------------------------------------------------------------------------------

PAGE.steps_twist("padding axes swapped", FAMILIES)(windowed(padding=lambda window: window.padding[::-1]))

PAGE.steps_twist("first padding on all axes", FAMILIES)(
    windowed(padding=lambda window: window.padding[:1] * window.rank)
)

PAGE.steps_twist("padding on the first axis only", FAMILIES)(
    windowed(padding=lambda window: window.padding[:1] + no_padding(window)[1:])
)

PAGE.steps_twist("low and high padding swapped", FAMILIES)(
    windowed(padding=padded_by(lambda low, high: (high, low)))
)

PAGE.steps_twist("low padding on both sides", (*FORWARD, "avg_pool.backward"))(
    windowed(padding=padded_by(lambda low, high: (low, low)))
)


def _mixed_up(window: Window) -> Pads:
    flat = [p for pair in window.padding for p in pair]
    return tuple(zip(flat[: window.rank], flat[window.rank :], strict=True))


PAGE.steps_twist("beginnings and ends mixed up", FAMILIES)(windowed(padding=_mixed_up))

PAGE.steps_twist("padding on one side only", FAMILIES)(
    placing(padding=padded_by(lambda low, high: (low + high, 0)))
)

PAGE.steps_twist("padding at the end only", (*FORWARD, "avg_pool.backward"))(
    placing(padding=padded_by(lambda low, high: (0, low + high)))
)

PAGE.steps_twist("padding never applied", (*FORWARD, "col2im", "conv.backward"))(windowed(padding=no_padding))

PAGE.steps_twist("padding applied twice", FAMILIES)(
    windowed(padding=padded_by(lambda low, high: (2 * low, 2 * high)))
)

PAGE.steps_twist("padding taken as the total", FAMILIES)(
    windowed(padding=padded_by(lambda low, high: (low // 2, high - high // 2)))
)


@PAGE.steps_twist("padding with the edge value", ("im2col", "conv", "conv.backward"))
@step("read")
def _(steps: Steps, x: Array, where: Positions, outside: object) -> Array:
    inside = tuple(np.clip(p, 0, n - 1) for p, n in zip(where, x.shape[2:], strict=True))
    return steps.read(x, inside, outside)


@PAGE.call_twist("samples and channels padded too", FORWARD)
@around
def _(evaluate: Asked, operator: str, inputs: Inputs, call: Call) -> Outputs:
    x, pads = inputs["x"], call.window.padding[:1] * 2
    fill = lowest(x.dtype) if operator.startswith("max_pool") else 0
    padded = np.pad(x, (*pads, *((0, 0),) * (x.ndim - 2)), constant_values=fill)
    return evaluate(operator, {**inputs, "x": padded}, call)


PAGE.steps_twist("surprising default padding", FAMILIES)(
    windowed(padding=lambda window: window.padding if is_padded(window) else ((1, 1),) * window.rank)
)

# --- WINDOW-4: dilation ----------------------------------------------------------------------------------

PAGE.steps_twist("dilation ignored", (*FORWARD, "conv.backward"))(windowed(dilation=ones))

PAGE.steps_twist("dilation in the size only", FORWARD)(placing(dilation=ones))


# An undilated kernel of k taps extends over k elements: so windows are counted with another extent.
PAGE.steps_twist("extent is dilation times kernel", FAMILIES)(
    counting_as(kernel=lambda window: tuple(map(mul, window.kernel, window.dilation)), dilation=ones)
)

PAGE.steps_twist("dilation applied twice", FAMILIES)(
    windowed(dilation=lambda window: tuple(d * d for d in window.dilation))
)

PAGE.steps_twist("dilation counts the gaps", FAMILIES)(
    windowed(dilation=lambda window: tuple(d + 1 for d in window.dilation))
)

PAGE.steps_twist("first dilation on all axes", FAMILIES)(
    windowed(dilation=lambda window: on_all_axes(window.dilation))
)

PAGE.steps_twist("dilation on the first axis only", FAMILIES)(
    windowed(dilation=lambda window: first_axis_only(window.dilation))
)

PAGE.steps_twist("dilations swapped", FAMILIES)(windowed(dilation=lambda window: window.dilation[::-1]))


def _extents_by_height(window: Window) -> Size:
    pairs = zip(window.kernel, window.dilation, strict=True)
    return tuple(k + (d - 1) * (window.kernel[0] - 1) for k, d in pairs)


PAGE.steps_twist("height's kernel in the width's extent", FAMILIES)(
    counting_as(kernel=_extents_by_height, dilation=ones)
)

PAGE.steps_twist("stride multiplied by the dilation", FAMILIES)(
    windowed(stride=lambda window: tuple(map(mul, window.stride, window.dilation)))
)


def _pads_times_dilation(window: Window) -> Pads:
    pairs = zip(window.padding, window.dilation, strict=True)
    return tuple((low * d, high * d) for (low, high), d in pairs)


PAGE.steps_twist("padding multiplied by the dilation", FAMILIES)(windowed(padding=_pads_times_dilation))

# --- WINDOW-5: ceil rounding -----------------------------------------------------------------------------


def clipping(limit: Callable[[Window, int, int, int], int | None]) -> StepsTwist:
    """Under ceil rounding drop the last window if it starts at `limit` or beyond; None: never."""

    @counting
    def twist(count: Count, call: Call) -> Size:
        window, size = call.window, call.size
        if not window.ceil_mode:
            return count(call)
        sizes = window.count(size, clipped=False)
        ends = (limit(window, n, *pads) for n, pads in zip(size, window.padding, strict=True))
        places = zip(sizes, window.positions(sizes), ends, strict=True)
        return tuple(o - (end is not None and bool((p[-1:, 0] >= end).any())) for o, p, end in places)

    return twist


PAGE.steps_twist("ceil taken as floor", POOLS)(counting_as(ceil_mode=lambda window: False))

PAGE.steps_twist("ceil without clipping", POOLS, dialect=("ceil", "noclip"))(
    clipping(lambda window, n, low, high: None)
)

PAGE.steps_twist("ceil clipped only if padded", POOLS, dialect=("ceil", "clip_if_padded"))(
    clipping(lambda window, n, low, high: n if is_padded(window) else None)
)

PAGE.steps_twist("ceil clipped without the low padding", POOLS)(
    clipping(lambda window, n, low, high: n - low)
)

PAGE.steps_twist("ceil clipped with the whole padding", POOLS)(
    clipping(lambda window, n, low, high: n + high)
)

# --- WINDOW-6: refused windows ---------------------------------------------------------------------------


def _rooms(inputs: Inputs, parameters: Mapping[str, Any]) -> list[int]:
    """Padded size minus the effective kernel, along each axis; negative where no window fits."""
    size = inputs["x"].shape[2:] if "x" in inputs else parameters["input_size"][2:]
    kernel = parameters.get("kernel") or inputs["w"].shape[2:]
    return [
        n + low + high - d * (k - 1) - 1
        for n, k, d, (low, high) in zip(
            size, kernel, parameters["dilation"], parameters["padding"], strict=True
        )
    ]


def _make_room(rooms: list[int], parameters: dict[str, Any]) -> None:
    """Make room for one window along every axis that has none."""
    parameters["padding"] = tuple(
        (low, high + max(-room, 0)) for room, (low, high) in zip(rooms, parameters["padding"], strict=True)
    )


@PAGE.mend("oversized kernel gives an empty output", FAMILIES, dialect=("oversize", "empty"))
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> Finish:
    rooms = _rooms(inputs, parameters)
    _make_room(rooms, parameters)
    for name in {"dy", "cols"} & set(inputs):
        # No window at all adds up to what a window of zeros adds up to.
        array = inputs[name]
        windows = array.shape[array.ndim - len(rooms) :]
        if any(room < 0 < n for room, n in zip(rooms, windows, strict=True)):
            raise ValueError(f"{name} has windows along an axis that has none: {windows}")
        more = [(0, int(room < 0 and n == 0)) for room, n in zip(rooms, windows, strict=True)]
        inputs[name] = np.pad(array, [(0, 0)] * (array.ndim - len(rooms)) + more)
    kept = tuple(slice(0, 0) if room < 0 else slice(None) for room in rooms)
    return lambda outputs: {
        name: array[(..., *kept)] if name in ("y", "indices", "cols") else array
        for name, array in outputs.items()
    }


@PAGE.mend("size truncated toward zero", FAMILIES)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    rooms = _rooms(inputs, parameters)
    strides = parameters["stride"] or parameters["kernel"]
    if all(room > -s for room, s in zip(rooms, strides, strict=True)):
        _make_room(rooms, parameters)


@PAGE.mend("negative padding crops", FAMILIES, dialect=("padding", "crop"))
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> Finish:
    padding = parameters["padding"]
    cut = [(max(-low, 0), max(-high, 0)) for low, high in padding]
    if not any(map(any, cut)):
        return as_is
    parameters["padding"] = tuple((max(low, 0), max(high, 0)) for low, high in padding)
    size = inputs["x"].shape[2:] if "x" in inputs else parameters["input_size"][2:]
    kept = [slice(low, n - high) for n, (low, high) in zip(size, cut, strict=True)]
    if "x" in inputs:
        inputs["x"] = inputs["x"][:, :, *kept]
    if "input_size" in parameters:
        inside = (s.stop - s.start for s in kept)
        parameters["input_size"] = (*parameters["input_size"][:2], *inside)

    def grown(outputs: Outputs) -> Outputs:
        # What was cut off has no gradient; indices count in the whole plane.
        whole = {
            name: np.pad(array, [(0, 0), (0, 0), *cut])
            for name, array in outputs.items()
            if name in ("x", "dx")
        }
        if "indices" in outputs:
            whole["indices"] = _in_larger_plane(outputs["indices"], kept, size)
        return {**outputs, **whole}

    return grown


def _in_larger_plane(indices: Array, kept: list[slice], size: Size) -> Array:
    inner = tuple(s.stop - s.start for s in kept)
    places = np.unravel_index(np.maximum(indices, 0), inner)
    moved = np.ravel_multi_index(tuple(place + s.start for place, s in zip(places, kept, strict=True)), size)
    return np.where(indices < 0, indices, moved)


def _no_less(name: str, least: int) -> Mend:
    """Take values of a parameter below `least` for `least`."""

    def mend(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
        parameters[name] = tuple(max(value, least) for value in parameters[name] or parameters["kernel"])

    return mend


@PAGE.mend("negative padding is none", FAMILIES)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    parameters["padding"] = tuple((max(low, 0), max(high, 0)) for low, high in parameters["padding"])


PAGE.mend("dilation zero is none", FAMILIES)(_no_less("dilation", 1))

PAGE.mend("stride zero is one", FAMILIES)(_no_less("stride", 1))


@PAGE.mend("sign of the stride ignored", FAMILIES)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    parameters["stride"] = tuple(abs(s) for s in parameters["stride"] or parameters["kernel"])


# --- WINDOW-7: kernel larger than the input --------------------------------------------------------------


@PAGE.steps_twist("kernel must fit the unpadded input", FAMILIES)
@counting
def _(count: Count, call: Call) -> Size:
    if any(n < e for n, e in zip(call.size, call.window.effective_kernel, strict=True)):
        raise ValueError(f"the kernel {call.window.kernel} is larger than the input {call.size}")
    return count(call)


# --- WINDOW-8: same padding ------------------------------------------------------------------------------


def same_misread(pads: Callable[[int, int, int, int, int], tuple[int, int]]) -> StepsTwist:
    """Take other numbers for "same": `pads` of n, k, e, s and the total, along each axis.

    Padding arrives in numbers, so "same" is any padding, other than none, with the numbers of the word.
    """

    def change(call: Call) -> Call:
        size, window = call.size, call.window
        padding = Window.same(size, window.kernel, window.stride, window.dilation).padding
        if window.padding != padding or not is_padded(window):
            return call
        rows = zip(size, window.kernel, window.effective_kernel, window.stride, padding, strict=True)
        other = tuple(pads(n, k, e, s, sum(pair)) for n, k, e, s, pair in rows)
        return replace(call, window=replace(window, padding=other))

    return calling(change)


def _half(total: int) -> tuple[int, int]:
    """Padding in front and behind, of which the end gets an odd one."""
    return total // 2, total - total // 2


PAGE.steps_twist("same padding with the surplus in front", FAMILIES)(
    same_misread(lambda n, k, e, s, total: _half(total)[::-1])
)

PAGE.steps_twist("same padding without the stride", FAMILIES)(
    same_misread(lambda n, k, e, s, total: _half(e - 1))
)

PAGE.steps_twist("same padding without the dilation", FORWARD)(
    same_misread(lambda n, k, e, s, total: _half(max((-(-n // s) - 1) * s + k - n, 0)))
)

PAGE.steps_twist("same padding of half a kernel", FORWARD)(
    same_misread(lambda n, k, e, s, total: (k // 2, k // 2))
)
