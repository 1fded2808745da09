"""Known limits against what was found: which violations they excuse, and which of them no longer show."""

from __future__ import annotations

from collections.abc import Sequence

from convform.adapters import Adapter
from convform.conformance.laws.violation import CRASHED, TIMED_OUT
from convform.conformance.reports.results import Holds, LawResult, Violated
from convform.conformance.running.smoke import SMOKE


def known_limits_applied(
    adapter: Adapter, operator: str, results: Sequence[LawResult], *, thorough: bool = True
) -> list[LawResult]:
    """Mark violations that the adapter lists; a listed limit that no longer shows becomes a violation.

    A limit covers every law that it names or whose clauses it names. It still shows while any of them is
    violated; laws that cite the clause in passing may hold all the time, so that it no longer shows is told
    by the laws that it names, or whose first clause it names; and only where the profile is `thorough`.
    """
    marked = list(results)
    # Where a process has ended, a limit that says so has the last word.
    outcomes = (CRASHED, TIMED_OUT)
    for limit in sorted(adapter.known_limits, key=lambda limit: limit.law_or_clause in outcomes):
        if limit.operator != operator:
            continue
        covered = [
            i
            for i, result in enumerate(results)
            if limit.law_or_clause in (result.law, *result.clauses, result.outcome)
        ]
        shows = False
        for i in covered:
            result = results[i]
            if isinstance(result, Violated) and limit.speaks_of(result.violation.case.dtype.name):
                marked[i], shows = result.known(limit), True
        for i in covered if limit.always and thorough and not shows else ():
            result = results[i]
            named = limit.law_or_clause in (result.law, result.clauses[0])
            if isinstance(result, Holds) and named and result.law != SMOKE:
                marked[i] = result.outgrown(limit)
    return marked
