"""Diagnosis: what the author of a failing subject most likely misread.

What the subject answered is recorded, right answers included, and replayed against every misreading of the
catalogue, then against pairs. A misreading is named only if it explains *every* answer. Where several do,
cases are looked for on which they differ, and the subject is asked those too. Where none does, the shortest
condition is looked for that separates the failing cases from the passing ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from convform.conformance.cases.case import Case, build
from convform.conformance.cases.geometry import Focus, tables
from convform.conformance.diagnosis.condition import learn
from convform.conformance.diagnosis.findings import Diagnosis, Findings
from convform.conformance.diagnosis.record import (
    Observation,
    Record,
    cases_for,
    is_right,
    observe,
    observe_all,
    same,
)
from convform.conformance.laws.law import ORDINARY, Law
from convform.conformance.subjects.subject import Subject
from convform.reference.misreadings.catalogue import MISREADINGS
from convform.reference.misreadings.misreading import Evaluate, Misreading, misread
from convform.spec.clauses import clause

MOST_NAMED = 3
"""Explanations that are offered at most."""

ROUNDS = 4
"""How often further cases are looked for that tell explanations apart."""

EXPERIMENTS = 250
"""Geometries searched in each round."""

MOST_PAIRS = 300
"""Pairs that are tried at most, the likeliest ones first: a count, so that machines agree."""

TRACED = 20
"""Cases, at least, on which each misreading is tried alone before pairs are."""

Explanation = tuple[Misreading, ...]

Trace = tuple[Misreading, int, int]
"""A misreading; the cases on which it makes no difference; the answers that it explains: a bit for each."""


def diagnose(subject: Subject, law: Law, counterexample: Case | None, seed: int) -> Findings:
    """Explain the violation of a law.

    Parameters
    ----------
    subject
        The failing subject.
    law
        The law it violates.
    counterexample
        The smallest case found; it becomes part of the record.
    seed
        Seed of the cases that are recorded.
    """
    record = _recorded(subject, law, counterexample, seed)
    restless = _not_deterministic(subject, record)
    if restless is not None:
        return Findings(remark=restless)
    if all(is_right(record, *seen) for seen in zip(record.cases, record.observations, strict=True)):
        # Anything that is mostly right would explain that: it shows only between calls.
        return Findings(remark="no single cause explains this: alone, every call is answered right")
    candidates = _candidates(subject, law)
    found: list[Explanation] = [(m,) for m in candidates if _explains((m,), subject, record)]
    if law.record == ORDINARY:
        # Records of other kinds are too coarse for pairs: right or wrong is soon explained by some two.
        found = found or list(_pairs(candidates, subject, record))
        found, record = _told_apart(found, subject, record, seed)
    right = [
        is_right(record, case, seen) for case, seen in zip(record.cases, record.observations, strict=True)
    ]
    if found:
        named = sorted(found, key=lambda e: (len(e), _distance(e, law)))[:MOST_NAMED]
        return Findings(tuple(_written(e, subject, record) for e in named))
    condition = learn(record.cases, right)
    remark = None if condition else "no single cause explains these answers"
    return Findings(condition=condition, remark=remark)


def _recorded(subject: Subject, law: Law, counterexample: Case | None, seed: int) -> Record:
    """Ask the subject everything that is evidence, in an order that replays keep to."""
    cases = cases_for(subject, law, seed)
    if counterexample is not None and counterexample.example is None:
        cases.insert(0, counterexample)
    return Record.of(subject, law).extended(cases, observe_all(subject, law, cases))


def _not_deterministic(subject: Subject, record: Record) -> str | None:
    """Say where two calls with the same arguments differ; None where they do not."""
    if record.law.evidence.repeated:
        return None
    for case, seen in itertools.islice(zip(record.cases, record.observations, strict=True), 8):
        again = observe(subject, case)
        if not same(record, case, seen, again):
            sizes = " ".join(f"{name} {array.shape}" for name, array in case.inputs.items())
            return (
                f"not deterministic: two calls with the same {sizes} differ, "
                "so no single cause explains these answers"
            )
    return None


def _candidates(subject: Subject, law: Law) -> list[Misreading]:
    """Misreadings that can occur in the operator, those of the violated law's clauses first."""
    family = subject.operator.family
    usable = [m for m in MISREADINGS.values() if m.applies_to(family) and not m.within_rounding]
    return sorted(usable, key=lambda m: _distance((m,), law))


def _distance(explanation: Explanation, law: Law) -> int:
    """How far an explanation is from the violated law: position of its clause in what the law cites."""
    places = [
        law.clauses.index(m.clause) if m.clause in law.clauses else len(law.clauses) for m in explanation
    ]
    return max(places)


def _read_as(explanation: Explanation, subject: Subject) -> Evaluate:
    """Return the standard, in the subject's dialect, misread in this way: afresh, for it may keep state."""
    return misread(*subject.dialects, *explanation)


def _explains(explanation: Explanation, subject: Subject, record: Record) -> bool:
    """Whether a misreading gives every recorded answer."""
    return _refuted(explanation, subject, record, range(len(record))) is None


def _refuted(
    explanation: Explanation, subject: Subject, record: Record, indices: Iterable[int]
) -> int | None:
    """Index of the first recorded answer, of those at `indices`, that a misreading does not give."""
    evaluate = _read_as(explanation, subject)
    with np.errstate(all="ignore"):
        for index in indices:
            answer = observe(subject, record.cases[index], evaluate)
            if not same(record, record.cases[index], record.observations[index], answer):
                return index
    return None


def _pairs(candidates: Sequence[Misreading], subject: Subject, record: Record) -> Iterator[Explanation]:
    """Pairs of misreadings that explain everything.

    There are thousands of pairs, and each would have to be asked dozens of cases. But on a case where one
    of the two makes no difference, the other one alone explains the answer, or nearly always so; what each
    does alone, on some of the cases, says which pairs are worth trying.
    """
    candidates = [m for m in candidates if clause(m.clause).level == "core"]
    step = max(len(record) // TRACED, 1)
    part = replace(record, cases=record.cases[::step], observations=record.observations[::step])
    with np.errstate(all="ignore"):
        plain = [observe(subject, case, _read_as((), subject)) for case in part.cases]
        traces = [(m, *_trace(m, subject, part, plain)) for m in candidates]
    tried = 0
    # What refuted one pair refutes most of the others: asked first, it spares the rest of the record.
    refuting: list[int] = []
    for first, second in sorted(itertools.combinations(traces, 2), key=_unexplained):
        for pair in ((first[0], second[0]), (second[0], first[0])):
            tried += 1
            if tried > MOST_PAIRS:
                return
            order = [*refuting, *(index for index in range(len(record)) if index not in refuting)]
            index = _refuted(pair, subject, record, order)
            if index is None:
                yield pair
                break
            refuting = [index, *(other for other in refuting if other != index)]


def _unexplained(pair: tuple[Trace, Trace]) -> int:
    """Count the cases on which one makes no difference, and yet the other does not explain the answer."""
    (_, inert, explains), (_, other_inert, other_explains) = pair
    return (inert & ~other_explains).bit_count() + (other_inert & ~explains).bit_count()


def _trace(
    misreading: Misreading, subject: Subject, record: Record, plain: Sequence[Observation]
) -> tuple[int, int]:
    """Say on which cases a misreading makes no difference, and which answers it explains: one bit each."""
    reading = _read_as((misreading,), subject)
    inert = explains = 0
    for index, (case, seen) in enumerate(zip(record.cases, record.observations, strict=True)):
        alone = observe(subject, case, reading)
        inert |= same(record, case, plain[index], alone) << index
        explains |= same(record, case, seen, alone) << index
    return inert, explains


def _told_apart(
    found: list[Explanation], subject: Subject, record: Record, seed: int
) -> tuple[list[Explanation], Record]:
    """Ask the subject cases on which explanations differ, until one is left or they coincide."""
    for round_number in range(ROUNDS):
        if len(found) < 2:
            break
        cases = _distinguishing(found, subject, record, seed + round_number)
        if not cases:
            break
        record = record.extended(cases, observe_all(subject, record.law, cases))
        found = [explanation for explanation in found if _explains(explanation, subject, record)]
    return found, record


def _distinguishing(found: list[Explanation], subject: Subject, record: Record, seed: int) -> list[Case]:
    """Cases within the claims for which some explanation differs from the first one."""
    focus = _EVERYTHING["ties" if subject.operator.row.kind == "selects" and seed % 2 else "ordinary"]
    table = tables(subject.space, focus)
    if table.empty:
        return []
    readings = [_read_as(explanation, subject) for explanation in found]
    told: list[Case] = []
    alike = set(range(1, len(readings)))
    with np.errstate(all="ignore"):
        for geometry in table.sweep(EXPERIMENTS, seed):
            case = build(subject.operator, geometry)
            first = observe(subject, case, readings[0])
            apart = {i for i in alike if not same(record, case, first, observe(subject, case, readings[i]))}
            if apart:
                told.append(case)
                alike -= apart
            if not alike:
                break
    return told


_EVERYTHING = {kind: Focus(contents=(kind,)) for kind in ("ordinary", "ties")}


def _written(explanation: Explanation, subject: Subject, record: Record) -> Diagnosis:
    says = " and ".join(m.says for m in explanation)
    look = " ".join(m.look for m in explanation)
    return Diagnosis(
        tuple(m.name for m in explanation),
        tuple(m.clause for m in explanation),
        (len(record), len(record)),
        f"Your {subject.operator.name} gives what the standard gives {says}. {look}",
    )


def coincide(one: Explanation, other: Explanation, subject: Subject, law: Law, seed: int) -> bool:
    """Whether nothing that the subject claims tells two explanations apart, as far as can be seen."""
    cases = cases_for(subject, law, seed)
    record = Record.of(subject, law)
    reading = _read_as(one, subject)
    with np.errstate(all="ignore"):
        record = record.extended(cases, [observe(subject, case, reading) for case in cases])
    if not _explains(other, subject, record):
        return False
    if law.record != ORDINARY:
        return True
    return not any(_distinguishing([one, other], subject, record, seed + i) for i in range(ROUNDS))
