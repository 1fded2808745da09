"""Misreadings of max pooling, average pooling and their gradients (pages max_pool to avg_pool_backward)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from convform.reference.checks import Array
from convform.reference.evaluation import Outputs
from convform.reference.misreadings.misreading import (
    CallTwist,
    Evaluate,
    Inputs,
    Parameters,
    StepsTwist,
    call_twist,
    changing_outputs,
    changing_parameters,
    steps_twist,
)
from convform.reference.misreadings.steps import Positions, Steps, plane, real
from convform.reference.window import Size, Window

MAX, MAX_GRADIENT = "max_pool", "max_pool.backward"
AVG, AVG_GRADIENT = "avg_pool", "avg_pool.backward"

LARGE_NEGATIVE = -1e9
"""What people take for minus infinity."""

# --- MAXPOOL-1: value ------------------------------------------------------------------------------------


def lowest_finite(dtype: np.dtype[Any]) -> float:
    """Most negative finite number of a dtype."""
    return float(np.finfo(dtype).min) if dtype.kind == "f" else int(np.iinfo(dtype).min)


def as_element(value: float, dtype: np.dtype[Any]) -> Array:
    """Write a number in a dtype; what an integer dtype cannot hold becomes its smallest number."""
    with np.errstate(over="ignore"):
        return np.asarray(value if dtype.kind == "f" else max(value, lowest_finite(dtype))).astype(dtype)


def starting_at(start: Callable[[np.dtype[Any]], float]) -> CallTwist:
    """Start the running maximum at a number: a window below it selects nothing."""

    def twist(evaluate: Evaluate) -> Evaluate:
        def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
            x = inputs["x"]
            first = as_element(start(x.dtype), x.dtype)
            if not operator.endswith(".backward"):
                outputs = evaluate(operator, inputs, parameters)
                below = outputs["y"] < first
                index = np.where(below, -1, outputs["indices"])
                return {**outputs, "y": np.where(below, first, outputs["y"]), "indices": index}
            y = evaluate(operator.removesuffix(".backward"), {"x": x}, parameters)["y"]
            # Let the standard refuse a dy of another shape.
            dy = np.where(y < first, 0, inputs["dy"]) if y.shape == inputs["dy"].shape else inputs["dy"]
            return evaluate(operator, {**inputs, "dy": dy.astype(inputs["dy"].dtype)}, parameters)

        return twisted

    return twist


call_twist(
    "maximum starts at zero",
    "MAXPOOL-1",
    (MAX, MAX_GRADIENT),
    says="when the running maximum starts at 0",
    look="A window of negative numbers has a negative maximum: start from −∞ (for integers: the smallest "
    "one), or from the first element of the window.",
)(starting_at(lambda dtype: 0))

call_twist(
    "maximum starts at a large negative number",
    "MAXPOOL-1",
    (MAX, MAX_GRADIENT),
    says="when the running maximum starts at −1e9",
    look="Inputs may be smaller than any number that looks small enough: start from −∞ (for integers: the "
    "smallest one), or from the first element of the window.",
)(starting_at(lambda dtype: LARGE_NEGATIVE))


def _first_window(outputs: Outputs, inputs: Inputs, parameters: Parameters) -> Outputs:
    first = np.zeros(outputs["y"].shape[2:], bool)
    first[(slice(0, 1),) * first.ndim] = True
    return {name: np.where(first, array, np.zeros((), array.dtype)) for name, array in outputs.items()}


call_twist(
    "first window only",
    "MAXPOOL-1",
    (MAX,),
    says="for the first window of each plane, and 0 for all others",
    look="Every window has a maximum. Is the return statement inside the loop?",
)(changing_outputs(_first_window))


@steps_twist(
    "largest magnitude",
    "MAXPOOL-1",
    (MAX, MAX_GRADIENT),
    says="when the element of the largest absolute value is selected",
    look="The largest element is asked for, and −2 is smaller than 1: compare the elements, not their "
    "absolute values.",
)
def _(steps: Steps) -> Steps:
    def select(cols: Array, real: Array) -> Array:
        return steps.select(np.where(real, np.abs(cols), cols), real)

    return replace(steps, select=select)


# --- MAXPOOL-2 and MAXPOOL-3: padding, and windows of nothing else ---------------------------------------


def padding_with(value: Callable[[np.dtype[Any]], float]) -> StepsTwist:
    """Let padding, and whatever lies beyond it, take part in the comparison with a number."""

    def twist(steps: Steps) -> Steps:
        def read(x: Array, positions: Positions, outside: Any) -> Array:
            return steps.read(x, positions, as_element(value(x.dtype), x.dtype))

        def select(cols: Array, real: Array) -> Array:
            return steps.select(cols, np.ones_like(real))

        return replace(steps, read=read, select=select)

    return twist


steps_twist(
    "padding counts as zero",
    "MAXPOOL-2",
    (MAX, MAX_GRADIENT),
    says="when padding counts as 0",
    look="A 0 from the border beats negative elements: pad with −∞, or take the maximum over real elements "
    "only.",
    dialect=("maxpad", "zero"),
)(padding_with(lambda dtype: 0))

steps_twist(
    "padding counts as a large negative number",
    "MAXPOOL-2",
    (MAX, MAX_GRADIENT),
    says="when padding counts as −1e9",
    look="Elements below −1e9 lose against the border: pad with −∞ (for integers: the smallest one), or "
    "take the maximum over real elements only.",
)(padding_with(lambda dtype: LARGE_NEGATIVE))

steps_twist(
    "empty window gives the lowest finite number",
    "MAXPOOL-3",
    (MAX,),
    says="when padding counts as the lowest finite number",
    look="A window with no real element has the maximum −∞ (for integers: the smallest one): pad with −∞ "
    "instead of the lowest finite number.",
    dialect=("maxpad", "lowest"),
)(padding_with(lowest_finite))


def _no_element(outputs: Outputs) -> Array:
    """Windows that see no element of the input."""
    return np.asarray(outputs["indices"] < 0)


call_twist(
    "empty window gives zero",
    "MAXPOOL-3",
    (MAX,),
    says="with 0 for windows that lie in padding altogether",
    look="The maximum of nothing is −∞ (for integers: the smallest one), with index −1.",
)(
    changing_outputs(
        lambda outputs, inputs, parameters: {"y": np.where(_no_element(outputs), 0, outputs["y"])}
    )
)


def window_of(parameters: Parameters) -> Window:
    """Build the window of a pooling operator."""
    names = ("kernel", "stride", "padding", "dilation", "ceil_mode")
    return Window.of(*(parameters[name] for name in names))


def _first_beyond(outputs: Outputs, inputs: Inputs, parameters: Parameters) -> Outputs:
    """Walk from the start of an empty window in steps of the dilation until the border is passed."""
    window, size = window_of(parameters), inputs["x"].shape[2:]
    corners = _grid(
        [
            [start if start >= 0 else start % d for start in range(-low, o * s - low, s)]
            for o, s, d, (low, _) in zip(
                outputs["y"].shape[2:], window.stride, window.dilation, window.padding, strict=True
            )
        ]
    )
    return {"indices": np.where(_no_element(outputs), row_major(corners, size), outputs["indices"])}


def _grid(per_axis: Sequence[Sequence[int]]) -> list[Array]:
    return list(np.meshgrid(*(np.array(values, int) for values in per_axis), indexing="ij"))


def row_major(coordinates: Sequence[Array], size: Sequence[int]) -> Array:
    """Number positions row by row: h·W + w."""
    index = np.zeros_like(coordinates[0])
    for coordinate, n in zip(coordinates, size, strict=True):
        index = index * n + coordinate
    return index


call_twist(
    "empty window has an index outside of the plane",
    "MAXPOOL-3",
    (MAX,),
    says="with the index of a position beyond the input for windows that lie in padding altogether",
    look="A window with no real element selects nothing: its index is −1.",
)(changing_outputs(_first_beyond))

# --- MAXPOOL-4: NaN and infinities -----------------------------------------------------------------------


@steps_twist(
    "nan ignored",
    "MAXPOOL-4",
    (MAX,),
    says="when NaN is skipped",
    look="A window that sees a NaN gives NaN: np.maximum and max() of an array keep it, np.fmax and "
    "np.nanmax do not.",
    dialect=("nan", "ignore"),
)
def _(steps: Steps) -> Steps:
    def select(cols: Array, real: Array) -> Array:
        seen = real & ~np.isnan(cols)
        numbers = np.where(np.isnan(cols), -np.inf, cols) if cols.dtype.kind == "f" else cols
        return np.where(seen.any(axis=2), steps.select(numbers, seen), steps.select(cols, real))

    return replace(steps, select=select)


@steps_twist(
    "nan only where it comes first",
    "MAXPOOL-4",
    (MAX,),
    says="when NaN only counts where it is the first element of its window",
    look="No comparison with NaN is true, so `if v > best` never takes a NaN over, and never leaves one "
    "either. Ask for NaN explicitly, or use np.maximum.",
)
def _(steps: Steps) -> Steps:
    def select(cols: Array, real: Array) -> Array:
        seen = real & ~np.isnan(cols)
        first = np.broadcast_to(real.argmax(axis=0), cols[:, :, 0].shape)
        number = ~np.isnan(np.take_along_axis(cols, first[:, :, None], axis=2)[:, :, 0])
        numbers = np.where(np.isnan(cols), -np.inf, cols) if cols.dtype.kind == "f" else cols
        return np.where(number & real.any(axis=0), steps.select(numbers, seen), np.where(number, -1, first))

    return replace(steps, select=select)


call_twist(
    "nan has no index",
    "MAXPOOL-4",
    (MAX,),
    says="when the index is looked for among the elements that equal the maximum, as none equals NaN",
    look="NaN equals nothing, not even itself, so `x == y` finds no element in a window that holds one: "
    "select by argmax, or take the index along with the maximum.",
)(
    changing_outputs(
        lambda outputs, inputs, parameters: {
            "indices": np.where(np.isnan(outputs["y"]), math.prod(inputs["x"].shape[2:]), outputs["indices"])
        }
    )
)


call_twist(
    "minus infinity replaced",
    "MAXPOOL-4",
    (MAX, MAX_GRADIENT),
    says="when the running maximum starts at the lowest finite number",
    look="A window of −∞ alone has the maximum −∞, and its gradient goes to the first of them: start from "
    "−∞, or from the first element.",
)(starting_at(lowest_finite))

# --- MAXPOOL-5: indices ----------------------------------------------------------------------------------


def numbering(formula: Callable[[list[Array], Window, tuple[int, ...]], Array]) -> CallTwist:
    """Number the selected elements in another way: `formula(coordinates, window, shape of x)`."""

    def change(outputs: Outputs, inputs: Inputs, parameters: Parameters) -> Outputs:
        index, shape = outputs["indices"], inputs["x"].shape
        coordinates: list[Array] = []
        rest = index
        for n in reversed(shape[2:]):
            rest, coordinate = np.divmod(rest, n)
            coordinates.insert(0, coordinate)
        return {"indices": np.where(index < 0, index, formula(coordinates, window_of(parameters), shape))}

    return changing_outputs(change)


def _in_window(coordinates: list[Array], window: Window, shape: tuple[int, ...]) -> Array:
    starts = _grid(
        [
            [i * s - low for i in range(o)]
            for o, s, (low, _) in zip(coordinates[0].shape[2:], window.stride, window.padding, strict=True)
        ]
    )
    taps = [(q - start) // d for q, start, d in zip(coordinates, starts, window.dilation, strict=True)]
    return row_major(taps, window.kernel)


def _in_padded_plane(coordinates: list[Array], window: Window, shape: tuple[int, ...]) -> Array:
    size = [n + low + high for n, (low, high) in zip(shape[2:], window.padding, strict=True)]
    return row_major([q + low for q, (low, _) in zip(coordinates, window.padding, strict=True)], size)


def _in_array(coordinates: list[Array], window: Window, shape: tuple[int, ...]) -> Array:
    samples, channels = np.indices(coordinates[0].shape)[:2]
    return row_major([samples, channels, *coordinates], shape)


def _channels_last(coordinates: list[Array], window: Window, shape: tuple[int, ...]) -> Array:
    channels = np.indices(coordinates[0].shape)[1]
    return row_major([*coordinates, channels], (*shape[2:], shape[1]))


def _column_major(coordinates: list[Array], window: Window, shape: tuple[int, ...]) -> Array:
    return row_major(coordinates[::-1], shape[:1:-1])


call_twist(
    "index in the window",
    "MAXPOOL-5",
    (MAX,),
    says="with indices that count inside each window (kh·KW + kw)",
    look="An index is a position in the unpadded plane: add the start of the window before you write h·W + "
    "w.",
    dialect=("index", "window"),
)(numbering(_in_window))

call_twist(
    "index in the padded plane",
    "MAXPOOL-5",
    (MAX,),
    says="with indices that count the padding too",
    look="An index is a position in the unpadded plane: subtract the padding from row and column, and "
    "multiply the row by W, not by the padded width.",
)(numbering(_in_padded_plane))

call_twist(
    "index in the whole array",
    "MAXPOOL-5",
    (MAX,),
    says="with indices that count through samples and channels",
    look="Indices start at 0 in every plane: h·W + w, without the offset of sample and channel.",
    dialect=("index", "nchw"),
)(numbering(_in_array))

call_twist(
    "index with channels last",
    "MAXPOOL-5",
    (MAX,),
    says="with indices that count (h·W + w)·C + c",
    look="Channels do not enter the count: h·W + w, whatever the layout of the arrays.",
    dialect=("index", "nhwc"),
)(numbering(_channels_last))

call_twist(
    "index column by column",
    "MAXPOOL-5",
    (MAX,),
    says="with indices that count column by column (w·H + h)",
    look="Positions are counted row by row: h·W + w.",
)(numbering(_column_major))

# --- MAXPOOL-6 and MAXGRAD-1: which element is selected, and what it gets --------------------------------


def last_of_equals(steps: Steps) -> Steps:
    """Select the last maximum of every window."""

    def select(cols: Array, real: Array) -> Array:
        tap = steps.select(cols[:, :, ::-1], real[::-1])
        return np.where(tap < 0, tap, cols.shape[2] - 1 - tap)

    return replace(steps, select=select)


steps_twist(
    "last maximum",
    "MAXPOOL-6",
    (MAX,),
    says="when the last of equal elements is selected",
    look="Among equal elements the first one in row-major order of the window counts: compare with > and "
    "not with >=.",
    dialect=("ties", "last"),
)(last_of_equals)

steps_twist(
    "gradient to the last maximum",
    "MAXGRAD-1",
    (MAX_GRADIENT,),
    says="when the gradient goes to the last of equal elements",
    look="Among equal elements the first one in row-major order of the window gets dy: compare with > and "
    "not with >=.",
    dialect=("ties", "last"),
)(last_of_equals)


@call_twist(
    "ties counted column by column",
    "MAXPOOL-6",
    (MAX, MAX_GRADIENT),
    says="when ties are decided column by column",
    look="Among equal elements the first one row by row counts. Is your inner loop the one over the rows?",
)
def _(evaluate: Evaluate) -> Evaluate:
    # In the plane with its spatial axes reversed, columns are rows.
    def reversed_axes(array: Array) -> Array:
        return array.transpose(0, 1, *range(array.ndim - 1, 1, -1))

    def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
        turned = {
            name: value[::-1] if isinstance(value, tuple) else value for name, value in parameters.items()
        }
        outputs = evaluate(operator, {name: reversed_axes(array) for name, array in inputs.items()}, turned)
        answer = {name: reversed_axes(array) for name, array in outputs.items()}
        if "indices" not in answer:
            return answer
        # What was counted row by row in the reversed plane is now counted column by column.
        shape = inputs["x"].shape
        back = numbering(lambda coordinates, window, _: row_major(coordinates[::-1], shape[2:]))
        plane = {"x": reversed_axes(inputs["x"])}
        return back(lambda *_: answer)(operator, plane, parameters)

    return twisted


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


@steps_twist(
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


@steps_twist(
    "ties split",
    "MAXGRAD-1",
    (MAX_GRADIENT,),
    says="when dy is divided among equal elements",
    look="One element of each window gets all of dy, the first maximum.",
    dialect=("ties", "split"),
)
def _(steps: Steps) -> Steps:
    return among_equals(steps, lambda dy, equals: dy / equals)


@steps_twist(
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


def backward_window(**fields: Callable[[Window], Any]) -> StepsTwist:
    """Let the gradient, and only the gradient, take its windows from changed fields of the window."""

    def twist(steps: Steps) -> Steps:
        standard = steps.backward_positions or steps.positions

        def positions(window: Window, size: Size, output: Size) -> Positions:
            return standard(replace(window, **{k: of(window) for k, of in fields.items()}), size, output)

        return replace(steps, backward_positions=positions)

    return twist


def _ones(window: Window) -> Size:
    return (1,) * window.rank


def _no_padding(window: Window) -> tuple[tuple[int, int], ...]:
    return ((0, 0),) * window.rank


for _family, _clause, _stride_name, _which in (
    (MAX_GRADIENT, "MAXGRAD-1", "backward windows ignore the stride", "max"),
    (AVG_GRADIENT, "AVGGRAD-1", "average gradient ignores the stride", "average"),
):
    steps_twist(
        _stride_name,
        _clause,
        (_family,),
        says="with window i of the gradient at i instead of i·s",
        look="The gradient belongs to the windows of the forward pass: slice from i·stride, not from i.",
    )(backward_window(stride=_ones))
    steps_twist(
        f"{_which} gradient ignores the dilation",
        _clause,
        (_family,),
        says="without dilation in the gradient",
        look="The gradient belongs to the windows of the forward pass: tap j of a window lies j·dilation "
        "behind its start.",
    )(backward_window(dilation=_ones))
    steps_twist(
        f"{_which} gradient ignores the padding",
        _clause,
        (_family,),
        says="without padding in the gradient",
        look="The gradient belongs to the windows of the forward pass: window i starts at i·stride − "
        "padding.",
    )(backward_window(padding=_no_padding))


@steps_twist(
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


# --- MAXGRAD-2: overlapping windows ----------------------------------------------------------------------


def assign(cols: Array, positions: Positions, size: Size) -> Array:
    """Write columns where they belong, window after window: what was there before is lost.

    Masked elements of a masked array are not written.
    """
    rank, planes = len(positions), math.prod(cols.shape[:2])
    # Where an element is written twice, NumPy keeps the last value: windows in order, then taps.
    order = (0, 1, *range(2 + rank, 2 + 2 * rank), *range(2, 2 + rank))
    offset = np.arange(planes).reshape(*cols.shape[:2], *(1,) * (2 * rank)) * math.prod(size)
    where = (offset + plane(positions, size)).transpose(order)
    written = (~np.ma.getmaskarray(cols) & real(positions, size)).transpose(order)
    x = np.zeros(planes * math.prod(size), cols.dtype)
    x[where[written]] = np.asarray(cols).transpose(order)[written]
    return x.reshape(*cols.shape[:2], *size)


def marked(cols: Array, tap: Array, values: Array) -> Array:
    """Give `values` ("n c t oh ow") to the selected taps; all others are masked."""
    taps = np.arange(cols.shape[2]).reshape(-1, *(1,) * (tap.ndim - 2))
    selected = taps == tap[:, :, None]
    masked: Array = np.ma.masked_array(np.broadcast_to(values, selected.shape), mask=~selected)
    return masked


@steps_twist(
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


@steps_twist(
    "overlapping windows overwritten",
    "MAXGRAD-2",
    (MAX_GRADIENT,),
    says="when each window overwrites what earlier windows gave to its elements, with zeros too",
    look="Windows that overlap add up: dx[window] += mask * dy, not =.",
)
def _(steps: Steps) -> Steps:
    return replace(steps, add=assign)


@steps_twist(
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


# --- AVGPOOL-1 and AVGPOOL-4: sum, then divide -----------------------------------------------------------

Counts = Callable[[Window, Size, Positions, bool], Array]


def dividing_by(counts: Callable[[Counts], Counts]) -> StepsTwist:
    """Divide by other counts: `counts(standard)` is a function like the standard's."""
    return lambda steps: replace(steps, divisor=counts(steps.divisor))


def _taps(positions: Positions) -> int:
    return math.prod(p.shape[1] for p in positions)


def _squared_height(standard: Counts) -> Counts:
    def counts(window: Window, size: Size, positions: Positions, count_include_pad: bool) -> Array:
        usual = standard(window, size, positions, count_include_pad)
        return np.where(usual == _taps(positions), window.kernel[0] ** window.rank, usual)

    return counts


def _strides(standard: Counts) -> Counts:
    def counts(window: Window, size: Size, positions: Positions, count_include_pad: bool) -> Array:
        usual = standard(window, size, positions, count_include_pad)
        return np.where(usual == _taps(positions), math.prod(window.stride), usual)

    return counts


def _one(standard: Counts) -> Counts:
    def counts(window: Window, size: Size, positions: Positions, count_include_pad: bool) -> Array:
        return np.ones_like(standard(window, size, positions, count_include_pad))

    return counts


steps_twist(
    "divisor is the squared height",
    "AVGPOOL-1",
    (AVG,),
    says="with kh·kh in place of kh·kw as the divisor",
    look="Divide by the number of elements in the window, kh·kw: a kernel need not be square.",
)(dividing_by(_squared_height))

steps_twist(
    "divisor is the product of the strides",
    "AVGPOOL-1",
    (AVG,),
    says="with the product of the strides in place of kh·kw as the divisor",
    look="Divide by the number of elements in the window, kh·kw; the stride equals the kernel only by "
    "default.",
)(dividing_by(_strides))

steps_twist(
    "average not divided",
    "AVGPOOL-1",
    (AVG,),
    says="before the division: the sum of each window",
    look="Divide the sum of each window by the number of elements that count.",
)(dividing_by(_one))


def _rounding_down(steps: Steps) -> Steps:
    return replace(steps, divide=lambda sums, counts: np.floor_divide(sums, counts))


steps_twist(
    "average rounded to integers",
    "AVGPOOL-1",
    (AVG,),
    says="rounded down to integers",
    look="An average has a fraction: divide with /, not with //.",
)(_rounding_down)

steps_twist(
    "average gradient rounded to integers",
    "AVGGRAD-1",
    (AVG_GRADIENT,),
    says="with every share of dy rounded down to an integer",
    look="A share has a fraction: divide dy with /, not with //.",
)(_rounding_down)


@steps_twist(
    "multiplied by the reciprocal",
    "AVGPOOL-1",
    (AVG,),
    says="when the sum is multiplied by 1/D instead of divided by D",
    look="Both are within the bound on rounding; sum / D has one rounding less.",
    within_rounding=True,
)
def _(steps: Steps) -> Steps:
    return replace(steps, divide=lambda sums, counts: sums * (1 / counts).astype(sums.dtype))


@steps_twist(
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


# --- AVGPOOL-2, AVGPOOL-3 and AVGGRAD-1: what the divisor counts -----------------------------------------

call_twist(
    "padding never counted",
    "AVGPOOL-2",
    (AVG, AVG_GRADIENT),
    says="without padding in the divisor, whatever count_include_pad says",
    look="With count_include_pad=True, the default, the divisor counts the padded positions of a window too.",
    dialect=("avgcount", "real"),
)(changing_parameters(lambda parameters, inputs: {"count_include_pad": False}))

call_twist(
    "padding always counted",
    "AVGPOOL-2",
    (AVG, AVG_GRADIENT),
    says="with padding in the divisor, whatever count_include_pad says",
    look="With count_include_pad=False the divisor counts only those positions of a window that lie in the "
    "input.",
)(changing_parameters(lambda parameters, inputs: {"count_include_pad": True}))

call_twist(
    "counting modes exchanged",
    "AVGPOOL-2",
    (AVG, AVG_GRADIENT),
    says="with count_include_pad read the wrong way round",
    look="count_include_pad=True divides by all positions in the padded input, False only by those in the "
    "input.",
)(
    changing_parameters(
        lambda parameters, inputs: {"count_include_pad": not parameters.get("count_include_pad", True)}
    )
)


def _overhang(standard: Counts) -> Counts:
    def counts(window: Window, size: Size, positions: Positions, count_include_pad: bool) -> Array:
        usual = standard(window, size, positions, count_include_pad)
        return np.full_like(usual, _taps(positions)) if count_include_pad else usual

    return counts


def _overhang_without_padding(standard: Counts) -> Counts:
    def counts(window: Window, size: Size, positions: Positions, count_include_pad: bool) -> Array:
        beyond = np.zeros((), bool)
        for p, n, (_, high) in zip(positions, size, window.padding, strict=True):
            beyond = beyond[..., None] | (p >= n + high).any(axis=1)
        return np.where(
            beyond,
            standard(window, size, positions, False),
            standard(window, size, positions, count_include_pad),
        )

    return counts


def _all_taps(standard: Counts) -> Counts:
    def counts(window: Window, size: Size, positions: Positions, count_include_pad: bool) -> Array:
        return np.full_like(standard(window, size, positions, count_include_pad), _taps(positions))

    return counts


steps_twist(
    "overhang counted",
    "AVGPOOL-3",
    (AVG,),
    says="when positions beyond the padding count in the divisor",
    look="With ceil rounding the last window may hang over: count only its positions before n + p_hi.",
    dialect=("avgcount", "kernel"),
)(dividing_by(_overhang))

steps_twist(
    "overhang uncounted, and padding with it",
    "AVGPOOL-3",
    (AVG, AVG_GRADIENT),
    says="when windows that hang over do not count padding either",
    look="With count_include_pad=True a window that hangs over still counts its padded positions: those "
    "before n + p_hi.",
)(dividing_by(_overhang_without_padding))

steps_twist(
    "average gradient not divided",
    "AVGGRAD-1",
    (AVG_GRADIENT,),
    says="when every element gets the whole dy",
    look="Each element of a window gets dy divided by the divisor of the forward pass.",
)(dividing_by(_one))

steps_twist(
    "wrong count at the border",
    "AVGGRAD-1",
    (AVG_GRADIENT,),
    says="when dy is divided by the size of the kernel at the border too",
    look="Each window divides by its own divisor, the one of the forward pass: at the border it can be "
    "smaller than kh·kw.",
)(dividing_by(_all_taps))

steps_twist(
    "overhang counted in the gradient",
    "AVGGRAD-1",
    (AVG_GRADIENT,),
    says="when positions beyond the padding count in the divisor",
    look="With ceil rounding the last window may hang over: its divisor is that of the forward pass, which "
    "counts positions before n + p_hi.",
    dialect=("avgcount", "kernel"),
)(dividing_by(_overhang))


@steps_twist(
    "average gradient assigned",
    "AVGGRAD-1",
    (AVG_GRADIENT,),
    says="when an element in several windows keeps the share of the last one",
    look="Overlapping windows add up: dx[window] += dy / D, not =.",
)
def _(steps: Steps) -> Steps:
    return replace(steps, add=assign)
