"""``convform kill-matrix``: which law catches which misreading."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

import click
from rich.console import Console

from convform.conformance.doors.cli.progress import status
from convform.conformance.doors.cli.telling import Problem, out
from convform.conformance.teeth import kills
from convform.conformance.teeth.readme import write
from convform.reference.misreadings.catalogue import MISREADINGS


@click.command("kill-matrix")
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
    unknown = [name for name in names if name not in MISREADINGS]
    if unknown:
        close = difflib.get_close_matches(unknown[0], MISREADINGS, 3)
        raise Problem(
            f"there is no misreading {unknown[0]!r}",
            f"close to it: {', '.join(close)}" if close else "the clauses list them: convform spec",
        )
    rows = []
    with status() as progress:
        for row in kills.kill_matrix(names or None, range(seeds)):
            rows.append(row)
            progress(row.operator, row.misreading)
    if not summary:
        wide = Console(highlight=False, width=max(out.width, 130))
        wide.print(kills.rows_table(rows))
    click.echo(kills.summary_markdown(rows))
    if readme is not None:
        write(readme, kills.summary_markdown(rows))
    sys.exit(1 if kills.Summary.of(rows).survived else 0)
