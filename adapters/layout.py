"""Layouts: how the axes of an array are ordered and merged, written as a named-axis pattern (LAYOUT-1).

A pattern names axes in einops syntax: ``"n h w c"`` is channels-last, ``"(n oh ow) (c kh kw)"`` a matrix
with one row for each window, ``"1 1 1 o"`` a bias with three axes of length one in front. An axis that is
left out has length one: ``"h w"`` is a single image with a single channel.

Conversion is a transposition and a reshape of NumPy, planned once for each pattern: the judge makes
thousands of tiny calls, and reading an answer this way never copies it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convform.adapters.errors import AdapterError, ShapeMismatch, closest

Array = NDArray[Any]

_TOKEN = re.compile(r"\.\.\.|…|[()]|[^\s()]+")


@dataclass(frozen=True)
class Layout:
    """The order and grouping in which an implementation keeps the axes of one array.

    Attributes
    ----------
    pattern
        The text as its author wrote it; errors quote it.
    groups
        The axes that each axis of the native array consists of, outermost first; an empty group has
        length one.
    axes
        All axes of the array in canonical order, those that the pattern leaves out included.

    Examples
    --------
    >>> layout = Layout.parse("n h w c", ("n", "c", "h", "w"))
    >>> layout.to_native(np.zeros((2, 3, 5, 7))).shape
    (2, 5, 7, 3)
    """

    pattern: str
    groups: tuple[tuple[str, ...], ...]
    axes: tuple[str, ...]

    @classmethod
    def parse(
        cls,
        pattern: str,
        allowed_axes: Sequence[str],
        *,
        what: str = "this array",
        aliases: Mapping[str, str] | None = None,
        allow_empty: bool = False,
    ) -> Layout:
        """Read a pattern.

        Parameters
        ----------
        pattern
            Axis names separated by blanks; parentheses merge axes, ``1`` is an axis of length one.
        allowed_axes
            The axes of the array in canonical order.
        what
            What the array is, for the error: ``"an input"``.
        aliases
            Other names under which an axis may be written, for example ``{"c": "i"}``.
        allow_empty
            Accept the empty pattern, a zero-dimensional array.

        Raises
        ------
        AdapterError
            If the pattern is no string, is empty, has an axis that does not exist or stands twice, an
            ellipsis, or parentheses that do not match; the message quotes the pattern.
        """
        if not isinstance(pattern, str):
            raise AdapterError(
                f"layout {pattern!r}: expected a string of axis names, such as {' '.join(allowed_axes)!r}"
            )
        names = dict(aliases or {})

        def wrong(reason: str, hint: str | None = None) -> AdapterError:
            return AdapterError(f"layout {pattern!r}: {reason}", hint)

        groups: list[tuple[str, ...]] = []
        group: list[str] | None = None  # the parenthesis that is open, if any
        seen: set[str] = set()
        for token in _TOKEN.findall(pattern):
            if "..." in token or "…" in token:
                raise wrong("an ellipsis is not supported", f"name every axis: {', '.join(allowed_axes)}")
            if token == "(":
                if group is not None:
                    raise wrong("a parenthesis inside a parenthesis", "merge axes in one level: '(c kh kw)'")
                group = []
            elif token == ")":
                if group is None:
                    raise wrong("a ')' without its '('")
                groups.append(tuple(group))
                group = None
            elif token == "1":
                if group is None:
                    groups.append(())
            else:
                axis = names.get(token, token)
                if axis not in allowed_axes:
                    raise wrong(
                        f"there is no axis {token!r}; axes of {what} are {', '.join(allowed_axes)}",
                        closest(token, (*allowed_axes, *names)),
                    )
                if axis in seen:
                    other = f" (as {axis!r})" if token != axis else ""
                    raise wrong(f"axis {token!r} stands twice{other}", "name each axis once")
                seen.add(axis)
                if group is None:
                    groups.append((axis,))
                else:
                    group.append(axis)
        if group is not None:
            raise wrong("a '(' without its ')'")
        if not groups and not allow_empty:
            raise wrong(f"it names no axis; axes of {what} are {', '.join(allowed_axes)}")
        return cls(pattern, tuple(groups), tuple(allowed_axes))

    def restricted_to(self, axes: Sequence[str]) -> Layout:
        """Return the layout of an array that has only `axes`: all others are dropped from the pattern.

        ``"n d h w c"`` restricted to ``n c h w`` is ``"n h w c"``, so one pattern serves all ranks.
        """
        kept = []
        for group in self.groups:
            rest = tuple(axis for axis in group if axis in axes)
            if rest or not group:
                kept.append(rest)
        return Layout(self.pattern, tuple(kept), tuple(axes))

    def renamed(self, names: Mapping[str, str]) -> Layout:
        """Return the same order and grouping with other axis names (``{"c": "o", "h": "oh"}``)."""
        groups = tuple(tuple(names.get(axis, axis) for axis in group) for group in self.groups)
        return Layout(self.pattern, groups, tuple(names.get(axis, axis) for axis in self.axes))

    def __str__(self) -> str:
        return " ".join(
            group[0] if len(group) == 1 else f"({' '.join(group)})" if group else "1" for group in self.groups
        )

    @cached_property
    def absent(self) -> tuple[str, ...]:
        """Axes that the pattern leaves out; their length is one."""
        return tuple(axis for axis in self.axes if axis not in self._order)

    @cached_property
    def _order(self) -> tuple[str, ...]:
        return tuple(axis for group in self.groups for axis in group)

    @cached_property
    def _permutation(self) -> tuple[int, ...]:
        """Canonical axes in native order, those left out at the end."""
        return tuple(self.axes.index(axis) for axis in (*self._order, *self.absent))

    @cached_property
    def _inverse(self) -> tuple[int, ...]:
        return tuple(self._permutation.index(position) for position in range(len(self.axes)))

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """Shape of the native array, given the length of every axis that the pattern names."""
        return tuple(math.prod(sizes[axis] for axis in group) for group in self.groups)

    def to_native(self, array: Array) -> Array:
        """Convert a canonical array to this layout.

        Parameters
        ----------
        array
            Any dtype, one axis for each of `axes`, in that order.

        Returns
        -------
        ndarray
            Fresh C-contiguous memory of the same dtype.

        Raises
        ------
        ValueError
            If `array` has another number of axes, or an axis that the pattern leaves out is longer than
            one.
        """
        if array.ndim != len(self.axes):
            raise ValueError(f"array of shape {array.shape}: expected the axes {' '.join(self.axes)}")
        moved = array.transpose(self._permutation)
        for axis, length in zip(self.absent, moved.shape[len(self._order) :], strict=True):
            if length != 1:
                raise ValueError(
                    f"layout {self.pattern!r}: axis {axis!r} is left out, so it has length 1, not {length}"
                )
        native = np.empty(moved.shape, moved.dtype)
        native[...] = moved
        return native.reshape(self.shape(dict(zip(self.axes, array.shape, strict=True))))

    def from_native(self, array: Array, sizes: Mapping[str, int], *, name: str = "the array") -> Array:
        """Read a native array: split its merged axes and put them in canonical order.

        Parameters
        ----------
        array
            What an implementation returned.
        sizes
            Length of the axes by name. An axis that stands alone in the pattern may be missing: it is as
            long as the array says.
        name
            Name of the array, for the error.

        Returns
        -------
        ndarray
            A view of `array` with the axes of `axes`.

        Raises
        ------
        ShapeMismatch
            If the array has another number of axes, or other lengths.
        """
        lengths = dict(sizes)
        if array.ndim == len(self.groups):
            for group, length in zip(self.groups, array.shape, strict=True):
                if len(group) == 1:
                    lengths.setdefault(group[0], length)
        try:
            expected = self.shape(lengths)
        except KeyError as missing:
            if array.ndim == len(self.groups):
                raise ValueError(f"the length of axis {missing} is needed to read {name}") from None
            # The number of axes is wrong and the lengths are not known: say what is known.
            expected = tuple(math.prod(lengths.get(axis, 1) for axis in group) for group in self.groups)
        if array.shape != expected:
            raise ShapeMismatch(name, self.pattern, array.shape, expected)
        split = tuple(lengths[axis] for axis in self._order) + (1,) * len(self.absent)
        # Splitting axes and transposing never copies, so shared memory stays visible to the judge.
        return array.reshape(split).transpose(self._inverse)
