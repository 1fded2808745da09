"""Inference: look at a file of functions and classes, and write the adapter for it.

Operators and parameters are recognised by their usual names, layouts and claims by experiment
(`convform.conformance.infer_search`). What comes out is an ordinary adapter file, with a comment on what
was certain, what was guessed, and what could not be found.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convform import reference
from convform.adapters import Adapter, AdapterError
from convform.adapters.find import import_file, split_target
from convform.conformance import infer_names as names
from convform.conformance.infer_gradients import search_backward
from convform.conformance.infer_layouts import agreement
from convform.conformance.infer_search import (
    HELPERS,
    KINDS,
    NAMESPACE,
    Draft,
    Plan,
    arguments_for,
    axes_left_out,
    follows_input,
    function_plan,
    helpers,
    layer_plans,
    layout_of,
    lengths_of,
    mirrored_standard,
    probe_of,
    run,
    search_forward,
)
from convform.spec.operators import OPERATORS, Operator

CERTAIN, GUESSED, NOT_FOUND = "certain", "guessed", "not found"

_SAYS_MIRRORED = re.compile(r"flip|mirror|revers|convolution proper|true convolution|\[::-1", re.IGNORECASE)

# Gradients come after what they are the gradient of, columns before what is built on them.
_RANKING = ("im2col", "col2im", "conv", "max_pool", "avg_pool")


@dataclass(frozen=True)
class Inferred:
    """What was found out about a file.

    Attributes
    ----------
    source
        The adapter file.
    notes
        ``(certainty, sentence)``: "certain", "guessed" or "not found".
    adapters
        The adapters that the source defines: one, or several where a file implements an operator more
        than once.
    """

    source: str
    notes: tuple[tuple[str, str], ...]
    adapters: tuple[Adapter, ...]

    @property
    def adapter(self) -> Adapter:
        """The first adapter."""
        return self.adapters[0]


@dataclass(frozen=True)
class _Candidate:
    """A function or class that is called like an operator."""

    operator: str
    name: str
    expression: str
    value: Callable[..., Any]
    method: str | None = None

    @property
    def is_class(self) -> bool:
        return inspect.isclass(self.value)


def infer_target(target: str, output: Path | None = None) -> Inferred:
    """Infer the adapter of ``FILE`` or ``FILE:FUNCTION``, as the command line does.

    Parameters
    ----------
    target
        The file, with the name of one function or class after a colon.
    output
        Where the source will be written: in another folder it has to find the homework.

    Raises
    ------
    AdapterError
        As `infer_file`, and if `output` is the homework itself.
    """
    place, name = split_target(target)
    if output is not None and output.resolve() == Path(place).resolve():
        raise AdapterError(f"{output} is the homework itself", f"--output {Path(place).stem}_adapter.py")
    return infer_file(place, name, output.resolve().parent if output is not None else None)


def infer_file(path: str | Path, name: str | None = None, folder: Path | None = None) -> Inferred:
    """Infer the adapter of a homework file.

    Parameters
    ----------
    path
        A Python file without an adapter (one that it has is not looked at).
    name
        Name of one function or class, to look at nothing else.
    folder
        Folder in which the source will lie; None stands for the homework's own.

    Raises
    ------
    NotFound, BrokenFile, Unavailable
        As `convform.adapters.find`.
    AdapterError
        If nothing in the file is called like an operator, or nothing answers like one.
    """
    file = Path(path)
    module = import_file(file)
    values = _defined_in(module)
    if name is not None:
        if name not in values and not hasattr(module, name):
            raise AdapterError(
                f"there is no function or class {name!r} in {path}", f"it has {', '.join(values) or 'none'}"
            )
        values = {name: getattr(module, name)}
    stem = file.stem
    header = (
        f"import {stem} as homework"
        if stem.isidentifier()
        else f'import importlib\n\nhomework = importlib.import_module("{stem}")'
    )
    own = file.resolve().parent
    if folder is not None and folder != own:
        header = f"import sys\n\nsys.path.insert(0, {str(own)!r})\n{header}"
    return _infer(values, stem.replace("_", "-"), str(path), header, module)


def infer_adapter(functions: Mapping[str, Callable[..., Any]], name: str = "functions") -> Adapter:
    """Infer an adapter from bare functions (or layer classes) by operator name.

    Parameters
    ----------
    functions
        Function by the operator that it implements: ``{"conv2d": my_conv, "im2col": my_im2col}``.
    name
        Name of the adapter.

    Raises
    ------
    AdapterError
        If an operator does not exist, or a function does not answer like its operator in any layout.
    """
    maker = Adapter(name)
    for operator in functions:
        maker._operator(operator)  # raises, with a hint, where there is no such operator
    attributes = {operator.replace(".", "_"): function for operator, function in functions.items()}
    candidates = [
        _Candidate(operator, operator.replace(".", "_"), f"homework.{operator.replace('.', '_')}", function)
        for operator, function in functions.items()
    ]
    namespace = types.SimpleNamespace(**attributes)
    found, _notes = _search(candidates, namespace, exact=True)
    done = {draft.operator for draft in found}
    for operator in functions:
        if operator not in done:
            raise AdapterError(
                f"{operator}: called in every usual layout, the function never answered like the operator",
                "write an adapter that says how it is called: Adapter(...), adapter.implements(...)",
            )
    return _adapters(found, name, namespace)[0]


# ----------------------------------------------------------------------------------------------- inside


def _defined_in(module: types.ModuleType) -> dict[str, Callable[..., Any]]:
    """Functions and classes that a file defines itself, wrappers of its own adapters left out."""
    wrappers = {
        implementation.function
        for value in vars(module).values()
        if isinstance(value, Adapter)
        for implementation in value.implementations.values()
    }
    return {
        name: value
        for name, value in vars(module).items()
        if (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
        and value not in wrappers
    }


def _infer(
    values: Mapping[str, Callable[..., Any]], name: str, shown: str, header: str, module: Any
) -> Inferred:
    candidates = [
        _Candidate(operator, key, f"homework.{key}", value)
        for key, value in values.items()
        if (operator := names.operator_named(key)) is not None and not key.startswith("__")
    ]
    candidates += [
        _Candidate("im2col", key, f"homework.{key}", value, method)
        for key, value in values.items()
        if inspect.isclass(value) and names.operator_named(key) is not None
        for method in vars(value)
        if names.operator_named(method) == "im2col" or method in ("columns", "to_columns", "get_columns")
    ]
    if not candidates:
        raise AdapterError(
            f"nothing in {shown} is called like an operator; functions and classes looked for are "
            f"{names.names_looked_for()} (in any spelling, with forward or backward)",
            f"it has {', '.join(list(values)[:8])}" if values else "it defines no function and no class",
        )
    drafts, notes = _search(candidates, module)
    if not drafts:
        said = "; ".join(text for certainty, text in notes if certainty == NOT_FOUND)
        raise AdapterError(
            f"{shown} was called in every usual way, and never answered like an operator: {said}",
            "write the adapter by hand: convform check explains what is missing",
        )
    source = _source(drafts, notes, name, shown, header)
    return Inferred(source, tuple(notes), tuple(_adapters(drafts, name, module)))


def _search(
    candidates: Sequence[_Candidate], homework: Any, exact: bool = False
) -> tuple[list[Draft], list[tuple[str, str]]]:
    """Find a draft for every candidate that answers like its operator."""
    namespace: dict[str, Any] = {
        "homework": homework,
        "np": np,
        **helpers(),
        "__lookup__": lambda key: getattr(homework, key),
    }
    NAMESPACE.clear()
    NAMESPACE.update(namespace)
    wraps: list[str | None] = [None, *_wraps(homework)]
    notes: list[tuple[str, str]] = []
    drafts: list[Draft] = []
    backward = [c for c in candidates if c.operator.endswith(".backward")]
    forward = [c for c in candidates if not c.operator.endswith(".backward")]
    forward = [c for c in forward if exact or not _is_helper(c, forward)]
    forward.sort(key=lambda c: _RANKING.index(OPERATORS[c.operator].family))
    for candidate in forward:
        operator = OPERATORS[candidate.operator]
        preferred: dict[str, list[str]] = {}
        for draft in drafts:
            for kind, pattern in draft.layouts.items():
                preferred.setdefault(kind, []).append(pattern)
        found = None
        for wrap in wraps:
            found = search_forward(namespace, operator, _plans(candidate, operator, wrap), preferred)
            if found is not None:
                break
        if found is None and candidate.method is not None:
            continue  # a helper of the layer, which may be anything
        if found is None:
            notes.append((NOT_FOUND, f"{candidate.name}: it never answered like {operator.name}"))
            continue
        gathers = "kernel" in operator.parameters and operator.family != "col2im"
        if gathers and not any("kernel" in line for line in found.lines):
            note = f"{candidate.name}: its kernel size is fixed, which an adapter cannot claim"
            notes.append((NOT_FOUND, note))
            continue
        plain = replace(found, origin=candidate.name)
        found = _finished(namespace, plain)
        drafts.append(found)
        if found.lines[0].startswith("def active"):  # the gradients do not depend on the bias
            found = replace(found, lines=("b = np.full_like(b, 1e30)", *plain.lines), outputs=plain.outputs)
        gradient = OPERATORS.get(f"{operator.name}.backward")
        if gradient is None:
            continue
        matching = [
            (c.expression, c.value)
            for c in backward
            if not c.is_class
            and (c.operator == gradient.name)
            and (
                exact
                or names.backward_stem(c.name) == names.backward_stem(candidate.name)
                or len(backward) == 1
            )
        ]
        if found.plan is not None and (found.plan.is_layer or found.plan.wrap or matching):
            grown = search_backward(namespace, gradient, found, matching)
            if grown is not None:
                if grown.layouts.get("bias") != found.layouts.get("bias"):
                    drafts[-1] = replace(drafts[-1], layouts=grown.layouts)
                drafts.append(grown)
            elif matching or (
                found.plan.is_layer and names.first_of(names.BACKWARD_METHODS, candidate.value)
            ):
                notes.append(
                    (NOT_FOUND, f"{candidate.name}: its backward pass leaves nothing like a gradient")
                )
    return drafts, notes


def _is_helper(candidate: _Candidate, others: Sequence[_Candidate]) -> bool:
    """Whether a function is called by another one that is called like the same operator."""
    if candidate.is_class:
        return False
    for other in others:
        if other.value is not candidate.value and not other.is_class and other.operator == candidate.operator:
            code = getattr(other.value, "__code__", None)
            if code is not None and candidate.name in code.co_names:
                return True
    return False


def _plans(candidate: _Candidate, operator: Operator, wrap: str | None) -> list[Plan]:
    if inspect.isclass(candidate.value):
        name, expression = candidate.name, candidate.expression
        return list(layer_plans(operator, name, expression, candidate.value, wrap, candidate.method))
    plan = function_plan(operator, candidate.name, candidate.expression, candidate.value, wrap)
    return [plan] if plan is not None else []


def _wraps(homework: Any) -> list[str]:
    """Classes of the homework that look like boxes for one array: Tensor, Variable, Parameter."""
    found = []
    for key, value in vars(homework).items():
        if not inspect.isclass(value) or value.__module__ != getattr(homework, "__name__", None):
            continue
        if any(callable(getattr(value, name, None)) for name in ("forward", "update", "step")):
            continue
        parameters = names.parameters_of(value, arrays=True)
        if not parameters or sum(parameter.required for parameter in parameters) != 1:
            continue
        if parameters[0].required:
            extra = [p.name for p in parameters if p.name == "requires_grad"]
            found.append(f"homework.{key}({{}}{', requires_grad=True' if extra else ''})")
    return found


# ------------------------------------------------------------------------------------------ finishing touches


def _finished(namespace: Mapping[str, Any], draft: Draft) -> Draft:
    """Find out about the bias, the default stride, a fused activation, and the sense of the kernel."""
    operator = OPERATORS[draft.operator]
    if operator.is_pooling and "stride" in draft.takes:
        draft = _with_default_stride(namespace, draft)
    if "b" in draft.takes:
        draft = _with_bias(namespace, draft)
    if operator.family == "conv":
        draft = _with_kernel(namespace, draft)
        draft = _with_activation(namespace, draft)
    return draft


def _lengths_for(draft: Draft) -> dict[str, int]:
    operator = OPERATORS[draft.operator]
    absent = axes_left_out(operator, draft.layouts)
    return {axis: 1 if axis in absent else size for axis, size in lengths_of(operator, 0).items()}


def _answer(namespace: Mapping[str, Any], draft: Draft, probe: Any, **changed: Any) -> np.ndarray | None:
    """What a draft answers to a probe, with arguments replaced; None where it raises."""
    try:
        arguments = {**arguments_for(draft.takes, draft.claims, draft.layouts, probe), **changed}
        scope = run(namespace, draft.takes, draft.lines, arguments)
        if scope is None:
            return None
        return np.asarray(eval(next(iter(draft.outputs.values())), dict(namespace), scope))
    except Exception:
        return None


def _expects(draft: Draft, probe: Any) -> np.ndarray:
    operator = OPERATORS[draft.operator]
    name = next(iter(operator.outputs))
    axes = operator.outputs[name]
    return layout_of(draft.layouts.get(KINDS[name]) or axes, axes).to_native(probe.expected[name])


def _with_kernel(namespace: Mapping[str, Any], draft: Draft) -> Draft:
    """Claim square kernels alone where a rectangular one raises or gives another shape."""
    if "kernel" in draft.claims:
        return draft
    operator = OPERATORS[draft.operator]
    lengths = {axis: size + 2 if axis in "dhw" else size for axis, size in _lengths_for(draft).items()}
    probe = probe_of(operator, lengths, (3, 2, 2)[: operator.rank])
    answer = _answer(namespace, draft, probe)
    shape = _expects(draft, probe).shape
    if answer is not None and sorted(answer.shape) == sorted(shape):
        return draft
    return replace(draft, claims={**draft.claims, "kernel": "square"})


def _with_default_stride(namespace: Mapping[str, Any], draft: Draft) -> Draft:
    operator = OPERATORS[draft.operator]
    stride = [
        slot for slot in (draft.plan.slots if draft.plan else ()) if slot.role in ("stride", "stride_h")
    ]
    documented = bool(stride) and not stride[0].required and stride[0].parameter.default is None
    probe = probe_of(operator, _lengths_for(draft), default_stride=True)
    answer = _answer(namespace, draft, probe)
    if answer is not None and (documented or agreement(answer, _expects(draft, probe)) == 1.0):
        return draft
    note = (CERTAIN, "it has no default stride, which is not claimed")
    return replace(draft, claims={**draft.claims, "default_stride": False}, notes=(*draft.notes, note))


def _with_bias(namespace: Mapping[str, Any], draft: Draft) -> Draft:
    operator = OPERATORS[draft.operator]
    evaluate = mirrored_standard() if ("mirrored", "") in draft.notes else reference.evaluate
    probe = probe_of(operator, _lengths_for(draft), bias=True, evaluate=evaluate)
    answer = _answer(namespace, draft, probe)
    if answer is None or agreement(answer, _expects(draft, probe)) < draft.agreement:
        note = (GUESSED, "the bias does not do what a bias should, in the layout that it seems to have")
        draft = replace(draft, notes=(*draft.notes, note))
    initialised = any("initial(" in line for line in draft.lines)  # which makes zeros of None itself
    if draft.plan is not None and not draft.plan.bias and not initialised:
        plain = probe_of(operator, _lengths_for(draft), evaluate=evaluate)
        answer = _answer(namespace, draft, plain, b=None)
        if answer is not None and agreement(answer, _expects(draft, plain)) >= draft.agreement:
            draft = replace(draft, bias_optional=True)
    return draft


def _with_activation(namespace: Mapping[str, Any], draft: Draft) -> Draft:
    """Where the forward pass ends in a ReLU, keep it inactive: a large bias, taken off again."""
    operator = OPERATORS[draft.operator]
    evaluate = mirrored_standard() if ("mirrored", "") in draft.notes else reference.evaluate
    probe = probe_of(operator, _lengths_for(draft), negative=True, evaluate=evaluate)
    answer, expected = _answer(namespace, draft, probe), _expects(draft, probe)
    if answer is None or agreement(answer, expected) == 1.0:
        return draft
    if agreement(answer, np.maximum(expected, 0)) < 1.0 or "b" not in draft.takes:
        return draft
    name, returned = next(iter(draft.outputs.items()))
    inner = ("def active(w, b):", *(f"    {line}" for line in _ending_in(draft.lines, returned)))
    note = (CERTAIN, "it ends in a ReLU; z = relu(z) - relu(-z), and a huge bias keeps gradients active")
    return replace(
        draft,
        lines=(*inner, "result = active(w, b) - active(-w, -b)"),
        outputs={name: "result"},
        notes=(*draft.notes, note),
    )


# ------------------------------------------------------------------------------------------------- writing


def _claims(draft: Draft, homework: Any) -> dict[str, Any]:
    always = ("kernel", "default_stride")
    claims = {key: value for key, value in draft.claims.items() if key in draft.takes or key in always}
    if ("mirrored", "") in draft.notes and _documents_mirroring(draft, homework):
        claims["kernel"] = f"{claims['kernel']} mirrored" if "kernel" in claims else "mirrored"
    return claims


def _documents_mirroring(draft: Draft, homework: Any) -> bool:
    """Whether the homework says itself that it mirrors the kernel: then it is a choice, no mistake."""
    value = getattr(homework, draft.origin, None)
    if "convolve" in draft.origin.lower():
        return True
    texts = [getattr(homework, "__doc__", None) or "", getattr(value, "__doc__", None) or ""]
    return any(_SAYS_MIRRORED.search(text) for text in texts)


def _groups(drafts: Sequence[Draft]) -> list[list[Draft]]:
    """Spread drafts over adapters: an adapter has one wrapper for each operator.

    Where a file implements an operator more than once, each function or class that does so has an adapter
    of its own, and the first of them takes what stands alone.
    """
    implemented = [draft.operator for draft in drafts]
    rivals = {draft.origin for draft in drafts if implemented.count(draft.operator) > 1}
    groups: dict[str, list[Draft]] = {}
    for draft in sorted(drafts, key=lambda draft: draft.origin not in rivals):
        home = draft.origin if draft.origin in rivals or not groups else next(iter(groups))
        groups.setdefault(home, []).append(draft)
    order = {id(draft): place for place, draft in enumerate(drafts)}
    return [sorted(group, key=lambda draft: order[id(draft)]) for group in groups.values()]


def _layout_arguments(group: Sequence[Draft]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Layouts of the adapter, and those of each operator that differ from them."""
    shared: dict[str, str] = {}
    own: list[dict[str, str]] = []
    for draft in group:
        given = _native_layouts(draft)
        for kind, pattern in given.items():
            shared.setdefault(kind, pattern)
        own.append({kind: pattern for kind, pattern in given.items() if shared[kind] != pattern})
    return shared, own


def _native_layouts(draft: Draft) -> dict[str, str]:
    """Patterns of a draft that an adapter must be told: those that follow are left out."""
    operator = OPERATORS[draft.operator.removesuffix(".backward")]
    given = {}
    for kind, pattern in draft.layouts.items():
        if kind == "output":
            if pattern != follows_input(operator, draft.layouts)[0]:
                given[kind] = pattern
        elif kind == "bias":
            if "b" in draft.takes and pattern != "o":
                given[kind] = pattern
        elif kind == "columns":
            given[kind] = pattern
        else:
            given[kind] = pattern
    return given


def _variable(index: int, count: int) -> str:
    return "hw" if count == 1 else f"hw{index + 1}"


def _adapters(drafts: Sequence[Draft], name: str, homework: Any) -> list[Adapter]:
    scope: dict[str, Any] = {"homework": homework, "np": np, "Adapter": Adapter, **helpers()}
    exec(compile(_body(drafts, name, homework), "<inferred>", "exec"), scope)
    return [value for value in scope.values() if isinstance(value, Adapter)]


def _source(drafts: Sequence[Draft], notes: list[tuple[str, str]], name: str, shown: str, header: str) -> str:
    for draft in drafts:
        where = f"{draft.operator} ({draft.origin})"
        layouts = ", ".join(
            f"{kind} {p!r}" for kind, p in draft.layouts.items() if kind != "bias" or "b" in draft.takes
        )
        if draft.agreement >= 1.0:
            notes.append((CERTAIN, f"{where}: {layouts}"))
        else:
            notes.append((GUESSED, f"{where}: {layouts}, from {min(draft.agreement, 1):.0%} agreement"))
        for certainty, text in draft.notes:
            if certainty == "mirrored":
                notes.append((CERTAIN, f"{where}: the kernel is mirrored"))
            else:
                notes.append((certainty, f"{where}: {text}"))
    notes[:] = list(dict.fromkeys(notes))
    comments = [
        f"# {certainty + ':':<10} {text}"
        for wanted in (CERTAIN, GUESSED, NOT_FOUND)
        for certainty, text in notes
        if certainty == wanted
    ]
    uses_np = any(mark in line for draft in drafts for line in draft.lines for mark in ("np.", "initial("))
    imports = ("import numpy as np\n" if uses_np else "") + header
    body = _body(drafts, name, NAMESPACE.get("homework"))
    return (
        f'"""Adapter for {Path(shown).name}, written by convform infer."""\n\n'
        + "\n".join(comments)
        + f"\n\n{imports}\n\nfrom convform.adapters import Adapter\n\n{body}"
    )


def _body(drafts: Sequence[Draft], name: str, homework: Any) -> str:
    groups = _groups(drafts)
    parts = []
    used = "\n".join(line for draft in drafts for line in draft.lines)
    parts += [f"\n{source}" for mark, source in HELPERS.items() if mark in used]
    for index, group in enumerate(groups):
        variable = _variable(index, len(groups))
        full = name if len(groups) == 1 else f"{name}-{group[0].origin}"
        shared, own = _layout_arguments(group)
        arguments = "".join(f", {kind}={pattern!r}" for kind, pattern in shared.items()).replace("'", '"')
        parts.append(f'{variable} = Adapter("{full}"{arguments})\n')
        for draft, layouts in zip(group, own, strict=True):
            claims = {**layouts, **_claims(draft, homework)}
            said = "".join(f", {key}={value!r}" for key, value in claims.items()).replace("'", '"')
            takes = [
                f"{arg}=None" if arg == "b" and draft.bias_optional else arg
                for arg in sorted(draft.takes, key=lambda arg: arg == "b" and draft.bias_optional)
            ]
            function = re.sub(r"\W", "_", draft.operator) + ("" if len(groups) == 1 else f"_{index + 1}")
            text = "".join(f"    {line}\n" for line in _ending_in(draft.lines, draft.returned))
            parts.append(
                f'\n@{variable}.implements("{draft.operator}"{said})\n'
                f"def {function}({', '.join(takes)}):\n{text}"
            )
    return "\n".join(parts)


def _ending_in(lines: Sequence[str], returned: str) -> list[str]:
    """Lines of a function that returns an expression, without the variables that it can do without."""
    kept = list(lines)
    for variable in ("grads", "result"):
        if kept[-1].startswith(f"{variable} = ") and re.match(rf"{variable}\b", returned):
            returned = kept.pop().removeprefix(f"{variable} = ") + returned.removeprefix(variable)
    kept.append(f"return {returned}")
    text = "\n".join(kept)
    if len(re.findall(r"\bresult\b", text)) == 1:
        kept = [line.removeprefix("result = ") for line in kept]
    if len(re.findall(r"\bgrads\b", text)) == 1:
        kept = [line.removeprefix("grads = ") for line in kept]
    return [re.sub(r"\b(\w+)\[0\], \1\[-1\]", r"*\1", line) for line in kept]
