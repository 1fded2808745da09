"""The kill matrix: every misreading, run as a subject, must be caught by a law that cites its clause.

It measures what the suite can see. For each misreading and each operator family it can occur in, the laws
that cite the misreading's clause are run in their usual order, in the ``quick`` profile, until one of them
is violated.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from convform.conformance.laws.index import laws_of
from convform.conformance.laws.law import QUICK
from convform.conformance.reports.results import Violated
from convform.conformance.running.smoke import smoke
from convform.conformance.running.trial import Effort, run_law
from convform.conformance.subjects.twin import adapter_of
from convform.reference.misreadings.catalogue import MISREADINGS
from convform.reference.misreadings.misreading import Misreading, misread
from convform.spec.operators import OPERATORS, Operator

RANK = 2

CAUGHT, SURVIVED, WITHIN_ROUNDING = "caught", "survived", "within rounding"


@dataclass(frozen=True)
class Kill:
    """One row: one misreading in one operator, with one seed.

    Attributes
    ----------
    misreading, clause, operator, seed
        What was run.
    outcome
        ``"caught"``, ``"survived"``, or ``"within rounding"`` for a reading that conforms.
    law
        Name of the law that caught it.
    cases, seconds
        What it took, over all laws that were run.
    """

    misreading: str
    clause: str
    operator: str
    seed: int
    outcome: str
    law: str | None
    cases: int
    seconds: float


def operators_of(misreading: Misreading) -> list[Operator]:
    """Operators of rank 2 in which a misreading can occur."""
    return [op for op in OPERATORS.values() if op.rank == RANK and misreading.applies_to(op.family)]


def with_forward(operator: Operator) -> list[Operator]:
    """The operator, and the forward pass where it is a gradient: memory shows between the two."""
    return [OPERATORS[name] for name in dict.fromkeys((operator.forward, operator.name))]


def kill(misreading: Misreading, operator: Operator, seed: int) -> Kill:
    """Run the laws that cite the misreading's clause until one is violated."""
    started = time.perf_counter()
    # Misread evaluations overflow and divide by zero at will.
    with np.errstate(all="ignore"):
        adapter = adapter_of(misreading.name, misread(misreading), with_forward(operator))
        subject, first = smoke(adapter.implementations[operator.name])
        cases = first.cases
        caught = None
        if subject is None:
            caught = first.law if misreading.clause in first.clauses else None
        else:
            for law in laws_of(operator):
                if misreading.clause not in law.clauses:
                    continue
                result = run_law(subject, law, QUICK, seed, effort=Effort(shrink=False))
                cases += result.cases
                if isinstance(result, Violated):
                    caught = law.name
                    break
    seconds = time.perf_counter() - started
    outcome = CAUGHT if caught else WITHIN_ROUNDING if misreading.within_rounding else SURVIVED
    return Kill(misreading.name, misreading.clause, operator.name, seed, outcome, caught, cases, seconds)


def kill_matrix(names: Sequence[str] | None = None, seeds: Sequence[int] = (0,)) -> Iterator[Kill]:
    """Run misreadings as subjects, in every operator of rank 2 they can occur in.

    Parameters
    ----------
    names
        Names of the misreadings; None for all.
    seeds
        Seeds of the runs.
    """
    for name in names or MISREADINGS:
        for operator in operators_of(MISREADINGS[name]):
            for seed in seeds:
                yield kill(MISREADINGS[name], operator, seed)


@dataclass(frozen=True)
class Summary:
    """Figures of a kill matrix."""

    misreadings: int
    operators: int
    seeds: int
    runs: int
    caught: int
    within_rounding: int
    median_seconds: float
    slowest_seconds: float
    median_cases: float

    @classmethod
    def of(cls, kills: Sequence[Kill]) -> Summary:
        """Add up."""
        caught = [kill for kill in kills if kill.outcome == CAUGHT]
        return cls(
            misreadings=len({kill.misreading for kill in kills}),
            operators=len({(kill.misreading, kill.operator) for kill in kills}),
            seeds=len({kill.seed for kill in kills}),
            runs=len(kills),
            caught=len(caught),
            within_rounding=sum(kill.outcome == WITHIN_ROUNDING for kill in kills),
            median_seconds=statistics.median([kill.seconds for kill in caught] or [0.0]),
            slowest_seconds=max([kill.seconds for kill in caught], default=0.0),
            median_cases=statistics.median([kill.cases for kill in caught] or [0]),
        )

    @property
    def survived(self) -> int:
        """Runs in which no law that cites the clause was violated."""
        return self.runs - self.caught - self.within_rounding


def rows_table(kills: Sequence[Kill]) -> Table:
    """Draw one line for each misreading and operator: which law caught it, how soon."""
    table = Table("misreading", "clause", "operator", "caught by", "seeds", "cases", "seconds")
    groups: dict[tuple[str, str, str], list[Kill]] = {}
    for row in kills:
        groups.setdefault((row.misreading, row.clause, row.operator), []).append(row)
    for (name, clause, operator), rows in groups.items():
        caught = [row for row in rows if row.outcome == CAUGHT]
        laws = ", ".join(dict.fromkeys(row.law or "" for row in caught)) or rows[0].outcome
        table.add_row(
            name,
            clause,
            operator,
            laws,
            f"{len(caught)}/{len(rows)}",
            f"{statistics.median(row.cases for row in rows):.0f}",
            f"{statistics.median(row.seconds for row in rows):.2f}",
            style="" if len(caught) == len(rows) or rows[0].outcome == WITHIN_ROUNDING else "bold red",
        )
    return table


def summary_markdown(kills: Sequence[Kill]) -> str:
    """Write the summary as a Markdown table: what the README shows."""
    lines = [
        "| clauses | misreadings | in operators | caught | median cases | median time | slowest |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    groups: dict[str, list[Kill]] = {}
    for row in kills:
        groups.setdefault(row.clause.rsplit("-", 1)[0], []).append(row)
    for name, rows in [*groups.items(), ("**all**", list(kills))]:
        s = Summary.of(rows)
        possible = s.runs - s.within_rounding
        lines.append(
            f"| {name} | {s.misreadings} | {s.operators} | {s.caught} of {possible} | {s.median_cases:.0f} "
            f"| {s.median_seconds:.2f} s | {s.slowest_seconds:.2f} s |"
        )
    return "\n".join(lines) + "\n"
