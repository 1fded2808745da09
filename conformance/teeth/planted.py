"""How good is the diagnosis? Misreadings are planted into a homework, and it is counted which one is named.

The homework has other layouts and call shapes than the reference: channels last, weights "kh kw i o",
columns with one row for each window, a function for each operator. A misreading, or a pair of them, is
planted into it; the laws are run until one is violated; and what the diagnosis names first is compared with
what was planted. A name is right as well if nothing that the homework can be asked tells the two apart.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from einops import rearrange

from convform.adapters import Adapter
from convform.conformance.diagnosis.diagnose import Explanation, coincide, diagnose
from convform.conformance.laws.index import laws_of
from convform.conformance.laws.law import QUICK
from convform.conformance.reports.results import Violated
from convform.conformance.running.smoke import smoke
from convform.conformance.running.trial import Effort, run_law
from convform.conformance.subjects.twin import wrapper
from convform.conformance.teeth.kills import RANK
from convform.reference.call import Call
from convform.reference.evaluation import Parameters
from convform.reference.misreadings.catalogue import MISREADINGS
from convform.reference.misreadings.misreading import Evaluate, Inputs, misread
from convform.spec.clauses import clause
from convform.spec.operators import OPERATORS, Operator

NAMED, EQUIVALENT, SILENT, WRONG, UNSEEN = "named", "equivalent", "silent", "wrong", "unseen"
"""What can come of a plant: the planted one is named first; one that cannot be told from it is; nothing is
named; another one is; or no law was violated."""

# canonical axes → how the homework has them
_LAYOUTS = {
    "n c h w": "n h w c",
    "n c oh ow": "n oh ow c",
    "n o oh ow": "n oh ow o",
    "o i kh kw": "kh kw i o",
    "o": "o",
    "n c kh kw oh ow": "(n oh ow) (kh kw c)",
}


def homework(operator: Operator, evaluate: Evaluate) -> Adapter:
    """Write a homework whose mathematics is `evaluate`, in layouts and a call shape of its own."""
    adapter = Adapter(
        "planted",
        input="n h w c",
        weight="kh kw i o",
        columns="(n oh ow) (kh kw c)",
        output="n oh ow o" if operator.row.has_weights else "n oh ow c",
    )

    def back(name: str, array: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
        axes = {**operator.inputs, **operator.outputs}[name]
        if name == "cols":
            # n oh ow kh kw c, by hand: reading merged axes of an empty batch is more than einops does.
            if array.ndim != 2:
                raise ValueError(f"columns of shape {array.shape}")
            return array.reshape(sizes).transpose(0, 5, 3, 4, 1, 2)
        return rearrange(array, f"{_LAYOUTS[axes]} -> {axes}")

    def run(name: str, arrays: Inputs, parameters: Parameters) -> dict[str, Any]:
        assert not isinstance(parameters, Call)  # a wrapper passes what it was called with
        sizes: tuple[int, ...] = ()
        if "cols" in arrays:
            n, h, w, c = parameters["input_size"]
            parameters = {**parameters, "input_size": (n, c, h, w)}
            windows = (_windows(size, axis, parameters) for axis, size in enumerate((h, w)))
            sizes = (n, *windows, *parameters["kernel"], c)
        inputs = {key: back(key, array, sizes) for key, array in arrays.items()}
        native = {}
        for key, array in evaluate(name, inputs, parameters).items():
            axes = operator.outputs[key]
            fits = array.ndim == len(axes.split())
            native[key] = rearrange(array, f"{axes} -> {_LAYOUTS[axes]}") if fits else array
        return native

    claims: dict[str, Any] = {"padding": "low-high", "dtypes": ("float64", "float32", "float16")}
    if not operator.row.divides:
        claims["dtypes"] = (*claims["dtypes"], "int64")
    if "indices" in operator.outputs:
        claims["indices"] = True
    adapter.implements(operator.name, **claims)(wrapper(operator, run))
    return adapter


def _windows(n: int, axis: int, parameters: Mapping[str, Any]) -> int:
    """Count the windows along an axis, also where the standard refuses the window."""
    low, high = parameters["padding"][axis]
    extent = parameters["dilation"][axis] * (parameters["kernel"][axis] - 1) + 1
    return int((n + low + high - extent) // parameters["stride"][axis] + 1)


@dataclass(frozen=True)
class Plant:
    """What came of one plant.

    Attributes
    ----------
    planted, operator
        What was planted where.
    outcome
        One of `NAMED`, `EQUIVALENT`, `SILENT`, `WRONG`, `UNSEEN`.
    named
        What the diagnosis named first.
    law
        The law that was violated.
    seconds
        Duration of the diagnosis.
    """

    planted: tuple[str, ...]
    operator: str
    outcome: str
    named: tuple[str, ...]
    law: str | None
    seconds: float


def plant(explanation: Explanation, operator: Operator, seed: int = 0) -> Plant:
    """Plant misreadings into the homework, find a violation, and ask for the cause."""
    names = tuple(m.name for m in explanation)
    with np.errstate(all="ignore"):
        adapter = homework(operator, misread(*explanation))
        subject, _ = smoke(adapter.implementations[operator.name])
        if subject is None:
            return Plant(names, operator.name, UNSEEN, (), "smoke", 0.0)
        for law in laws_of(operator):
            result = run_law(subject, law, QUICK, seed, effort=Effort(shrink=False))
            if not isinstance(result, Violated):
                continue
            started = time.perf_counter()
            findings = diagnose(subject, law, result.violation.case, seed)
            seconds = time.perf_counter() - started
            if not findings.diagnoses:
                return Plant(names, operator.name, SILENT, (), law.name, seconds)
            first = findings.diagnoses[0].misreadings
            if set(first) == set(names):
                return Plant(names, operator.name, NAMED, first, law.name, seconds)
            other = tuple(MISREADINGS[name] for name in first)
            outcome = EQUIVALENT if coincide(explanation, other, subject, law, seed) else WRONG
            return Plant(names, operator.name, outcome, first, law.name, seconds)
    return Plant(names, operator.name, UNSEEN, (), None, 0.0)


def operator_of(family: str) -> Operator:
    """Return the operator of a family that plants are made in."""
    return next(op for op in OPERATORS.values() if op.rank == RANK and op.family == family)


def plant_all(names: Sequence[str] | None = None, seed: int = 0) -> Iterator[Plant]:
    """Plant every misreading alone, in the first family it can occur in."""
    for name in names or MISREADINGS:
        misreading = MISREADINGS[name]
        if not misreading.within_rounding:
            yield plant((misreading,), operator_of(misreading.families[0]), seed)


def plant_pairs(count: int, seed: int = 0) -> Iterator[Plant]:
    """Plant random pairs of misreadings about values, in a family that both can occur in."""
    rng = random.Random(seed)
    done = 0
    while done < count:
        family = rng.choice([op.family for op in OPERATORS.values() if op.rank == RANK])
        usable = [
            m
            for m in MISREADINGS.values()
            if m.applies_to(family)
            and not m.within_rounding
            and not m.of_half_types  # about rounding, as those of the two clauses below
            and clause(m.clause).level == "core"
            and m.clause not in ("CONV-5", "AVGPOOL-4")
        ]
        if len(usable) >= 2:
            done += 1
            yield plant(tuple(rng.sample(usable, 2)), operator_of(family), seed)


def summary(plants: Sequence[Plant], title: str) -> str:
    """Write the figures in a few words."""
    seen = [plant for plant in plants if plant.outcome != UNSEEN]
    total = max(len(seen), 1)
    right = sum(plant.outcome in (NAMED, EQUIVALENT) for plant in seen)
    wrong = sum(plant.outcome == WRONG for plant in seen)
    silent = sum(plant.outcome == SILENT for plant in seen)
    slow = max((plant.seconds for plant in seen), default=0.0)
    middle = statistics.median([plant.seconds for plant in seen] or [0.0])
    return (
        f"{title}: {len(plants)} planted, {len(seen)} seen by a law; right cause first {right} "
        f"({100 * right / total:.1f} %), wrong cause {wrong} ({100 * wrong / total:.1f} %), "
        f"none named {silent}; diagnosis {middle:.2f} s in the median, {slow:.2f} s at most"
    )
