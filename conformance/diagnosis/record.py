"""Recording what a subject answers, so that a misreading can be replayed against all of it.

Violations of different kinds have different evidence. A wrong value shows in ordinary calls; a wrong
refusal in calls that must raise; memory between calls in a sequence of calls. Each kind has its own record:
a list of cases, in order, and what was observed of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from convform.adapters import AdapterError
from convform.adapters.process.client import share_memory
from convform.conformance.cases import oracle
from convform.conformance.cases.case import Case, build
from convform.conformance.cases.contents import is_float
from convform.conformance.cases.geometry import tables
from convform.conformance.laws.compare import cells_that_differ
from convform.conformance.laws.contract import returned_arrays
from convform.conformance.laws.index import laws_of
from convform.conformance.laws.law import ORDINARY, Drawn, Law, Listed, Swept
from convform.conformance.subjects.subject import (
    AHEAD,
    Answer,
    Subject,
    SubjectGone,
    SubjectRaised,
    ask_ahead,
    call,
    forget_ahead,
)
from convform.conformance.subjects.twin import twin_of
from convform.reference.misreadings.misreading import Evaluate

PER_LAW = 3
"""Geometries that each law contributes to a record of values."""

TOGETHER = 24
"""Geometries in which everything varies at once."""


@dataclass(frozen=True)
class Observation:
    """What was seen of one call.

    Attributes
    ----------
    outputs
        Canonical arrays by name; empty where the call raised or answered in a wrong shape.
    raised
        Whether it raised.
    mismatch
        Native shape of the first array that is not as its layout asks for; None where all are.
    changed
        Names of the inputs that were modified.
    shared
        Whether an output lies in the memory of an input.
    """

    outputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    raised: bool = False
    mismatch: tuple[int, ...] | None = None
    changed: frozenset[str] = frozenset()
    shared: bool = False


@dataclass(frozen=True)
class Record:
    """An ordered list of calls and what was observed of each.

    Attributes
    ----------
    law
        The law that is violated; it says what counts, and in which lane.
    outputs
        Names of the outputs that count.
    standard
        What the subject is held to.
    arithmetic
        Whether it sums products, or transforms and rounds.
    coarse
        Whether only right or wrong is compared, not the wrong values themselves: those depend on how
        arrays lie in the subject's own layouts, or on calls that were made before.
    cases, observations
        In the order of the calls.
    memo
        Expectations by the identity of the case, which the record keeps alive.
    """

    law: Law
    outputs: tuple[str, ...]
    standard: Evaluate
    arithmetic: str
    coarse: bool
    cases: tuple[Case, ...] = ()
    observations: tuple[Observation, ...] = ()
    memo: dict[int, oracle.Expected] = field(default_factory=dict, compare=False, repr=False)
    roundings: dict[int, Mapping[str, np.ndarray]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, subject: Subject, law: Law) -> Record:
        """Begin the record of a subject that violates a law."""
        return cls(
            law,
            tuple(sorted(subject.answers)),
            subject.standard,
            subject.implementation.claims.arithmetic,
            coarse=law.level == "strict" or law.lane == "bounded",
        )

    def expected(self, case: Case) -> oracle.Expected:
        """What the standard answers to one of the cases; worked out once, for every replay asks for it."""
        if id(case) not in self.memo:
            exact = self.law.lane != "bounded"
            self.memo[id(case)] = (
                oracle.exact(case, self.standard, self.arithmetic)
                if exact
                else oracle.bounded(case, self.arithmetic, self.standard)
            )
        return self.memo[id(case)]

    def rounding(self, case: Case) -> Mapping[str, np.ndarray]:
        """By how much two right answers to one of the cases may differ; worked out once as well."""
        if id(case) not in self.roundings:
            self.roundings[id(case)] = oracle.rounding(case, self.standard, self.arithmetic)
        return self.roundings[id(case)]

    def owed(self, case: Case) -> list[str]:
        """Outputs that a case has: no db without a bias."""
        return [name for name in self.outputs if name != "db" or "b" in case.inputs]

    def __len__(self) -> int:
        """Number of calls."""
        return len(self.cases)

    def extended(self, cases: Sequence[Case], observations: Sequence[Observation]) -> Record:
        """Return a record with more calls at the end."""
        return replace(self, cases=(*self.cases, *cases), observations=(*self.observations, *observations))


def cases_for(subject: Subject, law: Law, seed: int) -> list[Case]:
    """The calls that are evidence for violations of a law, in order."""
    if law.record != ORDINARY:
        cases = list(_cases_of(subject, law, 12, seed))
        return [*cases, *cases[: law.evidence.repeated]]
    # The violated law first: its cases rule out most candidates.
    cases = []
    for other in sorted(laws_of(subject.operator), key=lambda other: other.name != law.name):
        if other.record == ORDINARY and other.not_claimed(subject) is None:
            size = TOGETHER if isinstance(other.source, Swept) else PER_LAW
            cases += list(_cases_of(subject, other, size, seed))
    return cases


def _cases_of(subject: Subject, law: Law, size: int, seed: int) -> Iterator[Case]:
    if law.not_claimed(subject) is not None:
        return
    if isinstance(law.source, Listed):
        if law.evidence.replayed:
            yield from law.source.cases(subject)
        return
    assert isinstance(law.source, (Drawn, Swept))
    table = tables(subject.space, law.source.focus, sweep=True)
    if table.empty:
        return
    for geometry in table.sweep(size, seed):
        case = build(subject.operator, geometry)
        for arrangement in law.evidence.arrangements:
            yield replace(case, arrangement=arrangement)


def observe_all(subject: Subject, law: Law, cases: Sequence[Case]) -> list[Observation]:
    """Call the subject with one case after another; several at once where it lives elsewhere.

    Where memory is looked at, every call is over before the next one.
    """
    at_once = 1 if law.evidence.memory or law.evidence.repeated else AHEAD
    observations = []
    for first in range(0, len(cases), at_once):
        batch = cases[first : first + at_once]
        ask_ahead(subject.implementation, batch)
        observations += [observe(subject, case) for case in batch]
    forget_ahead(subject.implementation)
    return observations


def observe(subject: Subject, case: Case, evaluate: Evaluate | None = None) -> Observation:
    """Call the subject once and look; or a twin of it, whose mathematics is `evaluate`."""
    implementation = subject.implementation
    if evaluate is not None:
        implementation = twin_of(implementation, evaluate, case)
    try:
        answer = call(implementation, case)
    except (SubjectRaised, SubjectGone, AdapterError):
        return Observation(raised=True)
    if answer.mismatch is not None:
        return Observation(mismatch=answer.mismatch.shape)
    outputs = answer.outputs
    if case.refused is not None:
        outputs = _raw_outputs(answer)
    return Observation(
        {name: array.copy() for name, array in outputs.items()},
        changed=_changed(answer),
        shared=_shared(answer),
    )


def _raw_outputs(answer: Answer) -> dict[str, np.ndarray]:
    """Outputs of a call that should have been refused, as they came: there are no sizes to read them by."""
    return {str(i): array for i, array in enumerate(returned_arrays(answer.returned))}


def _changed(answer: Answer) -> frozenset[str]:
    return frozenset(
        name
        for name, before in answer.before.items()
        if np.asarray(answer.arguments[name]).tobytes() != before.tobytes()
    )


def _shared(answer: Answer) -> bool:
    arguments = [value for value in answer.arguments.values() if isinstance(value, np.ndarray)]
    return any(
        share_memory(output, argument)
        for output in returned_arrays(answer.returned)
        for argument in arguments
    )


def same(record: Record, case: Case, seen: Observation, other: Observation) -> bool:
    """Whether two observations of a case agree, as far as the record's kind of evidence goes."""
    if seen.raised != other.raised or seen.mismatch != other.mismatch:
        return False
    if record.law.evidence.memory:
        return seen.changed == other.changed and seen.shared == other.shared
    if case.refused is not None or seen.raised or seen.mismatch is not None:
        # What comes back from a call that should have raised has no agreed form: only that it came.
        return True
    if record.coarse:
        return is_right(record, case, seen) == is_right(record, case, other)
    return all(
        name in seen.outputs
        and name in other.outputs
        and _equal(record, case, name, seen.outputs[name], other.outputs[name])
        for name in record.owed(case)
    )


def is_right(record: Record, case: Case, seen: Observation) -> bool:
    """Whether an observation is what the standard asks for."""
    if case.refused is not None:
        return seen.raised
    if seen.raised or seen.mismatch is not None:
        return False
    if record.law.evidence.memory:
        return not seen.changed and not seen.shared
    expected = record.expected(case)
    for name in record.owed(case):
        if name not in seen.outputs or seen.outputs[name].shape != expected.values[name].shape:
            return False
        if record.law.evidence.dtypes and name != "indices" and seen.outputs[name].dtype != case.dtype:
            return False
        if cells_that_differ(seen.outputs[name], expected.values[name], expected.tolerance.get(name)).any():
            return False
    return True


def _equal(record: Record, case: Case, name: str, a: np.ndarray, b: np.ndarray) -> bool:
    """Equal bit for bit; real numbers and averages to within rounding."""
    if a.shape != b.shape:
        return False
    if np.array_equal(a, b, equal_nan=is_float(a.dtype) and is_float(b.dtype)):
        return True
    allowed = record.rounding(case).get(name)
    return allowed is not None and not cells_that_differ(a, b, allowed).any()
