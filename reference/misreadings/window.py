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
from convform.reference.misreadings.misreading import (
    POOLS,
    Asked,
    Finish,
    Inputs,
    Mend,
    Page,
    as_is,
)
from convform.reference.misreadings.steps import (
    Positions,
    Steps,
    calling,
    counting,
    counting_as,
    of_call,
    on_all_axes,
    placing,
    windowed,
)
from convform.reference.window import Size, Window
from convform.spec.operators import FAMILIES

PAGE = Page("window", "WINDOW")

FORWARD = ("im2col", "conv", "max_pool", "avg_pool")


WITH_KERNEL = ("im2col", "col2im", *POOLS)
"""Families with a parameter `kernel`; a convolution finds its kernel size in its weights."""


def first_axis_only(values: Size) -> Size:
    """Keep the first value and let the others be one: ``(2, 3) → (2, 1)``."""
    return values[:1] + (1,) * (len(values) - 1)


def unpadded(window: Window) -> Window:
    """Return the window without its padding."""
    return replace(window, padding=((0, 0),) * window.rank)


# --- WINDOW-1: output size -------------------------------------------------------------------------------


@PAGE.steps_twist(
    "width from height",
    "WINDOW-1",
    FAMILIES,
    says="with the output width computed from the input height",
    look="Each axis has its own input size. Look for the height in the formula of the output width.",
)
def _(steps: Steps) -> Steps:
    return counting(steps, lambda call: steps.output_size(replace(call, size=on_all_axes(call.size))))


@PAGE.steps_twist(
    "first kernel size on all axes",
    "WINDOW-1",
    WITH_KERNEL,
    says="with a square kernel of the kernel's height",
    look="The kernel size has one number for each axis. Look for kernel[0] where the width is meant.",
)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, kernel=on_all_axes(window.kernel)))


@PAGE.steps_twist(
    "kernel size reversed",
    "WINDOW-1",
    ("im2col", *POOLS),
    says="with the kernel size read as (width, height)",
    look="The kernel size is (height, width), in the order of the axes of x. Look where you unpack it.",
)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, kernel=window.kernel[::-1]))


@PAGE.steps_twist(
    "height's kernel in the width's size",
    "WINDOW-1",
    FAMILIES,
    says="with the output width computed from the kernel's height",
    look="The width of the output needs the width of the kernel. Look for kh in the formula of the width.",
)
def _(steps: Steps) -> Steps:
    return counting_as(steps, lambda window: replace(window, kernel=on_all_axes(window.kernel)))


@PAGE.steps_twist(
    "plus one missing",
    "WINDOW-1",
    FAMILIES,
    says="without the last window along each axis",
    look="The output size is the quotient plus one: a kernel that just fits has one window. "
    "Look for a missing + 1, or for a range that ends one too early.",
)
def _(steps: Steps) -> Steps:
    return counting(steps, lambda call: tuple(o - 1 for o in steps.output_size(call)))


@PAGE.steps_twist(
    "plus one under the fraction",
    "WINDOW-1",
    FAMILIES,
    says="with the one of the output size added before dividing by the stride",
    look="The one is added after the division: ⌊(n + p_lo + p_hi − e)/s⌋ + 1. Check the parentheses.",
)
def _(steps: Steps) -> Steps:
    def one_more(window: Window) -> Window:
        return replace(window, padding=tuple((low, high + 1) for low, high in window.padding))

    return counting(steps, lambda call: tuple(o - 1 for o in steps.output_size(of_call(one_more)(call))))


@PAGE.steps_twist(
    "padding counted once",
    "WINDOW-1",
    FAMILIES,
    says="with only one side's padding in the output size",
    look="Both sides are padded, so n + p_lo + p_hi (n + 2p) stands in the size formula.",
)
def _(steps: Steps) -> Steps:
    return counting_as(
        steps, lambda window: replace(window, padding=tuple((low, 0) for low, _ in window.padding))
    )


@PAGE.steps_twist(
    "output size forgets padding",
    "WINDOW-1",
    FAMILIES,
    says="with the output size of the unpadded input",
    look="Padding makes room for more windows: n + p_lo + p_hi stands in the size formula.",
)
def _(steps: Steps) -> Steps:
    return counting_as(steps, unpadded)


@PAGE.steps_twist(
    "only dividing strides",
    "WINDOW-1",
    FAMILIES,
    says="but raises where the stride leaves elements over",
    look="A stride that does not fit is legal: round the quotient down and leave the last elements out.",
)
def _(steps: Steps) -> Steps:
    def output_size(call: Call) -> Size:
        window = call.window
        room = zip(call.size, window.padding, window.effective_kernel, strict=True)
        rooms = [n + low + high - e for n, (low, high), e in room]
        if any(room % s for room, s in zip(rooms, window.stride, strict=True)):
            raise ValueError(f"the stride {window.stride} does not divide {rooms}")
        return steps.output_size(call)

    return counting(steps, output_size)


@PAGE.steps_twist(
    "size rounded up",
    "WINDOW-1",
    FORWARD,
    says="with the output size rounded up",
    look="Round the quotient down (//): a window that does not fit whole is left out.",
)
def _(steps: Steps) -> Steps:
    return counting_as(steps, lambda window: replace(window, ceil_mode=True))


# --- WINDOW-2: stride ------------------------------------------------------------------------------------


@PAGE.steps_twist(
    "first stride on all axes",
    "WINDOW-2",
    FAMILIES,
    says="with the height's stride for the width too",
    look="Each axis has its own stride. Look for stride[0] where stride[1] is meant.",
)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, stride=on_all_axes(window.stride)))


@PAGE.steps_twist(
    "strides swapped",
    "WINDOW-2",
    FAMILIES,
    says="with the stride read as (width, height)",
    look="The stride is (height, width), in the order of the axes of x. Look where you unpack it.",
)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, stride=window.stride[::-1]))


@PAGE.steps_twist(
    "stride on the first axis only",
    "WINDOW-2",
    FAMILIES,
    says="with stride 1 along the width",
    look="The width has a stride as well: window j starts at j·s_w. Look for a loop or slice without it.",
)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, stride=first_axis_only(window.stride)))


@PAGE.steps_twist(
    "stride ignored",
    "WINDOW-2",
    (*FORWARD, "conv.backward"),
    says="with window i starting at i, though as many windows as the stride asks for",
    look="Window i starts at i·s: multiply the output's index by the stride before you read the input.",
)
def _(steps: Steps) -> Steps:
    return placing(steps, lambda window: replace(window, stride=(1,) * window.rank))


@PAGE.steps_twist(
    "last window moved to the end",
    "WINDOW-2",
    FORWARD,
    says="with the last window moved to the end of the padded input",
    look="All windows have the same distance, also the last: where the stride leaves elements over, "
    "no window sees them.",
)
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


@PAGE.steps_twist(
    "padding axes swapped",
    "WINDOW-3",
    FAMILIES,
    says="with the height padded by the width's padding and the width by the height's",
    look="The padding has one pair for each axis, in the order of the axes of x: the height's first.",
)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, padding=window.padding[::-1]))


@PAGE.steps_twist(
    "first padding on all axes",
    "WINDOW-3",
    FAMILIES,
    says="with the height's padding for the width too",
    look="Each axis has its own padding. Look for padding[0] where the width is meant.",
)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, padding=window.padding[:1] * window.rank))


@PAGE.steps_twist(
    "padding on the first axis only",
    "WINDOW-3",
    FAMILIES,
    says="with the height padded and the width not",
    look="All spatial axes are padded. Look for an axis that the padding leaves out.",
)
def _(steps: Steps) -> Steps:
    return windowed(
        steps,
        lambda window: replace(window, padding=window.padding[:1] + ((0, 0),) * (window.rank - 1)),
    )


@PAGE.steps_twist(
    "low and high padding swapped",
    "WINDOW-3",
    FAMILIES,
    says="with the padding before and after the input exchanged",
    look="A pair is (before, after): the first number goes above and to the left of the input.",
)
def _(steps: Steps) -> Steps:
    return windowed(
        steps,
        lambda window: replace(window, padding=tuple((high, low) for low, high in window.padding)),
    )


@PAGE.steps_twist(
    "low padding on both sides",
    "WINDOW-3",
    (*FORWARD, "avg_pool.backward"),  # the other gradients take the number of windows from dy
    says="with the padding before the input on both sides",
    look="The padding after the input may be another one: use the second number of each pair there.",
)
def _(steps: Steps) -> Steps:
    return windowed(
        steps, lambda window: replace(window, padding=tuple((low, low) for low, _ in window.padding))
    )


@PAGE.steps_twist(
    "beginnings and ends mixed up",
    "WINDOW-3",
    FAMILIES,
    says="with the padding read as all beginnings first, then all ends",
    look="The padding is given axis by axis: ((top, bottom), (left, right)). Look where you unpack it.",
)
def _(steps: Steps) -> Steps:
    def change(window: Window) -> Window:
        flat = [p for pair in window.padding for p in pair]
        return replace(window, padding=tuple(zip(flat[: window.rank], flat[window.rank :], strict=True)))

    return windowed(steps, change)


@PAGE.steps_twist(
    "padding on one side only",
    "WINDOW-3",
    FAMILIES,
    says="with all of the padding before the input",
    look="Only p_lo elements lie before the input: window 0 starts at −p_lo, and the rest of the padding "
    "comes after the last element.",
)
def _(steps: Steps) -> Steps:
    return placing(
        steps, lambda window: replace(window, padding=tuple((low + high, 0) for low, high in window.padding))
    )


@PAGE.steps_twist(
    "padding at the end only",
    "WINDOW-3",
    (*FORWARD, "avg_pool.backward"),  # in other gradients this is padding never applied
    says="with all of the padding after the input",
    look="Window 0 starts at −p_lo, not at the first element: subtract the padding from the position.",
)
def _(steps: Steps) -> Steps:
    return placing(
        steps, lambda window: replace(window, padding=tuple((0, low + high) for low, high in window.padding))
    )


@PAGE.steps_twist(
    "padding never applied",
    "WINDOW-3",
    (*FORWARD, "col2im", "conv.backward"),
    says="without padding",
    look="The parameter is accepted but not used: pad the input, and count the padding in the output size.",
)
def _(steps: Steps) -> Steps:
    return windowed(steps, unpadded)


@PAGE.steps_twist(
    "padding applied twice",
    "WINDOW-3",
    FAMILIES,
    says="with twice the padding",
    look="Padding p adds p elements on each side. Look for a second place that pads, or for 2p on one side.",
)
def _(steps: Steps) -> Steps:
    return windowed(
        steps,
        lambda window: replace(window, padding=tuple((2 * low, 2 * high) for low, high in window.padding)),
    )


@PAGE.steps_twist(
    "padding taken as the total",
    "WINDOW-3",
    FAMILIES,
    says="with half of the padding on each side",
    look="Padding p means p elements on each side, not p in all.",
)
def _(steps: Steps) -> Steps:
    return windowed(
        steps,
        lambda window: replace(
            window, padding=tuple((low // 2, high - high // 2) for low, high in window.padding)
        ),
    )


@PAGE.steps_twist(
    "padding with the edge value",
    "WINDOW-3",
    ("im2col", "conv", "conv.backward"),
    says="with the border repeated instead of zeros",
    look='Padding is made of zeros: np.pad(x, …, mode="constant"), not "edge".',
)
def _(steps: Steps) -> Steps:
    def read(x: Array, where: Positions, outside: object) -> Array:
        inside = tuple(np.clip(p, 0, n - 1) for p, n in zip(where, x.shape[2:], strict=True))
        return steps.read(x, inside, outside)

    return replace(steps, read=read)


@PAGE.call_twist(
    "samples and channels padded too",
    "WINDOW-3",
    FORWARD,
    says="with samples and channels padded as well",
    look="Only the spatial axes are padded: np.pad(x, ((0, 0), (0, 0), (p, p), (p, p))).",
)
def _(evaluate: Asked) -> Asked:
    def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
        x, pads = inputs["x"], call.window.padding[:1] * 2
        lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
        fill = lowest if operator.startswith("max_pool") else 0
        padded = np.pad(x, (*pads, *((0, 0),) * (x.ndim - 2)), constant_values=fill)
        return evaluate(operator, {**inputs, "x": padded}, call)

    return twisted


@PAGE.steps_twist(
    "surprising default padding",
    "WINDOW-3",
    FAMILIES,
    says="with padding 1 where none is asked for",
    look="No padding means 0. Look for a default of 1, or for `padding or 1`, which is 1 when padding is 0.",
)
def _(steps: Steps) -> Steps:
    def change(window: Window) -> Window:
        return window if any(map(any, window.padding)) else replace(window, padding=((1, 1),) * window.rank)

    return windowed(steps, change)


# --- WINDOW-4: dilation ----------------------------------------------------------------------------------


@PAGE.steps_twist(
    "dilation ignored",
    "WINDOW-4",
    (*FORWARD, "conv.backward"),
    says="without dilation",
    look="Tap t of a window lies t·d elements after its first: step by the dilation inside of a window.",
)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, dilation=(1,) * window.rank))


@PAGE.steps_twist(
    "dilation in the size only",
    "WINDOW-4",
    FORWARD,
    says="with adjacent taps, though with the output size of the dilated kernel",
    look="The dilation also spaces the taps: tap t reads position i·s − p_lo + t·d.",
)
def _(steps: Steps) -> Steps:
    return placing(steps, lambda window: replace(window, dilation=(1,) * window.rank))


@PAGE.steps_twist(
    "extent is dilation times kernel",
    "WINDOW-4",
    FAMILIES,
    says="with k·d for the extent of the dilated kernel",
    look="k taps have k − 1 gaps between them, so the kernel extends over d·(k − 1) + 1 elements, not k·d.",
)
def _(steps: Steps) -> Steps:
    return counting_extents(
        steps, lambda window: tuple(k * d for k, d in zip(window.kernel, window.dilation, strict=True))
    )


@PAGE.steps_twist(
    "dilation applied twice",
    "WINDOW-4",
    FAMILIES,
    says="with the taps d·d elements apart",
    look="Neighbouring taps are d elements apart. Look for a second place that multiplies by the dilation.",
)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, dilation=tuple(d * d for d in window.dilation)))


@PAGE.steps_twist(
    "dilation counts the gaps",
    "WINDOW-4",
    FAMILIES,
    says="with d elements left out between neighbouring taps",
    look="Dilation 1 is the ordinary kernel: taps are d elements apart, with d − 1 elements between them.",
)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, dilation=tuple(d + 1 for d in window.dilation)))


@PAGE.steps_twist(
    "first dilation on all axes",
    "WINDOW-4",
    FAMILIES,
    says="with the height's dilation for the width too",
    look="Each axis has its own dilation. Look for dilation[0] where dilation[1] is meant.",
)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, dilation=on_all_axes(window.dilation)))


@PAGE.steps_twist(
    "dilation on the first axis only",
    "WINDOW-4",
    FAMILIES,
    says="with dilation along the height only",
    look="The width is dilated as well: its taps are d_w elements apart.",
)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, dilation=first_axis_only(window.dilation)))


@PAGE.steps_twist(
    "dilations swapped",
    "WINDOW-4",
    FAMILIES,
    says="with the dilation read as (width, height)",
    look="The dilation is (height, width), in the order of the axes of x. Look where you unpack it.",
)
def _(steps: Steps) -> Steps:
    return windowed(steps, lambda window: replace(window, dilation=window.dilation[::-1]))


@PAGE.steps_twist(
    "height's kernel in the width's extent",
    "WINDOW-4",
    FAMILIES,
    says="with the kernel's height in the width's share of dilation",
    look="The extent along the width is kw + (d_w − 1)·(kw − 1). Look for kh in it.",
)
def _(steps: Steps) -> Steps:
    def extents(window: Window) -> Size:
        first = window.kernel[0]
        pairs = zip(window.kernel, window.dilation, strict=True)
        return tuple(k + (d - 1) * (first - 1) for k, d in pairs)

    return counting_extents(steps, extents)


@PAGE.steps_twist(
    "stride multiplied by the dilation",
    "WINDOW-4",
    FAMILIES,
    says="with the stride multiplied by the dilation",
    look="Dilation spaces the taps of one window; the windows stay s elements apart.",
)
def _(steps: Steps) -> Steps:
    def change(window: Window) -> Window:
        pairs = zip(window.stride, window.dilation, strict=True)
        return replace(window, stride=tuple(s * d for s, d in pairs))

    return windowed(steps, change)


@PAGE.steps_twist(
    "padding multiplied by the dilation",
    "WINDOW-4",
    FAMILIES,
    says="with the padding multiplied by the dilation",
    look="Padding is counted in elements of the input, whatever the dilation is.",
)
def _(steps: Steps) -> Steps:
    def change(window: Window) -> Window:
        pairs = zip(window.padding, window.dilation, strict=True)
        return replace(window, padding=tuple((low * d, high * d) for (low, high), d in pairs))

    return windowed(steps, change)


def counting_extents(steps: Steps, extents: Callable[[Window], Size]) -> Steps:
    """Count the windows with another extent of the dilated kernel."""
    # An undilated kernel of k taps extends over k elements.
    return counting_as(
        steps, lambda window: replace(window, kernel=extents(window), dilation=(1,) * window.rank)
    )


# --- WINDOW-5: ceil rounding -----------------------------------------------------------------------------


@PAGE.steps_twist(
    "ceil taken as floor",
    "WINDOW-5",
    POOLS,
    says="with the output size rounded down in ceil mode too",
    look="With ceil_mode a last window that overhangs the padded input is kept: −(−room // s) + 1.",
)
def _(steps: Steps) -> Steps:
    return counting_as(steps, lambda window: replace(window, ceil_mode=False))


@PAGE.steps_twist(
    "ceil without clipping",
    "WINDOW-5",
    POOLS,
    says="with the last window of ceil mode kept although it starts beyond the input",
    look="Drop the last window if (o − 1)·s ≥ n + p_lo: it could see no element of the input.",
    dialect=("ceil", "noclip"),
)
def _(steps: Steps) -> Steps:
    return clipping(steps, lambda window, n, low, high: None)


@PAGE.steps_twist(
    "ceil clipped only if padded",
    "WINDOW-5",
    POOLS,
    says="with the last window of ceil mode dropped only where there is padding",
    look="The test (o − 1)·s ≥ n + p_lo is made in any case, also without padding.",
    dialect=("ceil", "clip_if_padded"),
)
def _(steps: Steps) -> Steps:
    return clipping(steps, lambda window, n, low, high: n + low if any(map(any, window.padding)) else None)


@PAGE.steps_twist(
    "ceil clipped without the low padding",
    "WINDOW-5",
    POOLS,
    says="with the last window of ceil mode dropped from position n on, low padding forgotten",
    look="Window i starts at i·s − p_lo, so the last one is beyond the input if (o − 1)·s ≥ n + p_lo.",
)
def _(steps: Steps) -> Steps:
    return clipping(steps, lambda window, n, low, high: n)


@PAGE.steps_twist(
    "ceil clipped with the whole padding",
    "WINDOW-5",
    POOLS,
    says="with a last window of ceil mode that starts in the padding after the input",
    look="A window that starts behind the last element is dropped, also if it starts in the padding: "
    "compare (o − 1)·s with n + p_lo, not with n + p_lo + p_hi.",
)
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


@PAGE.mend(
    "oversized kernel gives an empty output",
    "WINDOW-6",
    FAMILIES,
    says="except that a kernel that does not fit gives an empty output",
    look="An output without elements is refused: check that the padded input is at least as long as the "
    "kernel and raise, since slices that are too long do not.",
    dialect=("oversize", "empty"),
)
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


@PAGE.mend(
    "size truncated toward zero",
    "WINDOW-6",
    FAMILIES,
    says="except that a kernel that does not fit by less than a stride gives one window",
    look="int(-0.5) is 0, so one window is left over: use // for the output size, and check that the kernel "
    "fits.",
)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    rooms = _rooms(inputs, parameters)
    strides = parameters["stride"] or parameters["kernel"]
    if all(room > -s for room, s in zip(rooms, strides, strict=True)):
        _make_room(rooms, parameters)


@PAGE.mend(
    "negative padding crops",
    "WINDOW-6",
    FAMILIES,
    says="except that negative padding crops the input",
    look="Padding below zero is refused: check it before it reaches a slice or np.pad.",
    dialect=("padding", "crop"),
)
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


@PAGE.mend(
    "negative padding is none",
    "WINDOW-6",
    FAMILIES,
    says="except that negative padding counts as 0",
    look="Padding below zero is refused: look for `if padding > 0` without an else.",
)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    parameters["padding"] = tuple((max(low, 0), max(high, 0)) for low, high in parameters["padding"])


PAGE.mend(
    "dilation zero is none",
    "WINDOW-6",
    FAMILIES,
    says="except that dilation 0 counts as 1",
    look="No dilation is d = 1, and d = 0 is refused: look for `dilation or 1`, or for a distance d + 1.",
)(_no_less("dilation", 1))

PAGE.mend(
    "stride zero is one",
    "WINDOW-6",
    FAMILIES,
    says="except that stride 0 counts as 1",
    look="A stride of 0 is refused: look for `stride or 1`.",
)(_no_less("stride", 1))


@PAGE.mend(
    "sign of the stride ignored",
    "WINDOW-6",
    FAMILIES,
    says="except that the sign of a negative stride is ignored",
    look="A stride below 1 is refused: check it before anything is computed from it.",
)
def _(operator: str, inputs: dict[str, Any], parameters: dict[str, Any]) -> None:
    parameters["stride"] = tuple(abs(s) for s in parameters["stride"] or parameters["kernel"])


# --- WINDOW-7: kernel larger than the input --------------------------------------------------------------


@PAGE.steps_twist(
    "kernel must fit the unpadded input",
    "WINDOW-7",
    FAMILIES,
    says="but raises where the kernel is larger than the unpadded input",
    look="A kernel may be larger than the input as long as padding makes room: compare with n + p_lo + p_hi.",
)
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


@PAGE.steps_twist(
    "same padding with the surplus in front",
    "WINDOW-8",
    FAMILIES,
    says='with the odd element of "same" padding before the input',
    look="An odd total is split as ⌊total/2⌋ before and the rest after the input.",
)
def _(steps: Steps) -> Steps:
    return same_misread(steps, lambda n, k, e, s, total: (total - total // 2, total // 2))


@PAGE.steps_twist(
    "same padding without the stride",
    "WINDOW-8",
    FAMILIES,
    says='with "same" padding computed as if the stride were 1',
    look="The total is (⌈n/s⌉ − 1)·s + e − n: with a stride above 1 it is smaller than e − 1.",
)
def _(steps: Steps) -> Steps:
    return same_misread(steps, lambda n, k, e, s, total: ((e - 1) // 2, e - 1 - (e - 1) // 2))


@PAGE.steps_twist(
    "same padding without the dilation",
    "WINDOW-8",
    FORWARD,
    says='with "same" padding computed for the kernel without its dilation',
    look="A dilated kernel extends over e = d·(k − 1) + 1 elements, and the total is computed from e.",
)
def _(steps: Steps) -> Steps:
    def pads(n: int, k: int, e: int, s: int, total: int) -> tuple[int, int]:
        narrow = max((-(-n // s) - 1) * s + k - n, 0)
        return narrow // 2, narrow - narrow // 2

    return same_misread(steps, pads)


@PAGE.steps_twist(
    "same padding of half a kernel",
    "WINDOW-8",
    FORWARD,
    says='with "same" padding of ⌊k/2⌋ on both sides',
    look="Half a kernel on both sides keeps the size for odd kernels and stride 1 only.",
)
def _(steps: Steps) -> Steps:
    return same_misread(steps, lambda n, k, e, s, total: (k // 2, k // 2))
