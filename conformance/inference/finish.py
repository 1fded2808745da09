"""Finishing touches: what a draft that works already leaves open.

The bias, the default stride, square kernels, and an activation at the end, each by an experiment of its own.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np

from convform import reference
from convform.conformance.inference.draft import Draft
from convform.conformance.inference.homework import Homework
from convform.conformance.inference.layouts import agreement, leaves
from convform.conformance.inference.probe import (
    axes_left_out,
    layout_of,
    lengths_of,
    mirrored_standard,
    probe_of,
)
from convform.conformance.inference.writing import CERTAIN, GUESSED, ending_in
from convform.spec.operators import LAYOUT_OF, OPERATORS


def finished(homework: Homework, draft: Draft) -> Draft:
    """Find out about the bias, the default stride, a fused activation, and the sense of the kernel."""
    operator = OPERATORS[draft.operator]
    if operator.is_pooling and "stride" in draft.takes:
        draft = _with_default_stride(homework, draft)
    if "indices" in operator.outputs:
        draft = _with_indices(homework, draft)
    if "b" in draft.takes and not operator.is_gradient:
        draft = _with_bias(homework, draft)
    if "w" in operator.inputs:
        draft = _with_kernel(homework, draft)
    draft = _with_max_padding(homework, draft)
    draft = _with_dtypes(homework, draft)
    if operator.row.has_weights and not operator.is_gradient:
        draft = _with_activation(homework, draft)
    return draft


def _lengths_for(draft: Draft) -> dict[str, int]:
    operator = OPERATORS[draft.operator]
    absent = axes_left_out(operator, draft.layouts)
    return {axis: 1 if axis in absent else size for axis, size in lengths_of(operator, 0).items()}


def _answer(homework: Homework, draft: Draft, probe: Any, **changed: Any) -> np.ndarray | None:
    """What a draft answers to a probe, with arguments replaced; None where it raises."""
    scope = homework.tried(draft.takes, draft.lines, draft.claims, draft.layouts, probe, **changed)
    return None if scope is None else homework.value(next(iter(draft.outputs.values())), scope)


def _expects(draft: Draft, probe: Any) -> np.ndarray:
    operator = OPERATORS[draft.operator]
    name = next(iter(draft.outputs))
    axes = operator.outputs[name]
    return layout_of(draft.layouts.get(LAYOUT_OF[name]) or axes, axes).to_native(probe.expected[name])


def _with_kernel(homework: Homework, draft: Draft) -> Draft:
    """Claim square kernels alone where a rectangular one raises or gives another shape."""
    if "kernel" in draft.claims:
        return draft
    operator = OPERATORS[draft.operator]
    lengths = {axis: size + 2 if axis in "dhw" else size for axis, size in _lengths_for(draft).items()}
    probe = probe_of(operator, lengths, kernel=(3, 2, 2)[: operator.rank])
    answer = _answer(homework, draft, probe)
    shape = _expects(draft, probe).shape
    if answer is not None and sorted(answer.shape) == sorted(shape):
        return draft
    return replace(draft, claims={**draft.claims, "kernel": "square"})


def _with_indices(homework: Homework, draft: Draft) -> Draft:
    """Claim the indices of the maxima where they come with the maxima and are those of the standard."""
    operator = OPERATORS[draft.operator]
    ((name, text),) = draft.outputs.items()
    probe = probe_of(operator, _lengths_for(draft))
    scope = homework.tried(draft.takes, draft.lines, draft.claims, draft.layouts, probe)
    if scope is None:
        return draft
    expected = layout_of(draft.layouts["output"], operator.outputs["y"]).to_native(probe.expected["indices"])
    for path, array in itertools.islice(leaves(scope.get("result"), 3), 12):
        other = f"result{path}"
        if other == text or array.dtype.kind not in "iu" or array.shape != expected.shape:
            continue
        if agreement(array, expected) == 1.0:
            claims = {**draft.claims, "indices": True}
            return replace(draft, claims=claims, outputs={name: text, "indices": other})
        note = (GUESSED, f"{other} may be indices, but not those in the unpadded plane; they are not claimed")
        draft = replace(draft, notes=(*draft.notes, note))
    return draft


def _with_max_padding(homework: Homework, draft: Draft) -> Draft:
    """Claim no more padding than what does not raise."""
    if "padding" not in draft.takes or draft.claims.get("padding") == "string":
        return draft
    operator = OPERATORS[draft.operator]
    lengths = {axis: size + 2 if axis in "dhw" else size for axis, size in _lengths_for(draft).items()}

    def answers(padding: int) -> bool:
        rank = operator.rank
        probe = probe_of(operator, lengths, kernel=(3,) * rank, stride=(1,) * rank, padding=(padding,) * rank)
        return _answer(homework, draft, probe) is not None

    if not answers(1) or answers(3):
        return draft
    accepted = "below-kernel" if answers(2) else "half-kernel"
    note = (CERTAIN, f"it raises for more padding than max_padding={accepted!r}")
    return replace(draft, claims={**draft.claims, "max_padding": accepted}, notes=(*draft.notes, note))


def _with_dtypes(homework: Homework, draft: Draft) -> Draft:
    """Claim float64 alone where float32 raises; what else it takes is for its author to claim."""
    probe = probe_of(OPERATORS[draft.operator], _lengths_for(draft))
    single = {name: array.astype(np.float32) for name, array in probe.inputs.items()}
    if _answer(homework, draft, replace(probe, inputs=single)) is not None:
        return draft
    if _answer(homework, draft, probe) is None:
        return draft
    note = (CERTAIN, "it raises for float32, which is not claimed")
    return replace(draft, claims={**draft.claims, "dtypes": ("float64",)}, notes=(*draft.notes, note))


def _with_default_stride(homework: Homework, draft: Draft) -> Draft:
    operator = OPERATORS[draft.operator]
    stride = [
        slot for slot in (draft.plan.slots if draft.plan else ()) if slot.role in ("stride", "stride_h")
    ]
    documented = bool(stride) and not stride[0].required and stride[0].parameter.default is None
    probe = probe_of(operator, _lengths_for(draft), default_stride=True)
    answer = _answer(homework, draft, probe)
    if answer is not None and (documented or agreement(answer, _expects(draft, probe)) == 1.0):
        return draft
    note = (CERTAIN, "it has no default stride, which is not claimed")
    return replace(draft, claims={**draft.claims, "default_stride": False}, notes=(*draft.notes, note))


def _with_bias(homework: Homework, draft: Draft) -> Draft:
    operator = OPERATORS[draft.operator]
    evaluate = mirrored_standard() if ("mirrored", "") in draft.notes else reference.evaluate
    probe = probe_of(operator, _lengths_for(draft), bias=True, evaluate=evaluate)
    answer = _answer(homework, draft, probe)
    if answer is None or agreement(answer, _expects(draft, probe)) < draft.agreement:
        note = (GUESSED, "the bias does not do what a bias should, in the layout that it seems to have")
        draft = replace(draft, notes=(*draft.notes, note))
    initialised = any("initial(" in line for line in draft.lines)  # which makes zeros of None itself
    if draft.plan is not None and not draft.plan.bias and not initialised:
        plain = probe_of(operator, _lengths_for(draft), evaluate=evaluate)
        answer = _answer(homework, draft, plain, b=None)
        if answer is not None and agreement(answer, _expects(draft, plain)) >= draft.agreement:
            draft = replace(draft, bias_optional=True)
    return draft


def _with_activation(homework: Homework, draft: Draft) -> Draft:
    """Where the forward pass ends in a ReLU, keep it inactive: a large bias, taken off again."""
    operator = OPERATORS[draft.operator]
    evaluate = mirrored_standard() if ("mirrored", "") in draft.notes else reference.evaluate
    probe = probe_of(operator, _lengths_for(draft), negative=True, evaluate=evaluate)
    answer, expected = _answer(homework, draft, probe), _expects(draft, probe)
    if answer is None or agreement(answer, expected) == 1.0:
        return draft
    if agreement(answer, np.maximum(expected, 0)) < 1.0 or "b" not in draft.takes:
        return draft
    name, returned = next(iter(draft.outputs.items()))
    inner = ("def active(w, b):", *(f"    {line}" for line in ending_in(draft.lines, returned)))
    note = (CERTAIN, "it ends in a ReLU; z = relu(z) - relu(-z), and a huge bias keeps gradients active")
    return replace(
        draft,
        lines=(*inner, "result = active(w, b) - active(-w, -b)"),
        outputs={name: "result"},
        notes=(*draft.notes, note),
    )
