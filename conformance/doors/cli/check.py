"""``convform check``: one verdict for each operator of an adapter."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import click

from convform.adapters import Adapter, notebook
from convform.adapters.find import split_target
from convform.adapters.process.client import Limits
from convform.adapters.process.guard import Conduct, first_line, leave, quiet
from convform.adapters.process.sandbox import sandbox
from convform.conformance.doors import python
from convform.conformance.doors.cli import options
from convform.conformance.doors.cli.outcome import Outcome, unfit
from convform.conformance.doors.cli.progress import laws_bar
from convform.conformance.doors.cli.telling import aside, out, told, unwritable
from convform.conformance.inference.targets import Found, found, found_here, is_judged
from convform.conformance.laws.index import laws_of
from convform.conformance.laws.law import PROFILES
from convform.conformance.reports.report import Report
from convform.conformance.reports.results import EXIT_CODES, VERDICTS
from convform.conformance.reports.terminal import ReportView
from convform.conformance.running.preparing import Setting, selected_operators
from convform.conformance.subjects.hosting import Hosting
from convform.spec.operators import OPERATORS


@click.command()
@click.argument("target")
@click.option(
    "--operator", "operators", multiple=True, metavar="NAME", help="Judge only this operator (repeatable)."
)
@options.PROFILE
@options.level("Which clauses decide the verdict; both levels are always run and shown.")
@options.SEED_OR_RANDOM
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the whole report there, whatever happens.",
)
@click.option(
    "--all", "everything", is_flag=True, help="Draw every violated law, not only the worst of each operator."
)
@options.hosting
@options.BUDGET
@options.jobs("Spread the laws over N processes; the verdict is the same.")
@options.TRACEBACK
def check(
    target: str,
    operators: tuple[str, ...],
    profile: str,
    level: str,
    seed: int | None,
    json_file: Path | None,
    everything: bool,
    hosts: options.Hosts,
    budget: float | None,
    jobs: int,
    traceback: bool,
) -> None:
    """Judge TARGET: an installed adapter's name, file.py, notebook.ipynb, or a program.

    A file or a program runs in a process of its own, in a sandbox where the system has one; file.py:name is
    one adapter of a file.

    Exit codes: 0 conforms; 1 violates, crashes or hangs; 2 the command or the adapter file is wrong;
    3 unavailable; 4 incomplete; 130 interrupted.
    """
    before = Conduct()
    outcome = Outcome(json_file)
    with told(traceback, outcome):
        if json_file is not None and (why := unfit(json_file, [target, split_target(target)[0]])):
            outcome.written = True
            raise unwritable(json_file, why)
        meant, setting = _meant(
            target,
            hosts,
            Setting(
                None,
                "",
                PROFILES[profile],
                secrets.randbits(32) if seed is None else seed,
                seconds=options.seconds_of(budget, profile),
            ),
        )
        try:
            for adapter in _chosen(meant.adapters, operators):
                own = [name for name in operators if name in adapter.implementations]
                laws = sum(1 + len(laws_of(OPERATORS[name])) for name in own or adapter.implementations)
                with laws_bar(adapter.name, laws) as progress, redirect_stdout(io.StringIO()):
                    how = {"operators": own or None, "level": level, "jobs": options.helpful(jobs, laws)}
                    report = _judged(meant, adapter, setting, hosts, progress=progress, **how)
                outcome.reports.append(report)
        finally:
            meant.close()
        for judged in outcome.reports:
            out.print(ReportView(judged, everything))
        code = _exit_code([judged.verdict for judged in outcome.reports])
        outcome.write(code)
    leave(code, before)


def _exit_code(verdicts: Sequence[str]) -> int:
    """The code of the worst verdict; a run that has come to none is incomplete."""
    worst = next((verdict for verdict in VERDICTS if verdict in verdicts), VERDICTS[-2])
    return EXIT_CODES.get(worst, 1)


def _judged(meant: Found, adapter: Adapter, setting: Setting, hosts: options.Hosts, **how: object) -> Report:
    if meant.options is not None:
        return python.judged_file(meant, adapter, setting, **how)  # type: ignore[arg-type]
    own_process = adapter.isolated or hosts.isolate
    origin = meant.origin_of(adapter)
    return python.judged_here(adapter, replace(setting, origin=origin, isolated=own_process), **how)  # type: ignore[arg-type]


def _meant(target: str, hosts: options.Hosts, setting: Setting) -> tuple[Found, Setting]:
    """Find what is judged, say what came with it, and how it is hosted."""
    limits = hosts.limits
    if setting.seconds is not None:  # nothing takes longer than the whole
        limits = limits or Limits()
        limits = replace(
            limits,
            call_seconds=min(limits.call_seconds, setting.seconds),
            start_seconds=min(limits.start_seconds, setting.seconds),
        )
    alone = os.name == "posix"
    if not alone and is_judged(target) and not hosts.in_process:
        aside("this system has no processes of the kind that hold a subject: it is judged in process")
    if not is_judged(target) or hosts.in_process or not alone:
        with quiet() as importing:
            meant = found_here(target)
        printed, setting = importing.printed.text, replace(setting, limits=limits)
    else:
        hosting = Hosting(sandbox(hosts.sandbox), limits, hosts.forbid)
        meant = found(target, hosting)
        printed = meant.printed
        setting = replace(setting, hosting=hosting, limits=limits, excuses=hosts.accepts_limits)
    place = Path(target if target.endswith(".ipynb") else target.rpartition(":")[0])
    if place.suffix == ".ipynb" and (skipped := notebook.left_out(place)):
        aside(f"{place}: not run, for it defines nothing that is judged: {skipped}")
    if printed:
        lines = printed.count("\n") + (not printed.endswith("\n"))
        aside(f"{target} printed {lines} lines while it was imported: {first_line(printed)}")
    if meant.shown != target:
        keep = f"convform infer {target} --output {meant.shown}"
        aside(f"no adapter in {target}, so one is inferred; to keep it: {keep}")
    for said in meant.missing:
        aside(f"not judged: {said}")
    return meant, setting


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
