"""The command line: ``convform check``, ``convform adapters``, ``convform spec``.

Exit codes: 0 conforms, 1 violates, 2 the command or the adapter is wrong, 3 the backend is not installed;
130 interrupted. Whatever else goes wrong ends with 2: only a verdict may end with 1.
"""

from __future__ import annotations

import difflib
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import TypeVar

import click
import rich.progress
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from convform.adapters import Adapter, AdapterError, Installed, Unavailable, installed, notebook
from convform.adapters.process.client import Limits
from convform.conformance.reports.results import BROKEN, CONFORMS
from convform.conformance.reports.terminal import ReportView, message
from convform.conformance.subjects.guard import Conduct, leave, quiet
from convform.conformance.subjects.isolation import DiedOfImport, try_import
from convform.conformance.subjects.subject import first_line
from convform.spec.clauses import UnknownClauseError, clause, clauses, pages
from convform.spec.operators import OPERATORS

WRONG, NOT_INSTALLED, INTERRUPTED = 2, 3, 130

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


class _Problem(click.ClickException):
    """A problem that is told in one sentence, with an exit code of its own."""

    exit_code: int = WRONG  # type: ignore[misc]

    def __init__(self, kind: str, text: str, hint: str | None, exit_code: int) -> None:
        super().__init__(text)
        self.kind, self.hint, self.exit_code = kind, hint, exit_code

    def show(self, file: object = None) -> None:
        """Print the sentence and the hint."""
        err.print(message(self.kind, self.message, self.hint))


@contextmanager
def _told(traceback: bool) -> Iterator[None]:
    """Turn whatever goes wrong into one sentence, a hint and an exit code."""
    before = Conduct()
    try:
        with _sentences(traceback):
            yield
    except click.ClickException as problem:
        if not before.left_behind:
            raise
        problem.show()
        leave(problem.exit_code, before)


@contextmanager
def _sentences(traceback: bool) -> Iterator[None]:
    try:
        yield
    except click.ClickException:
        raise
    except KeyboardInterrupt:
        raise _Problem("interrupted", "there is no verdict", None, INTERRUPTED) from None
    except Exception as error:
        if traceback:
            err.print_exception(show_locals=False)
        if isinstance(error, Unavailable):
            raise _Problem("unavailable", str(error), error.hint, NOT_INSTALLED) from None
        if isinstance(error, DiedOfImport):
            raise _Problem(error.outcome, str(error), error.hint, WRONG) from None
        if isinstance(error, AdapterError):
            raise _Problem("error", str(error), error.hint, WRONG) from None
        said = f"convform itself failed: {type(error).__name__}: {first_line(str(error))}"
        hint = None if traceback else "please report it, with what --traceback prints"
        raise _Problem("error", said, hint, WRONG) from None


_Command = TypeVar("_Command", bound=Callable[..., object])

_PROFILE = click.option(
    "--profile",
    type=click.Choice(["brief", "quick", "full", "search"]),
    default="quick",
    show_default=True,
    help="How many cases.",
)
_SEED = click.option(
    "--seed", type=int, default=0, show_default=True, metavar="N", help="Seed of every random choice."
)


def _deadline(says: str) -> Callable[[_Command], _Command]:
    return click.option("--deadline", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help=says)


def _limits(deadline: float | None) -> Limits | None:
    """What a subject in another process may spend, where that is not as usual."""
    return None if deadline is None else Limits(deadline, start_seconds=max(10.0, 6 * deadline))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="convform")
def main() -> None:
    """Judge implementations of im2col, convolution and pooling against a written standard."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an ASCII terminal gets a "?" for what it cannot show
            stream.reconfigure(errors="replace")


@main.command()
@click.argument("target")
@click.option(
    "--operator", "operators", multiple=True, metavar="NAME", help="Judge only this operator (repeatable)."
)
@_PROFILE
@click.option(
    "--level",
    type=click.Choice(["core", "strict"]),
    default="core",
    show_default=True,
    help="Which clauses decide the verdict; both levels are always run and shown.",
)
@_SEED
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
@_deadline("With --isolate: how long a call may take (default 10), and a sixth of what its import may.")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Spread the laws over N processes; the verdict is the same.",
)
@click.option("--traceback", is_flag=True, help="Show the traceback of an error.")
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
    from convform.conformance.doors.python import check as run
    from convform.conformance.inference.targets import adapter_file, found
    from convform.conformance.laws.index import laws_of
    from convform.conformance.running.preparing import selected_operators

    os.environ.setdefault("MPLBACKEND", "Agg")  # a homework that plots must not open windows
    before = Conduct()
    limits = _limits(deadline)
    with _told(traceback), ExitStack() as stack:
        inferred = None
        if isolate or jobs > 1:  # other processes find an inferred adapter in a file only
            inferred = Path(stack.enter_context(tempfile.TemporaryDirectory())) / adapter_file(target)
            try_import(target, inferred, limits)
        with quiet() as importing:
            meant = found(target, inferred)
        adapters, shown = meant.adapters, meant.shown
        _tell_of_import(target, importing)
        if shown != target:
            keep = f"convform infer {target} --output {shown}"
            err.print(Text(f"no adapter in {target}, so one is inferred; to keep it: {keep}", style="dim"))
        for said in meant.missing:
            err.print(Text(f"not judged: {said}", style="dim"))
        chosen = [
            adapter for adapter in adapters if not operators or set(operators) & set(adapter.implementations)
        ]
        implemented = {name for adapter in adapters for name in adapter.implementations}
        for adapter in chosen if implemented.issuperset(operators) else adapters:
            own = [name for name in operators if name in adapter.implementations or name not in implemented]
            selected_operators(adapter, own)
        if json_file is not None and not json_file.parent.is_dir():
            raise _unwritable(json_file, "there is no such folder")
        reports = []
        for adapter in chosen:
            own = [name for name in operators if name in adapter.implementations]
            origin = shown if len(adapters) == 1 else f"{shown}:{adapter.name}"
            steps = [1 + len(laws_of(OPERATORS[name])) for name in own or adapter.implementations]
            with _bar(adapter.name, sum(steps)) as progress, redirect_stdout(io.StringIO()):
                report = run(
                    adapter,
                    operators=own or None,
                    profile=profile,
                    seed=seed,
                    level=level,
                    origin=origin,
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


def _tell_of_import(target: str, conduct: Conduct) -> None:
    """Say what a file did while it was imported, and what of a notebook was not run."""
    place = Path(target if target.endswith(".ipynb") else target.rpartition(":")[0])
    if place.suffix == ".ipynb" and (skipped := notebook.left_out(place)):
        err.print(Text(f"{place}: not run, for it defines nothing that is judged: {skipped}", style="dim"))
    if conduct.printed.lines:
        first = first_line(conduct.printed.text)
        said = f"{target} printed {conduct.printed.lines} lines while it was imported: {first}"
        err.print(Text(said, style="dim"))


def _write_json(file: Path, texts: list[str]) -> None:
    """Write one report, or a list of them where the target holds several adapters."""
    text = texts[0] if len(texts) == 1 else "[\n" + ",\n".join(texts) + "]\n"
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _unwritable(file, error.strerror or str(error)) from None


def _unwritable(file: Path, why: str) -> _Problem:
    return _Problem("error", f"cannot write {file}: {why}", "name a file in an existing folder", WRONG)


@contextmanager
def _progress():  # type: ignore[no-untyped-def]
    """Show what is being run, on a terminal, until it is done."""
    if not err.is_terminal:
        yield None
        return
    with err.status("") as status:
        yield lambda operator, law: status.update(f"{operator} · {law}")


class _Bar:
    """How far a run has come; without a terminal it is not drawn."""

    def __init__(self, bar: rich.progress.Progress, title: str) -> None:
        self.bar = bar
        self.task = bar.add_task(title, total=0)

    def expect(self, steps: int) -> None:
        """So many more steps are to come."""
        self.bar.update(self.task, total=(self.bar.tasks[self.task].total or 0) + steps)

    def done(self, says: str) -> None:
        """One of them is there."""
        self.bar.update(self.task, advance=1, description=says)


@contextmanager
def _shown_bar(title: str) -> Iterator[_Bar]:
    columns = (
        rich.progress.BarColumn(bar_width=20),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("{task.description}", markup=False),
    )
    bar = rich.progress.Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
    with bar:
        yield _Bar(bar, title)


@contextmanager
def _bar(title: str, steps: int):  # type: ignore[no-untyped-def]
    """Show which law is run, and how many have been."""
    with _shown_bar(title) as bar:
        bar.expect(steps)
        yield lambda operator, law: bar.done(f"{operator} · {law}")


@main.command("matrix")
@click.argument("targets", metavar="[NAME …]", nargs=-1)
@_PROFILE
@click.option(
    "--level",
    type=click.Choice(["core", "strict"]),
    default="core",
    show_default=True,
    help="Which clauses decide the exit code; the matrix shows both.",
)
@_SEED
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Judge N operators of a backend at once.",
)
@_deadline("How long a call may take (default 10).")
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("matrix"),
    show_default=True,
    metavar="DIR",
    help="Where the matrix lies; what is there of other backends is kept.",
)
@click.option("--fresh", is_flag=True, help="Judge what is judged already, too.")
@click.option(
    "--reproduce/--no-reproduce",
    "reproduces",
    default=True,
    help="Run the ledger's programs in fresh interpreters (the default), or not.",
)
@click.option("--traceback", is_flag=True, help="Show the traceback of an error.")
def backend_matrix(
    targets: tuple[str, ...],
    profile: str,
    level: str,
    seed: int,
    jobs: int,
    deadline: float | None,
    folder: Path,
    fresh: bool,
    reproduces: bool,
    traceback: bool,
) -> None:
    """Judge the installed backends, or those of NAME; write matrix.md, .json and .html.

    Run it in the environment of each backend with the same --out, and one matrix is filled. A run that was
    interrupted goes on where it stopped.
    """
    from convform.conformance.matrix import matrix

    with _told(traceback):
        run = matrix.Run(profile, seed, jobs, fresh, reproduces, _limits(deadline))
        with _shown_bar("matrix") as bar:
            try:
                data, names = matrix.run_matrix(targets, folder, run, bar)
            except OSError as error:
                raise _unwritable(folder, error.strerror or str(error)) from None
        for line in matrix.summary(data, names):
            out.print(line)
        out.print(f"written: {folder}/matrix.md, .json, .html")
        code = matrix.exit_code(data, names, level, named=bool(targets))
    sys.exit(code)


@main.command("kill-matrix")
@click.option("--only", "names", multiple=True, metavar="MISREADING", help="Run only this one (repeatable).")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Number of seeds.")
@click.option("--summary", is_flag=True, help="Print the summary alone, as Markdown.")
@click.option(
    "--readme",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the summary into FILE, between its two marks.",
)
def kill_matrix(names: tuple[str, ...], seeds: int, summary: bool, readme: Path | None) -> None:
    """Run every misreading of the catalogue as a subject, and say which law catches it."""
    from convform.conformance.teeth import kills as matrix
    from convform.conformance.teeth.readme import write
    from convform.reference.misreadings.catalogue import MISREADINGS

    unknown = [name for name in names if name not in MISREADINGS]
    if unknown:
        close = difflib.get_close_matches(unknown[0], MISREADINGS, 3)
        raise _Problem(
            "error",
            f"there is no misreading {unknown[0]!r}",
            f"close to it: {', '.join(close)}" if close else "the clauses list them: convform spec",
            WRONG,
        )
    kills = []
    with _progress() as progress:
        for row in matrix.kill_matrix(names or None, range(seeds)):
            kills.append(row)
            if progress:
                progress(row.operator, row.misreading)
    if not summary:
        wide = Console(highlight=False, width=max(out.width, 130))
        wide.print(matrix.rows_table(kills))
    click.echo(matrix.summary_markdown(kills))
    if readme is not None:
        write(readme, matrix.summary_markdown(kills))
    sys.exit(1 if matrix.Summary.of(kills).survived else 0)


@main.command("planted")
@click.option("--pairs", type=click.IntRange(0), default=200, show_default=True, help="Number of pairs.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="N", help="Seed of every choice.")
def planted(pairs: int, seed: int) -> None:
    """Plant misreadings into a homework, and count how often the diagnosis names the right cause."""
    from convform.conformance.teeth.planted import plant_all, plant_pairs, summary

    with _progress() as progress:
        for title, plants in (("alone", plant_all(seed=seed)), ("pairs", plant_pairs(pairs, seed))):
            done = []
            for plant in plants:
                done.append(plant)
                if progress:
                    progress(plant.operator, " + ".join(plant.planted))
            click.echo(summary(done, title))


@main.command()
@click.argument("target", metavar="FILE[:FUNCTION]")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the adapter there instead of printing it.",
)
@click.option("--traceback", is_flag=True, help="Show the traceback of an error.")
def infer(target: str, output: Path | None, traceback: bool) -> None:
    """Look at a homework FILE, call what it holds, and write the adapter for it."""
    from convform.conformance.inference.infer import infer_target

    before = Conduct()
    with _told(traceback):
        with quiet():
            found = infer_target(target, output)
        if output is None:
            click.echo(found.source, nl=False)
            leave(0, before)
        try:
            output.write_text(found.source, encoding="utf-8")
        except OSError as error:
            raise _unwritable(output, error.strerror or str(error)) from None
        for certainty, text in found.notes:
            out.print(Text(f"{certainty + ':':<10} {text}"))
        out.print(f"\nwritten to {output}; now: convform check {output}")
    leave(0, before)


@main.command("adapters")
@click.option("--traceback", is_flag=True, help="Show the traceback of an error.")
def list_adapters(traceback: bool) -> None:
    """List the installed adapters with their claims and availability."""
    with _told(traceback):
        for entry in installed():
            problem = _problem(entry)
            version = f" {entry.adapter.version}" if entry.adapter and entry.adapter.version else ""
            state = (f"unavailable: {problem}", "yellow") if problem else ("available", "green")
            out.print(Text.assemble((entry.name, "bold"), version, "  ", state))
            if entry.adapter is not None:
                out.print(_claims(entry.adapter))
            out.print()


def _problem(entry: Installed) -> str | None:
    """Say why an installed adapter cannot run here, and what would help; None where it can."""
    if entry.problem is not None:
        return f"{entry.problem} ({entry.problem.hint})" if entry.problem.hint else str(entry.problem)
    adapter = entry.adapter
    problem = adapter.available() if adapter and adapter.available else None
    return f"{problem} ({adapter.install})" if problem and adapter and adapter.install else problem


def _claims(adapter: Adapter) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 2), header_style="dim")
    for column in ("operator", "parameters", "dtypes", "layouts"):
        table.add_column(column)
    for name, implementation in adapter.implementations.items():
        claims = implementation.claims
        forms = {
            "stride": claims.stride,
            "dilation": claims.dilation,
            "padding": claims.padding,
            "kernel": claims.kernel,
        }
        parameters = [
            f"{parameter} ({forms[parameter]})"
            if forms.get(parameter) not in (None, "pair", "any")
            else parameter
            for parameter in implementation.operator.parameters
            if parameter in implementation.takes
        ]
        if claims.max_padding != "any":
            parameters.append(f"padding {claims.max_padding}")
        layouts = [
            f"{array} '{layout.pattern}'"
            for array, layout in implementation.layouts.items()
            if array in implementation.takes
        ]
        table.add_row(name, ", ".join(parameters), " ".join(claims.dtypes), ", ".join(layouts))
    return table


@main.command()
@click.argument("clause_id", metavar="[CLAUSE]", required=False)
@click.option("--list", "as_list", is_flag=True, help="One line for each clause.")
def spec(clause_id: str | None, as_list: bool) -> None:
    """Print the standard, or one CLAUSE of it (for example CONV-1)."""
    if clause_id is None:
        if as_list:
            for entry in clauses().values():
                out.print(f"{entry.id:<12} {entry.level:<7} {entry.title}")
            return
        with out.pager(styles=True) if out.is_terminal else _plain():
            for text in pages().values():
                out.print(Markdown(text))
        return
    try:
        found = clause(clause_id.upper())
    except UnknownClauseError as error:
        raise _Problem("error", str(error.args[0]), "convform spec --list names them all", WRONG) from None
    out.print(Markdown(found.text))


@contextmanager
def _plain() -> Iterator[None]:
    yield


if __name__ == "__main__":
    main()
