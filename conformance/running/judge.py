"""The judge: takes implementations through all their laws, then asks why what is violated is violated."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from convform.adapters import Adapter
from convform.conformance.diagnosis.diagnose import diagnose
from convform.conformance.diagnosis.findings import Findings
from convform.conformance.laws.index import laws_of
from convform.conformance.laws.law import Law, Profile
from convform.conformance.reports.results import LawResult, NotReached, OperatorReport, Results, Violated
from convform.conformance.running.budget import Budget
from convform.conformance.running.limits import known_limits_applied
from convform.conformance.running.smoke import SMOKE, smoke
from convform.conformance.running.trial import Effort, run_law
from convform.conformance.subjects.subject import Subject
from convform.spec.clauses import LEVELS
from convform.spec.operators import OPERATORS

Progress = Callable[[str, str], None]
"""Called with operator and law before each law is run."""


class Interrupted(KeyboardInterrupt):
    """A run was interrupted; what it had found is kept.

    Attributes
    ----------
    operators
        What was found until then.
    report
        The report that was made of it, or None.
    """

    def __init__(self, operators: Sequence[OperatorReport]) -> None:
        super().__init__()
        self.operators = tuple(operators)
        self.report: Results | None = None


def judge(
    adapter: Adapter,
    names: Sequence[str],
    profile: Profile,
    seed: int,
    origin: str | None = None,
    progress: Progress | None = None,
    *,
    shrink_known: bool = True,
    seconds: float | None = None,
) -> list[OperatorReport]:
    """Take implementations through the smoke law, then the core laws, then the strict ones.

    All operators are asked the core questions before any is asked a strict one, so that what a homework is
    about is known first; the laws of a level come in an order that is drawn, so that nobody can know which
    one a call serves. A known limit is made small where `shrink_known` says so. What is not reached within
    the seconds of the run is `NotReached`.
    """
    results: dict[str, list[LawResult]] = {name: [] for name in names}
    try:
        subjects, budget = _asked(
            adapter, results, profile, seed, origin, progress, shrink_known=shrink_known, seconds=seconds
        )
        found = {name: as_listed(name, results[name]) for name in names}
        for name, subject in subjects.items():
            if not budget.is_over:
                if progress and any(isinstance(result, Violated) for result in found[name]):
                    progress(name, "diagnosis")
                found[name] = diagnosed(subject, found[name], seed)
    except KeyboardInterrupt:
        raise Interrupted(cut_short(results)) from None
    return [
        OperatorReport(
            name, tuple(known_limits_applied(adapter, name, found[name], thorough=profile.thorough))
        )
        for name in names
    ]


def _asked(
    adapter: Adapter,
    results: dict[str, list[LawResult]],
    profile: Profile,
    seed: int,
    origin: str | None,
    progress: Progress | None,
    *,
    shrink_known: bool,
    seconds: float | None,
) -> tuple[dict[str, Subject], Budget]:
    """Ask all laws, and note what they find; return who was sound enough to be asked."""
    note = progress or (lambda operator, law: None)
    subjects: dict[str, Subject] = {}
    for name, found in results.items():
        note(name, SMOKE)
        subject, smoke_result = smoke(adapter.implementations[name])
        found.append(smoke_result)
        if subject is not None:
            subjects[name] = subject
    asked = in_drawn_order(list(subjects), seed)
    budget = Budget(seconds, (name for name, _ in asked))
    for name, law in asked:
        note(name, law.name)
        died = any(result.outcome for result in results[name])
        effort = Effort(shrink_known=shrink_known, has_died=died, until=budget.until(name))
        result = run_law(subjects[name], law, profile, seed, origin, effort)
        budget.spend(name, result.seconds)
        results[name].append(result)
    return subjects, budget


def cut_short(results: Mapping[str, Sequence[LawResult]]) -> list[OperatorReport]:
    """Reports of a run that was interrupted: laws that it had not come to are not reached."""
    reports = []
    for name, found in results.items():
        done = {result.law for result in found}
        rest = [
            NotReached(law.name, law.level, law.clauses)
            for law in laws_of(OPERATORS[name])
            if law.name not in done
        ]
        reports.append(OperatorReport(name, tuple(as_listed(name, [*found, *rest]))))
    return reports


def in_drawn_order(names: Sequence[str], seed: int) -> list[tuple[str, Law]]:
    """All laws of operators, core before strict; within a level in an order that the seed decides.

    What only the end of a run can show comes last.
    """
    drawn = random.Random(f"order {seed}")
    asked: list[tuple[str, Law]] = []
    every = [(name, law) for name in names for law in laws_of(OPERATORS[name])]
    last = [pair for pair in every if pair[1].of_process]
    groups = [[pair for pair in every if pair[1].level == level and pair not in last] for level in LEVELS]
    for pairs in (*groups, last):
        drawn.shuffle(pairs)
        asked += pairs
    return asked


def as_listed(operator: str, results: Sequence[LawResult]) -> list[LawResult]:
    """Results in the order in which reports have them: smoke, then level by level as laws are listed."""
    laws = [law.name for level in LEVELS for law in laws_of(OPERATORS[operator]) if law.level == level]
    return sorted(results, key=lambda result: laws.index(result.law) if result.law in laws else -1)


def diagnosed(subject: Subject, results: Sequence[LawResult], seed: int) -> list[LawResult]:
    """Find out why violated laws are violated; laws about ordinary values share their findings."""
    laws = {law.name: law for law in laws_of(subject.operator)}
    known: dict[str, Findings] = {}
    explained = []
    # Whoever ends the process, or hangs, is not asked the hundreds of questions that a diagnosis takes.
    dies = any(result.outcome is not None for result in results)
    for result in results:
        if isinstance(result, Violated) and not dies:
            law = laws[result.law]
            if law.record not in known:
                known[law.record] = diagnose(subject, law, result.violation.case, seed)
            result = replace(result, findings=known[law.record])
        explained.append(result)
    return explained
