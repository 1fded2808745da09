"""Known limits against what was found: which violations they excuse, and which of them no longer show."""

from __future__ import annotations

from collections.abc import Sequence

from convform.adapters import Adapter, KnownLimit
from convform.conformance.reports.results import CRASHED, TIMED_OUT, LawResult
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
        shows = [i for i in covered if results[i].status == "violated" and _is_of(limit, results[i])]
        for i in shows:
            marked[i] = results[i].known(limit)
        for i in covered if limit.always and thorough and not shows else ():
            named = limit.law_or_clause in (results[i].law, results[i].clauses[0])
            if results[i].status == "holds" and named and results[i].law != SMOKE:
                marked[i] = results[i].outgrown(limit)
    return marked


def _is_of(limit: KnownLimit, result: LawResult) -> bool:
    """Whether a limit speaks of the dtype in which a law was violated."""
    return result.violation is None or limit.speaks_of(result.violation.case.dtype.name)
