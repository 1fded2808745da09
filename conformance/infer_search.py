"""Finding out by experiment how a homework is called: wrappers are drafted, run, and compared.

A draft is the source of a wrapper. Whether it is right is not argued but tried: it is called with arrays
of distinct positive values (stride 1, no padding: what typical defects do not touch), in one layout after
the other, and the answer that agrees best with the standard's tells layouts and paths. An exception is
just "no". Then every parameter is widened: one number or one for each axis, left out or taken.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import time
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from convform import reference
from convform.adapters.layout import Array, Layout
from convform.conformance import infer_names as names
from convform.conformance.infer_layouts import (
    Fit,
    column_patterns,
    fit_columns,
    fit_order,
    leaves,
    merged_weights,
    orders,
)
from convform.conformance.infer_names import Parameter
from convform.reference.catalogue import MISREADINGS
from convform.reference.misreading import Evaluate, misread
from convform.reference.window import Window
from convform.spec.operators import OPERATORS, SPATIAL_AXES, Operator

ENOUGH = 0.5
"""Agreement from which a draft counts as recognised; a wrong axis order agrees in a few elements only."""

BUDGET = 12.0
"""Seconds after which the search for one operator of one callable ends with what it has."""

WINDOW = ("stride", "padding", "dilation")
FLAGS = ("groups", "ceil_mode", "count_include_pad")
ORDER = ("x", "w", "b", "dy", "cols", "input_size", "kernel", *WINDOW, *FLAGS)

RECORDER = '''class Recorder:
    """An optimizer that keeps the gradients it is given and leaves the weights alone."""

    def __init__(self):
        self.seen = []

    def update(self, w, grad):
        self.seen.append(grad)
        return w
'''

INITIAL = '''def initial(values):
    """An initialiser that starts with given values, or with zeros, in the shape it is asked for."""

    def initialiser(*shape):
        shape = shape[0] if isinstance(shape[0], tuple) else shape
        return np.zeros(shape) if values is None else values.reshape(shape)

    return initialiser
'''

HELPERS: Mapping[str, str] = {"Recorder(": RECORDER, "initial(": INITIAL}
"""Source of what a draft may use, by the text that shows that it does."""


def helpers() -> dict[str, Any]:
    """Return the helpers by name, made from the source that an adapter file gets."""
    scope: dict[str, Any] = {"np": np}
    for source in HELPERS.values():
        exec(source, scope)
    return {name: scope[name] for name in ("Recorder", "initial")}


@dataclass(frozen=True)
class Probe:
    """A case to try drafts on: canonical arrays, parameters for each axis, and the standard's answer."""

    operator: Operator
    inputs: Mapping[str, Array]
    parameters: Mapping[str, Any]
    expected: Mapping[str, Array]
    sizes: Mapping[str, int]


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


# ------------------------------------------------------------------------------------------------ running


@lru_cache(maxsize=4096)
def layout_of(pattern: str, axes: str) -> Layout:
    """Read a pattern, once."""
    return Layout.parse(pattern, axes.split(), allow_empty=True)


@lru_cache(maxsize=4096)
def _compiled(source: str) -> types.CodeType:
    return compile(source, "<draft>", "exec")


def run(
    namespace: Mapping[str, Any], takes: Sequence[str], lines: Sequence[str], arguments: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Run the lines of a draft and return its local variables, or None where it raises."""
    source = f"def wrapper({', '.join(takes)}):\n" + "".join(f"    {line}\n" for line in lines)
    source += "    return locals()\n"
    scope = dict(namespace)
    try:
        exec(_compiled(source), scope)
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            np.errstate(all="ignore"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            result: dict[str, Any] = scope["wrapper"](**arguments)
            return result
    except (Exception, SystemExit):  # an exception is just "no"
        return None


def arguments_for(
    takes: Sequence[str], claims: Mapping[str, Any], layouts: Mapping[str, str], probe: Probe
) -> dict[str, Any]:
    """Write a probe in the forms that a draft takes."""
    arguments: dict[str, Any] = {}
    for name in takes:
        if name in probe.inputs:
            axes = probe.operator.inputs[name]
            arguments[name] = layout_of(layouts.get(KINDS[name]) or axes, axes).to_native(probe.inputs[name])
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


KINDS: Mapping[str, str] = {
    "x": "input",
    "dx": "input",
    "w": "weight",
    "dw": "weight",
    "b": "bias",
    "db": "bias",
    "cols": "columns",
    "y": "output",
    "dy": "output",
    "indices": "output",
}
"""The layout that each array follows."""


def probe_of(
    operator: Operator,
    lengths: Mapping[str, int],
    kernel: Sequence[int] | None = None,
    *,
    stride: Sequence[int] | None = None,
    padding: Sequence[int] | None = None,
    dilation: Sequence[int] | None = None,
    default_stride: bool = False,
    bias: bool = False,
    negative: bool = False,
    evaluate: Evaluate = reference.evaluate,
) -> Probe:
    """Make a probe: distinct positive integers, stride 1 (pooling: the kernel size), no padding."""
    rank = operator.rank
    kernel = tuple(kernel or (2,) * rank)
    given: dict[str, Any] = {
        "kernel": kernel,
        "stride": tuple(stride or (kernel if operator.is_pooling else (1,) * rank)),
        "padding": tuple(padding or (0,) * rank),
        "dilation": tuple(dilation or (1,) * rank),
    }
    window = Window.of(kernel, given["stride"], given["padding"], given["dilation"])
    sizes = dict(lengths)
    spatial = SPATIAL_AXES[rank]
    for axis, k, o in zip(spatial, kernel, window.output_size([sizes[a] for a in spatial]), strict=True):
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


# ------------------------------------------------------------------------------------------------ drafting

_CONSTANTS: Mapping[str, tuple[str, ...]] = {
    "optimizer": ("recorder",),
    "rate": ("1.0",),
    "activation": ("None",),
}


def options_for(role: str | None, operator: Operator, scope: str) -> tuple[Option, ...]:
    """All ways of passing a role, the usual one first."""
    convolves = "w" in operator.inputs
    if role in WINDOW:
        forms = [Option(role, (role,), {role: "scalar"}), Option(role, (role,))]
        if role == "stride":
            forms.append(Option("(1, *stride, 1)", ("stride",)))
        if role == "padding":
            forms += [
                Option("padding", ("padding",), {"padding": "low-high"}),
                Option('"valid"'),
                Option('"VALID"'),
                Option("padding", ("padding",), {"padding": "string"}),
                Option("padding.upper()", ("padding",), {"padding": "string"}),
            ]
        return tuple(forms)
    if role in FLAGS:
        return (Option(role, (role,)),) if role in operator.parameters else ()
    if role in ("init_w", "init_b"):
        return Option(f"initial({role[-1]})", (role[-1],)), Option("initial(None)")
    if role in ("size_h", "size_w"):
        return (
            (Option("{H}" if role == "size_h" else "{W}", ("input_size",)),)
            if "cols" in operator.inputs
            else ()
        )
    if role in ("stride_h", "stride_w", "padding_h", "padding_w", "dilation_h", "dilation_w"):
        name, _, axis = role.partition("_")
        return (Option(f"{name}[{0 if axis == 'h' else -1}]", (name,)),)
    if role in ("kernel_h", "kernel_w"):
        position = 0 if role == "kernel_h" else -1
        return (Option(f"{{K{position}}}") if convolves else Option(f"kernel[{position}]", ("kernel",)),)
    if role == "kernel":
        if convolves:
            return Option("{K0}", (), {"kernel": "square"}), Option("{KS}")
        return Option("kernel", ("kernel",), {"kernel": "square"}), Option("kernel", ("kernel",))
    if role == "in_channels":
        return (Option("{I}" if convolves else "{C}"),)
    if role == "out_channels":
        return (Option("{O}" if convolves else "1"),)
    if role == "input_size":
        if "input_size" in operator.parameters:
            return (Option("input_size", ("input_size",)),)
        return (Option("x.shape"), Option("x.shape[1:]"))
    if role in ("x", "w", "b", "dy", "cols") and role in operator.inputs:
        return (Option(role, (role,)),)
    return tuple(Option(text) for text in _CONSTANTS.get(role or "", ()))


def slots_of(parameters: Sequence[Parameter], operator: Operator, scope: str) -> list[Slot] | None:
    """Find out what each parameter may be given; None where a required one cannot be."""
    slots = []
    taken: set[str] = set()
    for parameter in parameters:
        if "config" in parameter.roles:
            for key in parameter.keys:
                inner = names.role_of(key)
                options = options_for(inner, operator, scope)
                if options:
                    slots.append(Slot(scope, parameter, key, inner, options, True))
            if parameter.required and not parameter.keys:
                slots.append(Slot(scope, parameter, None, None, (Option("{}"),), True))
            continue
        choices = [
            role for role in parameter.roles if role not in taken and options_for(role, operator, scope)
        ]
        if parameter.required and not choices:
            slots.append(Slot(scope, parameter, None, None, (Option("None"),), True))
            continue
        if not choices:
            continue
        role = choices[0]
        taken.add(role)
        slots.append(
            Slot(scope, parameter, None, role, options_for(role, operator, scope), parameter.required)
        )
    return slots


def base_choices(
    plan: Plan, limit: int = 128, also: frozenset[str] = frozenset()
) -> Iterator[dict[Slot, Option | None]]:
    """The first choices to try: what is required in each of its forms, the rest left out."""
    forced = {"x", "w", "b", "cols", "dy", "input_size", "kernel", "kernel_h", "kernel_w"}
    forced |= {"in_channels", "out_channels"}
    if plan.operator.is_pooling:
        forced |= {"stride", "stride_h", "stride_w"}
    forced |= also
    lists: list[Sequence[Option | None]] = []
    for slot in plan.slots:
        if slot.role == "padding" and isinstance(slot.parameter.default, str):
            upper = slot.parameter.default.isupper()
            lists.append([Option('"VALID"' if upper else '"valid"')])
        elif slot.required or slot.role in forced or _unusual_default(slot):
            # A word comes in once the base is known; "valid" stands for it here.
            lists.append([option for option in slot.options if option.claims.get("padding") != "string"])
        else:
            lists.append([None])
    picks = list(itertools.islice(itertools.product(*(range(len(options)) for options in lists)), 4096))
    picks.sort(key=lambda pick: (len(set(pick)), sum(pick)))  # all scalars, all pairs, then the mixed ones
    for pick in picks[:limit]:
        yield {slot: options[i] for slot, options, i in zip(plan.slots, lists, pick, strict=True)}


def _unusual_default(slot: Slot) -> bool:
    """Whether leaving a parameter out means something else than the standard's default."""
    role = (slot.role or "").removesuffix("_h").removesuffix("_w")
    usual = {"stride": (1, (1, 1), None), "padding": (0, (0, 0), None), "dilation": (1, (1, 1), None)}
    return role in usual and slot.key is None and slot.parameter.default not in usual[role]


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
    takes.update(name for name in ("input_size", "kernel") if name in operator_needs(plan.operator))
    return filled, tuple(name for name in ORDER if name in takes), claims


def operator_needs(operator: Operator) -> set[str]:
    """Parameters without which an adapter does not accept a wrapper, whether its body uses them or not."""
    return {name for name in ("input_size", "kernel") if name in operator.parameters}


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


# ------------------------------------------------------------------------------------------------- plans


def function_plan(
    operator: Operator, name: str, expression: str, function: Callable[..., Any], wrap: str | None
) -> Plan | None:
    """Plan to call a plain function."""
    parameters = names.parameters_of(function, arrays=True)
    if parameters is None:
        return None
    slots = slots_of(parameters, operator, "forward")
    if slots is None:
        return None
    roles = {slot.role for slot in slots}
    if not set(operator.inputs) - {"b"} <= roles:
        slots = _by_position(slots, operator)

    def write(texts: Mapping[str, str]) -> list[str]:
        arguments = texts["forward"]
        lines = []
        if wrap:
            for array in operator.inputs:
                if re.search(rf"(?<![\w.]){array}(?![\w=])", arguments):
                    lines.append(f"{array}_ = {wrap.format(array)}")
                    arguments = re.sub(rf"(?<![\w.]){array}(?![\w=.])", f"{array}_", arguments)
        return [*lines, f"result = {expression}({arguments})"]

    return Plan(operator, name, tuple(slots), write, wrap=wrap, forward=expression)


def _by_position(slots: list[Slot], operator: Operator) -> list[Slot]:
    """Take unknown first parameters for the arrays, in the usual order."""
    missing = [name for name in operator.inputs if name != "b" and name not in {slot.role for slot in slots}]
    replaced = []
    for slot in slots:
        if missing and slot.role is None and slot.required and slot.key is None:
            role = missing.pop(0)
            slot = replace(slot, role=role, options=options_for(role, operator, slot.scope))
        replaced.append(slot)
    return replaced


def layer_plans(
    operator: Operator, name: str, expression: str, cls: type, wrap: str | None, method: str | None = None
) -> Iterator[Plan]:
    """Plans to build a layer and call its forward method, or another one."""
    constructor = names.parameters_of(cls, arrays=False)
    method = method or next(
        (m for m in names.FORWARD_METHODS if callable(getattr(cls, m, None)) and m in _own(cls)), None
    )
    if constructor is None or method is None:
        return
    forward = names.parameters_of(getattr(cls, method), arrays=True)
    if forward is None or len(forward) < 2:
        return
    first = replace(forward[1], roles=("x", *forward[1].roles))
    ctor_slots = slots_of(constructor, operator, "ctor")
    forward_slots = slots_of([first, *forward[2:]], operator, "forward")
    if ctor_slots is None or forward_slots is None:
        return
    takes_w = any(slot.role == "w" for slot in (*ctor_slots, *forward_slots))
    initialised = any(slot.role == "init_w" and slot.required for slot in ctor_slots)
    call = "layer({})" if method == "__call__" else f"layer.{method}({{}})"
    slots = (*ctor_slots, *forward_slots)

    def plan(
        weight: str | None = None,
        bias: str | None = None,
        prepare: tuple[str, ...] = (),
        bias_pattern: str = "o",
        merged: bool = False,
    ) -> Plan:
        def write(texts: Mapping[str, str]) -> list[str]:
            recorder = any("recorder" in text for text in (texts["ctor"], *prepare))
            lines = ["recorder = Recorder()"] if recorder else []
            lines.append(f"layer = {expression}({texts['ctor']})")
            lines += prepare
            if weight:
                lines.append(f"layer{weight} = w" + (f".reshape(layer{weight}.shape)" if merged else ""))
            if bias:
                lines.append(f"layer{bias} = b")
            arguments = texts["forward"]
            if wrap:
                lines.append(f"x_ = {wrap.format('x')}")
                arguments = re.sub(r"(?<![\w.])x(?![\w=.])", "x_", arguments, count=1)
            lines.append("result = " + call.replace("{}", arguments))
            return lines

        return Plan(operator, name, slots, write, weight, bias, prepare, wrap, True, call, bias_pattern)

    if initialised:
        yield plan()
    if "w" in operator.inputs and not takes_w:
        plain = plan()
        preparations: list[tuple[str, ...]] = [(), *_preparations(cls)]
        preparations.append((call.replace("{}", "x"),))
        for prepare in preparations:
            found = list(_places(plain, prepare))
            for weight, bias, pattern, merged in found:
                yield plan(weight, bias, prepare, pattern, merged)
            if found:
                return
    else:
        yield plan()
        for prepare in _preparations(cls):
            yield plan(prepare=prepare)


def _own(cls: type) -> set[str]:
    return {name for base in cls.__mro__ if base is not object for name in vars(base)}


def _preparations(cls: type) -> list[tuple[str, ...]]:
    """Calls that some layers want before the first forward pass."""
    lines = []
    for name in (
        "set_input_shape",
        "initialize",
        "initialise",
        "setup",
        "build",
        "init_params",
        "init_weights",
    ):
        method = getattr(cls, name, None)
        parameters = names.parameters_of(method, arrays=False) if callable(method) else None
        if parameters is None:
            continue
        texts = []
        for parameter in parameters[1:]:
            role = next(iter(parameter.roles), None)
            if role == "optimizer" or "optim" in parameter.name:
                texts.append("recorder")
            elif role in ("input_size", "x") and "shape" in parameter.name:
                texts.append("x.shape[1:]" if name == "set_input_shape" else "x.shape")
            elif role == "x":
                texts.append("x")
            elif parameter.required:
                texts.append("None")
        lines.append(f"layer.{name}({', '.join(texts)})")
    return [tuple(lines)] if lines else []


# Set by `search_forward` while it looks at one homework; plans need it to build layers once.
NAMESPACE: dict[str, Any] = {}


def _places(plan: Plan, prepare: tuple[str, ...]) -> Iterator[tuple[str, str | None, str, bool]]:
    """Where a layer keeps its weights and bias: build one, and look for arrays of their sizes."""
    operator = plan.operator
    seen = set()
    for choice in base_choices(plan):
        for c, o in ((3, 5), (1, 5), (3, 1), (1, 1)):
            lengths = {**lengths_of(operator, 0), "c": c, "o": o}
            probe = probe_of(operator, lengths)
            taps = int(np.prod(probe.parameters.get("kernel", (2,) * operator.rank)))
            literal = {"C": str(c), "I": str(c), "O": str(o), "K-1": "2", "KS": str((2,) * operator.rank)}
            literal |= {f"K{i}": "2" for i in range(operator.rank)}
            texts = _arguments(choice, "ctor")
            if texts is None:
                continue
            line = plan.write({"ctor": texts, "forward": "x"})
            end = next(i for i, text in enumerate(line) if text.startswith("layer = "))
            try:
                built = [text.format(**literal) for text in line[: end + 1]]
            except (KeyError, IndexError, ValueError):
                continue
            for pattern in ("n c h w", "n h w c", "c h w", "h w c", "h w") if prepare else ("",):
                arguments: dict[str, Any] = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
                if pattern:
                    axes = operator.inputs["x"]
                    try:
                        arguments["x"] = layout_of(pattern, axes).to_native(probe.inputs["x"])
                    except Exception:
                        continue
                extra = [] if any("recorder =" in text for text in built) else ["recorder = Recorder()"]
                scope = run(NAMESPACE, tuple(arguments), [*extra, *built, *prepare], arguments)
                if scope is None:
                    continue
                arrays = [(path, array) for path, array in leaves(scope["layer"]) if path and array.ndim != 0]
                weights = [path for path, a in arrays if a.size == c * o * taps and a.size > max(c, o)]
                weights.sort(
                    key=lambda path: _hint(path, ("w", "weight", "weights", "filters", "kernels", "kernel"))
                )
                if not weights:
                    continue
                weight = weights[0]
                biases = [
                    (path, " ".join("o" if size == o else "1" for size in a.shape))
                    for path, a in arrays
                    if path != weight and a.size == o and _hint(path, ("b", "bias", "biases")) == 0
                ]
                bias, pattern_of_bias = biases[0] if biases else (None, "o")
                if o == 1:
                    pattern_of_bias = "o"
                own_axes = sorted(size for size in (c, o, *(2,) * operator.rank) if size != 1)
                shape = dict(arrays)[weight].shape
                merged = sorted(size for size in shape if size != 1) != own_axes
                found = (weight, bias, pattern_of_bias, merged)
                if found not in seen:
                    seen.add(found)
                    yield found
            if seen:
                return


def _arguments(choice: Choice, scope: str) -> str | None:
    parts = []
    for slot, option in choice.items():
        if slot.scope != scope or option is None:
            continue
        if slot.key is not None:
            return None
        parts.append(option.text if slot.parameter.required else f"{slot.parameter.name}={option.text}")
    return ", ".join(parts)


def _hint(path: str, wanted: Sequence[str]) -> int:
    """How far a path is from the usual names: 0 where it names one of them."""
    parts = [part.lower() for part in re.findall(r"\w+", path)]
    if any(part in wanted for part in parts) and not any(
        "grad" in p or (p.startswith("d") and p != "data") for p in parts
    ):
        return 0
    return 1


# ------------------------------------------------------------------------------------------------ search


def search_forward(
    namespace: dict[str, Any],
    operator: Operator,
    plans: Sequence[Plan],
    preferred: Mapping[str, Sequence[str]],
) -> Draft | None:
    """Find how a forward operator is called; None where no plan gives an answer like the standard's.

    Parameters
    ----------
    namespace
        What drafts may name: the homework, NumPy.
    operator
        A forward operator.
    plans
        Ways of calling it.
    preferred
        Layouts that other operators of the homework have, by kind.
    """
    started = time.perf_counter()
    best: Draft | None = None
    # Orders that tear the spatial axes apart come last: they can explain a mistake away.
    for rung, odd in (*((rung, False) for rung in range(RUNGS)), (0, True), (2, True)):
        for plan in plans:
            for draft in _base_drafts(namespace, operator, plan, preferred, rung, odd, started):
                if draft.agreement > (best.agreement if best else 0.0):
                    best = draft
                if draft.agreement == 1.0:
                    if RUNG_NOTES[rung]:
                        draft = replace(draft, notes=(*draft.notes, ("guessed", RUNG_NOTES[rung])))
                    return widened(namespace, draft)
                if time.perf_counter() - started > BUDGET:
                    break
        if time.perf_counter() - started > BUDGET:
            break
    if best is None or best.agreement < ENOUGH:
        return None
    note = f"agrees with the standard in {best.agreement:.0%} of the elements of the probe"
    return widened(namespace, replace(best, notes=(*best.notes, ("guessed", note))))


def _patterns(operator: Operator, kind: str, preferred: Mapping[str, Sequence[str]]) -> list[str]:
    axes = {**operator.inputs, **operator.outputs}[{"input": "x", "weight": "w"}[kind]]
    known = [p for p in preferred.get(kind, ()) if set(re.findall(r"\w+", p)) <= set(axes.split())]
    found = [*known, *orders(axes)]
    if kind == "weight":
        found += merged_weights(axes)
    return list(dict.fromkeys(found))


def _base_drafts(
    namespace: dict[str, Any],
    operator: Operator,
    plan: Plan,
    preferred: Mapping[str, Sequence[str]],
    rung: int,
    odd: bool,
    started: float,
) -> Iterator[Draft]:
    probes: dict[frozenset[str], Probe] = {}
    # Columns of windows that do not overlap, where a homework forgets to add up.
    apart = operator.family == "col2im" and rung > 0
    also = frozenset({"stride", "stride_h", "stride_w"} if apart else ())
    for choice in base_choices(plan, also=also):
        if operator.family == "col2im":
            if odd:
                return
            pairs = _column_pairs(operator, preferred, 400 if rung > 1 else 30)
        else:
            pairs = _layout_pairs(operator, preferred, odd)
        biases: tuple[str, ...] = (plan.bias_pattern,)
        if any(slot.role == "b" and choice[slot] is not None for slot in plan.slots):
            biases = BIASES
        for layouts in _with_bias(pairs, biases, operator):
            if time.perf_counter() - started > BUDGET:
                return
            draft = written(plan, choice, layouts)
            if draft is None:
                continue
            lines, takes, claims = draft
            absent = frozenset(axes_left_out(operator, layouts))
            if absent not in probes:
                lengths = {
                    axis: 1 if axis in absent else size for axis, size in lengths_of(operator, rung).items()
                }
                stride = (2,) * operator.rank if apart else None
                probes[absent] = probe_of(operator, lengths, stride=stride)
            probe = probes[absent]
            result = tried(namespace, takes, lines, claims, layouts, probe)
            if result is None:
                continue
            fitted = _read(operator, result, probe, layouts)
            if fitted is None:
                continue
            name, text, fit = fitted
            output_kind = KINDS[name]
            notes: tuple[tuple[str, str], ...] = ()
            if operator.family == "conv" and fit.agreement < 1.0:
                mirrored = _mirrored_fit(operator, result, probe, layouts)
                if mirrored is not None and mirrored[2].agreement == 1.0:
                    name, text, fit = mirrored
                    notes = (("mirrored", ""),)
            own = dict(layouts)
            if operator.family != "col2im":
                own[output_kind] = fit.pattern
            yield Draft(
                operator.name,
                takes,
                claims,
                tuple(lines),
                {name: f"result{text}"},
                own,
                fit.agreement,
                notes,
                plan.origin,
                choice,
                plan,
            )


def axes_left_out(operator: Operator, layouts: Mapping[str, str]) -> set[str]:
    """Axes of the canonical sizes (n, c, o) that some layout leaves out."""
    absent = set()
    for name, axes in {**operator.inputs, **operator.outputs}.items():
        pattern = layouts.get(KINDS[name])
        if pattern and name in ("x", "w", "cols"):
            there = set(re.findall(r"\w+", pattern))
            absent |= {axis for axis in axes.split() if axis in "nco" and axis not in there}
            if name == "w" and "i" not in there:
                absent.add("c")
    return absent


def _layout_pairs(
    operator: Operator, preferred: Mapping[str, Sequence[str]], odd: bool
) -> Iterator[dict[str, str]]:
    """Layouts of input and weights to try, usual ones first; both have channels, or neither."""
    xs = _patterns(operator, "input", preferred)
    ws = _patterns(operator, "weight", preferred) if "w" in operator.inputs else [""]
    ranked = sorted(itertools.product(enumerate(xs), enumerate(ws)), key=lambda pair: pair[0][0] + pair[1][0])
    for (_, x), (_, w) in ranked:
        if odd == (_together(x, operator) and _together(w, operator)):
            continue
        if not w:
            yield {"input": x}
        elif ("c" in x.split()) == bool(re.search(r"\bi\b", w)):
            yield {"input": x, "weight": w}


def _together(pattern: str, operator: Operator) -> bool:
    """Whether a pattern has the spatial axes side by side and in order."""
    spatial = SPATIAL_AXES[operator.rank]
    found = list(re.findall(r"\w+", pattern))
    places = [i for i, a in enumerate(found) if a.removeprefix("k") in spatial]
    in_order = [found[i].removeprefix("k") for i in places] == list(spatial)
    return not pattern or (in_order and places[-1] - places[0] == len(spatial) - 1)


BIASES = ("o", "o 1", "1 o", "1 o 1 1", "1 1 1 o")
"""Layouts that a bias is kept in."""


def _with_bias(
    pairs: Iterator[dict[str, str]], biases: Sequence[str], operator: Operator
) -> Iterator[dict[str, str]]:
    """Every pair of layouts with the first bias layout, then the usual pairs with the others."""
    if "b" not in operator.inputs:
        yield from pairs
        return
    usual: list[dict[str, str]] = []
    for layouts in pairs:
        if len(usual) < 40:
            usual.append(layouts)
        yield {**layouts, "bias": biases[0]}
    for bias in biases[1:]:
        for layouts in usual:
            yield {**layouts, "bias": bias}


def _column_pairs(
    operator: Operator, preferred: Mapping[str, Sequence[str]], limit: int
) -> Iterator[dict[str, str]]:
    axes = operator.inputs["cols"]
    xs = [*preferred.get("input", ()), *orders(operator.outputs["x"])]
    known = list(preferred.get("columns", ()))
    for x in dict.fromkeys(xs[:8]):
        absent = [axis for axis in "nc" if axis not in x.split()]
        for pattern in dict.fromkeys([*known, *itertools.islice(column_patterns(axes, absent), limit)]):
            yield {"input": x, "columns": pattern}


def tried(
    namespace: Mapping[str, Any],
    takes: tuple[str, ...],
    lines: Sequence[str],
    claims: Mapping[str, Any],
    layouts: Mapping[str, str],
    probe: Probe,
) -> dict[str, Any] | None:
    """Run a draft on a probe; the local variables of its wrapper, or None."""
    try:
        arguments = arguments_for(takes, claims, layouts, probe)
    except Exception:  # a layout that leaves out an axis which the probe has
        return None
    scope = run(namespace, takes, lines, arguments)
    return scope


def follows_input(operator: Operator, layouts: Mapping[str, str]) -> list[str]:
    """What the layout of the output is when it follows from the input's."""
    follows = layouts["input"].split()
    channel = "c" if operator.is_pooling else "o"
    spatial = SPATIAL_AXES[operator.rank]
    pattern = " ".join("o" + a if a in spatial else channel if a == "c" else a for a in follows)
    if not operator.is_pooling and "c" not in follows:
        return [pattern, f"o {pattern}"]
    return [pattern]


def _read(
    operator: Operator, scope: Mapping[str, Any], probe: Probe, layouts: Mapping[str, str]
) -> tuple[str, str, Fit] | None:
    """Find the answer among what was returned: name, path and layout of the array that agrees best."""
    name = next(iter(operator.outputs))
    expected, axes = probe.expected[name], operator.outputs[name]
    best: tuple[str, str, Fit] | None = None
    for path, array in itertools.islice(leaves(scope.get("result"), 3), 12):
        if operator.family == "im2col":
            absent = [axis for axis in "nc" if axis not in layouts["input"].split()]
            fit = fit_columns(array, expected, axes, absent)
        elif operator.family == "col2im":
            fit = fit_order(array, expected, axes, only=[layouts["input"]])
        else:
            preferred = list(follows_input(operator, layouts))
            fit = fit_order(array, expected, axes, preferred)
        if fit.pattern and (best is None or fit.agreement > best[2].agreement):
            best = name, path, fit
        if fit.agreement == 1.0:
            break
    return best


def mirrored_standard() -> Evaluate:
    """The standard with the kernel mirrored, which a dialect may declare."""
    found = [m for m in MISREADINGS.values() if m.dialect == ("kernel", "mirrored")]
    return misread(*found[:1])


def _mirrored_fit(
    operator: Operator, scope: Mapping[str, Any], probe: Probe, layouts: Mapping[str, str]
) -> tuple[str, str, Fit] | None:
    expected = mirrored_standard()(operator.name, probe.inputs, probe.parameters)
    return _read(operator, scope, replace(probe, expected=expected), layouts)


# ----------------------------------------------------------------------------------------------- widening


def widened(namespace: Mapping[str, Any], draft: Draft) -> Draft:
    """Find out what else can be said to a draft: every parameter in the widest form that does not raise."""
    assert draft.plan is not None
    operator = OPERATORS[draft.operator]
    evaluate = mirrored_standard() if ("mirrored", "") in draft.notes else reference.evaluate
    for slot in draft.plan.slots:
        for option in _wider(slot, draft.choice[slot], operator):
            changed: dict[Slot, Option | None] = {**draft.choice, slot: option}
            for other in draft.plan.slots:  # y and x of the same parameter belong together
                per_axis = slot.role and other.role and slot.role[-2:] in ("_h", "_w")
                if other is not slot and per_axis and str(other.role)[:-2] == str(slot.role)[:-2]:
                    changed[other] = other.options[0]
            wider = _accepted(namespace, draft, changed, slot, option, evaluate)
            if wider is not None:
                draft = wider
                break
    return draft


def _wider(slot: Slot, current: Option | None, operator: Operator) -> list[Option]:
    if slot.role is None or (current is not None and not (set(slot.options) - {current})):
        return []
    if slot.role in WINDOW and slot.role in operator.parameters:
        pair, scalar = slot.options[1], slot.options[0]
        low_high = [o for o in slot.options if o.claims.get("padding") == "low-high"]
        words = [o for o in slot.options if o.claims.get("padding") == "string"]
        if current is not None and current not in (pair, scalar):
            return [] if current.takes else words[1:] if current.text.isupper() else words[:1]
        return [pair, scalar, *low_high] if current is None else [pair]
    if slot.role == "kernel":
        return [slot.options[1]] if current == slot.options[0] else []
    if current is None and (slot.role in FLAGS or slot.role[-2:] in ("_h", "_w")):
        name = slot.role.removesuffix("_h").removesuffix("_w")
        return list(slot.options) if name in operator.parameters else []
    return []


def _accepted(
    namespace: Mapping[str, Any],
    draft: Draft,
    choice: dict[Slot, Option | None],
    slot: Slot,
    option: Option,
    evaluate: Evaluate,
) -> Draft | None:
    """Draft with another choice, if the homework does not raise and answers with the right rank."""
    assert draft.plan is not None
    assert slot.role is not None
    operator = OPERATORS[draft.operator]
    body = written(draft.plan, choice, draft.layouts)
    if body is None:
        return None
    lines, takes, claims = body
    name = slot.role.removesuffix("_h").removesuffix("_w")
    pair = option.claims.get(name) not in ("scalar", "square")
    rank = operator.rank
    values = {"stride": (2, 1, 1), "padding": (2, 0, 0), "dilation": (2, 1, 1), "kernel": (3, 2, 2)}
    unequal: dict[str, Any] = {}
    if name in values:
        value = values[name][:rank] if pair else (values[name][0],) * rank
        unequal[name] = value
    lengths = {
        axis: 1 if axis in axes_left_out(operator, draft.layouts) else size + (2 if axis in "dhw" else 0)
        for axis, size in lengths_of(operator, 0).items()
    }
    if operator.is_pooling and name == "padding":
        unequal["kernel"] = (4,) * rank  # padding up to half the kernel is what pools accept
    if operator.is_pooling and name != "stride":
        unequal["stride"] = (2,) * rank  # the default would be the kernel size, and not a scalar
    try:
        probe = probe_of(operator, lengths, evaluate=evaluate, **unequal)
    except ValueError:
        return None
    if option.claims.get("padding") == "string":
        # 'same' keeps the size, which is the padded size that a probe with stride 1 and one more has.
        word = replace(probe, parameters={**probe.parameters, "padding": "same"})
        scope = tried(namespace, takes, lines, claims, draft.layouts, word)
    else:
        scope = tried(namespace, takes, lines, claims, draft.layouts, probe)
    if scope is None:
        return None
    ((output, text),) = draft.outputs.items()
    try:
        array = np.asarray(eval(text, dict(namespace), scope))
    except Exception:
        return None
    kind = KINDS[output]
    layout = layout_of(draft.layouts[kind], operator.outputs[output])
    shape = layout.shape(probe.sizes)
    if array.ndim != len(shape):
        return None
    if option.claims.get("padding") == "string":
        return replace(draft, choice=choice, lines=tuple(lines), takes=takes, claims=claims)
    if pair and name in values and sorted(array.shape) != sorted(shape):
        return None
    return replace(draft, choice=choice, lines=tuple(lines), takes=takes, claims=claims)
