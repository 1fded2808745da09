"""``convform infer``: the adapter of a homework that has none."""

from __future__ import annotations

from pathlib import Path

import click
from rich.text import Text

from convform.conformance.doors.cli import options
from convform.conformance.doors.cli.telling import out, told, unwritable
from convform.conformance.inference.infer import infer_target
from convform.conformance.subjects.guard import Conduct, leave, quiet


@click.command()
@click.argument("target", metavar="FILE[:FUNCTION]")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the adapter there instead of printing it.",
)
@options.TRACEBACK
def infer(target: str, output: Path | None, traceback: bool) -> None:
    """Look at a homework FILE, call what it holds, and write the adapter for it."""
    before = Conduct()
    with told(traceback):
        with quiet():
            inferred = infer_target(target, output)
        if output is None:
            click.echo(inferred.text, nl=False)
            leave(0, before)
        try:
            output.write_text(inferred.text, encoding="utf-8")
        except OSError as error:
            raise unwritable(output, error) from None
        for certainty, text in inferred.notes:
            out.print(Text(f"{certainty + ':':<10} {text}"))
        out.print(f"\nwritten to {output}; now: convform check {output}")
    leave(0, before)
