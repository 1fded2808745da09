"""``convform infer``: the adapter of a homework that has none."""

from __future__ import annotations

from pathlib import Path

import click
from rich.text import Text

from convform.adapters import AdapterError
from convform.adapters.find import split_target
from convform.adapters.process.sandbox import sandbox
from convform.conformance.doors.cli import options
from convform.conformance.doors.cli.outcome import write_atomically
from convform.conformance.doors.cli.telling import out, told, unwritable
from convform.conformance.inference.targets import adapter_file, written_for
from convform.conformance.subjects.hosting import Hosting


@click.command()
@click.argument("target", metavar="FILE[:FUNCTION]")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the adapter there instead of printing it.",
)
@options.SANDBOX
@options.TRACEBACK
def infer(target: str, output: Path | None, sandbox_kind: str, traceback: bool) -> None:
    """Look at a homework FILE, call what it holds, and write the adapter for it."""
    with told(traceback):
        place = Path(split_target(target)[0])
        if output is not None and output.resolve() == place.resolve():
            raise AdapterError(f"{output} is the homework itself", f"--output {adapter_file(target)}")
        written = written_for(
            target, output or place.with_name(adapter_file(target)), Hosting(sandbox(sandbox_kind))
        )
        if output is None:
            click.echo(written.text, nl=False)
            return
        try:
            write_atomically(output, written.text)
        except OSError as error:
            raise unwritable(output, error) from None
        for certainty, text in written.notes:
            out.print(Text(f"{certainty + ':':<10} {text}"))
        out.print(f"\nwritten to {output}; now: convform check {output}")
