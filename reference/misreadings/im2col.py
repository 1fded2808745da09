"""Misreadings of im2col (IM2COL-1 to -3)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from convform.reference.checks import Array
from convform.reference.misreadings.misreading import Page, first_only, rank_of, reordered
from convform.reference.misreadings.steps import Positions, Steps, step, windowed

PAGE = Page("im2col")

# --- IM2COL-1: gather ------------------------------------------------------------------------------------


def taps_mirrored(cols: Array) -> Array:
    """Reverse the taps of every window."""
    return np.flip(cols, tuple(range(2, 2 + rank_of(cols))))


PAGE.call_twist("taps mirrored in columns", ("im2col",))(reordered(taps_mirrored))


PAGE.steps_twist("windows without overlap", ("im2col",))(windowed(stride=lambda window: window.kernel))


PAGE.call_twist("first channel gathered only", ("im2col",))(first_only(1))

PAGE.call_twist("first sample gathered only", ("im2col",))(first_only(0))

# --- IM2COL-2: padding contributes zeros -----------------------------------------------------------------


@PAGE.steps_twist("padding reads the other end", ("im2col",))
@step("read")
def _(steps: Steps, x: Array, where: Positions, outside: Any) -> Array:
    if any((p < -n).any() for p, n in zip(where, x.shape[2:], strict=True)):
        raise IndexError("index is out of bounds: below minus the size of the axis")
    wrapped = tuple(np.where(p < 0, p + n, p) for p, n in zip(where, x.shape[2:], strict=True))
    return steps.read(x, wrapped, outside)


# --- IM2COL-3: a copy of the bits ------------------------------------------------------------------------


@PAGE.steps_twist("gather by multiplication", ("im2col",))
@step("read")
def _(steps: Steps, x: Array, where: Positions, outside: Any) -> Array:
    size = x.shape[2:]
    elements = math.prod(size)
    ones = np.eye(elements, dtype=x.dtype).reshape(1, elements, *size)
    selected = steps.read(ones, where, outside)[0]
    return np.tensordot(x.reshape(*x.shape[:2], elements), selected, 1)
