"""Misreadings of average pooling (AVGPOOL-1 to -4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from convform.reference.call import Call
from convform.reference.checks import Array
from convform.reference.misreadings.misreading import Page, changing_call
from convform.reference.misreadings.steps import Positions, Steps, StepsTwist, step
from convform.reference.window import Window

PAGE = Page("avg_pool")

AVG, AVG_GRADIENT = "avg_pool", "avg_pool.backward"


def count_taps(positions: Positions) -> int:
    """Count the taps of one window."""
    return math.prod(p.shape[1] for p in positions)


def in_full_windows(divisor: Callable[[Window], int]) -> StepsTwist:
    """Divide by another number where every tap counts."""

    @step("divisor")
    def twist(steps: Steps, call: Call, positions: Positions) -> Array:
        usual = steps.divisor(call, positions)
        return np.where(usual == count_taps(positions), divisor(call.window), usual)

    return twist


# --- AVGPOOL-1: sum, then divide -------------------------------------------------------------------------


@step("divisor")
def undivided(steps: Steps, call: Call, positions: Positions) -> Array:
    """Divide by one."""
    return np.ones_like(steps.divisor(call, positions))


PAGE.steps_twist("divisor is the squared height", (AVG,))(
    in_full_windows(lambda window: window.kernel[0] ** window.rank)
)

PAGE.steps_twist("divisor is the product of the strides", (AVG,))(
    in_full_windows(lambda window: math.prod(window.stride))
)

PAGE.steps_twist("average not divided", (AVG,))(undivided)


def rounding_down(steps: Steps) -> Steps:
    """Divide as integers are divided."""
    return replace(steps, divide=lambda sums, counts: np.floor_divide(sums, counts))


PAGE.steps_twist("average rounded to integers", (AVG,))(rounding_down)


@PAGE.steps_twist("multiplied by the reciprocal", (AVG,), within_rounding=True)
def _(steps: Steps) -> Steps:
    return replace(steps, divide=lambda sums, counts: sums * (1 / counts).astype(sums.dtype))


# --- AVGPOOL-2: what the divisor counts ------------------------------------------------------------------

PAGE.call_twist("padding never counted", (AVG, AVG_GRADIENT), dialect=("avgcount", "real"))(
    changing_call(lambda call: replace(call, count_include_pad=False))
)

PAGE.call_twist("padding always counted", (AVG, AVG_GRADIENT))(
    changing_call(lambda call: replace(call, count_include_pad=True))
)

PAGE.call_twist("counting modes exchanged", (AVG, AVG_GRADIENT))(
    changing_call(lambda call: replace(call, count_include_pad=not call.count_include_pad))
)

# --- AVGPOOL-3: overhang never counts --------------------------------------------------------------------


@step("divisor")
def overhang(steps: Steps, call: Call, positions: Positions) -> Array:
    """Count positions beyond the padding as well."""
    usual = steps.divisor(call, positions)
    return np.full_like(usual, count_taps(positions)) if call.count_include_pad else usual


PAGE.steps_twist("overhang counted", (AVG,), dialect=("avgcount", "kernel"))(overhang)


@PAGE.steps_twist("overhang uncounted, and padding with it", (AVG, AVG_GRADIENT))
@step("divisor")
def _(steps: Steps, call: Call, positions: Positions) -> Array:
    beyond = np.zeros((), bool)
    for p, (_, end) in zip(positions, call.window.counted(call.size, True), strict=True):
        beyond = beyond[..., None] | (p >= end).any(axis=1)
    uncounted = steps.divisor(replace(call, count_include_pad=False), positions)
    return np.where(beyond, uncounted, steps.divisor(call, positions))


# --- AVGPOOL-4: rounding ---------------------------------------------------------------------------------


@PAGE.steps_twist("average accumulated in half", (AVG,))
@step("total")
def _(steps: Steps, cols: Array) -> Array:
    if cols.dtype != np.float16:
        return steps.total(cols)
    rank = (cols.ndim - 2) // 2
    taps = cols.reshape(*cols.shape[:2], -1, *cols.shape[2 + rank :])
    return np.add.accumulate(taps, axis=2, dtype=np.float16)[:, :, -1]
