"""The report: what a run found, and how it shows itself."""

from __future__ import annotations

from dataclasses import dataclass

from convform.conformance.reports.results import Results
from convform.conformance.reports.terminal import ReportView, as_html, as_text


@dataclass(frozen=True, repr=False)
class Report(Results):
    """What a run found; in a notebook it shows itself as on a terminal, and so does ``print(report)``."""

    def __rich__(self) -> object:
        """Return what rich draws."""
        return ReportView(self)

    def __str__(self) -> str:
        """Draw the report as plain text."""
        return as_text(self)

    def _repr_html_(self) -> str:
        """Draw the report for a notebook: one block of HTML that needs nothing else."""
        return as_html(self)

    def __repr__(self) -> str:
        said = []
        for operator in self.operators:
            violated = operator.violated(self.level)
            broken = f" {violated[0].clauses[0]}" if violated else ""
            said.append(f"{operator.name} {operator.verdict(self.level)}{broken}")
        return f"<Report {self.adapter} · {self.verdict} · {', '.join(said)} · print(report) draws it>"
