"""The operator table: names, axes and parameters of every operator in the standard, as data.

Axes are named. For spatial rank 2 the input axes are ``h w``, the kernel axes ``kh kw`` and the output
axes ``oh ow``; rank 1 keeps the last of each, rank 3 puts ``d``, ``kd`` and ``od`` in front. The axes of
an array are written as an einops pattern without parentheses, for example ``"n c h w"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

SPATIAL_AXES: Mapping[int, tuple[str, ...]] = MappingProxyType({1: ("w",), 2: ("h", "w"), 3: ("d", "h", "w")})
"""Names of the spatial axes of an input, by rank."""

RANKS = tuple(SPATIAL_AXES)


@dataclass(frozen=True)
class Parameter:
    """One parameter of an operator.

    Attributes
    ----------
    name
        The name that wrappers and the reference use.
    kind
        ``"per axis"`` (one integer for each spatial axis), ``"low-high"`` (a pair for each spatial
        axis), ``"count"``, ``"flag"`` or ``"shape"`` (the shape of ``x``).
    default
        The value that an implementation without this parameter is taken to have, for one axis.
    says
        What it is, in a few words.
    """

    name: str
    kind: str
    default: object
    says: str


PARAMETERS: Mapping[str, Parameter] = MappingProxyType(
    {
        parameter.name: parameter
        for parameter in (
            Parameter("input_size", "shape", None, "shape of x, all axes (n c h w)"),
            Parameter("kernel", "per axis", None, "taps of the window along each axis"),
            Parameter("stride", "per axis", 1, "distance between the starts of neighbouring windows"),
            Parameter("padding", "low-high", (0, 0), "virtual elements before and after the input"),
            Parameter("dilation", "per axis", 1, "distance between neighbouring taps of one window"),
            Parameter("groups", "count", 1, "independent blocks that the channels are split into"),
            Parameter("ceil_mode", "flag", False, "round the output size up instead of down"),
            Parameter("count_include_pad", "flag", True, "padding counts in the divisor of an average"),
        )
    }
)
"""Every parameter of the standard. For pooling, ``stride`` may be None: the kernel size."""


DIALECTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "ties": ("last", "split", "all"),
        "maxpad": ("zero", "lowest"),
        "nan": ("ignore",),
        "index": ("nchw", "nhwc", "window"),
        "avgcount": ("kernel", "real"),
        "ceil": ("noclip", "clip_if_padded"),
        "oversize": ("empty",),
        "kernel": ("mirrored",),
        "padding": ("crop",),
        "dtypes": ("promote",),
        "scatter": ("native",),
    }
)
"""Readings that some library documents as its choice; an adapter that declares one is judged by it."""


@dataclass(frozen=True)
class Operator:
    """One operator of the standard, for one spatial rank.

    Attributes
    ----------
    name
        The name that adapters use, for example ``"conv2d.backward"``.
    family
        The name without the rank, for example ``"conv.backward"``; one page of the standard each.
    rank
        Number of spatial axes: 1, 2 or 3.
    inputs, outputs
        Axes of every array, by name. ``b`` may be absent in a call; ``indices`` is only there where
        it is asked for.
    parameters
        Names from `PARAMETERS`, in the order of the reference's signature.
    """

    name: str
    family: str
    rank: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    parameters: tuple[str, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process by name; it has the same table."""
        return _row, (self.name,)

    @property
    def forward(self) -> str:
        """Name of the operator that this one is the gradient of; its own name where it is no gradient."""
        return self.name.removesuffix(".backward")

    @property
    def is_pooling(self) -> bool:
        """Whether ``stride`` may be None, which stands for the kernel size."""
        return "pool" in self.family

    @property
    def is_linear(self) -> bool:
        """Whether every output is linear in each input (bilinear for convolution)."""
        return not self.family.startswith("max_pool")


def _row(name: str) -> Operator:
    return OPERATORS[name]


_X, _COLS, _W, _B = "n c {x}", "n c {k} {o}", "o i {k}", "o"
_CONV_Y, _POOL_Y = "n o {o}", "n c {o}"
_WINDOW = ("stride", "padding", "dilation")
_CONV = (*_WINDOW, "groups")
_MAX = ("kernel", *_WINDOW, "ceil_mode")
_AVG = (*_MAX, "count_include_pad")

# family: (name of the rank-r operator, inputs, outputs, parameters)
_FAMILIES: Mapping[str, tuple[str, dict[str, str], dict[str, str], tuple[str, ...]]] = {
    "im2col": ("im2col{r}", {"x": _X}, {"cols": _COLS}, ("kernel", *_WINDOW)),
    "col2im": ("col2im{r}", {"cols": _COLS}, {"x": _X}, ("input_size", "kernel", *_WINDOW)),
    "conv": ("conv{r}", {"x": _X, "w": _W, "b": _B}, {"y": _CONV_Y}, _CONV),
    "conv.backward": (
        "conv{r}.backward",
        {"x": _X, "w": _W, "b": _B, "dy": _CONV_Y},
        {"dx": _X, "dw": _W, "db": _B},
        _CONV,
    ),
    "max_pool": ("max_pool{r}", {"x": _X}, {"y": _POOL_Y, "indices": _POOL_Y}, _MAX),
    "max_pool.backward": ("max_pool{r}.backward", {"x": _X, "dy": _POOL_Y}, {"dx": _X}, _MAX),
    "avg_pool": ("avg_pool{r}", {"x": _X}, {"y": _POOL_Y}, _AVG),
    "avg_pool.backward": ("avg_pool{r}.backward", {"x": _X, "dy": _POOL_Y}, {"dx": _X}, _AVG),
}

FAMILIES = tuple(_FAMILIES)
"""Names of the operator families, in the order of the standard's pages."""


def axes(template: str, rank: int) -> str:
    """Write the axes of an array for one rank: ``axes("n c {x}", 2) == "n c h w"``."""
    spatial = SPATIAL_AXES[rank]
    return template.format(
        x=" ".join(spatial),
        k=" ".join("k" + axis for axis in spatial),
        o=" ".join("o" + axis for axis in spatial),
    )


def _operators() -> dict[str, Operator]:
    table = {}
    for family, (template, inputs, outputs, parameters) in _FAMILIES.items():
        for rank in RANKS:
            # The 2-D gather and scatter are the ones everybody calls im2col and col2im.
            suffix = "" if rank == 2 and family in ("im2col", "col2im") else f"{rank}d"
            name = template.format(r=suffix)
            table[name] = Operator(
                name,
                family,
                rank,
                MappingProxyType({key: axes(value, rank) for key, value in inputs.items()}),
                MappingProxyType({key: axes(value, rank) for key, value in outputs.items()}),
                parameters,
            )
    return table


OPERATORS: Mapping[str, Operator] = MappingProxyType(_operators())
"""Every operator of the standard by name: ``im2col``, ``conv2d``, ``max_pool3d.backward``, …"""
