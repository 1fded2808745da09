"""``convform spec``: the standard, to read."""

from __future__ import annotations

from contextlib import nullcontext

import click
from rich.markdown import Markdown

from convform.conformance.doors.cli.telling import Problem, out
from convform.spec.clauses import UnknownClauseError, clause, clauses, pages


@click.command()
@click.argument("clause_id", metavar="[CLAUSE]", required=False)
@click.option("--list", "as_list", is_flag=True, help="One line for each clause.")
def spec(clause_id: str | None, as_list: bool) -> None:
    """Print the standard, or one CLAUSE of it (for example CONV-1)."""
    if clause_id is None:
        if as_list:
            for entry in clauses().values():
                out.print(f"{entry.id:<12} {entry.level:<7} {entry.title}")
            return
        with out.pager(styles=True) if out.is_terminal else nullcontext():
            for text in pages().values():
                out.print(Markdown(text))
        return
    try:
        found = clause(clause_id.upper())
    except UnknownClauseError as error:
        raise Problem(str(error.args[0]), "convform spec --list names them all") from None
    out.print(Markdown(found.text))
