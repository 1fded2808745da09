"""The command line: ``convform check``, ``convform adapters``, ``convform spec``.

Exit codes: 0 conforms, 1 violates, 2 the command or the adapter is wrong, 3 the backend is not installed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from convform.adapters import Adapter, AdapterError, Unavailable, find, installed
from convform.conformance.report import BROKEN, VIOLATES
from convform.conformance.terminal import ReportView, message
from convform.spec.clauses import UnknownClauseError, clause, clauses, pages

WRONG, NOT_INSTALLED = 2, 3

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
    """Turn errors of adapters into one sentence and an exit code."""
    try:
        yield
    except Unavailable as error:
        if traceback:
            raise
        raise _Problem("unavailable", str(error), error.hint, NOT_INSTALLED) from None
    except AdapterError as error:
        if traceback:
            raise
        raise _Problem("error", str(error), error.hint, WRONG) from None


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="convform")
def main() -> None:
    """Judge implementations of im2col, convolution and pooling against a written standard."""


@main.command()
@click.argument("target")
@click.option(
    "--operator", "operators", multiple=True, metavar="NAME", help="Judge only this operator (repeatable)."
)
@click.option(
    "--profile",
    type=click.Choice(["quick", "full"]),
    default="quick",
    show_default=True,
    help="How many cases.",
)
@click.option(
    "--level",
    type=click.Choice(["core", "strict"]),
    default="core",
    show_default=True,
    help="Which clauses decide the verdict; both levels are always run and shown.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, metavar="N", help="Seed of every random choice."
)
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
@click.option("--traceback", is_flag=True, help="Show the traceback of an error.")
def check(
    target: str,
    operators: tuple[str, ...],
    profile: str,
    level: str,
    seed: int,
    json_file: Path | None,
    everything: bool,
    traceback: bool,
) -> None:
    """Judge TARGET: an installed adapter's name, file.py, or file.py:name."""
    from convform.conformance.runner import check as run
    from convform.conformance.runner import selected_operators

    with _told(traceback):
        adapters = find(target)
        chosen = [
            adapter for adapter in adapters if not operators or set(operators) & set(adapter.implementations)
        ]
        for adapter in chosen or adapters:
            selected_operators(adapter, operators if len(adapters) == 1 or not chosen else None)
        reports = []
        for adapter in chosen:
            own = [name for name in operators if name in adapter.implementations]
            origin = target if len(adapters) == 1 else f"{target}:{adapter.name}"
            with _progress() as progress:
                report = run(
                    adapter,
                    operators=own or None,
                    profile=profile,
                    seed=seed,
                    level=level,
                    origin=origin,
                    progress=progress,
                )
            reports.append(report)
            out.print(ReportView(report, everything))
    if json_file is not None:
        _write_json(json_file, [report.dumps() for report in reports])
    verdicts = {report.verdict for report in reports}
    sys.exit(2 if BROKEN in verdicts else 1 if VIOLATES in verdicts else 0)


def _write_json(file: Path, texts: list[str]) -> None:
    """Write one report, or a list of them where the target holds several adapters."""
    text = texts[0] if len(texts) == 1 else "[\n" + ",\n".join(texts) + "]\n"
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise _Problem(
            "error", f"cannot write {file}: {error.strerror}", "name a file in an existing folder", WRONG
        ) from None


@contextmanager
def _progress():  # type: ignore[no-untyped-def]
    """Show what is being run, on a terminal, until it is done."""
    if not err.is_terminal:
        yield None
        return
    with err.status("") as status:
        yield lambda operator, law: status.update(f"{operator} · {law}")


@main.command("adapters")
@click.option("--traceback", is_flag=True, help="Show the traceback of an error.")
def list_adapters(traceback: bool) -> None:
    """List the installed adapters with their claims and availability."""
    with _told(traceback):
        for entry in installed():
            if entry.adapter is None:
                out.print(f"[bold]{entry.name}[/bold]  [yellow]unavailable[/yellow]: {entry.problem}\n")
                continue
            state = (
                f"[yellow]unavailable[/yellow]: {entry.problem}"
                if entry.problem
                else "[green]available[/green]"
            )
            version = f" {entry.adapter.version}" if entry.adapter.version else ""
            out.print(f"[bold]{entry.name}[/bold]{version}  {state}")
            out.print(_claims(entry.adapter))
            out.print()


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
