"""What ``convform check`` does once the subject is there: it judges, and shows what it has found."""

from __future__ import annotations

import io
import secrets
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace

from convform.adapters import Adapter
from convform.conformance.doors import python
from convform.conformance.doors.cli.options import Asked, helpful
from convform.conformance.doors.cli.outcome import Outcome
from convform.conformance.doors.cli.progress import laws_bar
from convform.conformance.doors.cli.telling import out
from convform.conformance.inference.targets import Found
from convform.conformance.laws.index import laws_of
from convform.conformance.laws.law import PROFILES
from convform.conformance.reports.report import Report
from convform.conformance.reports.results import EXIT_CODES, INCOMPLETE, VERDICTS
from convform.conformance.reports.terminal import ReportView
from convform.conformance.running.preparing import Setting, selected_operators
from convform.conformance.subjects.hosting import Hosting
from convform.spec.operators import OPERATORS


def judged(meant: Found, hosting: Hosting | None, asked: Asked, outcome: Outcome) -> int:
    """Judge what was found; return the exit code of the worst verdict, or of none.

    Parameters
    ----------
    meant, hosting
        The adapters, and how they are hosted; None for code that is trusted.
    asked
        What the command line says.
    outcome
        Where reports are kept as they come.
    """
    setting = Setting(
        None,
        "",
        PROFILES[asked.profile],
        secrets.randbits(32) if asked.seed is None else asked.seed,
        limits=asked.hosts.limits,
        hosting=hosting,
        excuses=hosting is None or asked.hosts.accepts_limits,
        seconds=asked.seconds,
    )
    for adapter in _chosen(meant.adapters, asked.operators):
        outcome.reports.append(_judged(meant, adapter, setting, asked))
    verdicts = [report.verdict for report in outcome.reports]
    worst = next((verdict for verdict in VERDICTS if verdict in verdicts), INCOMPLETE)
    return EXIT_CODES.get(worst, 1)


def shown(outcome: Outcome, everything: bool) -> None:
    """Draw the reports."""
    for report in outcome.reports:
        out.print(ReportView(report, everything))


def _judged(meant: Found, adapter: Adapter, setting: Setting, asked: Asked) -> Report:
    own = [name for name in asked.operators if name in adapter.implementations] or None
    laws = sum(1 + len(laws_of(OPERATORS[name])) for name in own or adapter.implementations)
    jobs = helpful(asked.jobs, laws)
    if meant.options is not None:
        setting = python.hosted(meant, adapter, setting)
    else:
        isolated = adapter.isolated or asked.hosts.isolate
        setting = replace(setting, origin=meant.origin_of(adapter), isolated=isolated)
        setting = python.trusted(adapter, setting)
    with laws_bar(adapter.name, laws) as progress, redirect_stdout(io.StringIO()):
        return python.report_of(
            adapter, setting, operators=own, level=asked.level, jobs=jobs, progress=progress
        )


def _chosen(adapters: Sequence[Adapter], operators: Sequence[str]) -> list[Adapter]:
    """Adapters that have any of the operators that are asked for; one that nobody has is an error."""
    chosen = [
        adapter for adapter in adapters if not operators or set(operators) & set(adapter.implementations)
    ]
    implemented = {name for adapter in adapters for name in adapter.implementations}
    for adapter in chosen if implemented.issuperset(operators) else adapters:
        own = [name for name in operators if name in adapter.implementations or name not in implemented]
        selected_operators(adapter, own)
    return chosen
