"""Plans: the ways in which a function or layer may be called, as its names suggest.

What each parameter may be given is read from its name; where a layer keeps its weights is found out by
building one. Which plan is right is for the experiment to say (`convform.conformance.inference.search`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from convform.conformance.inference import names
from convform.conformance.inference.draft import WINDOW, Choice, Option, Plan, Slot
from convform.conformance.inference.homework import Homework
from convform.conformance.inference.layouts import leaves
from convform.conformance.inference.names import Parameter
from convform.conformance.inference.probe import FLAGS, layout_of, lengths_of, probe_of
from convform.spec.operators import Operator

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
    homework: Homework,
    operator: Operator,
    name: str,
    expression: str,
    cls: type,
    wrap: str | None,
    method: str | None = None,
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
            found = list(_places(homework, plain, prepare))
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


def _places(
    homework: Homework, plan: Plan, prepare: tuple[str, ...]
) -> Iterator[tuple[str, str | None, str, bool]]:
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
                scope = homework.run(tuple(arguments), [*extra, *built, *prepare], arguments)
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
