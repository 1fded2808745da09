"""Claims: what an implementation says of itself beyond its wrapper's parameters; and its switches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

CLAIM_VALUES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "stride": ("pair", "scalar"),
        "dilation": ("pair", "scalar"),
        "padding": ("pair", "scalar", "low-high", "string"),
        "kernel": ("any", "square"),
        "max_padding": ("any", "below-kernel", "half-kernel"),
        "rounding": ("floor", "exact"),
        "arithmetic": ("sum", "transform"),
    }
)
"""The claims that are words, and the words; the first is the default."""


DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8")
"""The dtypes that an adapter may claim; bfloat16 is that of ml_dtypes."""


@dataclass(frozen=True)
class Claims:
    """What an implementation says it can do, beyond the parameters that its wrapper takes.

    Attributes
    ----------
    stride, dilation
        ``"pair"``: one integer for each axis; ``"scalar"``: one integer for all axes.
    padding
        ``"pair"``: one integer for each axis, the same before and after; ``"scalar"``: one integer;
        ``"low-high"``: ``(low, high)`` for each axis; ``"string"``: ``"same"`` (WINDOW-8) or ``"valid"``.
    default_stride
        Whether the stride of a pooling operator may be None (POOL-1), where the wrapper takes one.
    kernel
        ``"any"``: one integer for each axis; ``"square"``: the same along every axis, passed as one.
    dtypes
        NumPy names of the dtypes; ``"bfloat16"`` is the one that ml_dtypes adds.
    indices
        Whether max pooling returns ``(y, indices)``.
    max_padding
        How much padding the implementation accepts: ``"any"``, ``"below-kernel"`` (p < k) or
        ``"half-kernel"`` (p ≤ ⌊k/2⌋), along each axis.
    rounding
        ``"floor"``: elements left over behind the last window are ignored (WINDOW-1); ``"exact"``: the stride
        has to divide n + p_lo + p_hi − e, and other sizes are refused.
    arithmetic
        ``"sum"``: products are summed, so integers are exact; ``"transform"``: FFT, Winograd and the like.
    bias_optional
        Whether calls without a bias are claimed.
    dialects
        Declared readings of the standard, ``(name, value)`` as in `convform.spec.operators.DIALECTS`.
    """

    stride: str = "pair"
    dilation: str = "pair"
    padding: str = "pair"
    kernel: str = "any"
    dtypes: tuple[str, ...] = ("float64", "float32")
    indices: bool = False
    default_stride: bool = True
    max_padding: str = "any"
    rounding: str = "floor"
    arithmetic: str = "sum"
    bias_optional: bool = True
    dialects: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Switch:
    """A global setting that changes what a library computes.

    Attributes
    ----------
    name
        What the library calls it, for example ``"torch.backends.mkldnn.enabled"``.
    value
        What it is set to.
    breaks
        What it does to arithmetic as it is set, if exact sums may then come out wrong: ``"factors are
        rounded to bfloat16"``; None for a value that keeps them exact.
    """

    name: str
    value: str | int | float | bool | None
    breaks: str | None = None
