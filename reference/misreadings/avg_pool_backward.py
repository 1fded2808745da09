"""Misreadings of the gradient of average pooling (AVGGRAD-1 and AVGGRAD-2)."""

from __future__ import annotations

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
from convform.reference.misreadings.steps import Positions, assigning

PAGE = Page("avg_pool_backward")

# --- AVGGRAD-1: adjoint of the average -------------------------------------------------------------------

misread_windows(PAGE, AVG_GRADIENT, "average gradient ignores the stride", "average")

PAGE.steps_twist("average gradient rounded to integers", (AVG_GRADIENT,))(rounding_down)


def _all_taps(standard: Counts) -> Counts:
    def counts(call: Call, positions: Positions) -> Array:
        return np.full_like(standard(call, positions), count_taps(positions))

    return counts


PAGE.steps_twist("average gradient not divided", (AVG_GRADIENT,))(dividing_by(undivided))

PAGE.steps_twist("wrong count at the border", (AVG_GRADIENT,))(dividing_by(_all_taps))

PAGE.steps_twist("overhang counted in the gradient", (AVG_GRADIENT,), dialect=("avgcount", "kernel"))(
    dividing_by(overhang)
)


PAGE.steps_twist("average gradient assigned", (AVG_GRADIENT,))(assigning())


# --- AVGGRAD-2: refused dy -------------------------------------------------------------------------------

misread_dy(PAGE, AVG_GRADIENT, "average pooling")
