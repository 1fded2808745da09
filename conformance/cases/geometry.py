"""Geometries: everything about a case but its numbers, valid by construction.

One spatial axis of a window has finitely many small geometries, so they are *tabulated* (`axis_table`),
sorted from simple to complex, and a random geometry is a few draws from tables: one for what the axes
share, one for each axis, one for the channels. Nothing is ever drawn and then thrown away, and shrinking
an index into a sorted table shrinks the geometry.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hypothesis import strategies as st

from convform.adapters import Claims, Implementation
from convform.reference.call import Call
from convform.reference.window import Window


class Axis(NamedTuple):
    """One spatial axis: input size n, kernel k, stride s, padding low and high, dilation d."""

    n: int
    k: int
    s: int
    low: int
    high: int
    d: int

    @property
    def extent(self) -> int:
        """Effective kernel d(k − 1) + 1."""
        return self.d * (self.k - 1) + 1

    @property
    def room(self) -> int:
        """Padded size minus the effective kernel; negative where no window fits."""
        return self.n + self.low + self.high - self.extent

    @property
    def is_same(self) -> bool:
        """Whether the padding is what the word "same" stands for (WINDOW-8)."""
        return (self.low, self.high) == same_padding(self.n, self.k, self.s, self.d)

    @property
    def complexity(self) -> tuple[int, Axis]:
        """Sort key: how hard the axis is to follow on paper."""
        extra = 2 * (self.k + self.s + self.d - 3 + self.low + self.high) + (self.low != self.high)
        return self.n + extra, self

    def window(self, ceil_mode: bool = False) -> Window:
        """Return the one-axis `Window`."""
        return Window((self.k,), (self.s,), ((self.low, self.high),), (self.d,), ceil_mode)

    def windows_are_real(self, ceil_mode: bool = False) -> bool:
        """Whether every window has a tap on a real element of the input."""
        (o,) = self.window(ceil_mode).output_size((self.n,))
        starts = (i * self.s - self.low for i in range(o))
        # The first tap that is not before the input: it is the window's only candidate if it lies beyond.
        firsts = ((start, max(0, -(start // self.d))) for start in starts)
        return all(j < self.k and start + j * self.d < self.n for start, j in firsts)


@functools.cache
def same_padding(n: int, k: int, s: int, d: int) -> tuple[int, int]:
    """Padding (low, high) of one axis that keeps the size up to the stride (WINDOW-8)."""
    return Window.same((n,), (k,), s, d).padding[0]


def axes_of(window: Window, size: Sequence[int]) -> tuple[Axis, ...]:
    """Take a window on an input of spatial sizes `size` apart into its axes."""
    low, high = zip(*window.padding, strict=True)
    return tuple(map(Axis, size, window.kernel, window.stride, low, high, window.dilation))


AxisRule = Callable[[Axis], bool]
"""A restriction on one axis, applied once when a table is built."""


@dataclass(frozen=True)
class Channels:
    """Sizes of the axes that are not spatial; `o` and `groups` stay 1 for operators without them."""

    n: int = 1
    c: int = 1
    o: int = 1
    groups: int = 1


@dataclass(frozen=True)
class Geometry:
    """A case without its numbers; `convform.conformance.cases.case.build` fills in the arrays.

    Attributes
    ----------
    axes
        One `Axis` for each spatial axis.
    channels
        Sizes of the other axes.
    dtype
        Name of the dtype of every array.
    contents
        Name of the way in which x is filled (see `convform.conformance.cases.contents`); "ordinary" stands
        for distinct values in max pooling, where ties are a question of their own, and any values elsewhere.
    seed
        Seed of the contents.
    bias
        Whether ``b`` is given (convolution).
    default_stride
        Whether ``stride`` is given as None; the axes then have s = k.
    ceil_mode, count_include_pad
        The two flags of pooling.
    """

    axes: tuple[Axis, ...]
    channels: Channels = Channels()
    dtype: str = "float64"
    contents: str = "ordinary"
    seed: int = 0
    bias: bool = True
    default_stride: bool = False
    ceil_mode: bool = False
    count_include_pad: bool = True

    @functools.cached_property
    def call(self) -> Call:
        """What is asked: the window over all axes, with everything else that a call has besides arrays."""
        n, k, s, low, high, d = zip(*self.axes, strict=True)
        window = Window(k, s, tuple(zip(low, high, strict=True)), d, self.ceil_mode)
        return Call(window, n, self.channels.groups, self.count_include_pad, self.default_stride)

    @property
    def window(self) -> Window:
        """The window over all axes."""
        return self.call.window

    @property
    def complexity(self) -> tuple[object, ...]:
        """Sort key: simple geometries first."""
        sizes = dataclasses.astuple(self.channels)
        flags = self.ceil_mode + (not self.count_include_pad) + self.default_stride
        return sum(axis.complexity[0] for axis in self.axes) + 2 * sum(sizes) + flags, self.axes, sizes


@dataclass(frozen=True)
class Reach:
    """Largest values that a table goes to."""

    n: int = 6
    k: int = 4
    s: int = 4
    p: int = 3
    d: int = 3
    blocks: bool = False
    """Whether there are as many channels as vector registers hold, too: libraries have code for these."""


SWEEP = Reach()
"""The small geometries that a sweep visits one by one."""

RANDOM = Reach(n=9, k=5, s=4, p=4, d=3)
"""The geometries that random cases are drawn from, for spatial rank 1 and 2."""

RANDOM_3D = Reach(n=5, k=3, s=3, p=2, d=2)
"""The same for rank 3, where sizes multiply three times."""

WIDE = Reach(n=19, k=5, s=4, p=4, d=3, blocks=True)
WIDE_3D = Reach(n=9, k=3, s=3, p=2, d=3, blocks=True)
"""The same for a long search, beyond one vector register."""


@dataclass(frozen=True)
class Space:
    """What an implementation claims, in the terms of geometries."""

    rank: int
    pooling: bool
    has_out_channels: bool
    strides: bool
    paddings: bool
    dilations: bool
    low_high: bool
    words: bool
    shared: tuple[str, ...]
    max_padding: str
    rests: bool
    ceil_modes: tuple[bool, ...]
    include_pads: tuple[bool, ...]
    groups: bool
    may_default_stride: bool
    biases: tuple[bool, ...]
    absent: frozenset[str]
    dtypes: tuple[str, ...]

    @classmethod
    def of(cls, implementation: Implementation) -> Space:
        """Read the claims of an implementation."""
        operator, claims, takes = implementation.operator, implementation.claims, implementation.takes
        return cls(
            rank=operator.rank,
            pooling=operator.is_pooling,
            has_out_channels=operator.row.has_weights,
            strides="stride" in takes,
            paddings="padding" in takes,
            dilations="dilation" in takes,
            low_high=claims.padding in ("low-high", "string"),
            words=claims.padding == "string" and "padding" in takes,
            shared=_shared_fields(claims),
            max_padding=claims.max_padding,
            rests=claims.rounding == "floor",
            ceil_modes=(False, True) if "ceil_mode" in takes else (False,),
            include_pads=(True, False) if "count_include_pad" in takes else (True,),
            groups="groups" in takes,
            may_default_stride=operator.is_pooling and "stride" in takes and claims.default_stride,
            biases=_biases(implementation),
            absent=_absent_axes(implementation),
            dtypes=_dtypes(implementation),
        )

    def axis_table(self, rule: AxisRule, reach: Reach, empty_windows: bool) -> tuple[Axis, ...]:
        """All claimed one-axis geometries within `reach` that obey `rule`, simple ones first."""
        axes = _all_axes(self, reach, self.pooling and not empty_windows)
        return tuple(axis for axis in axes if rule(axis))

    def admits(self, axes: Sequence[Axis], default_stride: bool) -> bool:
        """Whether the claimed forms of kernel, stride, padding and dilation can express these axes."""
        shared = set(self.shared) - ({"s"} if default_stride else set())
        return (
            all(len({getattr(axis, name) for axis in axes}) == 1 for name in shared)
            and (self.low_high or all(axis.low == axis.high for axis in axes))
            and (not self.words or bool(_words(axes)))
            and (self.rests or all(axis.room % axis.s == 0 for axis in axes))
            and (default_stride is False or self.may_default_stride or not self.strides)
            and all(
                max(axis.low, axis.high) <= max_padding(self.max_padding, axis.k, axis.low + axis.high)
                for axis in axes
            )
        )

    def channel_table(self, rule: Callable[[Channels], bool], blocks: bool = False) -> tuple[Channels, ...]:
        """All claimed sizes of the other axes that obey `rule`, simple ones first."""
        return tuple(
            ch
            for ch in (_ALL_CHANNELS + _BLOCKS if blocks else _ALL_CHANNELS)
            if rule(ch)
            and (ch.n == 1 or "n" not in self.absent)
            and (ch.c == 1 or "c" not in self.absent)
            and (ch.o == 1 or (self.has_out_channels and "o" not in self.absent))
            and (ch.groups == 1 or self.groups)
        )


def _shared_fields(claims: Claims) -> tuple[str, ...]:
    """Fields of `Axis` that must have one value on all axes."""
    fields = {"kernel": ("k",), "stride": ("s",), "padding": ("low", "high"), "dilation": ("d",)}
    alike = [name for name in fields if getattr(claims, name) in ("square", "scalar")]
    return tuple(field for name in alike for field in fields[name])


def _dtypes(implementation: Implementation) -> tuple[str, ...]:
    """The claimed dtypes that the standard speaks of: a quotient of integers is unspecified (CONTRACT-5)."""
    claims = implementation.claims
    divides = implementation.operator.row.divides or ("ties", "split") in claims.dialects
    return tuple(name for name in claims.dtypes if "float" in name or not divides)


def _biases(implementation: Implementation) -> tuple[bool, ...]:
    if not {"b"} <= {*implementation.operator.inputs} & {*implementation.takes}:
        # A gradient may have db without taking b; a forward pass without b has no bias.
        return (False,)
    return (True, False) if implementation.claims.bias_optional else (True,)


def _absent_axes(implementation: Implementation) -> frozenset[str]:
    """Axes that some layout leaves out: they have size one (clause LAYOUT-1)."""
    absent = implementation.size_one_axes
    return absent | {"c"} if "i" in absent else absent


def _words(axes: Sequence[Axis]) -> tuple[str, ...]:
    """The words for a padding that all axes can share: "valid", "same", both or none."""
    valid = all(axis.low == axis.high == 0 for axis in axes)
    same = all(axis.is_same for axis in axes)
    return ("valid",) * valid + ("same",) * same


def max_padding(claim: str, kernel: int, reach: int) -> int:
    """Largest padding that a claim allows beside a kernel of that size."""
    return {"any": reach, "below-kernel": kernel - 1, "half-kernel": kernel // 2}[claim]


_ALL_CHANNELS = tuple(
    sorted(
        (
            Channels(n, c * groups, o * groups, groups)
            for groups in (1, 2, 3)
            for n in (1, 2, 3)
            for c in (1, 2, 3)
            for o in (1, 2, 3)
        ),
        key=lambda ch: (ch.groups, ch.n + ch.c + ch.o, ch.n, ch.c),
    )
)

_BLOCKS = tuple(Channels(1, c, o) for c in (8, 16, 32) for o in (1, 16))


@functools.lru_cache(maxsize=256)
def _all_axes(space: Space, reach: Reach, real_windows: bool) -> tuple[Axis, ...]:
    paddings = range(reach.p + 1) if space.paddings else range(1)
    if space.low_high:
        pads = [(low, high) for low in paddings for high in paddings]
    else:
        pads = [(p, p) for p in paddings]
    dilations = range(1, reach.d + 1) if space.dilations else (1,)
    axes = []
    for k in range(1, reach.k + 1):
        # Without a stride parameter pooling moves by its kernel, everything else by one.
        strides = range(1, reach.s + 1) if space.strides else ((k,) if space.pooling else (1,))
        if space.may_default_stride:
            strides = range(1, max(reach.s, reach.k) + 1)
        limit = max_padding(space.max_padding, k, reach.p)
        for s in strides:
            for n, d in itertools.product(range(1, reach.n + 1), dilations):
                # Words stand for two paddings, one of which depends on everything else.
                choices = {(0, 0), same_padding(n, k, s, d)} if space.words else pads
                axes += [
                    axis
                    for low, high in choices
                    if (space.words or max(low, high) <= limit)
                    and (axis := Axis(n, k, s, low, high, d)).room >= 0
                    and (space.rests or axis.room % s == 0)
                    and (not real_windows or (axis.windows_are_real(True) and axis.windows_are_real()))
                ]
    return tuple(sorted(axes, key=lambda axis: axis.complexity))


# --- where geometries come from ----------------------------------------------------------------------


@dataclass(frozen=True)
class Focus:
    """Which geometries a law is about: the claimed ones, restricted.

    Attributes
    ----------
    axis
        What every axis must obey.
    some_axis
        What at least one axis must obey as well (the other axes are then free within `axis`).
    channels
        What the sizes of the other axes must obey.
    contents
        Ways of filling the arrays to draw from.
    ceil_mode, count_include_pad, default_stride, bias
        A fixed value, or None for every claimed one.
    dtypes
        Which of the claimed dtypes to use.
    empty_windows
        Whether windows of pooling without any real element may occur.
    in_numbers
        Whether it is only about padding given in numbers, not in words.
    """

    axis: AxisRule = lambda axis: True
    some_axis: AxisRule | None = None
    channels: Callable[[Channels], bool] = lambda ch: True
    contents: tuple[str, ...] = ("ordinary",)
    ceil_mode: bool | None = None
    count_include_pad: bool | None = None
    default_stride: bool | None = None
    bias: bool | None = None
    dtypes: Callable[[tuple[str, ...]], tuple[str, ...]] = lambda names: names
    empty_windows: bool = False
    in_numbers: bool = False


class _Flags(NamedTuple):
    default_stride: bool
    ceil_mode: bool
    count_include_pad: bool
    bias: bool
    dtype: str
    contents: str


class Tables:
    """The tables of one focus in one space; `empty` where the claims leave nothing to draw."""

    def __init__(self, space: Space, focus: Focus, reach: Reach) -> None:
        self.space = space
        self.focus = focus
        self.channels = space.channel_table(focus.channels, reach.blocks)
        self.flags = _flags(space, focus)
        table = space.axis_table(focus.axis, reach, focus.empty_windows)
        rule = focus.some_axis or focus.axis
        # some_axis holds on the first axis; `geometry` turns the axes so that each gets its turn.
        tables = [tuple(axis for axis in table if rule(axis)), *[table] * (space.rank - 1)]
        # shared values → tables of the axes that have them
        self.groups: dict[tuple[int, ...], tuple[Sequence[Axis], ...]] = {}
        for default in {flags.default_stride for flags in self.flags}:
            for word in ("valid", "same") if space.words else ("",):
                if not (space.words and focus.in_numbers):
                    self._add_groups(tables, default, word)

    def _add_groups(self, tables: Sequence[Sequence[Axis]], default: bool, word: str) -> None:
        """Group axes by what they must share; `word` is the word for their padding, if it has one."""
        by_key: list[dict[tuple[int, ...], list[Axis]]] = []
        for table in tables:
            grouped: dict[tuple[int, ...], list[Axis]] = {}
            for axis in table:
                if (default and axis.s != axis.k) or (word and word not in _words((axis,))):
                    continue
                # With the default stride, axes of a rectangular kernel have different strides.
                shared = tuple(
                    getattr(axis, name) for name in self.space.shared if not (default and name == "s")
                )
                grouped.setdefault((int(default), word == "same", *shared), []).append(axis)
            by_key.append(grouped)
        for key in by_key[0]:
            if all(key in grouped for grouped in by_key):
                self.groups[key] = tuple(grouped[key] for grouped in by_key)

    @property
    def empty(self) -> bool:
        """Whether the claims leave no geometry at all."""
        return not (self.groups and self.channels and self.flags)

    @functools.cached_property
    def keys(self) -> tuple[tuple[int, ...], ...]:
        """Shared values, simple ones first."""
        return tuple(sorted(self.groups, key=lambda key: self.groups[key][0][0].complexity))

    def flags_of(self, key: tuple[int, ...]) -> tuple[_Flags, ...]:
        """Flags that go with the shared values `key`."""
        return tuple(flags for flags in self.flags if flags.default_stride == bool(key[0]))

    def geometry(
        self, axes: Sequence[Axis], turn: int, channels: Channels, flags: _Flags, seed: int
    ) -> Geometry:
        """Assemble a geometry; `turn` says which axis the first one becomes."""
        turned = tuple(axes[(i - turn) % len(axes)] for i in range(len(axes)))
        return Geometry(turned, channels, seed=seed, **flags._asdict())

    @property
    def turns(self) -> int:
        """How many axes the leading axis can become: it is only told apart by `some_axis`."""
        return 1 if self.focus.some_axis is None else self.space.rank

    def strategy(self) -> st.SearchStrategy[Geometry]:
        """Draw geometries: few draws, all valid, shrinking to the smallest window."""

        @st.composite
        def draw_geometry(draw: st.DrawFn) -> Geometry:
            key = draw(st.sampled_from(self.keys))
            axes = [draw(st.sampled_from(table)) for table in self.groups[key]]
            turn = draw(st.integers(0, self.turns - 1)) if self.turns > 1 else 0
            channels = draw(st.sampled_from(self.channels))
            flags = draw(st.sampled_from(self.flags_of(key)))
            seed = draw(st.integers(0, 2**16 - 1))
            return self.geometry(axes, turn, channels, flags, seed)

        return draw_geometry()

    def sweep(self, limit: int | None, seed: int) -> Iterator[Geometry]:
        """Visit every one-axis geometry once, pairing axes, simple ones first.

        Parameters
        ----------
        limit
            Visit an evenly spread selection of at most this many; None visits all.
        seed
            Decides which axes are paired, and the selection.
        """
        rng = random.Random(seed)
        geometries = []
        for key in self.keys:
            leading, *others = self.groups[key]
            partners = [itertools.cycle(rng.sample(table, len(table))) for table in others]
            flags = self.flags_of(key)
            for index, axes in enumerate(zip(leading, *partners, strict=False)):
                channels = self.channels[rng.randrange(len(self.channels))]
                geometries.append(
                    self.geometry(
                        axes, index % self.turns, channels, flags[index % len(flags)], rng.getrandbits(16)
                    )
                )
        if limit is not None and len(geometries) > limit:
            geometries = rng.sample(geometries, limit)
        yield from sorted(geometries, key=lambda geometry: geometry.complexity)


def _flags(space: Space, focus: Focus) -> tuple[_Flags, ...]:
    def claimed(fixed: bool | None, offered: tuple[bool, ...]) -> tuple[bool, ...]:
        return offered if fixed is None else tuple(value for value in offered if value == fixed)

    defaults = claimed(focus.default_stride, (False, True) if space.may_default_stride else (False,))
    return tuple(
        _Flags(default, ceil, include, bias, dtype, contents)
        for contents in focus.contents
        for default in defaults
        for ceil in claimed(focus.ceil_mode, space.ceil_modes)
        for include in claimed(focus.count_include_pad, space.include_pads)
        for bias in claimed(focus.bias, space.biases)
        for dtype in focus.dtypes(space.dtypes)
    )


@functools.lru_cache(maxsize=512)
def tables(space: Space, focus: Focus, sweep: bool = False, wide: bool = False) -> Tables:
    """Tables of a focus (cached: every law of an operator uses them many times)."""
    plane, volume = (WIDE, WIDE_3D) if wide else (RANDOM, RANDOM_3D)
    return Tables(space, focus, SWEEP if sweep else plane if space.rank < 3 else volume)
