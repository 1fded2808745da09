"""Speed of the judge: cases per second, and what a case costs beside the call of the subject.

Run with ``python -m convform.benchmarks.judge_speed [--full]``. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import time
from importlib.resources import files

from rich.console import Console
from rich.table import Table

from convform import reference
from convform.adapters import AdapterError, find, load
from convform.conformance import check
from convform.conformance.cases.case import Case, build
from convform.conformance.cases.geometry import Focus, Geometry, tables
from convform.conformance.laws.compare import check_exact
from convform.conformance.laws.index import laws_of
from convform.conformance.laws.law import QUICK
from convform.conformance.laws.values import fits
from convform.conformance.reports.results import Violated
from convform.conformance.running.smoke import smoke
from convform.conformance.running.trial import run_law
from convform.conformance.subjects.subject import Subject, call

CASES = 1500


def seconds(function, items: list) -> float:  # type: ignore[no-untyped-def,type-arg]
    """Seconds for calling a function with every item, the best of three rounds."""
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        for item in items:
            function(item)
        best = min(best, time.perf_counter() - started)
    return best


def conv_cases(name: str, console: Console) -> None:
    """Split the cost of an exact-lane conv2d case into its parts."""
    subject, _ = smoke(load(name).implementations["conv2d"])
    assert isinstance(subject, Subject)
    table = tables(subject.space, Focus(axis=fits))
    geometries: list[Geometry] = list(table.sweep(CASES, 1))
    cases: list[Case] = [build(subject.operator, geometry) for geometry in geometries]
    parts = {
        "fill the arrays": seconds(lambda geometry: build(subject.operator, geometry), geometries),
        "the subject, layouts included": seconds(lambda case: call(subject.implementation, case), cases),
        "the reference": seconds(
            lambda case: reference.evaluate("conv2d", case.inputs, case.parameters), cases
        ),
        "one case, all in all": seconds(
            lambda geometry: check_exact(subject, build(subject.operator, geometry)), geometries
        ),
    }
    law = next(law for law in laws_of(subject.operator) if law.name == "together")
    started = time.perf_counter()
    result = run_law(subject, law, QUICK, 0)
    drawn = (time.perf_counter() - started) / result.cases
    output = Table("conv2d of " + name, "ms per case", "cases per second", title="exact lane, one process")
    for part, total in parts.items():
        output.add_row(part, f"{1e3 * total / CASES:.3f}", f"{CASES / total:,.0f}")
    output.add_row("one case drawn by Hypothesis", f"{1e3 * drawn:.3f}", f"{1 / drawn:,.0f}")
    console.print(output)


def verdicts(targets: list[tuple[str, str]], console: Console) -> None:
    """Time whole verdicts, and the time until the first violation."""
    output = Table("target", "profile", "verdict", "cases", "seconds", "first violation after")
    for target, profile in targets:
        try:
            (adapter,) = find(target)
        except AdapterError as error:
            output.add_row(target, profile, str(error))
            continue
        report = check(adapter, profile=profile)
        first = None
        elapsed = 0.0
        for operator in report.operators:
            for law in operator.laws:
                if first is None and law.status == "violated" and law.level == "core":
                    first = elapsed + (law.found_after if isinstance(law, Violated) else 0.0)
                elapsed += law.seconds
        output.add_row(
            adapter.name,
            profile,
            report.verdict,
            f"{report.cases:,}",
            f"{report.seconds:.1f}",
            "–" if first is None else f"{first:.2f} s",
        )
    console.print(output)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="judge torch with the full profile as well")
    arguments = parser.parse_args()
    console = Console()
    for name in ("reference", "torch"):
        try:
            conv_cases(name, console)
        except AdapterError as error:
            console.print(f"{name}: {error}")
    folder = files("convform.examples")
    targets = [(str(folder / name), "quick") for name in ("lab_conv.py", "lab_pool.py", "lab_grad.py")]
    targets += [("torch", "quick")] + ([("torch", "full")] if arguments.full else [])
    verdicts(targets, console)


if __name__ == "__main__":
    main()
