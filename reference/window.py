"""The window: one value object that owns every size formula of the standard (WINDOW-1 to WINDOW-8)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from operator import index
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Size = tuple[int, ...]
PerAxis = int | Sequence[int]
Padding = int | Sequence[int] | Sequence[Sequence[int]]


def per_axis(name: str, value: PerAxis, rank: int) -> Size:
    """Spread a scalar over all axes, or check that a sequence has one integer for each axis.

    Raises
    ------
    TypeError
        If something in `value` is no integer (booleans are not).
    ValueError
        If the length of `value` is not `rank`.
    """
    if type(value) is int:  # not a boolean; and what nearly every call has
        return (value,) * rank
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{name}={value!r}: expected an integer or {rank} integers, one for each axis")
    entries: Sequence[int]
    try:
        entries = [value] * rank if not hasattr(value, "__len__") else list(value)  # type: ignore[arg-type]
        if any(isinstance(entry, bool) for entry in entries):
            raise TypeError
        sizes = tuple(index(entry) for entry in entries)
    except TypeError:
        raise TypeError(
            f"{name}={value!r}: expected an integer or {rank} integers, one for each axis"
        ) from None
    if len(sizes) != rank:
        raise ValueError(f"{name}={value!r}: expected {rank} integers, one for each axis, got {len(sizes)}")
    return sizes


class Landing(NamedTuple):
    """The windows for which one tap along one axis is a real element, and those elements."""

    windows: slice
    elements: slice

    def covers(self, windows: int) -> bool:
        """Whether the tap is a real element of all of that many windows."""
        return self.windows == slice(0, windows)

    def within(self, start: int, stop: int) -> Landing:
        """Keep the windows from `start` to `stop` only and count them from `start`."""
        first, last = max(self.windows.start, start), min(self.windows.stop, stop)
        if last <= first:
            return Landing(slice(0, 0), slice(0, 0, self.elements.step))
        step = self.elements.step
        begin = self.elements.start + (first - self.windows.start) * step
        return Landing(
            slice(first - start, last - start), slice(begin, begin + (last - first - 1) * step + 1, step)
        )


@dataclass(frozen=True)
class Window:
    """Kernel size, stride, padding, dilation and rounding of a sliding window, for any spatial rank.

    Attributes
    ----------
    kernel, stride, dilation
        One integer ≥ 1 for each spatial axis.
    padding
        ``(low, high)`` for each spatial axis, both ≥ 0.
    ceil_mode
        Round the output size up (clause WINDOW-5) instead of down (clause WINDOW-1).

    Examples
    --------
    >>> Window.of(kernel=(3, 3), stride=2, padding=1).output_size((5, 6))
    (3, 3)
    """

    kernel: Size
    stride: Size
    padding: tuple[tuple[int, int], ...]
    dilation: Size
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        for name in ("kernel", "stride", "dilation"):
            value = getattr(self, name)
            if min(value) < 1:
                raise ValueError(f"{name}={value}: must be at least 1 along every axis (WINDOW-6)")
        if min(itertools.chain(*self.padding)) < 0:
            raise ValueError(f"padding={self.padding}: must not be negative (WINDOW-6)")

    @classmethod
    def of(
        cls,
        kernel: Sequence[int],
        stride: PerAxis | None = 1,
        padding: Padding = 0,
        dilation: PerAxis = 1,
        ceil_mode: bool = False,
    ) -> Window:
        """Build a window from the forms that people write.

        Parameters
        ----------
        kernel
            One integer for each spatial axis; its length is the rank.
        stride
            An integer or one for each axis; None means the kernel size (clause POOL-1).
        padding
            An integer, one for each axis (the same before and after), or ``(low, high)`` for each axis.
        dilation
            An integer or one for each axis.
        ceil_mode
            Round the output size up.

        Raises
        ------
        TypeError, ValueError
            For anything that clause WINDOW-6 refuses; the message names the argument.
        """
        rank = len(kernel)
        if rank == 0:
            raise ValueError("kernel=(): expected at least one spatial axis")
        size = per_axis("kernel", kernel, rank)
        if not isinstance(ceil_mode, bool):
            raise TypeError(f"ceil_mode={ceil_mode!r}: expected True or False")
        return cls(
            size,
            size if stride is None else per_axis("stride", stride, rank),
            _low_high(padding, rank),
            per_axis("dilation", dilation, rank),
            ceil_mode,
        )

    @classmethod
    def same(
        cls,
        input_size: Sequence[int],
        kernel: Sequence[int],
        stride: PerAxis | None = 1,
        dilation: PerAxis = 1,
    ) -> Window:
        """Build the window whose padding is "same": ⌈n/s⌉ windows along each axis (clause WINDOW-8).

        Parameters
        ----------
        input_size
            Spatial sizes of the input, one for each entry of `kernel`.
        kernel, stride, dilation
            As in `of`.

        Raises
        ------
        TypeError, ValueError
            As in `of`, and if `input_size` has another rank.

        Examples
        --------
        >>> Window.same(input_size=(5, 6), kernel=(2, 3), stride=(1, 2)).padding
        ((0, 1), (0, 1))
        """
        bare = cls.of(kernel, stride, 0, dilation)
        sizes = per_axis("input_size", input_size, bare.rank)
        pads = []
        for n, e, s in zip(sizes, bare.effective_kernel, bare.stride, strict=True):
            total = max((-(-n // s) - 1) * s + e - n, 0)
            pads.append((total // 2, total - total // 2))  # an odd one goes to the end
        return replace(bare, padding=tuple(pads))

    @property
    def rank(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    @property
    def taps(self) -> int:
        """Number of elements in one window."""
        count = 1
        for k in self.kernel:
            count *= k
        return count

    @property
    def effective_kernel(self) -> Size:
        """Extent of the dilated kernel, d(k − 1) + 1 for each axis (clause WINDOW-4)."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def with_axes_reversed(self) -> Window:
        """Return the window of arrays whose spatial axes stand in the opposite order."""
        kernel, stride, padding, dilation = self.kernel, self.stride, self.padding, self.dilation
        return Window(kernel[::-1], stride[::-1], padding[::-1], dilation[::-1], self.ceil_mode)

    def output_size(self, input_size: Sequence[int]) -> Size:
        """Number of windows along each axis for the spatial sizes `input_size` (clauses WINDOW-1, WINDOW-5).

        Raises
        ------
        ValueError
            If `input_size` has another rank, or no window fits along some axis (clause WINDOW-6).
        """
        sizes = self.count(input_size)
        for n, e, (low, high), o in zip(input_size, self.effective_kernel, self.padding, sizes, strict=True):
            if o < 1:
                raise ValueError(
                    f"kernel={self.kernel}: its extent {e} (dilation {self.dilation}) is larger than the "
                    f"padded input {n + low + high}, so there is no window (WINDOW-6)"
                )
        return sizes

    def count(self, input_size: Sequence[int], *, clipped: bool = True) -> Size:
        """What the equations of WINDOW-1 and WINDOW-5 give, also where it is below 1 and there is no window.

        Under ceil rounding the last window is dropped if it starts beyond the input, unless `clipped` is off.

        Raises
        ------
        ValueError
            If `input_size` has another rank.
        """
        if len(input_size) != self.rank:
            raise ValueError(f"input_size={tuple(input_size)}: expected {self.rank} spatial sizes")
        sizes = []
        for n, e, s, (low, high) in zip(
            input_size, self.effective_kernel, self.stride, self.padding, strict=True
        ):
            room = n + low + high - e
            o = (-(-room // s) if self.ceil_mode else room // s) + 1
            if self.ceil_mode and clipped and (o - 1) * s >= n + low:
                o -= 1
            sizes.append(o)
        return tuple(sizes)

    def overhang(self, input_size: Sequence[int]) -> Size:
        """Elements that the last window needs beyond the high padding: 0 unless `ceil_mode` (WINDOW-5)."""
        ends = self.counted(input_size, True)
        return tuple(
            max(int(p[-1, -1]) + 1 - end, 0)
            for p, (_, end) in zip(self.positions(self.output_size(input_size)), ends, strict=True)
        )

    def element(self, place: Sequence[int], tap: Sequence[int]) -> Size:
        """Position that a tap of a window reads, i·s − p_lo + k·d along each axis (WINDOW-2 to WINDOW-4).

        Parameters
        ----------
        place
            Number i of the window along each output axis.
        tap
            Index k of the tap along each kernel axis.

        Returns
        -------
        position
            One integer for each axis; outside the input, it lies in the padding or the overhang.
        """
        return tuple(
            i * s - low + k * d
            for i, k, s, d, (low, _) in zip(place, tap, self.stride, self.dilation, self.padding, strict=True)
        )

    def positions(self, output: Sequence[int]) -> tuple[Array, ...]:
        """Positions of all taps of the first windows, an array "o k" for each axis (WINDOW-2 to WINDOW-4).

        Parameters
        ----------
        output
            How many windows along each axis.
        """
        return tuple(
            np.arange(o)[:, None] * s - low + np.arange(k) * d
            for o, k, s, d, (low, _) in zip(
                output, self.kernel, self.stride, self.dilation, self.padding, strict=True
            )
        )

    def counted(self, input_size: Sequence[int], count_include_pad: bool) -> list[tuple[int, int]]:
        """First position that counts in an average, and the end, for each axis (AVGPOOL-2 and AVGPOOL-3)."""
        if not count_include_pad:
            return [(0, n) for n in input_size]
        return [(-low, n + high) for n, (low, high) in zip(input_size, self.padding, strict=True)]

    def offsets(self) -> Iterator[Size]:
        """All taps of one window in row-major order, as kernel indices."""
        return itertools.product(*(range(k) for k in self.kernel))

    def landings(self, input_size: Sequence[int]) -> list[list[Landing]]:
        """Where every tap meets the input, for each axis and each tap along it (WINDOW-2 to WINDOW-4).

        Window i reads element i·s − p_lo + k·d. Along one axis, the windows for which that element lies
        inside the input are neighbours, so a pair of slices says it all; and axes do not depend on each
        other, so that a tap of the whole window lands where its axes do.

        Parameters
        ----------
        input_size
            Spatial sizes of the input.

        Examples
        --------
        >>> Window.of(kernel=(2,), stride=2, padding=1).landings((5,))[0][0]
        Landing(windows=slice(1, 3, None), elements=slice(1, 4, 2))
        """
        return [
            [_landing(n, o, s, low, k * d) for k in range(taps)]
            for n, o, taps, s, d, (low, _) in zip(
                input_size,
                self.output_size(input_size),
                self.kernel,
                self.stride,
                self.dilation,
                self.padding,
                strict=True,
            )
        ]


def _landing(n: int, o: int, s: int, low: int, reach: int) -> Landing:
    start = reach - low  # the element that window 0 reads
    first = max(-(start // s), 0)
    last = min((n - 1 - start) // s, o - 1)
    if last < first:
        return Landing(slice(0, 0), slice(0, 0, s))
    return Landing(slice(first, last + 1), slice(start + first * s, start + last * s + 1, s))


def _low_high(padding: Padding, rank: int) -> tuple[tuple[int, int], ...]:
    if isinstance(padding, (str, bytes)):
        raise TypeError(
            f"padding={padding!r}: expected integers; for 'same', build Window.same(input_size, kernel, …)"
        )
    if isinstance(padding, Sequence) and any(isinstance(entry, Sequence) for entry in padding):
        if len(padding) != rank:
            raise ValueError(f"padding={padding!r}: expected (low, high) for each of {rank} axes")
        pairs = [per_axis("padding", entry, 2) for entry in padding]
        return tuple((low, high) for low, high in pairs)
    return tuple((p, p) for p in per_axis("padding", padding, rank))  # type: ignore[arg-type]
