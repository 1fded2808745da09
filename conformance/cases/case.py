"""A case: an operator, a window, arrays and a dtype; everything that one call of a subject needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from convform import reference
from convform.adapters import Claims
from convform.conformance.cases import contents
from convform.conformance.cases.geometry import Geometry
from convform.reference.call import Call
from convform.reference.window import Window
from convform.spec.examples import Example
from convform.spec.operators import PARAMETERS, SPATIAL_AXES, Operator

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One call of one operator.

    Attributes
    ----------
    operator
        The operator.
    inputs
        Canonical arrays by name, with the axes of the operator table. ``b`` is missing where no bias is
        given.
    parameters
        Every parameter of the operator in normal form: per-axis tuples, padding as (low, high) for each
        axis, ``stride`` None for the default of pooling.
    call
        The same as the standard takes it, whole; None for a case that it refuses.
    geometry
        What the case was built from; None for worked examples.
    arrangement
        How the arrays handed to the subject lie in memory, see `convform.conformance.subjects.subject`.
    refused
        Why the standard refuses this case; None for a valid one.
    example
        The worked example that this case executes, if any.
    output_size
        Number of windows along each axis, where a declared dialect counts them otherwise than the standard.
    """

    operator: Operator
    inputs: Arrays
    parameters: Mapping[str, object]
    call: Call | None = None
    geometry: Geometry | None = None
    arrangement: str = "contiguous"
    refused: str | None = None
    example: Example | None = None
    output_size: tuple[int, ...] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process of the judge, which a read-only mapping does not by itself."""
        said = {**self.__dict__, "inputs": dict(self.inputs), "parameters": dict(self.parameters)}
        return _arrived, ({field.name: said[field.name] for field in fields(self)},)

    @property
    def asked(self) -> Call | Mapping[str, object]:
        """What the standard is asked with: the call, or the parameters that it refuses."""
        return self.parameters if self.call is None or self.refused is not None else self.call

    @property
    def window(self) -> Window:
        """The window; of a refused case the one that its parameters say, if it is one."""
        if self.call is not None:
            return self.call.window
        given: Mapping[str, Any] = self.parameters
        kernel = given["kernel"] if "kernel" in given else self.inputs["w"].shape[2:]
        ceil_mode = bool(given.get("ceil_mode", False))
        return Window.of(kernel, given["stride"], given["padding"], given["dilation"], ceil_mode)

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the arrays (of the first one, where a refused case mixes them)."""
        return next(iter(self.inputs.values())).dtype

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Length of every named axis of inputs and outputs, and what the operator table counts besides."""
        sizes: dict[str, int] = {}
        for name, array in self.inputs.items():
            sizes.update(zip(self.operator.inputs[name].split(), array.shape, strict=True))
        given: Mapping[str, Any] = self.parameters
        if "input_size" in given:
            sizes.update(zip(self.operator.outputs["x"].split(), given["input_size"], strict=True))
        spatial, window = SPATIAL_AXES[self.operator.rank], self.window
        output = self.output_size or window.output_size([sizes[axis] for axis in spatial])
        return {**sizes, **window_sizes(window, output), "groups": given.get("groups", 1)}

    def terms(self, output: str) -> int:
        """K: number of terms in each sum of an output."""
        return self.operator.row.terms[output](self.sizes)

    def with_inputs(self, **arrays: np.ndarray) -> Case:
        """Return the same case with some arrays replaced."""
        return replace(self, inputs=MappingProxyType({**self.inputs, **arrays}))


def _arrived(said: dict[str, Any]) -> Case:
    return Case(**{**said, "inputs": MappingProxyType(said["inputs"])})


def window_sizes(window: Window, output: Sequence[int]) -> dict[str, int]:
    """Lengths of the kernel's and the output's axes, and the numbers of taps and windows."""
    spatial = SPATIAL_AXES[window.rank]
    return {
        **{"k" + axis: k for axis, k in zip(spatial, window.kernel, strict=True)},
        **{"o" + axis: o for axis, o in zip(spatial, output, strict=True)},
        "taps": window.taps,
        "windows": math.prod(output),
    }


def parameters_as_said(case: Case, claims: Claims) -> Mapping[str, object]:
    """Parameters of a case with the padding in words where words are claimed (WINDOW-8)."""
    if claims.padding != "string" or "padding" not in case.parameters:
        return case.parameters
    try:
        window, sizes = case.window, case.sizes
    except ValueError:  # a refused case may have no window at all
        return {**case.parameters, "padding": "valid"}
    spatial = [sizes[axis] for axis in SPATIAL_AXES[case.operator.rank]]
    same = Window.same(spatial, window.kernel, window.stride, window.dilation)
    return {**case.parameters, "padding": "same" if window.padding == same.padding else "valid"}


def parameters_of(operator: Operator, geometry: Geometry) -> dict[str, object]:
    """Write out the parameters of a geometry in normal form."""
    call, window = geometry.call, geometry.window
    values: dict[str, object] = {
        "input_size": (geometry.channels.n, geometry.channels.c, *call.size),
        "kernel": window.kernel,
        "stride": None if call.default_stride else window.stride,
        "padding": window.padding,
        "dilation": window.dilation,
        "groups": call.groups,
        "ceil_mode": window.ceil_mode,
        "count_include_pad": call.count_include_pad,
    }
    return {name: values[name] for name in operator.parameters}


def named_sizes(geometry: Geometry) -> dict[str, int]:
    """Lengths of all named axes of a geometry, and what the table of operators counts besides."""
    ch, call = geometry.channels, geometry.call
    return {
        "n": ch.n,
        "c": ch.c,
        "o": ch.o,
        "i": ch.c // ch.groups,
        **dict(zip(SPATIAL_AXES[call.window.rank], call.size, strict=True)),
        **window_sizes(call.window, call.output),
        "groups": ch.groups,
    }


def shapes(operator: Operator, geometry: Geometry) -> dict[str, tuple[int, ...]]:
    """Shape of every input array of a geometry."""
    sizes = named_sizes(geometry)
    return {
        name: tuple(sizes[axis] for axis in axes.split())
        for name, axes in operator.inputs.items()
        if name != "b" or geometry.bias
    }


@np.errstate(all="ignore")  # a homework may have asked NumPy to raise
def build(operator: Operator, geometry: Geometry) -> Case:
    """Fill a geometry with numbers."""
    rng = np.random.default_rng(geometry.seed)
    magnitude = value_range(operator, geometry)
    inputs: dict[str, np.ndarray] = {}
    for name, shape in shapes(operator, geometry).items():
        # What is special about the contents concerns the input; the other factors are plain numbers.
        kind = geometry.contents if name in ("x", "cols") or geometry.contents == "real" else "ordinary"
        if kind in contents.FLOAT_CONTENTS:
            array = contents.FLOAT_CONTENTS[kind](rng, shape, geometry.dtype)
        else:
            # Max pooling selects elements of x, it never adds them up.
            selected = name == "x" and operator.row.kind == "selects"
            limit = contents.exact_magnitude(geometry.dtype, 1, 1) if selected else magnitude
            if kind == "ordinary":
                kind = "distinct" if selected else "wide"
            array = contents.INTEGER_CONTENTS[kind](rng, shape, limit)
            if operator.row.exact_reals:
                array = contents.scaled(rng, array, geometry.dtype, far=selected and kind == "negative")
        inputs[name] = array.astype(geometry.dtype)
    parameters = parameters_of(operator, geometry)
    terms, _, scale = sum_size(operator, geometry)
    if terms * scale >= contents.exact_limit(geometry.dtype) and geometry.contents != "real":
        _thin_out(operator, inputs, geometry.call, contents.exact_limit(geometry.dtype) // scale, rng)
    return Case(operator, MappingProxyType(inputs), parameters, geometry.call, geometry)


def _thin_out(
    operator: Operator,
    inputs: dict[str, np.ndarray],
    call: Call,
    limit: int,
    rng: np.random.Generator,
) -> None:
    """Set more and more elements to zero, until Σ|x||w| of every output is below `limit`.

    In bfloat16 not even sums of 256 ones are exact.
    """
    if not operator.is_linear:
        return
    factor = "dy" if "dy" in inputs else "cols" if "cols" in inputs else "x"
    while True:
        absolute = {name: np.abs(array).astype(np.float64) for name, array in inputs.items()}
        sums = reference.evaluate(operator.name, absolute, call)
        if all(np.max(array, initial=0) < limit for array in sums.values()):
            return
        kept = rng.random(inputs[factor].shape) < 0.5
        inputs[factor] = np.where(kept, inputs[factor], np.zeros_like(inputs[factor]))


def value_range(operator: Operator, geometry: Geometry) -> int:
    """Largest magnitude M of the integers of an exact-lane case (see `contents.exact_magnitude`)."""
    terms, degree, scale = sum_size(operator, geometry)
    return contents.exact_magnitude(geometry.dtype, terms, degree, scale)


def sum_size(operator: Operator, geometry: Geometry) -> tuple[int, int, int]:
    """(terms, degree, scale): terms of the longest sum, factors in each, and the divisor's share."""
    row, sizes = operator.row, named_sizes(geometry)
    terms = max(count(sizes) for count in row.terms.values())
    degree = max(1, *(len(factors) for factors in row.factors.values()))
    return terms, degree, sizes["taps"] if row.divides == "terms" else 1


def normal_parameters(
    operator: Operator, given: Mapping[str, Any], *, partial: bool = False
) -> dict[str, object]:
    """Spread, pair and complete parameters as people write them.

    Parameters
    ----------
    operator
        The operator.
    given
        Any subset of its parameters, in any form that `Window.of` takes.
    partial
        Whether ``kernel`` and ``input_size`` may be left out; they then stay out.
    """
    rank = operator.rank
    values: dict[str, Any] = {}
    for name in operator.parameters:
        if name in given:
            values[name] = given[name]
        elif name == "stride" and operator.is_pooling:
            values[name] = None
        elif PARAMETERS[name].default is not None:
            default = PARAMETERS[name].default
            values[name] = (default,) * rank if PARAMETERS[name].kind == "low-high" else default
        elif not partial:
            raise ValueError(f"{operator.name} needs {name}")
    kernel = values.get("kernel", 1)
    window = Window.of(
        (kernel,) * rank if isinstance(kernel, int) else kernel,
        values["stride"],
        values["padding"],
        values["dilation"],
    )
    values |= {"padding": window.padding, "dilation": window.dilation}
    if values["stride"] is not None:
        values["stride"] = window.stride
    if "kernel" in values:
        values["kernel"] = window.kernel
    if "input_size" in values:
        values["input_size"] = tuple(values["input_size"])
    return values
