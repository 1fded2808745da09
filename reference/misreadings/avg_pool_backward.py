"""Misreadings of the gradient of average pooling (AVGGRAD-1 and AVGGRAD-2)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convform.reference.call import Call
from convform.reference.checks import Array
from convform.reference.misreadings.avg_pool import (
    AVG_GRADIENT,
    count_taps,
    overhang,
    rounding_down,
    undivided,
)
from convform.reference.misreadings.max_pool_backward import misread_windows
from convform.reference.misreadings.misreading import Page, misread_dy
from convform.reference.misreadings.steps import Positions, Steps, assign, step

PAGE = Page("avg_pool_backward")

# --- AVGGRAD-1: adjoint of the average -------------------------------------------------------------------

misread_windows(PAGE, AVG_GRADIENT, "average gradient ignores the stride", "average")

PAGE.steps_twist("average gradient rounded to integers", (AVG_GRADIENT,))(rounding_down)


PAGE.steps_twist("average gradient not divided", (AVG_GRADIENT,))(undivided)


@PAGE.steps_twist("wrong count at the border", (AVG_GRADIENT,))
@step("divisor")
def _(steps: Steps, call: Call, positions: Positions) -> Array:
    return np.full_like(steps.divisor(call, positions), count_taps(positions))


PAGE.steps_twist("overhang counted in the gradient", (AVG_GRADIENT,), dialect=("avgcount", "kernel"))(
    overhang
)

PAGE.steps_twist("average gradient assigned", (AVG_GRADIENT,))(lambda steps: replace(steps, add=assign))


# --- AVGGRAD-2: refused dy -------------------------------------------------------------------------------

misread_dy(PAGE, AVG_GRADIENT, "average pooling")
