"""Misreadings of the gradient of max pooling (MAXGRAD-1 to -3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from convform.reference.checks import Array
from convform.reference.misreadings.max_pool import MAX_GRADIENT, last_of_equals
from convform.reference.misreadings.misreading import Page, StepsTwist, misread_dy
from convform.reference.misreadings.steps import Positions, Steps, assign, no_padding, of_call, ones
from convform.reference.window import Size, Window

PAGE = Page("max_pool_backward", "MAXGRAD")


def backward_window(**fields: Callable[[Window], Any]) -> StepsTwist:
    """Let the gradient, and only the gradient, take its windows from changed fields of the window."""
    change = of_call(lambda window: replace(window, **{name: of(window) for name, of in fields.items()}))

    def twist(steps: Steps) -> Steps:
        standard = steps.backward_positions or steps.positions
        return replace(steps, backward_positions=lambda call, output: standard(change(call), output))

    return twist


def misread_windows(page: Page, clause: str, family: str, stride_name: str, which: str) -> None:
    """Register gradients that forget a field of the window."""
    page.steps_twist(
        stride_name,
        clause,
        (family,),
        says="with window i of the gradient at i instead of i·s",
        look="The gradient belongs to the windows of the forward pass: slice from i·stride, not from i.",
    )(backward_window(stride=ones))
    page.steps_twist(
        f"{which} gradient ignores the dilation",
        clause,
        (family,),
        says="without dilation in the gradient",
        look="The gradient belongs to the windows of the forward pass: tap j of a window lies j·dilation "
        "behind its start.",
    )(backward_window(dilation=ones))
    page.steps_twist(
        f"{which} gradient ignores the padding",
        clause,
        (family,),
        says="without padding in the gradient",
        look="The gradient belongs to the windows of the forward pass: window i starts at i·stride − "
        "padding.",
    )(backward_window(padding=no_padding))


# --- MAXGRAD-1: the selected element ---------------------------------------------------------------------

PAGE.steps_twist(
    "gradient to the last maximum",
    "MAXGRAD-1",
    (MAX_GRADIENT,),
    says="when the gradient goes to the last of equal elements",
    look="Among equal elements the first one in row-major order of the window gets dy: compare with > and "
    "not with >=.",
    dialect=("ties", "last"),
)(last_of_equals)


def selected_value(cols: Array, tap: Array) -> Array:
    """Value that every window selected, "n c 1 oh ow"."""
    return np.take_along_axis(cols, np.maximum(tap, 0)[:, :, None], axis=2)


def among_equals(steps: Steps, part: Callable[[Array, Array], Array]) -> Steps:
    """Give `part(dy, number of equals)` to each element that equals the selected one."""

    def share(cols: Array, real: Array, tap: Array, dy: Array) -> Array:
        equal = (cols == selected_value(cols, tap)) & real
        given = part(dy, np.maximum(equal.sum(axis=2), 1)).astype(dy.dtype)
        return np.where(equal, given[:, :, None], np.zeros((), dy.dtype))

    return replace(steps, share=share)


@PAGE.steps_twist(
    "every tie gets the gradient",
    "MAXGRAD-1",
    (MAX_GRADIENT,),
    says="when every element that equals the maximum gets the whole dy",
    look="One element of each window gets dy, the first maximum. A mask like x == max marks all of them; "
    "use argmax.",
    dialect=("ties", "all"),
)
def _(steps: Steps) -> Steps:
    return among_equals(steps, lambda dy, equals: dy)


@PAGE.steps_twist(
    "ties split",
    "MAXGRAD-1",
    (MAX_GRADIENT,),
    says="when dy is divided among equal elements",
    look="One element of each window gets all of dy, the first maximum.",
    dialect=("ties", "split"),
)
def _(steps: Steps) -> Steps:
    return among_equals(steps, lambda dy, equals: dy / equals)


@PAGE.steps_twist(
    "gradient times the value",
    "MAXGRAD-1",
    (MAX_GRADIENT,),
    says="with dy multiplied by the maximum",
    look="The selected element gets dy itself. Multiply dy by the mask of the selected elements, not by the "
    "masked input.",
)
def _(steps: Steps) -> Steps:
    def share(cols: Array, real: Array, tap: Array, dy: Array) -> Array:
        value = np.where(tap < 0, 0, selected_value(cols, tap)[:, :, 0])
        return steps.share(cols, real, tap, (dy * value).astype(dy.dtype))

    return replace(steps, share=share)


misread_windows(PAGE, "MAXGRAD-1", MAX_GRADIENT, "backward windows ignore the stride", "max")


@PAGE.steps_twist(
    "gradient truncated to integers",
    "MAXGRAD-1",
    (MAX_GRADIENT,),
    says="with dx collected in an array of integers",
    look="NumPy cuts off the fraction of whatever is written to an integer array: create dx with the dtype "
    "of dy.",
)
def _(steps: Steps) -> Steps:
    def add(cols: Array, positions: Positions, size: Size) -> Array:
        x = np.zeros((*cols.shape[:2], *size), cols.dtype)
        for window in np.ndindex(*(len(p) for p in positions)):
            at: Any = (..., *(slice(i, i + 1) for i in window))
            one = tuple(p[i : i + 1] for p, i in zip(positions, window, strict=True))
            x = np.trunc(x + steps.add(cols[at], one, size)).astype(cols.dtype)
        return x

    return replace(steps, add=add)


# --- MAXGRAD-2: overlapping windows add ------------------------------------------------------------------


def marked(cols: Array, tap: Array, values: Array) -> Array:
    """Give `values` ("n c t oh ow") to the selected taps; all others are masked."""
    taps = np.arange(cols.shape[2]).reshape(-1, *(1,) * (tap.ndim - 2))
    selected = taps == tap[:, :, None]
    masked: Array = np.ma.masked_array(np.broadcast_to(values, selected.shape), mask=~selected)
    return masked


@PAGE.steps_twist(
    "overlapping gradients assigned",
    "MAXGRAD-2",
    (MAX_GRADIENT,),
    says="when an element that several windows select keeps the dy of the last one",
    look="An element gets the sum over all windows that select it: add with +=, or np.add.at where indices "
    "repeat.",
)
def _(steps: Steps) -> Steps:
    def share(cols: Array, real: Array, tap: Array, dy: Array) -> Array:
        return marked(cols, tap, dy[:, :, None])

    return replace(steps, share=share, add=assign)


@PAGE.steps_twist(
    "overlapping windows overwritten",
    "MAXGRAD-2",
    (MAX_GRADIENT,),
    says="when each window overwrites what earlier windows gave to its elements, with zeros too",
    look="Windows that overlap add up: dx[window] += mask * dy, not =.",
)
def _(steps: Steps) -> Steps:
    return replace(steps, add=assign)


@PAGE.steps_twist(
    "one mask for the whole plane",
    "MAXGRAD-2",
    (MAX_GRADIENT,),
    says="when an element that one window selects gets the dy of every window that sees it",
    look="Each window selects for itself: compute the mask (or the argmax) window by window.",
)
def _(steps: Steps) -> Steps:
    def share(cols: Array, real: Array, tap: Array, dy: Array) -> Array:
        return marked(cols, tap, dy[:, :, None])

    def add(cols: Array, positions: Positions, size: Size) -> Array:
        selected = steps.add((~np.ma.getmaskarray(cols)).astype(np.int64), positions, size) > 0
        return np.where(selected, steps.add(np.asarray(cols), positions, size), np.zeros((), cols.dtype))

    return replace(steps, share=share, add=add)


# --- MAXGRAD-3: refused dy -------------------------------------------------------------------------------

misread_dy(PAGE, "MAXGRAD-3", MAX_GRADIENT, "max pooling")
