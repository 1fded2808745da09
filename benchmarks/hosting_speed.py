"""What it costs not to trust: a file judged in its worker, against the same file judged in process.

Run with ``python -m convform.benchmarks.hosting_speed [ROUNDS]``. Ways of judging take turns within a round,
and figures are ratios to the first of them; the last column is the start of a worker alone. Nothing passes
or fails.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

from rich.console import Console
from rich.table import Table

from convform.adapters.errors import Unavailable
from convform.adapters.process.sandbox import KINDS, sandbox
from convform.adapters.process.worker import Options
from convform.conformance.subjects.hosting import Hosting, hosted

SUBJECTS = ("lab_conv.py", "lab_pool.py")


def run_seconds(file: Path, *options: str) -> float:
    """Wall time of the whole command, from nothing to its verdict."""
    command = [sys.executable, "-m", "convform.conformance.doors.cli", "check", str(file), *options]
    started = time.perf_counter()
    subprocess.run(command, capture_output=True, check=False)
    return time.perf_counter() - started


def start_seconds(kind: str, file: Path) -> float:
    """Time until a worker has described what it offers."""
    held = sandbox(kind)
    started = time.perf_counter()
    guest = hosted(Hosting(held), Options(str(file)))
    taken = time.perf_counter() - started
    guest.close()
    return taken


def usable() -> list[str]:
    """Kinds of sandboxes that this system offers."""
    found = []
    for kind in KINDS:
        try:
            sandbox(kind)
        except Unavailable:
            continue
        found.append(kind)
    return found


def main() -> None:
    """Print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    table = Table("file", "judged", "seconds (median)", "of in process", "of it, pair by pair", "start s")
    for name in SUBJECTS:
        file = Path(str(files("convform.examples"))) / name
        ways = {"in process": ["--in-process"], **{kind: ["--sandbox", kind] for kind in usable()}}
        taken: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, options in ways.items():
                taken[way].append(run_seconds(file, *options))
        for way, seconds in taken.items():
            ratios = [mine / base for mine, base in zip(seconds, taken["in process"], strict=True)]
            start = min(start_seconds(way, file) for _ in range(3)) if way in KINDS else None
            table.add_row(
                name,
                way,
                f"{statistics.median(seconds):.2f}",
                f"{statistics.median(ratios):.2f}",
                f"{min(ratios):.2f} to {max(ratios):.2f}",
                "" if start is None else f"{start:.2f}",
            )
    Console().print(table)


if __name__ == "__main__":
    main()
