"""Writing what was found out: drafts as the text of an adapter file, and as adapters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convform.adapters import Adapter
from convform.conformance.inference.draft import Draft
from convform.conformance.inference.homework import HELPERS, helpers
from convform.conformance.inference.probe import follows_input
from convform.spec.operators import OPERATORS

CERTAIN, GUESSED, NOT_FOUND = "certain", "guessed", "not found"

_SAYS_MIRRORED = re.compile(r"flip|mirror|revers|convolution proper|true convolution|\[::-1", re.IGNORECASE)


def make_adapters(drafts: Sequence[Draft], name: str, homework: Any) -> list[Adapter]:
    """Make the adapters that the file of some drafts defines.

    Parameters
    ----------
    drafts
        At least one.
    name
        Name of the adapter; where there are several, each has that of its function or class, too.
    homework
        What the drafts call ``homework``.
    """
    scope: dict[str, Any] = {"homework": homework, "np": np, "Adapter": Adapter, **helpers()}
    exec(compile(_body(drafts, name, homework), "<inferred>", "exec"), scope)
    return [value for value in scope.values() if isinstance(value, Adapter)]


def notes_on(drafts: Sequence[Draft]) -> list[tuple[str, str]]:
    """Say what was found out for certain about some drafts, and what was guessed."""
    notes: list[tuple[str, str]] = []
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
    return list(dict.fromkeys(notes))


def file_text(
    drafts: Sequence[Draft],
    notes: Sequence[tuple[str, str]],
    name: str,
    shown: str,
    header: str,
    homework: Any,
) -> str:
    """Write the adapter file.

    Parameters
    ----------
    drafts, name, homework
        As for `make_adapters`.
    notes
        What goes into the comment, as ``(certainty, sentence)``.
    shown
        The homework's file, as its user named it.
    header
        The lines that import it.
    """
    comments = [
        f"# {certainty + ':':<10} {text}"
        for wanted in (CERTAIN, GUESSED, NOT_FOUND)
        for certainty, text in notes
        if certainty == wanted
    ]
    uses_np = any(mark in line for draft in drafts for line in draft.lines for mark in ("np.", "initial("))
    imports = ("import numpy as np\n\n" if uses_np else "") + "from convform.adapters import Adapter\n"
    body = _body(drafts, name, homework)
    return (
        f'"""Adapter for {Path(shown).name}, written by convform infer."""\n\n'
        + "\n".join(comments)
        + f"\n\n{imports}\n{header}\n\n{body}"
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
            text = "".join(f"    {line}\n" for line in ending_in(draft.lines, draft.returned))
            parts.append(
                f'\n@{variable}.implements("{draft.operator}"{said})\n'
                f"def {function}({', '.join(takes)}):\n{text}"
            )
    return "\n".join(parts)


def ending_in(lines: Sequence[str], returned: str) -> list[str]:
    """Lines of a function that returns an expression, without the variables that it can do without."""
    kept = list(lines)
    for variable in ("grads", "result"):
        if kept[-1].startswith(f"{variable} = ") and re.findall(r"\w+", returned).count(variable) == 1:
            if not returned.startswith(variable):
                continue
            returned = kept.pop().removeprefix(f"{variable} = ") + returned.removeprefix(variable)
    kept.append(f"return {returned}")
    text = "\n".join(kept)
    if len(re.findall(r"\bresult\b", text)) == 1:
        kept = [line.removeprefix("result = ") for line in kept]
    if len(re.findall(r"\bgrads\b", text)) == 1:
        kept = [line.removeprefix("grads = ") for line in kept]
    return [re.sub(r"\b(\w+)\[0\], \1\[-1\]", r"*\1", line) for line in kept]


def _claims(draft: Draft, homework: Any) -> dict[str, Any]:
    # A claim about a parameter is worth nothing where the wrapper does not take it.
    always = ("kernel", "default_stride", "indices", "dtypes")
    parameter = {"max_padding": "padding"}
    claims = {
        key: value
        for key, value in draft.claims.items()
        if key in always or parameter.get(key, key) in draft.takes
    }
    if OPERATORS[draft.operator].is_gradient:  # which index a maximum came from is said by the forward pass
        claims.pop("indices", None)
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
    operator = OPERATORS[OPERATORS[draft.operator].forward]
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
