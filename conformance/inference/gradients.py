"""Finding the gradients of a homework: which call computes them, and where they are left.

A forward draft that works is extended by a call of the backward pass; then every array in sight (what was
returned, the layer, the boxes of the inputs, a recording optimizer) is compared with the standard's dx, dw
and db.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from convform import reference
from convform.adapters.layout import Array
from convform.conformance.inference import names
from convform.conformance.inference.draft import ORDER, Draft, Plan, written
from convform.conformance.inference.homework import Homework
from convform.conformance.inference.layouts import agreement, leaves
from convform.conformance.inference.probe import (
    Probe,
    axes_left_out,
    layout_of,
    lengths_of,
    mirrored_standard,
    probe_of,
)
from convform.conformance.inference.search import BIASES, BUDGET, ENOUGH, search_forward
from convform.spec.operators import LAYOUT_OF, OPERATORS, Operator

_ROOTS = ("grads", "layer", "x_", "w_", "b_", "recorder")
_HINTS = {
    "dx": ("dx", "grad", "grad_input", "dinput", "dinputs"),
    "dw": ("dw", "grad", "grad_w", "grad_weight", "grad_weights", "dldw", "dweights", "dkernels", "w_grad"),
    "db": ("db", "grad", "grad_b", "grad_bias", "dldb", "dbias", "b_grad", "grad_biases", "dbiases"),
}


@dataclass(frozen=True)
class _Gradient:
    """A gradient: the expression for it, how well it agrees, and the layout of a bias gradient."""

    text: str
    agreement: float
    by_name: bool = False


def search_backward(
    homework: Homework,
    operator: Operator,
    forward: Draft,
    functions: Sequence[tuple[str, Callable[..., Any]]],
) -> Draft | None:
    """Find how the gradient of an operator is called; None where nothing like a gradient turns up.

    Parameters
    ----------
    homework
        What is looked at.
    operator
        A gradient.
    forward
        The draft of its forward pass.
    functions
        Expressions and functions that are called like a backward pass.
    """
    started = time.perf_counter()
    absent = axes_left_out(OPERATORS[forward.operator], forward.layouts)
    best, reached = None, 0.0
    mirrored = ("mirrored", "") in forward.notes
    for rung in (0, 1):
        lengths = {axis: 1 if axis in absent else n for axis, n in lengths_of(operator, rung).items()}
        evaluate = mirrored_standard() if mirrored else reference.evaluate
        probe = probe_of(operator, lengths, evaluate=evaluate)
        for lines in _ways(operator, forward, functions, homework):
            takes = tuple(
                name
                for name in ORDER
                if name in forward.takes
                or (
                    name in operator.inputs
                    and any(re.search(rf"(?<![\w.]){name}\b(?!=)", line) for line in lines)
                )
            )
            scope = homework.tried(takes, lines, forward.claims, forward.layouts, probe)
            if scope is None:
                continue
            layouts = {**forward.layouts, "bias": _bias_layout(scope, probe, forward)}
            found = _gradients(operator, scope, probe, layouts)
            if "dx" not in found and "dw" not in found:
                continue
            wanted = [name for name in operator.outputs if name != "db" or "b" in forward.takes]
            score = float(np.mean([found[n].agreement if n in found else 0.0 for n in wanted]))
            score += 0.01 * len(found)  # a gradient that is there but wrong is better than none
            if best is None or score > reached:
                reached = score
                notes = [
                    ("guessed", f"{name} is {entry.text}, by its name and shape alone")
                    for name, entry in found.items()
                    if entry.agreement < ENOUGH
                ]
                notes += [
                    ("not found", f"{name}: no array of the layer or of what was returned looks like it")
                    for name in wanted
                    if name not in found
                ]
                best = replace(
                    forward,
                    layouts=layouts,
                    operator=operator.name,
                    takes=tuple(n for n in ORDER if n in takes or (n in operator.inputs and n != "b")),
                    lines=tuple(lines),
                    outputs={name: entry.text for name, entry in found.items()},
                    agreement=float(np.mean([entry.agreement for entry in found.values()])),
                    notes=tuple(notes) + ((("mirrored", ""),) if mirrored else ()),
                )
            if score >= 1.0:
                return best
            if time.perf_counter() - started > BUDGET:
                return best
    return best


def search_alone(
    homework: Homework, operator: Operator, plan: Plan, preferred: Mapping[str, Sequence[str]]
) -> Draft | None:
    """Find how a gradient is called that is a function of arrays alone, with or without a forward pass.

    Parameters
    ----------
    homework
        What is looked at.
    operator
        A gradient.
    plan
        The way of calling it.
    preferred
        Layouts that other operators of the homework have, by kind.
    """
    found = search_forward(homework, operator, [plan], preferred)
    if found is None:
        return None
    absent = axes_left_out(operator, found.layouts)
    lengths = {axis: 1 if axis in absent else n for axis, n in lengths_of(operator, 0).items()}
    probe = probe_of(operator, lengths)
    scope = homework.tried(found.takes, found.lines, found.claims, found.layouts, probe)
    rest = {} if scope is None else _gradients(operator, scope, probe, found.layouts, ("result",))
    texts = {name: entry.text for name, entry in rest.items()} | dict(found.outputs)
    return replace(found, outputs={name: texts[name] for name in operator.outputs if name in texts})


def _ways(
    operator: Operator,
    forward: Draft,
    functions: Sequence[tuple[str, Callable[..., Any]]],
    homework: Homework,
) -> Iterator[list[str]]:
    plan = forward.plan
    assert plan is not None
    lines = list(forward.lines)
    optimizer = [slot for slot in plan.slots if slot.role == "optimizer" and forward.choice[slot] is None]
    if optimizer:
        choice = {**forward.choice, **{slot: slot.options[0] for slot in optimizer}}
        body = written(plan, choice, forward.layouts)
        lines = body[0] if body is not None else lines
    if plan.is_layer:
        cls = getattr(homework.module, plan.origin)
        for method in names.BACKWARD_METHODS:
            function = getattr(cls, method, None)
            if not callable(function):
                continue
            parameters = names.parameters_of(function, arrays=True) or []
            extra = []
            for parameter in parameters[2:]:
                role = next(iter(parameter.roles), None)
                if role == "rate":
                    extra.append("1.0" if parameter.required else f"{parameter.name}=1.0")
                elif role in ("x", "w") and parameter.required:
                    extra.append(role)
                elif role == "cache" and parameter.required:
                    extra.append("result[1]")
                elif parameter.required:
                    extra.append("None")
            gradients = ["dy", plan.wrap.format("dy")] if plan.wrap else ["dy"]
            for dy in gradients:
                yield [*lines, f"grads = layer.{method}({', '.join([dy, *extra])})"]
    else:
        for expression, function in functions:
            for arguments in _arguments(function, forward):
                before = lines if any(a in arguments for a in ("result", "_,")) else []
                yield [*before, f"grads = {expression}({arguments})"]
    if plan.wrap:
        boxed = plan.wrap.format("dy")
        result = next(iter(forward.outputs.values()))
        result = re.sub(r"^(result(\[\d+\])?).*", r"\1", result)
        for call in (
            [f"{result}.backward({boxed})"],
            [f"{result}.backward(dy)"],
            [f"grads = {result}.grad_fn(dy)"],
            [f"grads = {result}.grad_fn({boxed})"],
            [f"{result}.grad = dy", f"{result}.backward()"],
            [f"{result}.grad = {boxed}", f"{result}.backward()"],
            [f"({result} * {boxed}).sum().backward()"],
            [f"{result}.sum().backward()"],
        ):
            yield [*lines, *call]


def _arguments(function: Callable[..., Any], forward: Draft) -> Iterator[str]:
    """Ways to call a backward function: the cache comes from the forward pass, all else is the same."""
    parameters = names.parameters_of(function, arrays=True)
    if parameters is None or forward.plan is None:
        return
    same = {}
    for slot, option in forward.choice.items():
        if option is not None and slot.role and slot.key is None:
            same[slot.role] = option.text
    configs: dict[str, str] = {}
    for slot, option in forward.choice.items():
        if option is not None and slot.key is not None:
            configs[slot.key] = option.text
    lists: list[list[str]] = []
    for i, parameter in enumerate(parameters):
        roles = parameter.roles
        own: list[str] = []
        if "dy" in roles:
            own = ["dy"]
        elif "cache" in roles:
            own = ["result[1]", "result[-1]", "result[1:]"]
        elif "config" in roles:
            own = [
                "{"
                + ", ".join(f'"{key}": {configs.get(key, "1")}' for key in parameter.keys or configs)
                + "}"
            ]
        elif any(role in same for role in roles):
            own = [same[role] for role in roles if role in same]
        elif "input_size" in roles:
            own = ["x.shape"]
        elif any(role in ("x", "w", "b") for role in roles):
            own = [role for role in roles if role in ("x", "w", "b")]
        elif "indices" in roles:
            own = ["result[1]"]
        elif parameter.required:
            own = ["dy"] if i == 0 else ["result[1]", "x", "None"]
        if not own:
            continue
        lists.append(own if parameter.required else [f"{parameter.name}={text}" for text in own])
    for picked in itertools.islice(itertools.product(*lists), 32):
        yield ", ".join(picked)


def _bias_layout(scope: Mapping[str, Any], probe: Probe, forward: Draft) -> str:
    """Layout of the bias: a function that takes any may still show by its gradient which one it means."""
    pattern = forward.layouts.get("bias", "o")
    if "db" not in probe.expected or "b" not in forward.takes or pattern != "o":
        return pattern
    expected = probe.expected["db"]
    shapes = {"o": expected.shape}
    for other in BIASES:
        shapes[other] = layout_of(other, "o").shape({"o": expected.size})
    for pattern, shape in shapes.items():
        for _, array in itertools.islice(leaves(scope.get("grads"), 2), 8):
            if array.shape == shape and agreement(array.reshape(-1), expected) == 1.0:
                return str(pattern)
    return "o"


def _gradients(
    operator: Operator,
    scope: Mapping[str, Any],
    probe: Probe,
    layouts: Mapping[str, str],
    roots: Sequence[str] = _ROOTS,
) -> dict[str, _Gradient]:
    """Compare every array in sight with the gradients that the standard has."""
    candidates: list[tuple[str, Array]] = []
    for root in roots:
        if root not in scope:
            continue
        for path, array in itertools.islice(leaves(scope[root], 4), 60):
            if root.endswith("_") and "grad" not in path:
                continue
            candidates.append((root + path, array))
    found: dict[str, _Gradient] = {}
    for name, axes in operator.outputs.items():
        expected = probe.expected[name]
        layout = layout_of(layouts.get(LAYOUT_OF[name]) or axes, axes)
        try:
            native = layout.to_native(expected)
        except ValueError:
            continue
        best: _Gradient | None = None
        for text, array in candidates:
            if array.shape != native.shape:
                if name != "dw" or array.size != native.size or "(" in layout.pattern or array.ndim == 0:
                    continue
                # Kept as a matrix, where the weights were put in as one.
                text, array = f"{text}.reshape(w.shape)", array.reshape(native.shape)
            share = agreement(array, native)
            if best is None or share > best.agreement:
                best = _Gradient(text, share)
            if share == 1.0:
                break
        if best is None or best.agreement < ENOUGH:
            best = _by_name(name, candidates, native.shape, probe, layout.to_native) or best
            if best is not None and best.agreement < ENOUGH and not best.by_name:
                best = None
        if best is not None:
            found[name] = best
    return found


def _by_name(
    name: str,
    candidates: Sequence[tuple[str, Array]],
    shape: tuple[int, ...],
    probe: Probe,
    to_native: Callable[[Array], Array],
) -> _Gradient | None:
    """Take a defective gradient for what its name and shape say it is."""
    array_name = name[1:]
    for text, array in candidates:
        if array.shape != shape or not array.size:
            continue
        position = ("dx", "dw", "db").index(name)
        if re.match(rf"(grads|result)\[{position}\]", text) or (text in ("grads", "result") and name == "dx"):
            return _Gradient(text, 0.0, True)
        parts = [part.lower() for part in re.findall(r"\w+", text)]
        if any(part in _HINTS[name] for part in parts[1:]):
            boxed = [part for part in parts if part in ("grad", "grads", "gradients")]
            if not boxed or array_name in parts or f"{array_name}_" in parts or len(parts) < 3:
                return _Gradient(text, 0.0, True)
    return None
