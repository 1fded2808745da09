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
from typing import Any

import numpy as np

from convform.reference.call import Call
from convform.reference.checks import Array
from convform.reference.evaluation import Outputs
from convform.reference.misreadings.misreading import POOLS, Asked, Finish, Inputs, Mend, Page, as_is
from convform.reference.misreadings.steps import (
    Positions,
    Steps,
    calling,
    counting,
    counting_as,
    no_padding,
    of_call,
    on_all_axes,
    ones,
    placing,
    windowed,
)
from convform.reference.window import Size, Window
from convform.spec.operators import FAMILIES

PAGE = Page("window")

FORWARD = ("im2col", "conv", "max_pool", "avg_pool")
WITH_KERNEL = ("im2col", "col2im", *POOLS)
"""Families with a parameter `kernel`; a convolution finds its kernel size in its weights."""


def first_axis_only(values: Size) -> Size:
    """Keep the first value and let the others be one: ``(2, 3) → (2, 1)``."""
    return values[:1] + (1,) * (len(values) - 1)


def unpadded(window: Window) -> Window:
    """Return the window without its padding."""
    return replace(window, padding=no_padding(window))


# --- WINDOW-1: output size -------------------------------------------------------------------------------


@PAGE.steps_twist("width from height", FAMILIES)
def _(steps: Steps) -> Steps:
    return counting(steps, lambda call: steps.output_size(replace(call, size=on_all_axes(call.size))))


@PAGE.steps_twist("first kernel size on all axes", WITH_KERNEL)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, kernel=on_all_axes(window.kernel)))


@PAGE.steps_twist("kernel size reversed", ("im2col", *POOLS))
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, kernel=window.kernel[::-1]))


@PAGE.steps_twist("height's kernel in the width's size", FAMILIES)
def _(steps: Steps) -> Steps:
    return counting_as(steps, lambda window: replace(window, kernel=on_all_axes(window.kernel)))


@PAGE.steps_twist("plus one missing", FAMILIES)
def _(steps: Steps) -> Steps:
    return counting(steps, lambda call: tuple(o - 1 for o in steps.output_size(call)))


@PAGE.steps_twist("plus one under the fraction", FAMILIES)
def _(steps: Steps) -> Steps:
    def one_more(window: Window) -> Window:
        return replace(window, padding=tuple((low, high + 1) for low, high in window.padding))

    return counting(steps, lambda call: tuple(o - 1 for o in steps.output_size(of_call(one_more)(call))))


@PAGE.steps_twist("padding counted once", FAMILIES)
def _(steps: Steps) -> Steps:
    return counting_as(
        steps, lambda window: replace(window, padding=tuple((low, 0) for low, _ in window.padding))
    )


PAGE.steps_twist("output size forgets padding", FAMILIES)(lambda steps: counting_as(steps, unpadded))


@PAGE.steps_twist("only dividing strides", FAMILIES)
def _(steps: Steps) -> Steps:
    def output_size(call: Call) -> Size:
        window = call.window
        room = zip(call.size, window.padding, window.effective_kernel, strict=True)
        rooms = [n + low + high - e for n, (low, high), e in room]
        if any(room % s for room, s in zip(rooms, window.stride, strict=True)):
            raise ValueError(f"the stride {window.stride} does not divide {rooms}")
        return steps.output_size(call)

    return counting(steps, output_size)


@PAGE.steps_twist("size rounded up", FORWARD)
def _(steps: Steps) -> Steps:
    return counting_as(steps, lambda window: replace(window, ceil_mode=True))


# --- WINDOW-2: stride ------------------------------------------------------------------------------------


@PAGE.steps_twist("first stride on all axes", FAMILIES)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, stride=on_all_axes(window.stride)))


@PAGE.steps_twist("strides swapped", FAMILIES)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, stride=window.stride[::-1]))


@PAGE.steps_twist("stride on the first axis only", FAMILIES)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, stride=first_axis_only(window.stride)))


@PAGE.steps_twist("stride ignored", (*FORWARD, "conv.backward"))
def _(steps: Steps) -> Steps:
    return placing(steps, lambda window: replace(window, stride=ones(window)))


@PAGE.steps_twist("last window moved to the end", FORWARD)
def _(steps: Steps) -> Steps:
    def positions(call: Call, output: Size) -> Positions:
        where = tuple(p.copy() for p in steps.positions(call, output))
        window = call.window
        for p, n, e, (_, high) in zip(where, call.size, window.effective_kernel, window.padding, strict=True):
            if len(p):
                p[-1] += n + high - e - p[-1, 0]
        return where

    return replace(steps, positions=positions)


# --- WINDOW-3: padding -----------------------------------------------------------------------------------


@PAGE.steps_twist("padding axes swapped", FAMILIES)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, padding=window.padding[::-1]))


@PAGE.steps_twist("first padding on all axes", FAMILIES)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, padding=window.padding[:1] * window.rank))


@PAGE.steps_twist("padding on the first axis only", FAMILIES)
def _(steps: Steps) -> Steps:
    return windowed(
        steps,
        lambda window: replace(window, padding=window.padding[:1] + ((0, 0),) * (window.rank - 1)),
    )


@PAGE.steps_twist("low and high padding swapped", FAMILIES)
def _(steps: Steps) -> Steps:
    return windowed(
        steps,
        lambda window: replace(window, padding=tuple((high, low) for low, high in window.padding)),
    )


@PAGE.steps_twist("low padding on both sides", (*FORWARD, "avg_pool.backward"))
def _(steps: Steps) -> Steps:
    return windowed(
        steps, lambda window: replace(window, padding=tuple((low, low) for low, _ in window.padding))
    )


@PAGE.steps_twist("beginnings and ends mixed up", FAMILIES)
def _(steps: Steps) -> Steps:
    def change(window: Window) -> Window:
        flat = [p for pair in window.padding for p in pair]
        return replace(window, padding=tuple(zip(flat[: window.rank], flat[window.rank :], strict=True)))

    return windowed(steps, change)


@PAGE.steps_twist("padding on one side only", FAMILIES)
def _(steps: Steps) -> Steps:
    return placing(
        steps, lambda window: replace(window, padding=tuple((low + high, 0) for low, high in window.padding))
    )


@PAGE.steps_twist("padding at the end only", (*FORWARD, "avg_pool.backward"))
def _(steps: Steps) -> Steps:
    return placing(
        steps, lambda window: replace(window, padding=tuple((0, low + high) for low, high in window.padding))
    )


@PAGE.steps_twist("padding never applied", (*FORWARD, "col2im", "conv.backward"))
def _(steps: Steps) -> Steps:
    return windowed(steps, unpadded)


@PAGE.steps_twist("padding applied twice", FAMILIES)
def _(steps: Steps) -> Steps:
    return windowed(
        steps,
        lambda window: replace(window, padding=tuple((2 * low, 2 * high) for low, high in window.padding)),
    )


@PAGE.steps_twist("padding taken as the total", FAMILIES)
def _(steps: Steps) -> Steps:
    return windowed(
        steps,
        lambda window: replace(
            window, padding=tuple((low // 2, high - high // 2) for low, high in window.padding)
        ),
    )


@PAGE.steps_twist("padding with the edge value", ("im2col", "conv", "conv.backward"))
def _(steps: Steps) -> Steps:
    def read(x: Array, where: Positions, outside: object) -> Array:
        inside = tuple(np.clip(p, 0, n - 1) for p, n in zip(where, x.shape[2:], strict=True))
        return steps.read(x, inside, outside)

    return replace(steps, read=read)


@PAGE.call_twist("samples and channels padded too", FORWARD)
def _(evaluate: Asked) -> Asked:
    def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
        x, pads = inputs["x"], call.window.padding[:1] * 2
        lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        fill = lowest if operator.startswith("max_pool") else 0
        padded = np.pad(x, (*pads, *((0, 0),) * (x.ndim - 2)), constant_values=fill)
        return evaluate(operator, {**inputs, "x": padded}, call)

    return twisted


@PAGE.steps_twist("surprising default padding", FAMILIES)
def _(steps: Steps) -> Steps:
    def change(window: Window) -> Window:
        return window if any(map(any, window.padding)) else replace(window, padding=((1, 1),) * window.rank)

    return windowed(steps, change)


# --- WINDOW-4: dilation ----------------------------------------------------------------------------------


@PAGE.steps_twist("dilation ignored", (*FORWARD, "conv.backward"))
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, dilation=ones(window)))


@PAGE.steps_twist("dilation in the size only", FORWARD)
def _(steps: Steps) -> Steps:
    return placing(steps, lambda window: replace(window, dilation=ones(window)))


@PAGE.steps_twist("extent is dilation times kernel", FAMILIES)
def _(steps: Steps) -> Steps:
    return counting_extents(
        steps, lambda window: tuple(k * d for k, d in zip(window.kernel, window.dilation, strict=True))
    )


@PAGE.steps_twist("dilation applied twice", FAMILIES)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, dilation=tuple(d * d for d in window.dilation)))


@PAGE.steps_twist("dilation counts the gaps", FAMILIES)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, dilation=tuple(d + 1 for d in window.dilation)))


@PAGE.steps_twist("first dilation on all axes", FAMILIES)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, dilation=on_all_axes(window.dilation)))


@PAGE.steps_twist("dilation on the first axis only", FAMILIES)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, dilation=first_axis_only(window.dilation)))


@PAGE.steps_twist("dilations swapped", FAMILIES)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, dilation=window.dilation[::-1]))


@PAGE.steps_twist("height's kernel in the width's extent", FAMILIES)
def _(steps: Steps) -> Steps:
    def extents(window: Window) -> Size:
        first = window.kernel[0]
        pairs = zip(window.kernel, window.dilation, strict=True)
        return tuple(k + (d - 1) * (first - 1) for k, d in pairs)

    return counting_extents(steps, extents)


@PAGE.steps_twist("stride multiplied by the dilation", FAMILIES)
def _(steps: Steps) -> Steps:
    def change(window: Window) -> Window:
        pairs = zip(window.stride, window.dilation, strict=True)
        return replace(window, stride=tuple(s * d for s, d in pairs))

    return windowed(steps, change)


@PAGE.steps_twist("padding multiplied by the dilation", FAMILIES)
def _(steps: Steps) -> Steps:
    def change(window: Window) -> Window:
        pairs = zip(window.padding, window.dilation, strict=True)
        return replace(window, padding=tuple((low * d, high * d) for (low, high), d in pairs))

    return windowed(steps, change)


def counting_extents(steps: Steps, extents: Callable[[Window], Size]) -> Steps:
    """Count the windows with another extent of the dilated kernel."""
    # An undilated kernel of k taps extends over k elements.
    return counting_as(steps, lambda window: replace(window, kernel=extents(window), dilation=ones(window)))


# --- WINDOW-5: ceil rounding -----------------------------------------------------------------------------


@PAGE.steps_twist("ceil taken as floor", POOLS)
def _(steps: Steps) -> Steps:
    return counting_as(steps, lambda window: replace(window, ceil_mode=False))


@PAGE.steps_twist("ceil without clipping", POOLS, dialect=("ceil", "noclip"))
def _(steps: Steps) -> Steps:
    return clipping(steps, lambda window, n, low, high: None)


@PAGE.steps_twist("ceil clipped only if padded", POOLS, dialect=("ceil", "clip_if_padded"))
def _(steps: Steps) -> Steps:
    return clipping(steps, lambda window, n, low, high: n + low if any(map(any, window.padding)) else None)


@PAGE.steps_twist("ceil clipped without the low padding", POOLS)
def _(steps: Steps) -> Steps:
    return clipping(steps, lambda window, n, low, high: n)


@PAGE.steps_twist("ceil clipped with the whole padding", POOLS)
def _(steps: Steps) -> Steps:
    return clipping(steps, lambda window, n, low, high: n + low + high)


def clipping(steps: Steps, limit: Callable[[Window, int, int, int], int | None]) -> Steps:
    """Under ceil rounding drop the last window if it starts `limit` or more after the first; None: never."""

    def output_size(call: Call) -> Size:
        window = call.window
        if not window.ceil_mode:
            return steps.output_size(call)
        sizes = []
        for n, e, s, (low, high) in zip(
            call.size, window.effective_kernel, window.stride, window.padding, strict=True
        ):
            o = -(-(n + low + high - e) // s) + 1
            end = limit(window, n, low, high)
            sizes.append(o - (end is not None and (o - 1) * s >= end))
        return tuple(sizes)

    return counting(steps, output_size)


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
def _(steps: Steps) -> Steps:
    def output_size(call: Call) -> Size:
        if any(n < e for n, e in zip(call.size, call.window.effective_kernel, strict=True)):
            raise ValueError(f"the kernel {call.window.kernel} is larger than the input {call.size}")
        return steps.output_size(call)

    return counting(steps, output_size)


# --- WINDOW-8: same padding ------------------------------------------------------------------------------


def same_misread(steps: Steps, pads: Callable[[int, int, int, int, int], tuple[int, int]]) -> Steps:
    """Take other numbers for "same": `pads` of n, k, e, s and the total, along each axis.

    Padding arrives in numbers, so "same" is any padding, other than none, with the numbers of the word.
    """

    def change(call: Call) -> Call:
        size, window = call.size, call.window
        padding = Window.same(size, window.kernel, window.stride, window.dilation).padding
        if window.padding != padding or not any(map(any, padding)):
            return call
        rows = zip(size, window.kernel, window.effective_kernel, window.stride, padding, strict=True)
        other = tuple(pads(n, k, e, s, sum(pair)) for n, k, e, s, pair in rows)
        return replace(call, window=replace(window, padding=other))

    return calling(steps, change)


@PAGE.steps_twist("same padding with the surplus in front", FAMILIES)
def _(steps: Steps) -> Steps:
    return same_misread(steps, lambda n, k, e, s, total: (total - total // 2, total // 2))


@PAGE.steps_twist("same padding without the stride", FAMILIES)
def _(steps: Steps) -> Steps:
    return same_misread(steps, lambda n, k, e, s, total: ((e - 1) // 2, e - 1 - (e - 1) // 2))


@PAGE.steps_twist("same padding without the dilation", FORWARD)
def _(steps: Steps) -> Steps:
    def pads(n: int, k: int, e: int, s: int, total: int) -> tuple[int, int]:
        narrow = max((-(-n // s) - 1) * s + k - n, 0)
        return narrow // 2, narrow - narrow // 2

    return same_misread(steps, pads)


@PAGE.steps_twist("same padding of half a kernel", FORWARD)
def _(steps: Steps) -> Steps:
    return same_misread(steps, lambda n, k, e, s, total: (k // 2, k // 2))
