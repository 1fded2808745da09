"""Inference: look at a file of functions and classes, and write the adapter for it.

Operators and parameters are recognised by their usual names, layouts and claims by experiment
(`convform.conformance.inference.search`). What comes out is an ordinary adapter file, with a comment on what
was certain, what was guessed, and what could not be found.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convform.adapters import Adapter, AdapterError
from convform.adapters.find import import_file, split_target
from convform.adapters.process.guard import Guarded, watching
from convform.conformance.inference import names
from convform.conformance.inference.draft import Draft, Plan
from convform.conformance.inference.finish import finished
from convform.conformance.inference.gradients import search_alone, search_backward
from convform.conformance.inference.homework import MOST_HANGS, Hangs, Homework
from convform.conformance.inference.plans import function_plan, layer_plans
from convform.conformance.inference.search import search_forward
from convform.conformance.inference.writing import NOT_FOUND, file_text, make_adapters, notes_on
from convform.spec.operators import FAMILIES, OPERATORS, Operator

# What gathers columns may be a method of the layer that is built on it.
_GATHERS = next(op.name for op in OPERATORS.values() if op.row.kind == "gathers" and op.rank == 2)


@dataclass(frozen=True)
class Inferred:
    """What was found out about a file.

    Attributes
    ----------
    text
        The adapter file.
    notes
        ``(certainty, sentence)``: "certain", "guessed" or "not found".
    adapters
        The adapters that the file defines: one, or several where a file implements an operator more
        than once.
    """

    text: str
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
        Where the file will be written: in another folder it has to find the homework.

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
        A Python file or notebook without an adapter (one that it has is not looked at).
    name
        Name of one function or class, to look at nothing else.
    folder
        Folder in which the file will lie; None stands for the homework's own.

    Raises
    ------
    NotFound, BrokenFile, Unavailable
        As `convform.adapters.find`.
    AdapterError
        If nothing in the file is called like an operator, or nothing answers like one.
    """
    file = Path(path)
    return infer_module(import_file(file), file, name, folder)


def infer_module(
    module: types.ModuleType, file: Path, name: str | None = None, folder: Path | None = None
) -> Inferred:
    """Infer the adapter of a homework file that has been imported, as `infer_file` does."""
    values = _defined_in(module)
    if name is not None:
        if name not in values and not hasattr(module, name):
            raise AdapterError(
                f"there is no function or class {name!r} in {file}", f"it has {', '.join(values) or 'none'}"
            )
        values = {name: getattr(module, name)}
    header = _header(file, folder)
    return _infer(values, file.stem.replace("_", "-"), str(file), header, module)


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
    found, notes = _search(candidates, Homework(namespace), exact=True)
    done = {draft.operator for draft in found}
    for operator in functions:
        if operator not in done:
            key = f"{operator.replace('.', '_')}: "
            note = next((text.removeprefix(key) for _, text in notes if text.startswith(key)), "")
            said = "called in every usual layout, the function never answered like the operator"
            _, colon, raised = note.partition("; ")
            raise AdapterError(
                f"{operator}: {_HUNG if note == _HUNG else said + colon + raised}",
                "write an adapter that says how it is called: Adapter(...), adapter.implements(...)",
            )
    return make_adapters(found, name, namespace)[0]


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


def _header(file: Path, folder: Path | None) -> str:
    """Write the lines by which an adapter in some folder imports the homework."""
    own = file.resolve().parent
    elsewhere = folder is not None and folder != own
    if file.suffix == ".ipynb":
        place = f"Path({str(file.resolve())!r})" if elsewhere else f'Path(__file__).with_name("{file.name}")'
        imports = "from pathlib import Path\n\nfrom convform.adapters.find import import_file\n\n"
        return f"{imports}homework = import_file({place})"
    header = (
        f"import {file.stem} as homework"
        if file.stem.isidentifier()
        else f'import importlib\n\nhomework = importlib.import_module("{file.stem}")'
    )
    return f"import sys\n\nsys.path.insert(0, {str(own)!r})\n{header}" if elsewhere else header


def _infer(
    values: Mapping[str, Callable[..., Any]], name: str, shown: str, header: str, module: Any
) -> Inferred:
    candidates = [
        _Candidate(operator, key, f"homework.{key}", value)
        for key, value in values.items()
        if (operator := names.operator_named(key)) is not None and not key.startswith("__")
    ]
    candidates += [
        _Candidate(_GATHERS, key, f"homework.{key}", value, method)
        for key, value in values.items()
        if inspect.isclass(value) and names.operator_named(key) is not None
        for method in vars(value)
        if names.operator_named(method) == _GATHERS or method in ("columns", "to_columns", "get_columns")
    ]
    if not candidates:
        raise AdapterError(
            f"nothing in {shown} is called like an operator; functions and classes looked for are "
            f"{names.names_looked_for()} (in any spelling, with forward or backward)",
            f"it has {', '.join(list(values)[:8])}" if values else "it defines no function and no class",
        )
    drafts, missing = _search(candidates, Homework(module))
    if not drafts:
        said = "; ".join(text for _, text in missing)
        raise AdapterError(
            f"{shown} was called in every usual way, and never answered like an operator: {said}",
            'write the adapter by hand: hw = Adapter("my-homework"), and @hw.implements(...) above a wrapper',
        )
    notes = tuple(dict.fromkeys((*missing, *notes_on(drafts))))
    text = file_text(drafts, notes, name, shown, header, module)
    return Inferred(text, notes, tuple(make_adapters(drafts, name, module)))


_HUNG = f"{MOST_HANGS} calls on tiny arrays hung, so it was given up"


def _search(
    candidates: Sequence[_Candidate], homework: Homework, exact: bool = False
) -> tuple[list[Draft], list[tuple[str, str]]]:
    """Find a draft for every candidate that answers like its operator, and say which do not."""
    gradients = [c for c in candidates if OPERATORS[c.operator].is_gradient]
    forward = [c for c in candidates if not OPERATORS[c.operator].is_gradient]
    forward = [c for c in forward if exact or not _is_helper(c, forward)]
    forward.sort(key=lambda c: FAMILIES.index(OPERATORS[c.operator].family))
    # Inference calls what it looks at: what that prints or changes is no part of the session.
    with watching(), Guarded("inference"):
        return _searched(forward, gradients, homework, exact)


def _searched(
    forward: Sequence[_Candidate], gradients: Sequence[_Candidate], homework: Homework, exact: bool
) -> tuple[list[Draft], list[tuple[str, str]]]:
    notes: list[tuple[str, str]] = []
    drafts: list[Draft] = []
    for candidate in forward:
        homework.look_at()
        try:
            found = _forward(homework, candidate, drafts)
            if isinstance(found, str):
                notes += [(NOT_FOUND, f"{candidate.name}: {found}")] if found else []
                continue
            own = _gradients_of(candidate, found, gradients, exact)
            drafts += _with_gradient(homework, candidate, found, own, notes)
        except Hangs:
            notes.append((NOT_FOUND, f"{candidate.name}: {_HUNG}"))
    # A gradient without a forward pass is called for itself.
    done = {draft.operator for draft in drafts}
    for candidate in gradients:
        if candidate.operator in done or candidate.is_class:
            continue
        homework.look_at()
        try:
            alone = _alone(homework, candidate, drafts)
        except Hangs:
            notes.append((NOT_FOUND, f"{candidate.name}: {_HUNG}"))
            continue
        if alone is not None:
            drafts.append(alone)
            done.add(candidate.operator)
        elif (NOT_FOUND, f"{candidate.name}: {_NO_GRADIENT}") not in notes:
            said = _never_answered(homework, OPERATORS[candidate.operator])
            notes.append((NOT_FOUND, f"{candidate.name}: {said}"))
    return drafts, notes


def _never_answered(homework: Homework, operator: Operator) -> str:
    raised = f"; every call raised, the first one {homework.raised}" if homework.raised else ""
    return f"it never answered like {operator.name}{raised}"


_NO_GRADIENT = "its backward pass leaves nothing like a gradient"


def _preferred(drafts: Sequence[Draft]) -> dict[str, list[str]]:
    """Layouts that a homework was found to use, by kind: to be tried first."""
    preferred: dict[str, list[str]] = {}
    for draft in drafts:
        for kind, pattern in draft.layouts.items():
            preferred.setdefault(kind, []).append(pattern)
    return preferred


def _forward(homework: Homework, candidate: _Candidate, drafts: Sequence[Draft]) -> Draft | str:
    """Find the draft of a forward operator, or say why there is none; "" where that is no loss."""
    operator = OPERATORS[candidate.operator]
    found = None
    for wrap in (None, *_wraps(homework.module)):
        plans = _plans(homework, candidate, operator, wrap)
        found = search_forward(homework, operator, plans, _preferred(drafts))
        if found is not None:
            break
    if found is None:
        # A method that is called like im2col is a helper of the layer, which may be anything.
        return "" if candidate.method is not None else _never_answered(homework, operator)
    gathers = "kernel" in operator.parameters and "cols" not in operator.inputs
    if gathers and not any("kernel" in line for line in found.lines):
        return "its kernel size is fixed, which an adapter cannot claim"
    return replace(found, origin=candidate.name)


def _gradients_of(
    candidate: _Candidate, found: Draft, gradients: Sequence[_Candidate], exact: bool
) -> list[tuple[str, Callable[..., Any]]]:
    """Functions that belong to a forward pass, by their names."""
    stem = names.backward_stem(candidate.name)
    return [
        (c.expression, c.value)
        for c in gradients
        if not c.is_class
        and c.operator == OPERATORS[found.operator].gradient
        and (exact or names.backward_stem(c.name) == stem or len(gradients) == 1)
    ]


def _with_gradient(
    homework: Homework,
    candidate: _Candidate,
    plain: Draft,
    functions: Sequence[tuple[str, Callable[..., Any]]],
    notes: list[tuple[str, str]],
) -> list[Draft]:
    """Finish the draft of a forward pass, and find its gradient."""
    found = finished(homework, plain)
    gradient = OPERATORS.get(OPERATORS[plain.operator].gradient or "")
    plan = plain.plan
    if gradient is None or plan is None or not (plan.is_layer or plan.wrap or functions):
        return [found]
    base = found
    if found.lines[0].startswith("def active"):  # the gradients do not depend on the bias
        base = replace(found, lines=("b = np.full_like(b, 1e30)", *plain.lines), outputs=plain.outputs)
    grown = search_backward(homework, gradient, base, functions)
    if grown is not None:
        if grown.layouts.get("bias") != found.layouts.get("bias"):
            found = replace(found, layouts=grown.layouts)
        return [found, grown]
    if functions or (plan.is_layer and names.first_of(names.BACKWARD_METHODS, candidate.value)):
        notes.append((NOT_FOUND, f"{candidate.name}: {_NO_GRADIENT}"))
    return [found]


def _alone(homework: Homework, candidate: _Candidate, drafts: Sequence[Draft]) -> Draft | None:
    """Find the draft of a gradient that is a function of its own."""
    operator = OPERATORS[candidate.operator]
    plan = function_plan(operator, candidate.name, candidate.expression, candidate.value, None)
    found = None if plan is None else search_alone(homework, operator, plan, _preferred(drafts))
    return None if found is None else finished(homework, replace(found, origin=candidate.name))


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


def _plans(homework: Homework, candidate: _Candidate, operator: Operator, wrap: str | None) -> list[Plan]:
    if inspect.isclass(candidate.value):
        name, expression = candidate.name, candidate.expression
        return list(
            layer_plans(homework, operator, name, expression, candidate.value, wrap, candidate.method)
        )
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
