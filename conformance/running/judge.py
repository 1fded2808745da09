"""The judge: takes implementations through all their laws, then asks why what is violated is violated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from convform.adapters import Adapter
from convform.conformance.diagnosis.diagnose import diagnose
from convform.conformance.diagnosis.findings import Findings
from convform.conformance.laws.index import laws_of
from convform.conformance.laws.law import Profile
from convform.conformance.reports.results import LawResult, OperatorReport, Violated
from convform.conformance.running.limits import known_limits_applied
from convform.conformance.running.smoke import SMOKE, smoke
from convform.conformance.running.trial import run_law
from convform.conformance.subjects.subject import Subject
from convform.spec.clauses import LEVELS

Progress = Callable[[str, str], None]
"""Called with operator and law before each law is run."""


def judge(
    adapter: Adapter,
    names: Sequence[str],
    profile: Profile,
    seed: int,
    origin: str | None = None,
    progress: Progress | None = None,
    *,
    shrink_known: bool = True,
) -> list[OperatorReport]:
    """Take implementations through the smoke law, then the core laws, then the strict ones.

    All operators are asked the core questions before any is asked a strict one, so that what a homework is
    about is known first. A known limit is made small where `shrink_known` says so.
    """
    subjects: dict[str, Subject | None] = {}
    results: dict[str, list[LawResult]] = {}
    for name in names:
        if progress:
            progress(name, SMOKE)
        subjects[name], smoke_result = smoke(adapter.implementations[name])
        results[name] = [smoke_result]
    for level in LEVELS:
        for name, subject in subjects.items():
            if subject is None:
                continue
            for law in laws_of(subject.operator):
                if law.level != level:
                    continue
                if progress:
                    progress(name, law.name)
                died = any(result.outcome for result in results[name])
                result = run_law(
                    subject, law, profile, seed, origin, shrink_known=shrink_known, has_died=died
                )
                results[name].append(result)
    reports = []
    for name, found in results.items():
        subject = subjects[name]
        if subject is not None:
            if progress and any(isinstance(result, Violated) for result in found):
                progress(name, "diagnosis")
            found = diagnosed(subject, found, seed)
        applied = known_limits_applied(adapter, name, found, thorough=profile.thorough)
        reports.append(OperatorReport(name, tuple(applied)))
    return reports


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
