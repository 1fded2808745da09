"""``convform check``: one verdict for each operator of an adapter."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import click

from convform.adapters import Adapter, notebook
from convform.conformance.doors import python
from convform.conformance.doors.cli import options
from convform.conformance.doors.cli.progress import laws_bar
from convform.conformance.doors.cli.telling import aside, out, told, unwritable
from convform.conformance.inference.targets import Found, adapter_file, found
from convform.conformance.laws.index import laws_of
from convform.conformance.reports.results import BROKEN, CONFORMS
from convform.conformance.reports.terminal import ReportView
from convform.conformance.running.preparing import selected_operators
from convform.conformance.subjects.guard import Conduct, first_line, leave, quiet
from convform.conformance.subjects.isolation import try_import
from convform.spec.operators import OPERATORS


@click.command()
@click.argument("target")
@click.option(
    "--operator", "operators", multiple=True, metavar="NAME", help="Judge only this operator (repeatable)."
)
@options.PROFILE
@options.level("Which clauses decide the verdict; both levels are always run and shown.")
@options.SEED
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the whole report there.",
)
@click.option(
    "--all", "everything", is_flag=True, help="Draw every violated law, not only the worst of each operator."
)
@click.option(
    "--isolate", is_flag=True, help="Judge in a process of its own, which the code may crash or hang."
)
@options.deadline(
    "With --isolate: how long a call may take (default 10), and a sixth of what its import may."
)
@options.jobs("Spread the laws over N processes; the verdict is the same.")
@options.TRACEBACK
def check(
    target: str,
    operators: tuple[str, ...],
    profile: str,
    level: str,
    seed: int,
    json_file: Path | None,
    everything: bool,
    isolate: bool,
    deadline: float | None,
    jobs: int,
    traceback: bool,
) -> None:
    """Judge TARGET: an installed adapter's name, file.py, or file.py:name."""
    before = Conduct()
    limits = options.limits(deadline)
    # Other processes find an inferred adapter in a file only.
    temporary = tempfile.TemporaryDirectory() if isolate or jobs > 1 else nullcontext()
    with told(traceback), temporary as folder:
        inferred = Path(folder, adapter_file(target)) if folder is not None else None
        if inferred is not None:
            try_import(target, inferred, limits)
        meant = _found(target, inferred)
        chosen = _chosen(meant.adapters, operators)
        if json_file is not None and not json_file.parent.is_dir():
            raise unwritable(json_file, "there is no such folder")
        reports = []
        for adapter in chosen:
            own = [name for name in operators if name in adapter.implementations]
            laws = sum(1 + len(laws_of(OPERATORS[name])) for name in own or adapter.implementations)
            with laws_bar(adapter.name, laws) as progress, redirect_stdout(io.StringIO()):
                report = python.check(
                    adapter,
                    operators=own or None,
                    profile=profile,
                    seed=seed,
                    level=level,
                    origin=meant.origin_of(adapter),
                    progress=progress,
                    isolated=True if isolate else None,
                    limits=limits,
                    jobs=jobs,
                )
            reports.append(report)
            out.print(ReportView(report, everything))
        if json_file is not None:
            _write_json(json_file, [report.dumps() for report in reports])
    verdicts = {report.verdict for report in reports}
    leave(2 if BROKEN in verdicts else 0 if verdicts <= {CONFORMS} else 1, before)


def _found(target: str, inferred: Path | None) -> Found:
    """Find what is judged, and say what came with it."""
    with quiet() as importing:
        meant = found(target, inferred)
    place = Path(target if target.endswith(".ipynb") else target.rpartition(":")[0])
    if place.suffix == ".ipynb" and (skipped := notebook.left_out(place)):
        aside(f"{place}: not run, for it defines nothing that is judged: {skipped}")
    if importing.printed.lines:
        first = first_line(importing.printed.text)
        aside(f"{target} printed {importing.printed.lines} lines while it was imported: {first}")
    if meant.shown != target:
        keep = f"convform infer {target} --output {meant.shown}"
        aside(f"no adapter in {target}, so one is inferred; to keep it: {keep}")
    for said in meant.missing:
        aside(f"not judged: {said}")
    return meant


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


def _write_json(file: Path, texts: list[str]) -> None:
    """Write one report, or a list of them where the target holds several adapters."""
    text = texts[0] if len(texts) == 1 else "[\n" + ",\n".join(texts) + "]\n"
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(file, error) from None
