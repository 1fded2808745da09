"""Finding out by experiment how a homework is called: wrappers are drafted, run, and compared.

A draft is the source of a wrapper. Whether it is right is not argued but tried: it is called with arrays
of distinct positive values (stride 1, no padding: what typical defects do not touch), in one layout after
the other, and the answer that agrees best with the standard's tells layouts and paths. An exception is
just "no". Then every parameter is widened (`convform.conformance.inference.widen`).
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from convform.conformance.inference.draft import Draft, Plan, written
from convform.conformance.inference.homework import Homework
from convform.conformance.inference.layouts import (
    Fit,
    column_patterns,
    fit_columns,
    fit_order,
    leaves,
    merged_weights,
    orders,
)
from convform.conformance.inference.plans import base_choices
from convform.conformance.inference.probe import (
    RUNG_NOTES,
    RUNGS,
    Probe,
    axes_left_out,
    follows_input,
    lengths_of,
    mirrored_standard,
    probe_of,
)
from convform.conformance.inference.widen import widened
from convform.spec.operators import LAYOUT_OF, SPATIAL_AXES, Operator

ENOUGH = 0.5
"""Agreement from which a draft counts as recognised; a wrong axis order agrees in a few elements only."""

BUDGET = 12.0
"""Seconds after which the search for one operator of one callable ends with what it has."""


def search_forward(
    homework: Homework,
    operator: Operator,
    plans: Sequence[Plan],
    preferred: Mapping[str, Sequence[str]],
) -> Draft | None:
    """Find how a forward operator is called; None where no plan gives an answer like the standard's.

    Parameters
    ----------
    homework
        What is looked at.
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
            for draft in _base_drafts(homework, operator, plan, preferred, rung, odd, started):
                if draft.agreement > (best.agreement if best else 0.0):
                    best = draft
                if draft.agreement == 1.0:
                    if RUNG_NOTES[rung]:
                        draft = replace(draft, notes=(*draft.notes, ("guessed", RUNG_NOTES[rung])))
                    return widened(homework, draft)
                if time.perf_counter() - started > BUDGET:
                    break
        if time.perf_counter() - started > BUDGET:
            break
    if best is None or best.agreement < ENOUGH:
        return None
    note = f"agrees with the standard in {best.agreement:.0%} of the elements of the probe"
    return widened(homework, replace(best, notes=(*best.notes, ("guessed", note))))


def _patterns(operator: Operator, kind: str, preferred: Mapping[str, Sequence[str]]) -> list[str]:
    axes = {**operator.inputs, **operator.outputs}[{"input": "x", "weight": "w"}[kind]]
    known = [p for p in preferred.get(kind, ()) if set(re.findall(r"\w+", p)) <= set(axes.split())]
    found = [*known, *orders(axes)]
    if kind == "weight":
        found += merged_weights(axes)
    return list(dict.fromkeys(found))


def _base_drafts(
    homework: Homework,
    operator: Operator,
    plan: Plan,
    preferred: Mapping[str, Sequence[str]],
    rung: int,
    odd: bool,
    started: float,
) -> Iterator[Draft]:
    probes: dict[frozenset[str], Probe] = {}
    # Columns of windows that do not overlap, where a homework forgets to add up.
    apart = "cols" in operator.inputs and rung > 0
    also = frozenset({"stride", "stride_h", "stride_w"} if apart else ())
    for choice in base_choices(plan, also=also):
        if "cols" in operator.inputs:
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
            if operator.is_gradient:
                layouts = {**layouts, "output": follows_input(operator, layouts)[0]}
            result = homework.tried(takes, lines, claims, layouts, probe)
            if result is None:
                continue
            fitted = _read(operator, result, probe, layouts)
            if fitted is None:
                continue
            name, text, fit = fitted
            output_kind = LAYOUT_OF[name]
            notes: tuple[tuple[str, str], ...] = ()
            if operator.row.has_weights and not operator.is_gradient and fit.agreement < 1.0:
                mirrored = _mirrored_fit(operator, result, probe, layouts)
                if mirrored is not None and mirrored[2].agreement == 1.0:
                    name, text, fit = mirrored
                    notes = (("mirrored", ""),)
            own = dict(layouts)
            if output_kind not in own:
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


def _read(
    operator: Operator, scope: Mapping[str, Any], probe: Probe, layouts: Mapping[str, str]
) -> tuple[str, str, Fit] | None:
    """Find the answer among what was returned: name, path and layout of the array that agrees best."""
    best: tuple[str, str, Fit] | None = None
    # The gradient of the bias tells nothing about the layouts of the others.
    names = [name for name in operator.outputs if name not in ("indices", "db")]
    found = itertools.islice(leaves(scope.get("result"), 3), 12)
    for name, (path, array) in itertools.product(names, found):
        expected, axes = probe.expected[name], operator.outputs[name]
        if operator.is_gradient:
            only = layouts[LAYOUT_OF[name]]
            fit = fit_order(array, expected, axes, only=[only]) if "(" not in only else Fit("", 0.0)
        elif "cols" in operator.outputs:
            absent = [axis for axis in "nc" if axis not in layouts["input"].split()]
            fit = fit_columns(array, expected, axes, absent)
        elif "cols" in operator.inputs:
            fit = fit_order(array, expected, axes, only=[layouts["input"]])
        else:
            preferred = list(follows_input(operator, layouts))
            fit = fit_order(array, expected, axes, preferred)
        if fit.pattern and (best is None or fit.agreement > best[2].agreement):
            best = name, path, fit
        if fit.agreement == 1.0:
            break
    return best


def _mirrored_fit(
    operator: Operator, scope: Mapping[str, Any], probe: Probe, layouts: Mapping[str, str]
) -> tuple[str, str, Fit] | None:
    expected = mirrored_standard()(operator.name, probe.inputs, probe.parameters)
    return _read(operator, scope, replace(probe, expected=expected), layouts)
