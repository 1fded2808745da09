"""Misreadings: named wrong, or merely different, readings of a clause, as changes to the reference.

A misreading is registered once, beside the operators it twists, and serves three purposes: the clause
lists it; run as a subject it proves that a law catches it; and when a subject fails, what the subject
answered is replayed against it. It changes the steps of an operator (`convform.reference.misreadings.steps`),
or wraps the evaluation as a whole; two misreadings combine by applying one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from convform.reference import checks
from convform.reference.checks import Array
from convform.reference.evaluation import Outputs, narrowed, widened
from convform.reference.misreadings.steps import STANDARD, Positions, Steps, evaluate_steps, plane, real
from convform.reference.window import Size

Inputs = Mapping[str, Any]
Parameters = Mapping[str, Any]
Evaluate = Callable[[str, Inputs, Parameters], Outputs]
StepsTwist = Callable[[Steps], Steps]
CallTwist = Callable[[Evaluate], Evaluate]


def _as_is(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Misreading:
    """One misreading of one clause.

    Attributes
    ----------
    name
        As the clause lists it: ``"kernel mirrored"``.
    clause
        Id of the clause, ``"CONV-1"``.
    families
        Operator families in which it can occur.
    says
        Completes "your operator gives what the standard gives …": ``"with the kernel mirrored"``.
    look
        What the standard asks for and where to look, for the person who made the mistake.
    steps
        Change to the steps of the operators.
    call
        Change around the whole evaluation; called once for each subject, so that it may keep state.
    dialect
        ``(claim, value)`` where some library documents the reading as its choice: ``("ties", "split")``.
    within_rounding
        Whether its answers differ from the standard's by no more than rounding, so that it conforms.
    of_half_types
        Whether it is about half types, so that it must see bfloat16 arrays as they are; all others are
        shown float32 instead (`convform.reference.evaluation.widened`).
    """

    name: str
    clause: str
    families: tuple[str, ...]
    says: str
    look: str
    steps: StepsTwist = _as_is
    call: CallTwist = _as_is
    dialect: tuple[str, str] | None = None
    within_rounding: bool = False
    of_half_types: bool = False

    def applies_to(self, family: str) -> bool:
        """Whether it can occur in operators of a family."""
        return family in self.families


@dataclass
class Catalogue:
    """All misreadings by name, in the order in which they were registered."""

    entries: dict[str, Misreading] = field(default_factory=dict)

    def register(self, misreading: Misreading) -> None:
        """Add a misreading.

        Raises
        ------
        ValueError
            If the name is taken.
        """
        if misreading.name in self.entries:
            raise ValueError(f"the misreading {misreading.name!r} is registered twice")
        self.entries[misreading.name] = misreading


CATALOGUE = Catalogue()


def steps_twist(
    name: str,
    clause: str,
    families: tuple[str, ...],
    *,
    says: str,
    look: str,
    dialect: tuple[str, str] | None = None,
    within_rounding: bool = False,
) -> Callable[[StepsTwist], StepsTwist]:
    """Register a function Steps → Steps as a misreading."""

    def register(twist: StepsTwist) -> StepsTwist:
        CATALOGUE.register(replace(misreading, steps=twist))
        return twist

    misreading = Misreading(
        name, clause, families, says, look, dialect=dialect, within_rounding=within_rounding
    )
    return register


def call_twist(
    name: str,
    clause: str,
    families: tuple[str, ...],
    *,
    says: str,
    look: str,
    dialect: tuple[str, str] | None = None,
    within_rounding: bool = False,
    of_half_types: bool = False,
) -> Callable[[CallTwist], CallTwist]:
    """Register a function Evaluate → Evaluate as a misreading."""

    def register(twist: CallTwist) -> CallTwist:
        CATALOGUE.register(replace(misreading, call=twist))
        return twist

    misreading = Misreading(
        name,
        clause,
        families,
        says,
        look,
        dialect=dialect,
        within_rounding=within_rounding,
        of_half_types=of_half_types,
    )
    return register


def misread(*misreadings: Misreading) -> Evaluate:
    """Evaluate as the standard does, but for some misreadings, applied in the order given.

    With no misreading at all this is the standard, step by step.
    """
    steps = STANDARD
    for misreading in misreadings:
        steps = misreading.steps(steps)

    def evaluate(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
        return evaluate_steps(steps, operator, inputs, parameters)

    result: Evaluate = evaluate
    for misreading in misreadings:
        result = misreading.call(result)
    return result if any(misreading.of_half_types for misreading in misreadings) else _in_float32(result)


def _in_float32(evaluate: Evaluate) -> Evaluate:
    """Evaluate bfloat16 arrays in float32, and round the outputs."""

    def wide(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
        given, dtype = widened(inputs)
        return narrowed(evaluate(operator, given, parameters), dtype)

    return wide


# --- common shapes of call twists ------------------------------------------------------------------------


def changing_inputs(change: Callable[[dict[str, Array], Parameters], Mapping[str, Array]]) -> CallTwist:
    """Evaluate with other arrays: `change(inputs, parameters)` returns the ones to replace."""

    def twist(evaluate: Evaluate) -> Evaluate:
        def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
            return evaluate(operator, {**inputs, **change(dict(inputs), parameters)}, parameters)

        return twisted

    return twist


def changing_parameters(change: Callable[[dict[str, Any], Inputs], Mapping[str, Any]]) -> CallTwist:
    """Evaluate with other parameters: `change(parameters, inputs)` returns the ones to replace."""

    def twist(evaluate: Evaluate) -> Evaluate:
        def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
            return evaluate(operator, inputs, {**parameters, **change(dict(parameters), inputs)})

        return twisted

    return twist


def changing_outputs(change: Callable[[Outputs, Inputs, Parameters], Mapping[str, Array]]) -> CallTwist:
    """Change what the standard answers: `change(outputs, inputs, parameters)` returns the ones to replace."""

    def twist(evaluate: Evaluate) -> Evaluate:
        def twisted(operator: str, inputs: Inputs, parameters: Parameters) -> Outputs:
            outputs = evaluate(operator, inputs, parameters)
            return {**outputs, **change(outputs, inputs, parameters)}

        return twisted

    return twist


# --- common changes of a step ----------------------------------------------------------------------------


def assigned(cols: Array, positions: Positions, size: Size, *, windows_first: bool) -> Array:
    """Put columns "n c kh kw oh ow" where they belong, like `add`, but keep the last value of each element.

    With `windows_first` the loop goes over the windows and writes all taps of one at once, so that the last
    window wins; without it, over the taps, and the last tap wins.
    """
    rank = len(size)
    x = np.zeros((*cols.shape[:2], *size), checks.accumulator(cols.dtype)).reshape(*cols.shape[:2], -1)
    inside, place = real(positions, size), plane(positions, size)
    if windows_first:
        order = (*range(rank, 2 * rank), *range(rank))
        inside, place = inside.transpose(order), place.transpose(order)
        cols = cols.transpose(0, 1, *(2 + axis for axis in order))
    x[:, :, place[inside]] = cols[:, :, inside]
    return x.reshape(*cols.shape[:2], *size).astype(cols.dtype, copy=False)
