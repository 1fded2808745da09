"""Misreadings of the gradient of average pooling (AVGGRAD-1 and AVGGRAD-2)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convform.reference.call import Call
from convform.reference.checks import Array
from convform.reference.misreadings.avg_pool import (
    AVG_GRADIENT,
    Counts,
    count_taps,
    dividing_by,
    overhang,
    rounding_down,
    undivided,
)
from convform.reference.misreadings.max_pool_backward import misread_windows
from convform.reference.misreadings.misreading import Page, misread_dy
from convform.reference.misreadings.steps import Positions, Steps, assign

PAGE = Page("avg_pool_backward", "AVGGRAD")


# --- AVGGRAD-1: adjoint of the average -------------------------------------------------------------------

misread_windows(PAGE, "AVGGRAD-1", AVG_GRADIENT, "average gradient ignores the stride", "average")

PAGE.steps_twist(
    "average gradient rounded to integers",
    "AVGGRAD-1",
    (AVG_GRADIENT,),
    says="with every share of dy rounded down to an integer",
    look="A share has a fraction: divide dy with /, not with //.",
)(rounding_down)


def _all_taps(standard: Counts) -> Counts:
    def counts(call: Call, positions: Positions) -> Array:
        return np.full_like(standard(call, positions), count_taps(positions))

    return counts


PAGE.steps_twist(
    "average gradient not divided",
    "AVGGRAD-1",
    (AVG_GRADIENT,),
    says="when every element gets the whole dy",
    look="Each element of a window gets dy divided by the divisor of the forward pass.",
)(dividing_by(undivided))

PAGE.steps_twist(
    "wrong count at the border",
    "AVGGRAD-1",
    (AVG_GRADIENT,),
    says="when dy is divided by the size of the kernel at the border too",
    look="Each window divides by its own divisor, the one of the forward pass: at the border it can be "
    "smaller than kh·kw.",
)(dividing_by(_all_taps))

PAGE.steps_twist(
    "overhang counted in the gradient",
    "AVGGRAD-1",
    (AVG_GRADIENT,),
    says="when positions beyond the padding count in the divisor",
    look="With ceil rounding the last window may hang over: its divisor is that of the forward pass, which "
    "counts positions before n + p_hi.",
    dialect=("avgcount", "kernel"),
)(dividing_by(overhang))


@PAGE.steps_twist(
    "average gradient assigned",
    "AVGGRAD-1",
    (AVG_GRADIENT,),
    says="when an element in several windows keeps the share of the last one",
    look="Overlapping windows add up: dx[window] += dy / D, not =.",
)
def _(steps: Steps) -> Steps:
    return replace(steps, add=assign)


# --- AVGGRAD-2: refused dy -------------------------------------------------------------------------------

misread_dy(PAGE, "AVGGRAD-2", AVG_GRADIENT, "average pooling")
