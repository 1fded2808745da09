"""Drafts: wrappers as source, and the plans by which they are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from convform.conformance.inference.names import Parameter
from convform.conformance.inference.probe import FLAGS
from convform.spec.operators import SPATIAL_AXES, Operator

WINDOW = ("stride", "padding", "dilation")
"""The window's parameters besides the kernel, one value for each axis."""

ORDER = ("x", "w", "b", "dy", "cols", "input_size", "kernel", *WINDOW, *FLAGS)
"""The order in which a wrapper names what it takes."""


@dataclass(frozen=True, eq=False)
class Option:
    """One way of passing one parameter: the text, what the wrapper takes for it, and what it claims."""

    text: str
    takes: tuple[str, ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Slot:
    """A parameter of the homework's constructor, method or function that wants a value."""

    scope: str
    parameter: Parameter
    key: str | None
    role: str | None
    options: tuple[Option, ...]
    required: bool

    @property
    def label(self) -> str:
        """The name to show for it."""
        return self.key or self.parameter.name


Choice = Mapping[Slot, "Option | None"]


@dataclass(frozen=True)
class Draft:
    """A wrapper as source, with what it claims and how well it agreed.

    Attributes
    ----------
    operator
        What it implements.
    takes
        Parameters of the wrapper.
    claims
        Claims and dialects.
    lines
        The body, but for its return.
    outputs
        Expression of each output.
    layouts
        Pattern by kind: input, weight, bias, columns, output.
    agreement
        Share of equal elements in the probe that decided.
    notes
        ``(certainty, sentence)``: certain, guessed, not found.
    origin
        Name of the function or class.
    choice, plan
        How it was drafted, for a gradient to build upon.
    """

    operator: str
    takes: tuple[str, ...]
    claims: Mapping[str, Any]
    lines: tuple[str, ...]
    outputs: Mapping[str, str]
    layouts: Mapping[str, str]
    agreement: float = 0.0
    notes: tuple[tuple[str, str], ...] = ()
    origin: str = ""
    choice: Choice = field(default_factory=dict)
    plan: Plan | None = None
    bias_optional: bool = False
    helpers: tuple[str, ...] = ()

    @property
    def returned(self) -> str:
        """The expression that the wrapper returns."""
        if len(self.outputs) == 1 and next(iter(self.outputs)) not in ("dw", "db"):
            return next(iter(self.outputs.values()))
        if "y" in self.outputs:
            return ", ".join(self.outputs.values())
        return f"dict({', '.join(f'{name}={text}' for name, text in self.outputs.items())})"


@dataclass(frozen=True)
class Plan:
    """A way of calling a homework: slots to fill, and how the lines of the wrapper follow from them."""

    operator: Operator
    origin: str
    slots: tuple[Slot, ...]
    write: Callable[[Mapping[str, str]], list[str]]
    weight: str | None = None
    bias: str | None = None
    prepare: tuple[str, ...] = ()
    wrap: str | None = None
    is_layer: bool = False
    forward: str = ""
    bias_pattern: str = "o"


def written(
    plan: Plan, choice: Choice, layouts: Mapping[str, str]
) -> tuple[list[str], tuple[str, ...], dict[str, Any]] | None:
    """Write the body of a wrapper: lines, what it takes, what it claims; None where the choice is none."""
    groups: dict[str, list[str]] = {}
    dicts: dict[tuple[str, str], list[str]] = {}
    takes: set[str] = set()
    claims: dict[str, Any] = {}
    forms: dict[str, set[str]] = {}
    for slot, option in choice.items():
        if option is None:
            continue
        for name in option.takes:
            forms.setdefault(name, set()).add(option.claims.get(name, ""))
        takes.update(option.takes)
        claims.update(option.claims)
        if slot.key is not None:
            key = (slot.scope, slot.parameter.name)
            if key not in dicts:
                groups.setdefault(slot.scope, []).append(f"\0{slot.parameter.name}")
            dicts.setdefault(key, []).append(f'"{slot.key}": {option.text}')
        else:
            text = option.text if slot.parameter.required else f"{slot.parameter.name}={option.text}"
            groups.setdefault(slot.scope, []).append(text)
    if any(len(form) > 1 for form in forms.values()):
        return None
    texts = {
        scope: ", ".join(
            "{{" + ", ".join(dicts[scope, part[1:]]) + "}}" if part.startswith("\0") else part
            for part in parts
        )
        for scope, parts in groups.items()
    }
    lines = plan.write({"ctor": "", "forward": "", **texts})
    names_ = _shape_texts(plan.operator, layouts)
    try:
        filled = [line if "{" not in line else line.format(**names_) for line in lines]
    except (KeyError, IndexError, ValueError):
        return None
    for name in plan.operator.inputs:
        if any(re.search(rf"\b{name}\b", line) for line in filled):
            takes.add(name)
    takes.update(operator_needs(plan.operator))
    return filled, tuple(name for name in ORDER if name in takes), claims


def operator_needs(operator: Operator) -> set[str]:
    """Names without which an adapter does not accept a wrapper, whether its body uses them or not."""
    arrays = set(operator.inputs) - {"b"} if operator.is_gradient else set()
    return arrays | {name for name in ("input_size", "kernel") if name in operator.parameters}


def _shape_texts(operator: Operator, layouts: Mapping[str, str]) -> dict[str, str]:
    """Expressions for sizes that the wrapper reads from its arrays."""
    texts: dict[str, str] = {}
    x_pattern = layouts.get("input", "")
    if x_pattern:
        x_axes = x_pattern.split()
        texts["C"] = f"x.shape[{x_axes.index('c')}]" if "c" in x_axes else "1"
        for axis in ("h", "w"):
            if axis in x_axes:
                texts[axis.upper()] = f"input_size[{x_axes.index(axis)}]"
    pattern = layouts.get("weight", "")
    if pattern and "(" not in pattern:
        axes = pattern.split()
        for key, axis in (("O", "o"), ("I", "i")):
            texts[key] = f"w.shape[{axes.index(axis)}]" if axis in axes else "1"
        taps = ["k" + axis for axis in SPATIAL_AXES[operator.rank]]
        positions = [axes.index(tap) for tap in taps]
        for i, position in enumerate(positions):
            texts[f"K{i}"] = f"w.shape[{position}]"
        texts["K-1"] = texts[f"K{len(taps) - 1}"]
        first, last = positions[0], positions[-1]
        if positions == list(range(first, last + 1)):
            start, stop = str(first) if first else "", str(last + 1) if last + 1 < len(axes) else ""
            texts["KS"] = f"w.shape[{start}:{stop}]" if start or stop else "w.shape"
        else:
            texts["KS"] = f"({', '.join(f'w.shape[{p}]' for p in positions)})"
    return texts
