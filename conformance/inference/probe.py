"""Cases to try drafts on: arrays of distinct values, and what the standard answers to them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from convform import reference
from convform.adapters.layout import Array, Layout
from convform.reference.misreadings.catalogue import MISREADINGS
from convform.reference.misreadings.misreading import Evaluate, misread
from convform.reference.window import Window
from convform.spec.operators import LAYOUT_OF, OPERATORS, SPATIAL_AXES, Operator

FLAGS = ("groups", "ceil_mode", "count_include_pad")
"""Parameters that are one value for all axes."""


@dataclass(frozen=True)
class Probe:
    """A case to try drafts on: canonical arrays, parameters for each axis, and the standard's answer."""

    operator: Operator
    inputs: Mapping[str, Array]
    parameters: Mapping[str, Any]
    expected: Mapping[str, Array]
    sizes: Mapping[str, int]


@lru_cache(maxsize=4096)
def layout_of(pattern: str, axes: str) -> Layout:
    """Read a pattern, once."""
    return Layout.parse(pattern, axes.split(), allow_empty=True)


def arguments_for(
    takes: Sequence[str], claims: Mapping[str, Any], layouts: Mapping[str, str], probe: Probe
) -> dict[str, Any]:
    """Write a probe in the forms that a draft takes."""
    arguments: dict[str, Any] = {}
    for name in takes:
        if name in probe.inputs:
            axes = probe.operator.inputs[name]
            arguments[name] = layout_of(layouts.get(LAYOUT_OF[name]) or axes, axes).to_native(
                probe.inputs[name]
            )
        elif name == "input_size":
            axes = OPERATORS[probe.operator.forward].inputs.get("x") or probe.operator.outputs["x"]
            layout = layout_of(layouts.get("input") or axes, axes)
            arguments[name] = layout.shape(probe.sizes)
        else:
            arguments[name] = _parameter(name, probe.parameters.get(name), claims.get(name, "pair"))
    return arguments


def _parameter(name: str, value: Any, form: str) -> Any:
    if name in FLAGS or value is None:
        return {"groups": 1, "ceil_mode": False, "count_include_pad": True}[name] if name in FLAGS else None
    if form.split()[0] in ("scalar", "square"):
        return value[0]
    if form == "string":
        return value if isinstance(value, str) else "valid"
    if form == "low-high":
        return tuple((p, p) for p in value)
    return tuple(value)


def probe_of(
    operator: Operator,
    lengths: Mapping[str, int],
    *,
    default_stride: bool = False,
    bias: bool = False,
    negative: bool = False,
    evaluate: Evaluate = reference.evaluate,
    **window: Sequence[int] | None,
) -> Probe:
    """Make a probe: distinct positive integers, kernel 2, stride 1 (pooling: the kernel size), no padding."""
    rank = operator.rank
    kernel = tuple(window.get("kernel") or (2,) * rank)
    given: dict[str, Any] = {
        "kernel": kernel,
        "stride": tuple(window.get("stride") or (kernel if operator.is_pooling else (1,) * rank)),
        "padding": tuple(window.get("padding") or (0,) * rank),
        "dilation": tuple(window.get("dilation") or (1,) * rank),
    }
    output = Window.of(**given).output_size([lengths[axis] for axis in SPATIAL_AXES[rank]])
    sizes = dict(lengths)
    for axis, k, o in zip(SPATIAL_AXES[rank], kernel, output, strict=True):
        sizes["k" + axis], sizes["o" + axis] = k, o
    sizes["i"] = sizes["c"]
    rng = np.random.default_rng(7)
    inputs = {}
    for name, axes in operator.inputs.items():
        shape = tuple(sizes[axis] for axis in axes.split())
        count = int(np.prod(shape))
        values = rng.permutation(count).astype(np.float64) + 1
        if negative:
            values -= count // 2
        inputs[name] = values.reshape(shape)
    if "b" in inputs and not bias:
        inputs["b"] = np.zeros_like(inputs["b"])
    given |= {"groups": 1, "ceil_mode": False, "count_include_pad": True}
    parameters = {name: given[name] for name in operator.parameters if name in given}
    if default_stride:
        parameters["stride"] = None
    if "input_size" in operator.parameters:
        parameters["input_size"] = tuple(sizes[axis] for axis in operator.outputs["x"].split())
    return Probe(operator, inputs, parameters, evaluate(operator.name, inputs, parameters), sizes)


def lengths_of(operator: Operator, rung: int) -> dict[str, int]:
    """Sizes of the probes, from the telling to the modest ones that more defects survive."""
    spatial = ((5, 7, 8), (6, 6, 6), (6, 7, 8), (6, 6, 6))[rung][-operator.rank :]
    others = ((2, 3, 5), (2, 3, 5), (2, 1, 5), (1, 1, 1))[rung]
    return {
        **dict(zip(SPATIAL_AXES[operator.rank], spatial, strict=True)),
        **dict(zip("nco", others, strict=True)),
    }


RUNGS = 4
RUNG_NOTES = (
    "",
    "",
    "decided with a single input channel; with several it answers otherwise",
    "decided with one sample and one channel; with several it answers otherwise",
)


def axes_left_out(operator: Operator, layouts: Mapping[str, str]) -> set[str]:
    """Axes of the canonical sizes (n, c, o) that some layout leaves out."""
    absent = set()
    for name, axes in {**operator.inputs, **operator.outputs}.items():
        pattern = layouts.get(LAYOUT_OF[name])
        if pattern and name in ("x", "w", "cols"):
            there = set(re.findall(r"\w+", pattern))
            absent |= {axis for axis in axes.split() if axis in "nco" and axis not in there}
            if name == "w" and "i" not in there:
                absent.add("c")
    return absent


def follows_input(operator: Operator, layouts: Mapping[str, str]) -> list[str]:
    """What the layout of the output is when it follows from the input's."""
    follows = layouts["input"].split()
    channel = "c" if operator.is_pooling else "o"
    spatial = SPATIAL_AXES[operator.rank]
    pattern = " ".join("o" + a if a in spatial else channel if a == "c" else a for a in follows)
    if not operator.is_pooling and "c" not in follows:
        return [pattern, f"o {pattern}"]
    return [pattern]


def mirrored_standard() -> Evaluate:
    """The standard with the kernel mirrored, which a dialect may declare."""
    found = [m for m in MISREADINGS.values() if m.dialect == ("kernel", "mirrored")]
    return misread(*found[:1])
