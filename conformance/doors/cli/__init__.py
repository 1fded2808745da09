"""The command line: ``convform check``, ``convform adapters``, ``convform spec``; one file a command.

Exit codes: 0 conforms, 1 violates, 2 the command or the adapter is wrong, 3 the backend is not installed,
4 incomplete, 130 interrupted. Only the judge's own conclusion ends with 0.

A command's file is imported when the command is run: nobody who reads the standard waits for the judge.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from convform.conformance.doors.cli.standing import stand

COMMANDS: Mapping[str, str] = {
    "adapters": "List the installed adapters with their claims and availability.",
    "check": "Judge TARGET: an installed adapter's name, file.py, notebook.ipynb, or a program.",
    "infer": "Look at a homework FILE, call what it holds, and write the adapter for it.",
    "kill-matrix": "Run every misreading of the catalogue as a subject, and say which law catches it.",
    "matrix": "Judge the installed backends, or those of NAME; write matrix.md, .json and .html.",
    "planted": "Plant misreadings into a homework, and count how often the diagnosis names the right cause.",
    "spec": "Print the standard, or one CLAUSE of it (for example CONV-1).",
}
"""First sentence of the help of each command; its function has the name of the file that it is in."""


class _Lazy(click.Group):
    """A group that lists its commands without importing them."""

    def __init__(self, **settings: Any) -> None:
        listed = {name: click.Command(name, help=says) for name, says in COMMANDS.items()}
        super().__init__(commands=listed, **settings)

    def main(self, *arguments: Any, **settings: Any) -> Any:
        """Run, on firm ground: what the judge itself does not survive is no verdict."""
        stand()
        try:
            return super().main(*arguments, **settings)
        except Exception as error:
            click.echo(f"error: convform itself failed: {type(error).__name__}: {error}", err=True)
            sys.exit(2)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Import the command that is run."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None:
            file = name.replace("-", "_")
            command = getattr(import_module(f"{__name__}.{file}"), file)
        return name, command, rest


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="convform")
def main() -> None:
    """Judge implementations of im2col, convolution and pooling against a written standard.

    Exit codes: 0 conforms, 1 violates, 2 the command or the adapter file is wrong, 3 unavailable,
    4 incomplete, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an ASCII terminal gets a "?" for what it cannot show
            stream.reconfigure(errors="replace")
