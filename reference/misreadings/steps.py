"""The operators taken apart into steps, each of which can be replaced: what misreadings are made of.

`evaluate_steps` gives what `convform.reference.evaluate` gives; but where windows lie, how elements are
read and added up, which element a maximum selects and what an average is divided by are fields of `Steps`.
A misreading of the standard replaces one of them, and leaves everything else as it should be.

Positions are element indices along each axis, "o k": entry (i, j) is the element that tap j of window i
reads. What lies outside [0, n) is padding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any

import numpy as np

from convform.reference import checks
from convform.reference.call import Call, row_of
from convform.reference.checks import Array
from convform.reference.evaluation import Outputs, Parameters, by_family, evaluate_with
from convform.reference.window import Size, Window

Positions = tuple[Array, ...]
Count = Callable[[Call], Size]
CallChange = Callable[[Call], Call]
StepsTwist = Callable[["Steps"], "Steps"]

NOWHERE = -(1 << 30)
"""A position that is outside of every input."""


def output_size(call: Call) -> Size:
    """Number of windows along each axis (clauses WINDOW-1 and WINDOW-5).

    A misread window may have none, or fewer: refusing is left to the call, which knows the one given.
    """
    return call.window.count(call.size)


def positions(call: Call, output: Size) -> Positions:
    """Elements that every window reads (clauses WINDOW-2 to WINDOW-4)."""
    return call.window.positions(output)


def real(positions: Positions, size: Size) -> Array:
    """Whether a tap of a window lies on an element of the input, "kh kw oh ow"."""
    inside = [((p >= 0) & (p < n)).T for p, n in zip(positions, size, strict=True)]
    return _outer(np.logical_and, inside)


def plane(positions: Positions, size: Size) -> Array:
    """Row-major index of every tap in the plane of size `size`, "kh kw oh ow"; meaningless in padding."""
    strides = [math.prod(size[axis + 1 :]) for axis in range(len(size))]
    return _outer(np.add, [p.T * stride for p, stride in zip(positions, strides, strict=True)])


def _outer(combine: np.ufunc, per_axis: list[Array]) -> Array:
    """Combine arrays "k o" of every axis into one "kh kw oh ow"."""
    rank = len(per_axis)
    each = reduce(combine.outer, per_axis)  # kh oh kw ow
    return np.ascontiguousarray(each.transpose(*range(0, 2 * rank, 2), *range(1, 2 * rank, 2)))


def read(x: Array, positions: Positions, outside: Any) -> Array:
    """Gather "n c kh kw oh ow" from x; padding reads `outside` (clauses IM2COL-1 and IM2COL-2)."""
    size = x.shape[2:]
    if x.size == 0:
        shape = (*x.shape[:2], *(p.shape[1] for p in positions), *(len(p) for p in positions))
        return np.full(shape, outside, x.dtype)
    clipped = tuple(np.clip(p, 0, n - 1) for p, n in zip(positions, size, strict=True))
    values = x.reshape(*x.shape[:2], -1)[:, :, plane(clipped, size)]
    return np.where(real(positions, size), values, np.asarray(outside, x.dtype))


def add(cols: Array, positions: Positions, size: Size) -> Array:
    """Add columns "n c kh kw oh ow" up where they belong; padding is dropped (COL2IM-1 and COL2IM-2)."""
    x = np.zeros((*cols.shape[:2], math.prod(size)), checks.accumulator(cols.dtype))
    inside = real(positions, size)
    elements: Any = (slice(None), slice(None), plane(positions, size)[inside])
    np.add.at(x, elements, cols[:, :, inside])
    return x.reshape(*cols.shape[:2], *size).astype(cols.dtype, copy=False)


def select(cols: Array, real: Array) -> Array:
    """Choose the first maximum of every window among its real taps (clauses MAXPOOL-1, -2, -4 and -6).

    Parameters
    ----------
    cols
        "n c t oh ow", t counting the taps row by row; padding holds the least value of the dtype.
    real
        "t oh ow": which taps are elements.

    Returns
    -------
    tap
        "n c oh ow": the number of the selected tap; −1 where no tap is real (clause MAXPOOL-3).
    """
    marked = np.where(np.isnan(cols), np.inf, cols) if cols.dtype.kind == "f" else cols
    # Padding must lose even against −∞: look for the maximum first, then for a real tap that has it.
    best = marked.max(axis=2, keepdims=True)
    if cols.dtype.kind == "f":
        hit = np.where(np.isnan(cols).any(axis=2, keepdims=True), np.isnan(cols), marked == best)
    else:
        hit = marked == best
    hit = hit & real
    return np.where(hit.any(axis=2), hit.argmax(axis=2), -1)


def share(cols: Array, real: Array, tap: Array, dy: Array) -> Array:
    """Give every tap its share of dy: all to the selected one (clause MAXGRAD-1).

    Returns
    -------
    shares
        "n c t oh ow".
    """
    taps = np.arange(cols.shape[2]).reshape(-1, *(1,) * (dy.ndim - 2))
    return np.where(taps == tap[:, :, None], dy[:, :, None], np.zeros((), dy.dtype))


def divisor(call: Call, positions: Positions) -> Array:
    """Number of taps that an average is divided by, "oh ow" (clauses AVGPOOL-2 and AVGPOOL-3)."""
    counted = call.window.counted(call.size, call.count_include_pad)
    counts = [
        ((p >= first) & (p < end)).sum(axis=1)[None]
        for p, (first, end) in zip(positions, counted, strict=True)
    ]
    return _outer(np.multiply, counts).reshape([len(p) for p in positions])


def multiply(left: Array, right: Array) -> Array:
    """Multiply matrices "… r k" and "… k c" of one dtype; every sum of a convolution is one (clause CONV-5).

    Returns
    -------
    product
        "… r c" in the dtype that sums are accumulated in.
    """
    dtype = checks.accumulator(left.dtype)
    return np.asarray(left.astype(dtype) @ right.astype(dtype))


def total(cols: Array) -> Array:
    """Add the taps of every window up, "n c kh kw oh ow" to "n c oh ow" (clause AVGPOOL-1)."""
    taps = tuple(range(2, 2 + (cols.ndim - 2) // 2))
    return np.asarray(cols.sum(axis=taps, dtype=checks.accumulator(cols.dtype)))


def divide(sums: Array, divisor: Array) -> Array:
    """Divide the sums, or the gradients, of all windows by their divisors (clause AVGPOOL-1)."""
    return np.asarray(sums / divisor)


@dataclass(frozen=True)
class Steps:
    """The steps of all operators; the defaults are those of the standard.

    Attributes
    ----------
    output_size
        (call) → sizes of the output.
    positions
        (call, output) → `Positions` of the forward pass (im2col, convolution, pooling).
    backward_positions
        The same for whatever adds up or takes apart gradients (col2im, dx, dw, pooling gradients); None
        for `positions`.
    read
        (x, positions, outside) → "n c kh kw oh ow".
    add
        (cols "n c kh kw oh ow", positions, size) → "n c h w".
    multiply
        ("… r k", "… k c") → "… r c": all sums of a convolution and its gradients, but those of `add`.
    select
        (cols "n c t oh ow", real "t oh ow") → number of the selected tap, "n c oh ow".
    share
        (cols, real, tap, dy) → "n c t oh ow", the gradient of max pooling before it is added up.
    divisor
        (call, positions) → "oh ow".
    total
        (cols "n c kh kw oh ow") → "n c oh ow", the sums that are to be divided.
    divide
        (sums, divisor) → averages; in the gradient (dy, divisor) → the share of every tap.
    """

    output_size: Callable[[Call], Size] = output_size
    positions: Callable[[Call, Size], Positions] = positions
    backward_positions: Callable[[Call, Size], Positions] | None = None
    read: Callable[[Array, Positions, Any], Array] = read
    add: Callable[[Array, Positions, Size], Array] = add
    multiply: Callable[[Array, Array], Array] = multiply
    select: Callable[[Array, Array], Array] = select
    share: Callable[[Array, Array, Array, Array], Array] = share
    divisor: Callable[[Call, Positions], Array] = divisor
    total: Callable[[Array], Array] = total
    divide: Callable[[Array, Array], Array] = divide

    def forward(self, call: Call) -> Positions:
        """Positions of a forward pass."""
        output = self.output_size(call)
        if min(output) < 0:
            raise ValueError(f"an output cannot have the size {output}")
        return self.positions(call, output)

    def backward(self, call: Call, output: Size) -> Positions:
        """Positions of a gradient, whose number of windows is given."""
        return (self.backward_positions or self.positions)(call, output)


STANDARD = Steps()


def evaluate_steps(steps: Steps, operator: str, inputs: Mapping[str, Any], parameters: Parameters) -> Outputs:
    """Evaluate an operator step by step; like `convform.reference.evaluate` where `steps` are standard.

    Raises
    ------
    TypeError, ValueError
        For what the standard refuses, whatever the steps are.
    """
    row = row_of(operator)
    if not isinstance(parameters, Call):
        parameters = Call.of(row, inputs, parameters, steps.output_size)
    return evaluate_with({row.family: partial(_FUNCTIONS[row.family], steps)}, operator, inputs, parameters)


def _im2col(steps: Steps, call: Call, x: Array) -> Array:
    return steps.read(x, steps.forward(call), 0)


def _col2im(steps: Steps, call: Call, cols: Array) -> Array:
    return steps.add(cols, steps.backward(call, cols.shape[2 + call.window.rank :]), call.size)


def _conv(steps: Steps, call: Call, x: Array, w: Array, b: Array | None) -> Array:
    cols = steps.read(x, steps.forward(call), 0)
    y = _grouped(steps, cols, w, call.groups, call.window.rank)
    if b is not None:
        y = y + b.reshape(-1, *(1,) * call.window.rank)
    return np.asarray(y).astype(x.dtype, copy=False)


def _conv_backward(
    steps: Steps, call: Call, x: Array, w: Array, b: Array | None, dy: Array
) -> tuple[Array, Array, Array]:
    where = steps.backward(call, dy.shape[2:])
    n, g = len(x), call.groups
    rows, windows = w.shape[1] * call.window.taps, math.prod(dy.shape[2:])
    flat_dy = dy.reshape(n, g, len(w) // g, windows)
    cols = steps.read(x, where, 0).reshape(n, g, rows, windows)
    # dw and db are sums over windows and samples: bring both together, "g o (n oh ow)".
    every_dy = flat_dy.transpose(1, 2, 0, 3).reshape(g, len(w) // g, n * windows)
    every_column = cols.transpose(1, 0, 3, 2).reshape(g, n * windows, rows)
    dw = steps.multiply(every_dy, every_column).reshape(w.shape)
    db = steps.multiply(every_dy, np.ones((n * windows, 1), x.dtype)).reshape(len(w))
    flat_w = w.reshape(g, len(w) // g, rows)
    dcols = steps.multiply(flat_w.swapaxes(-1, -2), flat_dy)
    dx = steps.add(dcols.reshape(n, x.shape[1], *call.window.kernel, *dy.shape[2:]), where, call.size)
    return dx.astype(x.dtype), dw.astype(x.dtype), db.astype(x.dtype)


def _seen(steps: Steps, x: Array, where: Positions) -> tuple[Array, Array, Array]:
    """Taps of every window as "n c t oh ow", which are real, and their places in the plane, "t oh ow"."""
    size, output = x.shape[2:], [len(p) for p in where]
    taps = math.prod(p.shape[1] for p in where)
    cols = steps.read(x, where, checks.lowest(x.dtype)).reshape(*x.shape[:2], taps, *output)
    return cols, real(where, size).reshape(taps, *output), plane(where, size).reshape(taps, *output)


def _max_pool(steps: Steps, call: Call, x: Array) -> tuple[Array, Array]:
    cols, inside, place = _seen(steps, x, steps.forward(call))
    tap = steps.select(cols, inside)
    chosen = np.maximum(tap, 0)[:, :, None]
    y = np.take_along_axis(cols, chosen, axis=2)[:, :, 0]
    index = np.take_along_axis(np.broadcast_to(place, cols.shape), chosen, axis=2)[:, :, 0]
    return y, np.where(tap < 0, -1, index)


def _max_pool_backward(steps: Steps, call: Call, x: Array, dy: Array) -> Array:
    where = steps.backward(call, dy.shape[2:])
    cols, inside, _ = _seen(steps, x, where)
    shares = steps.share(cols, inside, steps.select(cols, inside), dy)
    kernel = [p.shape[1] for p in where]
    return steps.add(shares.reshape(*dy.shape[:2], *kernel, *dy.shape[2:]), where, call.size)


def _avg_pool(steps: Steps, call: Call, x: Array) -> Array:
    where = steps.forward(call)
    cols = steps.read(x, where, 0)
    return np.asarray(steps.divide(steps.total(cols), steps.divisor(call, where))).astype(x.dtype)


def _avg_pool_backward(steps: Steps, call: Call, x: Array, dy: Array) -> Array:
    dtype = checks.accumulator(x.dtype)
    where = steps.backward(call, dy.shape[2:])
    counts = np.maximum(steps.divisor(call, where), 1)
    part = steps.divide(dy.astype(dtype), counts.astype(dtype))
    part = part.reshape(*dy.shape[:2], *(1,) * call.window.rank, *dy.shape[2:])
    shape = (*dy.shape[:2], *(p.shape[1] for p in where), *dy.shape[2:])
    return steps.add(np.broadcast_to(part, shape), where, call.size).astype(x.dtype)


def _grouped(steps: Steps, cols: Array, w: Array, groups: int, rank: int) -> Array:
    """Sum over channels and taps, group by group: "n c kh kw oh ow" with "o i kh kw" gives "n o oh ow"."""
    output, rows = cols.shape[2 + rank :], w.shape[1] * math.prod(w.shape[2:])
    flat = cols.reshape(len(cols), groups, rows, math.prod(output))
    y = steps.multiply(w.reshape(groups, len(w) // groups, rows), flat)
    return y.reshape(len(cols), len(w), *output)


_FUNCTIONS = by_family(globals(), "_")


# --- common changes of the steps -------------------------------------------------------------------------


def counting(output_size: Callable[[Count, Call], Size]) -> StepsTwist:
    """Count the windows in another way, `output_size(usual count, call)`; a gradient computes its own too."""

    def twist(steps: Steps) -> Steps:
        count = partial(output_size, steps.output_size)

        def backward_positions(call: Call, output: Size) -> Positions:
            own = count(call)
            if any(mine > given for mine, given in zip(own, output, strict=True)):
                raise IndexError(f"dy has {output} windows, the last of {own} is out of bounds")
            every = steps.backward(call, output)
            return tuple(
                np.where(np.arange(len(p))[:, None] < o, p, NOWHERE) for p, o in zip(every, own, strict=True)
            )

        return replace(steps, output_size=count, backward_positions=backward_positions)

    return twist


def calling(change: CallChange) -> StepsTwist:
    """Take the windows of another call for those of the one given, everywhere."""

    def twist(steps: Steps) -> Steps:
        backward = steps.backward_positions
        return replace(
            steps,
            output_size=lambda call: steps.output_size(change(call)),
            positions=lambda call, output: steps.positions(change(call), output),
            backward_positions=backward and (lambda call, output: backward(change(call), output)),
            divisor=lambda call, where: steps.divisor(change(call), where),
        )

    return twist


def changing(**fields: Callable[[Window], Any]) -> CallChange:
    """Change fields of the window of a call, each to what a function of the window gives."""
    return lambda call: replace(
        call, window=replace(call.window, **{name: of(call.window) for name, of in fields.items()})
    )


def windowed(**fields: Callable[[Window], Any]) -> StepsTwist:
    """Take a window with changed fields for the one given, everywhere."""
    return calling(changing(**fields))


def placing(**fields: Callable[[Window], Any]) -> StepsTwist:
    """Place the windows as those of a changed window, in the number of the one given."""
    twist = windowed(**fields)
    return lambda steps: replace(twist(steps), output_size=steps.output_size)


def counting_as(**fields: Callable[[Window], Any]) -> StepsTwist:
    """Count the windows as those of a changed window, and place them as those of the one given."""
    change = changing(**fields)
    return counting(lambda count, call: count(change(call)))


def ones(window: Window) -> Size:
    """One for each axis."""
    return (1,) * window.rank


def no_padding(window: Window) -> tuple[tuple[int, int], ...]:
    """No padding on any side."""
    return ((0, 0),) * window.rank


def on_all_axes(values: Size) -> Size:
    """Repeat the first value: ``(2, 3) → (2, 2)``."""
    return values[:1] * len(values)


def step(name: str) -> Callable[[Callable[..., Any]], StepsTwist]:
    """Replace a step by a function of all steps as they were and the arguments of that one."""

    def decorate(function: Callable[..., Any]) -> StepsTwist:
        def twist(steps: Steps) -> Steps:
            changed: dict[str, Any] = {name: partial(function, steps)}
            return replace(steps, **changed)

        return twist

    return decorate


def read_at(move: Callable[[Array], Array]) -> StepsTwist:
    """Read the columns that dw is made of elsewhere: `move(p)` gives the elements "o k" along one axis."""

    @step("read")
    def twist(steps: Steps, x: Array, positions: Positions, outside: Any) -> Array:
        return steps.read(x, tuple(move(p) for p in positions), outside)

    return twist


def assigning(*, windows_first: bool = True) -> StepsTwist:
    """Let `assign` take the place of adding up, by code that flattens planes, and fails without any."""

    def add(cols: Array, positions: Positions, size: Size) -> Array:
        if not math.prod(cols.shape[:2]):
            raise ValueError("cannot reshape array of size 0")
        return assign(cols, positions, size, windows_first=windows_first)

    return lambda steps: replace(steps, add=add)


def assign(cols: Array, positions: Positions, size: Size, *, windows_first: bool = True) -> Array:
    """Put columns "n c kh kw oh ow" where they belong, like `add`, but keep the last value of each element.

    With `windows_first` the loop goes over the windows and writes all taps of one at once, so that the last
    window wins; without it, over the taps, and the last tap wins. Masked elements are not written.
    """
    rank, planes = len(positions), math.prod(cols.shape[:2])
    axes = [range(2, 2 + rank), range(2 + rank, 2 + 2 * rank)]
    # Where an element is written twice, NumPy keeps the last value.
    order = (0, 1, *itertools.chain(*(axes[::-1] if windows_first else axes)))
    offset = np.arange(planes).reshape(*cols.shape[:2], *(1,) * (2 * rank)) * math.prod(size)
    where = (offset + plane(positions, size)).transpose(order)
    written = (~np.ma.getmaskarray(cols) & real(positions, size)).transpose(order)
    x = np.zeros(planes * math.prod(size), cols.dtype)
    x[where[written]] = np.asarray(cols).transpose(order)[written]
    return x.reshape(*cols.shape[:2], *size)
