"""Misreadings of layouts (LAYOUT-1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from convform.reference.call import Call
from convform.reference.checks import Array
from convform.reference.evaluation import Outputs
from convform.reference.misreadings.misreading import (
    Asked,
    CallTwist,
    Inputs,
    Page,
    Reorder,
    changing_call,
    changing_inputs,
    rank_of,
    reordered,
    weights_read_in_order,
)

PAGE = Page("layout")

COLUMNS = ("im2col", "col2im")


# --- LAYOUT-1: named axes --------------------------------------------------------------------------------


def tap_first(cols: Array) -> Array:
    """Order the rows (kh kw c) and read them as (c kh kw)."""
    rank = rank_of(cols)
    return np.moveaxis(cols, 1, 1 + rank).reshape(cols.shape)


def tap_first_weights(w: Array, groups: int) -> Array:
    """Read weights "o i kh kw" as if their rows were (kh kw i)."""
    o, i, *kernel = w.shape
    return np.moveaxis(w.reshape(o, *kernel, i), -1, 1)


def _columns_tap_first() -> CallTwist:
    in_columns = reordered(tap_first)
    in_weights = weights_read_in_order(tap_first_weights)

    def twist(evaluate: Asked) -> Asked:
        columns, weights = in_columns(evaluate), in_weights(evaluate)

        def twisted(operator: str, inputs: Inputs, call: Call) -> Outputs:
            chosen = weights if "w" in inputs else columns
            return chosen(operator, inputs, call)

        return twisted

    return twist


PAGE.call_twist("columns ordered tap first", (*COLUMNS, "conv", "conv.backward"))(_columns_tap_first())


def _reversed_axes(array: Array, first: int, count: int) -> Array:
    axes = list(range(array.ndim))
    axes[first : first + count] = axes[first : first + count][::-1]
    return array.transpose(axes)


def _axes_reversed_from(first: Callable[[int], int]) -> Reorder:
    """Reverse the spatial axes that start at `first(rank)` without changing the shape."""

    def reorder(cols: Array) -> Array:
        rank = rank_of(cols)
        return _reversed_axes(cols, first(rank), rank).reshape(cols.shape)

    return reorder


PAGE.call_twist("taps transposed", COLUMNS)(reordered(_axes_reversed_from(lambda rank: 2)))

PAGE.call_twist("windows transposed", (*COLUMNS, "conv"))(
    reordered(
        _axes_reversed_from(lambda rank: 2 + rank),
        lambda y: _reversed_axes(y, 2, y.ndim - 2).reshape(y.shape),
    )
)


def _samples_last(cols: Array) -> Array:
    """Order the columns (oh ow n) and read them as (n oh ow)."""
    rank, (n, *rest) = rank_of(cols), cols.shape
    mixed = np.moveaxis(cols, 0, -1).reshape(*rest[: 1 + rank], n, *rest[1 + rank :])
    return np.moveaxis(mixed, 1 + rank, 0)


def _samples_last_in_y(y: Array) -> Array:
    n, o, *windows = y.shape
    return np.moveaxis(y, 0, -1).reshape(o, n, *windows).swapaxes(0, 1)


PAGE.call_twist("samples mixed into columns", (*COLUMNS, "conv"))(
    reordered(_samples_last, _samples_last_in_y)
)


def _windows_then_taps(cols: Array) -> Array:
    """Order the axes n c oh ow kh kw and read them as n c kh kw oh ow."""
    rank = rank_of(cols)
    return np.moveaxis(cols, range(2, 2 + rank), range(-rank, 0)).reshape(cols.shape)


PAGE.call_twist("reshape instead of transpose", (*COLUMNS, "conv"))(
    reordered(_windows_then_taps, lambda y: np.moveaxis(y, 1, -1).reshape(y.shape))
)


def _transposed(inputs: dict[str, Array], call: Call) -> dict[str, Array]:
    if "x" not in inputs:
        return {}
    return {"x": _reversed_axes(inputs["x"], 2, inputs["x"].ndim - 2)}


def _transposed_size(call: Call) -> Call:
    return replace(call, size=call.size[::-1])


PAGE.call_twist("height and width exchanged", (*COLUMNS, "conv"))(
    lambda evaluate: changing_inputs(_transposed)(changing_call(_transposed_size)(evaluate))
)
