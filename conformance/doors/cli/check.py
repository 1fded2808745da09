"""``convform check``: one verdict for each operator of an adapter."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import click

from convform.adapters import notebook
from convform.adapters.find import split_target
from convform.adapters.process.client import Limits
from convform.adapters.process.guard import Conduct, first_line, leave, quiet
from convform.adapters.process.sandbox import sandbox
from convform.conformance.doors.cli import options
from convform.conformance.doors.cli.outcome import Outcome, unfit
from convform.conformance.doors.cli.telling import aside, told, unwritable
from convform.conformance.inference.targets import Found, found, found_here, is_judged
from convform.conformance.subjects.hosting import Hosting

JUDGING = "convform.conformance.doors.cli.judging"
"""The rest of the command: much to import, which is done while the process of the subject starts."""


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
        asked = options.Asked(
            operators, profile, level, seed, everything, jobs, options.seconds_of(budget, profile), hosts
        )
        meant, hosting = _meant(target, asked)
        try:
            code = import_module(JUDGING).judged(meant, hosting, asked, outcome)
        finally:
            meant.close()
        import_module(JUDGING).shown(outcome, everything)
        outcome.write(code)
    leave(code, before)


def _meant(target: str, asked: options.Asked) -> tuple[Found, Hosting | None]:
    """Find what is judged, say what came with it, and how it is hosted; None for what is trusted."""
    hosts, hosting, alone = asked.hosts, None, os.name == "posix"
    if not alone and is_judged(target) and not hosts.in_process:
        aside("this system has no processes of the kind that hold a subject: it is judged in process")
    if not is_judged(target) or hosts.in_process or not alone:
        with quiet() as importing:
            meant = found_here(target)
        printed = importing.printed.text
    else:
        hosting = Hosting(sandbox(hosts.sandbox), _limits(asked), hosts.forbid)
        meant = found(target, hosting, meanwhile=lambda: import_module(JUDGING))
        printed = meant.printed
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
    return meant, hosting


def _limits(asked: options.Asked) -> Limits | None:
    """What a subject may spend: nothing takes longer than the whole."""
    limits, seconds = asked.hosts.limits, asked.seconds
    if seconds is None:
        return limits
    limits = limits or Limits()
    return replace(
        limits,
        call_seconds=min(limits.call_seconds, seconds),
        start_seconds=min(limits.start_seconds, seconds),
    )
