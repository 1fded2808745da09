"""Widening: what else can be said to a homework that is called right already.

Every parameter is tried in the widest form that does not raise: one number or one for each axis, words,
left out or taken.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from convform import reference
from convform.conformance.inference.draft import WINDOW, Draft, Option, Slot, written
from convform.conformance.inference.homework import Homework
from convform.conformance.inference.probe import (
    FLAGS,
    axes_left_out,
    layout_of,
    lengths_of,
    mirrored_standard,
    probe_of,
)
from convform.reference.misreadings.misreading import Evaluate
from convform.spec.operators import LAYOUT_OF, OPERATORS, Operator


def widened(homework: Homework, draft: Draft) -> Draft:
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
            wider = _accepted(homework, draft, changed, slot, option, evaluate)
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
    homework: Homework,
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
        scope = homework.tried(takes, lines, claims, draft.layouts, word)
    else:
        scope = homework.tried(takes, lines, claims, draft.layouts, probe)
    if scope is None:
        return None
    ((output, text),) = draft.outputs.items()
    array = homework.value(text, scope)
    if array is None:
        return None
    kind = LAYOUT_OF[output]
    layout = layout_of(draft.layouts[kind], operator.outputs[output])
    shape = layout.shape(probe.sizes)
    if array.ndim != len(shape):
        return None
    if option.claims.get("padding") == "string":
        return replace(draft, choice=choice, lines=tuple(lines), takes=takes, claims=claims)
    if pair and name in values and sorted(array.shape) != sorted(shape):
        return None
    return replace(draft, choice=choice, lines=tuple(lines), takes=takes, claims=claims)
