"""Known limits against what was found: which violations they excuse, and which of them no longer show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from convform.adapters import Adapter, KnownLimit
from convform.conformance.cases.case import Case
from convform.conformance.diagnosis.condition import holds
from convform.conformance.laws.violation import CRASHED, TIMED_OUT, Violation
from convform.conformance.reports.results import Holds, LawResult, Violated
from convform.conformance.running.smoke import SMOKE
from convform.conformance.subjects.subject import Subject


def known_limits_applied(
    adapter: Adapter, operator: str, results: Sequence[LawResult], *, thorough: bool = True
) -> list[LawResult]:
    """Mark violations that the adapter lists; a listed limit that no longer shows becomes a violation.

    A limit covers every law that it names or whose clauses it names. It still shows while any of them is
    violated as it says; laws that cite the clause in passing may hold all the time, so that it no longer
    shows is told by the laws that it names, or whose first clause it names; and only where the profile is
    `thorough`.
    """
    marked = list(results)
    # Where a process has ended, a limit that says so has the last word.
    outcomes = (CRASHED, TIMED_OUT)
    listed = [
        (word, limit) for limit in adapter.implementations[operator].known_limits for word in limit.breaks
    ]
    for word, limit in sorted(listed, key=lambda pair: pair[0] in outcomes):
        covered = [i for i, one in enumerate(results) if word in (one.law, *one.clauses, one.outcome)]
        shows = False
        for i in covered:
            result = results[i]
            if isinstance(result, Violated):
                shows = shows or limit in result.shown
                if fits(limit, result.violation):
                    marked[i], shows = result.known(limit), True
        for i in covered if limit.always and thorough and not shows else ():
            result = results[i]
            named = word in (result.law, result.clauses[0])
            if isinstance(result, Holds) and named and result.law != SMOKE:
                marked[i] = result.outgrown(limit, word)
    return marked


def fits(limit: KnownLimit, violation: Violation) -> bool:
    """Whether a limit says what a violation shows: dtype, condition and kind of answer."""
    return speaks_of(limit, violation.case) and limit.shows in (None, violation.kind)


def speaks_of(limit: KnownLimit, case: Case) -> bool:
    """Whether a limit is about a case: its dtype and its condition."""
    return limit.speaks_of(case.dtype.name) and (limit.when is None or holds(limit.when, case))


def excusing(
    limits: Sequence[KnownLimit], law: str, clauses: Sequence[str], violation: Violation
) -> tuple[KnownLimit, ...]:
    """The limits of an operator that excuse a violation of a law."""
    names = {law, *clauses, violation.outcome}
    return tuple(limit for limit in limits if names & set(limit.breaks) and fits(limit, violation))


def narrowed(subject: Subject, limits: Sequence[KnownLimit]) -> Subject | None:
    """The subject in the dtypes that limits leave to be judged; None where they leave none."""
    implementation = subject.implementation
    whole = [limit for limit in limits if limit.dtypes is not None and limit.when is None]
    claims = implementation.claims
    rest = tuple(name for name in claims.dtypes if not any(limit.speaks_of(name) for limit in whole))
    if rest == claims.dtypes:
        return subject
    return (
        replace(subject, implementation=replace(implementation, claims=replace(claims, dtypes=rest)))
        if rest
        else None
    )
