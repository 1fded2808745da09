"""Misreadings of the gradient of max pooling (MAXGRAD-1 to -3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from convform.reference.checks import Array
from convform.reference.misreadings.max_pool import MAX_GRADIENT, last_of_equals
from convform.reference.misreadings.misreading import Page, misread_dy
from convform.reference.misreadings.steps import (
    Positions,
    Steps,
    StepsTwist,
    assign,
    changing,
    no_padding,
    ones,
    step,
)
from convform.reference.window import Size, Window

PAGE = Page("max_pool_backward")


def backward_window(**fields: Callable[[Window], Any]) -> StepsTwist:
    """Let the gradient, and only the gradient, take its windows from changed fields of the window."""
    change = changing(**fields)
    return lambda steps: replace(
        steps, backward_positions=lambda call, output: steps.backward(change(call), output)
    )


def misread_windows(page: Page, family: str, stride_name: str, which: str) -> None:
    """Register gradients that forget a field of the window."""
    page.steps_twist(stride_name, (family,))(backward_window(stride=ones))
    page.steps_twist(f"{which} gradient ignores the dilation", (family,))(backward_window(dilation=ones))
    page.steps_twist(f"{which} gradient ignores the padding", (family,))(backward_window(padding=no_padding))


# --- MAXGRAD-1: the selected element ---------------------------------------------------------------------

PAGE.steps_twist("gradient to the last maximum", (MAX_GRADIENT,), dialect=("ties", "last"))(last_of_equals)


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


@PAGE.steps_twist("every tie gets the gradient", (MAX_GRADIENT,), dialect=("ties", "all"))
def _(steps: Steps) -> Steps:
    return among_equals(steps, lambda dy, equals: dy)


@PAGE.steps_twist("ties split", (MAX_GRADIENT,), dialect=("ties", "split"))
def _(steps: Steps) -> Steps:
    return among_equals(steps, lambda dy, equals: dy / equals)


@PAGE.steps_twist("gradient times the value", (MAX_GRADIENT,))
@step("share")
def _(steps: Steps, cols: Array, real: Array, tap: Array, dy: Array) -> Array:
    value = np.where(tap < 0, 0, selected_value(cols, tap)[:, :, 0])
    return steps.share(cols, real, tap, (dy * value).astype(dy.dtype))


misread_windows(PAGE, MAX_GRADIENT, "backward windows ignore the stride", "max")


@PAGE.steps_twist("gradient truncated to integers", (MAX_GRADIENT,))
@step("add")
def _(steps: Steps, cols: Array, positions: Positions, size: Size) -> Array:
    x = np.zeros((*cols.shape[:2], *size), cols.dtype)
    for window in np.ndindex(*(len(p) for p in positions)):
        at: Any = (..., *(slice(i, i + 1) for i in window))
        one = tuple(p[i : i + 1] for p, i in zip(positions, window, strict=True))
        x = np.trunc(x + steps.add(cols[at], one, size)).astype(cols.dtype)
    return x


# --- MAXGRAD-2: overlapping windows add ------------------------------------------------------------------


def marked(cols: Array, tap: Array, values: Array) -> Array:
    """Give `values` ("n c t oh ow") to the selected taps; all others are masked."""
    taps = np.arange(cols.shape[2]).reshape(-1, *(1,) * (tap.ndim - 2))
    selected = taps == tap[:, :, None]
    masked: Array = np.ma.masked_array(np.broadcast_to(values, selected.shape), mask=~selected)
    return masked


@PAGE.steps_twist("overlapping gradients assigned", (MAX_GRADIENT,))
def _(steps: Steps) -> Steps:
    def share(cols: Array, real: Array, tap: Array, dy: Array) -> Array:
        return marked(cols, tap, dy[:, :, None])

    return replace(steps, share=share, add=assign)


PAGE.steps_twist("overlapping windows overwritten", (MAX_GRADIENT,))(lambda steps: replace(steps, add=assign))


@PAGE.steps_twist("one mask for the whole plane", (MAX_GRADIENT,))
def _(steps: Steps) -> Steps:
    def share(cols: Array, real: Array, tap: Array, dy: Array) -> Array:
        return marked(cols, tap, dy[:, :, None])

    def add(cols: Array, positions: Positions, size: Size) -> Array:
        selected = steps.add((~np.ma.getmaskarray(cols)).astype(np.int64), positions, size) > 0
        return np.where(selected, steps.add(np.asarray(cols), positions, size), np.zeros((), cols.dtype))

    return replace(steps, share=share, add=add)


# --- MAXGRAD-3: refused dy -------------------------------------------------------------------------------

misread_dy(PAGE, MAX_GRADIENT, "max pooling")
