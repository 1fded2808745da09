"""The operator table: names, axes and parameters of every operator in the standard, as data.

Axes are named. For spatial rank 2 the input axes are ``h w``, the kernel axes ``kh kw`` and the output
axes ``oh ow``; rank 1 keeps the last of each, rank 3 puts ``d``, ``kd`` and ``od`` in front. The axes of
an array are written as an einops pattern without parentheses, for example ``"n c h w"``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


LAYOUT_OF: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("x", "dx"), "input"),
        **dict.fromkeys(("w", "dw"), "weight"),
        **dict.fromkeys(("b", "db"), "bias"),
        **dict.fromkeys(("y", "dy", "indices"), "output"),
        "cols": "columns",
    }
)
"""The layout that each array follows."""

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


Sizes = Mapping[str, int]
"""Lengths of the named axes of a call, and with them ``taps`` of a window, ``windows`` and ``groups``."""


KINDS = ("gathers", "sums", "selects", "averages")
"""What can become of the elements of a window."""


@dataclass(frozen=True)
class Family:
    """A row of the operator table: everything that is true of an operator at every rank.

    What others need to know of an operator they ask here; nobody else decides anything by its name. A row
    that leaves out what an operator must have is refused when the table is read.

    Attributes
    ----------
    name
        The name without the rank, for example ``"conv.backward"``; one page of the standard each.
    short_at
        The rank at which ``{r}`` is left out; None where it never is.
    inputs, outputs
        Axes of every array by name, ``{x}``, ``{k}`` and ``{o}`` standing for the spatial ones. ``b`` may be
        absent in a call; ``indices`` is only there where it is asked for.
    parameters
        Names from `PARAMETERS`, in the order of the reference's signature.
    kind
        What becomes of the elements of a window: ``"gathers"`` hands them out, ``"sums"``, ``"selects"`` one
        of them, ``"averages"``.
    factors
        The inputs that each output is linear in, one at a time; none for what is selected.
    terms
        K: the number of terms in the sum of each output, a function of named sizes.
    clauses
        The clauses that speak of a topic, by topic; the first of all is the one to begin with. Laws ask for
        topics, and a law has nothing to say of a family without its topic.
    names
        How homework calls it, without underscores and case.
    vague_names
        The same for what it is called where nothing else fits.
    gradient_of, adjoint_of
        The family that it is the gradient, or else the adjoint, of.
    pooling
        Whether the window is one of pooling, so that ``stride`` may be None: the kernel size.
    divides
        ``"sums"`` where sums are divided, ``"terms"`` where every term is; None where nothing is.
    any_outputs
        Whether an implementation may return any of the outputs, and leave out the others.
    for_shape
        Inputs of which nothing but shape and dtype matters.
    """

    name: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    parameters: tuple[str, ...]
    kind: str
    factors: Mapping[str, tuple[str, ...]]
    terms: Mapping[str, Callable[[Sizes], int]]
    clauses: Mapping[str, tuple[str, ...]]
    names: tuple[str, ...] = ()
    vague_names: tuple[str, ...] = ()
    short_at: int | None = None
    gradient_of: str | None = None
    adjoint_of: str | None = None
    pooling: bool = False
    divides: str | None = None
    any_outputs: bool = False
    for_shape: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.name}: kind={self.kind!r}, expected one of {', '.join(KINDS)}")
        for column in ("factors", "terms"):
            if set(getattr(self, column)) != set(self.outputs):
                raise ValueError(f"{self.name}: {column} has not the outputs {', '.join(self.outputs)}")
        if not any(self.clauses.values()):
            raise ValueError(f"{self.name}: cites no clause")
        if self.gradient_of is None and self.adjoint_of is None and not self.names:
            raise ValueError(f"{self.name}: has no name in homework")

    @property
    def first_clause(self) -> str:
        """The clause to begin with."""
        return next(iter(self.clauses.values()))[0]

    @property
    def linear(self) -> bool:
        """Whether every output is linear in each of its factors, whatever the other inputs hold."""
        return self.kind != "selects"

    @property
    def exact_reals(self) -> bool:
        """Whether no rounding of real numbers is bounded: they are compared exactly, or not at all."""
        return "rounding" not in self.clauses

    @property
    def has_weights(self) -> bool:
        """Whether elements are multiplied with weights, which have the kernel's axes and output channels."""
        return "w" in self.inputs

    def named(self, rank: int) -> str:
        """Name of the operator of that rank: ``"conv2d.backward"``."""
        stem, dot, what = self.name.partition(".")
        return f"{stem}{'' if rank == self.short_at else f'{rank}d'}{dot}{what}"


@dataclass(frozen=True)
class Operator:
    """One operator of the standard, for one spatial rank.

    Attributes
    ----------
    name
        The name that adapters use, for example ``"conv2d.backward"``.
    row
        The family, which says everything that does not depend on the rank.
    rank
        Number of spatial axes: 1, 2 or 3.
    inputs, outputs
        Axes of every array, by name, as in the row.
    """

    name: str
    row: Family
    rank: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process by name."""
        return _operator, (self.name,)

    @property
    def family(self) -> str:
        """Name of the family."""
        return self.row.name

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names from `PARAMETERS`, in the order of the reference's signature."""
        return self.row.parameters

    @property
    def forward(self) -> str:
        """Name of the operator that this one is the gradient of; its own name where it is no gradient."""
        return self.name if self.row.gradient_of is None else ROWS[self.row.gradient_of].named(self.rank)

    @property
    def gradient(self) -> str | None:
        """Name of the operator that is the gradient of this one; None where there is none."""
        rows = (row for row in _ROWS if row.gradient_of == self.row.name)
        return next((row.named(self.rank) for row in rows), None)

    @property
    def is_gradient(self) -> bool:
        """Whether it is the gradient of another operator."""
        return self.row.gradient_of is not None

    @property
    def is_pooling(self) -> bool:
        """Whether ``stride`` may be None, which stands for the kernel size."""
        return self.row.pooling

    @property
    def is_linear(self) -> bool:
        """Whether every output is linear in each input (bilinear for convolution)."""
        return self.row.linear


_X, _COLS, _W, _B = "n c {x}", "n c {k} {o}", "o i {k}", "o"
_CONV_Y, _POOL_Y = "n o {o}", "n c {o}"
_WINDOW = ("stride", "padding", "dilation")
_CONV = (*_WINDOW, "groups")
_MAX = ("kernel", *_WINDOW, "ceil_mode")
_AVG = (*_MAX, "count_include_pad")


def _one(size: Sizes) -> int:
    return 1


def _taps(size: Sizes) -> int:
    return size["taps"]


def _about(**topics: str) -> Mapping[str, tuple[str, ...]]:
    """Write clauses by topic as words."""
    return MappingProxyType({topic: tuple(clauses.split()) for topic, clauses in topics.items()})


_ROWS = (
    Family(
        "im2col",
        inputs={"x": _X},
        outputs={"cols": _COLS},
        parameters=("kernel", *_WINDOW),
        kind="gathers",
        factors={"cols": ("x",)},
        terms={"cols": _one},
        clauses=_about(
            values="IM2COL-1 WINDOW-1",
            channels="LAYOUT-1",
            batch="LAYOUT-1",
            padding="IM2COL-2 WINDOW-3",
            everything="IM2COL-1 IM2COL-2",
            long_axes="IM2COL-1",
            special_values="IM2COL-3",
        ),
        names=("im2col", "img2col", "image2col", "imtocol", "unfold", "im2row"),
        short_at=2,
    ),
    Family(
        "col2im",
        inputs={"cols": _COLS},
        outputs={"x": _X},
        parameters=("input_size", "kernel", *_WINDOW),
        kind="sums",
        factors={"x": ("cols",)},
        terms={"x": _taps},
        clauses=_about(
            values="COL2IM-1 WINDOW-1",
            channels="LAYOUT-1",
            batch="LAYOUT-1",
            padding="COL2IM-2 WINDOW-3",
            overlap="COL2IM-1",
            adjoint="COL2IM-1",
            everything="COL2IM-1 COL2IM-2",
            large_and_small="COL2IM-1",
            long_axes="COL2IM-1",
            refuses_columns="COL2IM-3",
        ),
        names=("col2im", "col2img", "col2image", "coltoim", "fold", "row2im"),
        short_at=2,
        adjoint_of="im2col",
    ),
    Family(
        "conv",
        inputs={"x": _X, "w": _W, "b": _B},
        outputs={"y": _CONV_Y},
        parameters=_CONV,
        kind="sums",
        factors={"y": ("x", "w")},
        terms={"y": lambda size: size["i"] * size["taps"] + 1},
        clauses=_about(
            values="CONV-1 WINDOW-1",
            channels="CONV-2 LAYOUT-1",
            batch="LAYOUT-1 CONV-2",
            bias="CONV-3",
            no_bias="CONV-3",
            groups="CONV-4",
            padding="WINDOW-3",
            everything="CONV-1 CONV-2 CONV-3 CONV-4",
            rounding="CONV-5",
            long_sums="CONV-5",
            integers="CONV-5",
            long_axes="CONV-2",
            zero_channels="CONV-6",
            refuses_shapes="CONV-7",
        ),
        names=("conv", "convolution", "convolve", "crosscorrelate", "xcorr", "correlate"),
    ),
    Family(
        "conv.backward",
        inputs={"x": _X, "w": _W, "b": _B, "dy": _CONV_Y},
        outputs={"dx": _X, "dw": _W, "db": _B},
        parameters=_CONV,
        kind="sums",
        factors={"dx": ("w", "dy"), "dw": ("x", "dy"), "db": ("dy",)},
        terms={
            "dx": lambda size: size["o"] // size["groups"] * size["taps"],
            "dw": lambda size: size["n"] * size["windows"],
            "db": lambda size: size["n"] * size["windows"],
        },
        clauses=_about(
            dx="CONVGRAD-1 CONV-1",
            dw="CONVGRAD-2 CONV-1",
            db="CONVGRAD-3",
            channels="CONVGRAD-1 CONVGRAD-2 CONV-2 LAYOUT-1",
            batch="CONVGRAD-2 CONVGRAD-3 LAYOUT-1",
            no_bias="CONV-3",
            groups="CONVGRAD-4 CONV-4",
            windows="CONVGRAD-1 CONVGRAD-2",
            padding="WINDOW-3 CONVGRAD-1 CONVGRAD-2",
            adjoint="CONVGRAD-1 CONVGRAD-2",
            everything="CONVGRAD-1 CONVGRAD-2 CONVGRAD-3 CONVGRAD-4",
            rounding="CONV-5",
            long_sums="CONV-5",
            integers="CONV-5",
            long_axes="CONVGRAD-1 CONVGRAD-2 CONVGRAD-3",
            zero_channels="CONV-6",
            refuses_shapes="CONV-7",
            refuses_dy="CONVGRAD-5",
        ),
        gradient_of="conv",
        any_outputs=True,
    ),
    Family(
        "max_pool",
        inputs={"x": _X},
        outputs={"y": _POOL_Y, "indices": _POOL_Y},
        parameters=_MAX,
        kind="selects",
        factors={"y": (), "indices": ()},
        terms={"y": _one, "indices": _one},
        clauses=_about(
            values="MAXPOOL-1 WINDOW-1",
            channels="POOL-2 LAYOUT-1",
            batch="POOL-2 LAYOUT-1",
            padding="MAXPOOL-2 WINDOW-3",
            ceil="WINDOW-5",
            indices="MAXPOOL-5",
            ties="MAXPOOL-6",
            everything="MAXPOOL-1 MAXPOOL-2 MAXPOOL-6",
            long_axes="MAXPOOL-1 MAXPOOL-5",
            special_values="MAXPOOL-4",
            special_indices="MAXPOOL-4",
            special_channels="POOL-2 MAXPOOL-4",
            no_real_element="MAXPOOL-3",
        ),
        names=("maxpool", "poolmax", "maxpooling"),
        vague_names=("pool",),
        pooling=True,
    ),
    Family(
        "max_pool.backward",
        inputs={"x": _X, "dy": _POOL_Y},
        outputs={"dx": _X},
        parameters=_MAX,
        kind="selects",
        factors={"dx": ("dy",)},
        terms={"dx": _taps},
        clauses=_about(
            values="MAXGRAD-1 MAXPOOL-1",
            channels="POOL-2 LAYOUT-1",
            batch="POOL-2 LAYOUT-1",
            padding="MAXPOOL-2 WINDOW-3",
            ceil="WINDOW-5",
            overlap="MAXGRAD-2",
            ties="MAXPOOL-6",
            everything="MAXGRAD-1 MAXGRAD-2 MAXPOOL-1 MAXPOOL-6",
            long_axes="MAXGRAD-1",
            special_values="MAXPOOL-4 MAXPOOL-6",
            no_real_element="MAXPOOL-3",
            refuses_dy="MAXGRAD-3",
        ),
        gradient_of="max_pool",
        pooling=True,
    ),
    Family(
        "avg_pool",
        inputs={"x": _X},
        outputs={"y": _POOL_Y},
        parameters=_AVG,
        kind="averages",
        factors={"y": ("x",)},
        terms={"y": _taps},
        clauses=_about(
            values="AVGPOOL-1 WINDOW-1",
            channels="POOL-2 LAYOUT-1",
            batch="POOL-2 LAYOUT-1",
            padding="AVGPOOL-2 WINDOW-3",
            exclude_padding="AVGPOOL-2",
            ceil="AVGPOOL-3 WINDOW-5",
            everything="AVGPOOL-1 AVGPOOL-2 AVGPOOL-3",
            rounding="AVGPOOL-4",
            long_sums="AVGPOOL-4",
            long_axes="AVGPOOL-1",
        ),
        names=("avgpool", "averagepool", "meanpool", "poolavg", "avgpooling"),
        pooling=True,
        divides="sums",
    ),
    Family(
        "avg_pool.backward",
        inputs={"x": _X, "dy": _POOL_Y},
        outputs={"dx": _X},
        parameters=_AVG,
        kind="averages",
        factors={"dx": ("dy",)},
        terms={"dx": _taps},
        clauses=_about(
            values="AVGGRAD-1",
            channels="POOL-2 LAYOUT-1",
            batch="POOL-2 LAYOUT-1",
            padding="AVGPOOL-2 WINDOW-3",
            exclude_padding="AVGPOOL-2",
            ceil="AVGPOOL-3 WINDOW-5",
            overlap="AVGGRAD-1",
            everything="AVGGRAD-1 AVGPOOL-2 AVGPOOL-3",
            rounding="AVGPOOL-4",
            long_axes="AVGGRAD-1",
            refuses_dy="AVGGRAD-2",
        ),
        gradient_of="avg_pool",
        pooling=True,
        divides="terms",
        for_shape=("x",),
    ),
)

ROWS: Mapping[str, Family] = MappingProxyType({row.name: row for row in _ROWS})
"""The rows of the table by family, in the order of the standard's pages."""

FAMILIES = tuple(ROWS)
"""Names of the operator families."""


def axes(template: str, rank: int) -> str:
    """Write the axes of an array for one rank: ``axes("n c {x}", 2) == "n c h w"``."""
    spatial = SPATIAL_AXES[rank]
    return template.format(
        x=" ".join(spatial),
        k=" ".join("k" + axis for axis in spatial),
        o=" ".join("o" + axis for axis in spatial),
    )


def _at_rank(row: Family, rank: int) -> Operator:
    arrays = (
        MappingProxyType({name: axes(value, rank) for name, value in templates.items()})
        for templates in (row.inputs, row.outputs)
    )
    return Operator(row.named(rank), row, rank, *arrays)


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {row.named(rank): _at_rank(row, rank) for row in _ROWS for rank in RANKS}
)
"""Every operator of the standard by name: ``im2col``, ``conv2d``, ``max_pool3d.backward``, …"""


def _operator(name: str) -> Operator:
    return OPERATORS[name]
