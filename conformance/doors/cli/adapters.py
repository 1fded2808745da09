"""``convform adapters``: what is installed."""

from __future__ import annotations

import click
from rich.table import Table
from rich.text import Text

from convform.adapters import Adapter, Installed, installed
from convform.conformance.doors.cli import options
from convform.conformance.doors.cli.telling import out, told


@click.command()
@options.TRACEBACK
def adapters(traceback: bool) -> None:
    """List the installed adapters with their claims and availability."""
    with told(traceback):
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
