"""Which layout an array has: tried by agreement with what the standard expects.

The values of a probe are distinct, so an axis order either reproduces all of them or next to none. For a
defective homework the layout with the best agreement counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convform.adapters.layout import Array, Layout

SAMPLES_AND_CHANNELS = ("n", "c", "o", "i")
"""Axes that a layout may leave out."""


@dataclass(frozen=True)
class Fit:
    """How well an array agrees with the standard's, read in some layout.

    Attributes
    ----------
    pattern
        The layout.
    agreement
        Share of the elements that are equal, 0 to 1; 0 where the shape is another one.
    """

    pattern: str
    agreement: float


def orders(axes: str) -> list[str]:
    """All orders in which an array can keep its axes, those of samples and channels left out or not.

    The usual ones come first: canonical, channels last, one image, one image with channels.

    Parameters
    ----------
    axes
        The canonical axes, such as ``"n c h w"`` or ``"o i kh kw"``.
    """
    names = axes.split()
    fixed = [axis for axis in names if axis not in SAMPLES_AND_CHANNELS]
    free = [axis for axis in names if axis in SAMPLES_AND_CHANNELS]
    usual = [names, _channels_last(names), fixed]
    usual += [[axis, *fixed] for axis in reversed(free)] + [[*fixed, axis] for axis in reversed(free)]
    found = [" ".join(order) for order in usual]
    for count in (len(free), *range(len(free))):
        for kept in itertools.combinations(free, count):
            found += [" ".join(order) for order in itertools.permutations((*kept, *fixed))]
    return list(dict.fromkeys(found))


def _channels_last(names: Sequence[str]) -> list[str]:
    first, second, *spatial = names
    return [first, *spatial, second] if first == "n" else [*spatial, second, first]


def merged_weights(axes: str) -> list[str]:
    """Weights kept as a matrix: one row, or one column, for each output channel."""
    o, i, *taps = axes.split()
    flat, last = " ".join((i, *taps)), " ".join((*taps, i))
    return [f"{o} ({flat})", f"({flat}) {o}", f"{o} ({last})", f"({last}) {o}"]


def agreement(array: Array, expected: Array) -> float:
    """Share of the elements of two arrays of the same shape that are equal, 0 for another shape."""
    if array.shape != expected.shape or array.dtype.kind not in "biuf" or not array.size:
        return 0.0
    with np.errstate(all="ignore"):
        return float(np.mean(np.abs(array - expected) <= 1e-6 * np.abs(expected)))


def fit_order(
    array: Array, expected: Array, axes: str, preferred: Sequence[str] = (), only: Sequence[str] = ()
) -> Fit:
    """Find the order of the axes in which an array agrees best with the expected one.

    Parameters
    ----------
    array
        What a homework returned.
    expected
        The same in canonical axes.
    axes
        Those axes.
    preferred
        Patterns to try before all others.
    only
        Patterns to try and no others.
    """
    names = axes.split()
    lengths = dict(zip(names, expected.shape, strict=True))
    best = Fit("", 0.0)
    for pattern in only or (*preferred, *_orders_of_rank(names, lengths, array.ndim)):
        layout = Layout.parse(pattern, names)
        if any(lengths[axis] != 1 for axis in layout.absent) or len(layout.groups) != array.ndim:
            continue
        if layout.shape(lengths) != array.shape:
            continue
        share = agreement(array, layout.to_native(expected))
        if share > best.agreement or not best.pattern:
            best = Fit(pattern, share)
        if share == 1.0:
            break
    return best


def _orders_of_rank(names: Sequence[str], lengths: Mapping[str, int], ndim: int) -> Iterator[str]:
    for kept in itertools.combinations(names, ndim):
        if all(lengths[axis] == 1 for axis in names if axis not in kept):
            yield from (" ".join(order) for order in itertools.permutations(kept))


def fit_columns(array: Array, expected: Array, axes: str, absent: Sequence[str] = ()) -> Fit:
    """Find order and grouping of the axes of columns: all orders, merged as the shape asks.

    Parameters
    ----------
    array
        What an im2col returned.
    expected
        The same in canonical axes, ``n c kh kw oh ow``.
    axes
        Those axes.
    absent
        Axes that the input leaves out; the columns leave them out, too.
    """
    names = [axis for axis in axes.split() if axis not in absent]
    canonical = expected.reshape(
        [size for axis, size in zip(axes.split(), expected.shape, strict=True) if axis not in absent]
    )
    best = Fit("", 0.0)
    if array.size != canonical.size or array.dtype.kind not in "biuf":
        return best
    flat = np.ascontiguousarray(array).reshape(-1)
    for order in itertools.permutations(range(len(names))):
        groups = grouped([names[i] for i in order], [canonical.shape[i] for i in order], array.shape)
        if groups is None:
            continue
        share = float(np.mean(canonical.transpose(order).reshape(-1) == flat))
        if share > best.agreement or not best.pattern:
            best = Fit(groups, share)
        if share == 1.0:
            break
    return best


def grouped(names: Sequence[str], sizes: Sequence[int], shape: Sequence[int]) -> str | None:
    """Merge neighbouring axes so that they have a shape; None where they cannot."""
    parts: list[str] = []
    position = 0
    for length in shape:
        start, product = position, 1
        while position < len(names) and product * sizes[position] <= length:
            product *= sizes[position]
            position += 1
        if product != length or position == start:
            return None
        group = " ".join(names[start:position])
        parts.append(group if position - start == 1 else f"({group})")
    return " ".join(parts) if position == len(names) else None


def column_patterns(axes: str, absent: Sequence[str] = ()) -> Iterator[str]:
    """Layouts that columns can have on the way in, the usual ones first."""
    names = [axis for axis in axes.split() if axis not in absent]
    samples = [axis for axis in names if axis == "n"]
    channels = [axis for axis in names if axis == "c"]
    taps = [axis for axis in names if axis.startswith("k")]
    windows = [axis for axis in names if axis.startswith("o")]
    rows = [[*channels, *taps], [*taps, *channels]]
    columns = [[*samples, *windows], [*windows, *samples]]
    for row, column in itertools.product(rows, columns):
        for first, second in ((column, row), (row, column)):
            yield f"({' '.join(first)}) ({' '.join(second)})"
    for row in rows:
        lead = " ".join(samples)
        yield f"{lead} ({' '.join(row)}) ({' '.join(windows)})".strip()
        yield f"{lead} ({' '.join(windows)}) ({' '.join(row)})".strip()
    yield " ".join([*samples, *channels, *taps, *windows])
    yield " ".join([*samples, *windows, *channels, *taps])
    yield " ".join([*samples, *windows, *taps, *channels])
    for order in itertools.permutations(names):
        for cut in range(1, len(order)):
            yield f"({' '.join(order[:cut])}) ({' '.join(order[cut:])})"


def leaves(value: object, depth: int = 4) -> Iterator[tuple[str, Array]]:
    """Yield every numeric array inside a value, with the path to write after the value's name.

    Looks into tuples, lists, dicts and the attributes of objects: ``[0]``, ``.W.grad``, ``.params['W']``.
    Arrays near the surface come first.
    """
    seen: set[int] = set()
    level: list[tuple[str, Any]] = [("", value)]
    for _ in range(depth + 1):
        deeper: list[tuple[str, Any]] = []
        for path, item in level:
            if isinstance(item, np.ndarray | np.generic):
                if np.asarray(item).dtype.kind in "biuf":
                    yield path, np.asarray(item)
                continue
            if (
                id(item) in seen
                or isinstance(item, str | bytes | int | float | type(np) | type)
                or item is None
            ):
                continue
            seen.add(id(item))
            deeper += _inside(path, item)
        level = deeper


def _inside(path: str, item: Any) -> list[tuple[str, Any]]:
    if isinstance(item, Mapping):
        return [(f"{path}[{key!r}]", entry) for key, entry in item.items() if isinstance(key, str | int)]
    if isinstance(item, tuple | list):
        found = [(f"{path}[{i}]", entry) for i, entry in enumerate(item[:8])]
        if len(item) > 8:
            return found
        return found
    if callable(item) and not hasattr(item, "__dict__"):
        return []
    names = [*getattr(item, "__dict__", {}), *getattr(type(item), "__slots__", ())]
    names += [name for name in ("data", "grad", "value") if hasattr(type(item), name) and name not in names]
    found = []
    for name in names:
        if isinstance(name, str) and not name.startswith("__"):
            try:
                found.append((f"{path}.{name}", getattr(item, name)))
            except Exception:  # a property of the homework that cannot be read yet
                continue
    return found
