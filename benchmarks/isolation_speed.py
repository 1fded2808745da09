"""What it costs to judge a subject in its own process: per call, and per byte.

Run with ``python -m convform.benchmarks.isolation_speed``. The subject returns what it is given, so that all
that is measured is the way there and back. Nothing here passes or fails.

The last columns are what is left of the quickest call after that of the smallest array, in copies of the
array in memory, of which there are two: there, and back. Python's worker shares memory with the judge, for
frames from 64 KiB on, and two copies are made in all: into it, and from the answer into it again. So 1 is
what there is to hope for, and 0.9 to 1.1 was measured at 64 MiB. From 1 to 8 MiB it was 2 to 3: an array that
is copied here lies in this core's own cache, as does its copy, where what goes there and back is fetched from
the other core's each time. Through a pipe (6 to 15), as programs in other languages have it, everything is
copied twice more, a page at a time.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from convform.adapters import load
from convform.adapters.process.client import Limits
from convform.conformance.subjects.hosting import worker

SUBJECT = """
from convform.adapters import Adapter
echo = Adapter("echo")
echo.implements("max_pool2d", dtypes=("float64",))(lambda x, kernel, stride: x)
"""

SIZES = (16, 1 << 10, 1 << 13, 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 23)
"""Elements of the array that goes there and comes back."""

STRETCH = 5
"""Calls in a row."""


def quickest(functions: Sequence[Callable[[], object]], rounds: int) -> list[tuple[float, float]]:
    """Minimum and median of the milliseconds that each call takes.

    They take turns, for the load varies, and each turn is of several calls, of which the first is not
    counted: it finds in the cache what somebody else has left there.
    """
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, taken in zip(functions, times, strict=True):
            function()
            for _ in range(STRETCH - 1):
                started = time.perf_counter()
                function()
                taken.append(1e3 * (time.perf_counter() - started))
    return [(min(taken), statistics.median(taken)) for taken in times]


def main() -> None:
    """Print the table."""
    table = Table("array", "call ms (min, median)", "pipe ms", "copy ms", "copies, shared", "copies, pipe")
    table.title = "there and back"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "echo.py"
        file.write_text(SUBJECT, encoding="utf-8")
        shared, piped = worker(load(str(file))), worker(load(str(file)), limits=Limits(shared_bytes=0))
        base: list[float] = []
        for size in SIZES:
            x = np.arange(float(size)).reshape(1, 1, 1, -1)
            arguments = {"x": x, "kernel": (1, 1), "stride": (1, 1)}
            ways: list[Callable[[], object]] = [
                lambda a=arguments: shared.call("max_pool2d", a),  # type: ignore[misc]
                lambda a=arguments: piped.call("max_pool2d", a),  # type: ignore[misc]
                x.copy,
            ]
            (call, median), (pipe, _), (copy, _) = quickest(ways, 100 if size < 1 << 16 else 8)
            base = base or [call, pipe]
            table.add_row(
                f"{x.nbytes / 2**20:.3g} MiB" if x.nbytes >= 1 << 17 else f"{x.nbytes} bytes",
                f"{call:.3f}  {median:.3f}",
                f"{pipe:.3f}",
                f"{copy:.4f}",
                f"{(call - base[0]) / (2 * copy):.1f}" if x.nbytes >= 1 << 20 else "",
                f"{(pipe - base[1]) / (2 * copy):.1f}" if x.nbytes >= 1 << 20 else "",
            )
        shared.close()
        piped.close()
    Console().print(table)


if __name__ == "__main__":
    main()
