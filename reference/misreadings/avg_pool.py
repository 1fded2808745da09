"""Misreadings of average pooling (AVGPOOL-1 to -4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from convform.reference.call import Call
from convform.reference.checks import Array
from convform.reference.misreadings.misreading import Page, StepsTwist, changing_call
from convform.reference.misreadings.steps import Positions, Steps

PAGE = Page("avg_pool", "AVGPOOL")

AVG, AVG_GRADIENT = "avg_pool", "avg_pool.backward"


Counts = Callable[[Call, Positions], Array]


def dividing_by(counts: Callable[[Counts], Counts]) -> StepsTwist:
    """Divide by other counts: `counts(standard)` is a function like the standard's."""
    return lambda steps: replace(steps, divisor=counts(steps.divisor))


def count_taps(positions: Positions) -> int:
    """Count the taps of one call.window."""
    return math.prod(p.shape[1] for p in positions)


# --- AVGPOOL-1: sum, then divide -------------------------------------------------------------------------


def _squared_height(standard: Counts) -> Counts:
    def counts(call: Call, positions: Positions) -> Array:
        usual = standard(call, positions)
        return np.where(usual == count_taps(positions), call.window.kernel[0] ** call.window.rank, usual)

    return counts


def _strides(standard: Counts) -> Counts:
    def counts(call: Call, positions: Positions) -> Array:
        usual = standard(call, positions)
        return np.where(usual == count_taps(positions), math.prod(call.window.stride), usual)

    return counts


def undivided(standard: Counts) -> Counts:
    """Divide by one."""

    def counts(call: Call, positions: Positions) -> Array:
        return np.ones_like(standard(call, positions))

    return counts


PAGE.steps_twist(
    "divisor is the squared height",
    "AVGPOOL-1",
    (AVG,),
    says="with kh·kh in place of kh·kw as the divisor",
    look="Divide by the number of elements in the window, kh·kw: a kernel need not be square.",
)(dividing_by(_squared_height))

PAGE.steps_twist(
    "divisor is the product of the strides",
    "AVGPOOL-1",
    (AVG,),
    says="with the product of the strides in place of kh·kw as the divisor",
    look="Divide by the number of elements in the window, kh·kw; the stride equals the kernel only by "
    "default.",
)(dividing_by(_strides))

PAGE.steps_twist(
    "average not divided",
    "AVGPOOL-1",
    (AVG,),
    says="before the division: the sum of each window",
    look="Divide the sum of each window by the number of elements that count.",
)(dividing_by(undivided))


def rounding_down(steps: Steps) -> Steps:
    """Divide as integers are divided."""
    return replace(steps, divide=lambda sums, counts: np.floor_divide(sums, counts))


PAGE.steps_twist(
    "average rounded to integers",
    "AVGPOOL-1",
    (AVG,),
    says="rounded down to integers",
    look="An average has a fraction: divide with /, not with //.",
)(rounding_down)


@PAGE.steps_twist(
    "multiplied by the reciprocal",
    "AVGPOOL-1",
    (AVG,),
    says="when the sum is multiplied by 1/D instead of divided by D",
    look="Both are within the bound on rounding; sum / D has one rounding less.",
    within_rounding=True,
)
def _(steps: Steps) -> Steps:
    return replace(steps, divide=lambda sums, counts: sums * (1 / counts).astype(sums.dtype))


# --- AVGPOOL-2: what the divisor counts ------------------------------------------------------------------

PAGE.call_twist(
    "padding never counted",
    "AVGPOOL-2",
    (AVG, AVG_GRADIENT),
    says="without padding in the divisor, whatever count_include_pad says",
    look="With count_include_pad=True, the default, the divisor counts the padded positions of a window too.",
    dialect=("avgcount", "real"),
)(changing_call(lambda call: replace(call, count_include_pad=False)))

PAGE.call_twist(
    "padding always counted",
    "AVGPOOL-2",
    (AVG, AVG_GRADIENT),
    says="with padding in the divisor, whatever count_include_pad says",
    look="With count_include_pad=False the divisor counts only those positions of a window that lie in the "
    "input.",
)(changing_call(lambda call: replace(call, count_include_pad=True)))

PAGE.call_twist(
    "counting modes exchanged",
    "AVGPOOL-2",
    (AVG, AVG_GRADIENT),
    says="with count_include_pad read the wrong way round",
    look="count_include_pad=True divides by all positions in the padded input, False only by those in the "
    "input.",
)(changing_call(lambda call: replace(call, count_include_pad=not call.count_include_pad)))

# --- AVGPOOL-3: overhang never counts --------------------------------------------------------------------


def overhang(standard: Counts) -> Counts:
    """Count positions beyond the padding as well."""

    def counts(call: Call, positions: Positions) -> Array:
        usual = standard(call, positions)
        return np.full_like(usual, count_taps(positions)) if call.count_include_pad else usual

    return counts


def _overhang_without_padding(standard: Counts) -> Counts:
    def counts(call: Call, positions: Positions) -> Array:
        beyond = np.zeros((), bool)
        for p, n, (_, high) in zip(positions, call.size, call.window.padding, strict=True):
            beyond = beyond[..., None] | (p >= n + high).any(axis=1)
        return np.where(
            beyond,
            standard(replace(call, count_include_pad=False), positions),
            standard(call, positions),
        )

    return counts


PAGE.steps_twist(
    "overhang counted",
    "AVGPOOL-3",
    (AVG,),
    says="when positions beyond the padding count in the divisor",
    look="With ceil rounding the last window may hang over: count only its positions before n + p_hi.",
    dialect=("avgcount", "kernel"),
)(dividing_by(overhang))

PAGE.steps_twist(
    "overhang uncounted, and padding with it",
    "AVGPOOL-3",
    (AVG, AVG_GRADIENT),
    says="when windows that hang over do not count padding either",
    look="With count_include_pad=True a window that hangs over still counts its padded positions: those "
    "before n + p_hi.",
)(dividing_by(_overhang_without_padding))

# --- AVGPOOL-4: rounding ---------------------------------------------------------------------------------


@PAGE.steps_twist(
    "average accumulated in half",
    "AVGPOOL-4",
    (AVG,),
    says="when float16 elements are added up in float16",
    look="In float16, 2048 + 1 is 2048: add up in float32 and round the average once.",
)
def _(steps: Steps) -> Steps:
    def total(cols: Array) -> Array:
        if cols.dtype != np.float16:
            return steps.total(cols)
        rank = (cols.ndim - 2) // 2
        taps = cols.reshape(*cols.shape[:2], -1, *cols.shape[2 + rank :])
        return np.add.accumulate(taps, axis=2, dtype=np.float16)[:, :, -1]

    return replace(steps, total=total)
