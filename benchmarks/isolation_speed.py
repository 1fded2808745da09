"""What it costs to judge a subject in its own process: per call, and per byte.

Run with ``python -m convform.benchmarks.isolation_speed``. The subject returns what it is given, so that all
that is measured is the way there and back. Nothing here passes or fails.

The last columns are what is left of the quickest call after that of the smallest array, in copies of the
array in memory, of which there are two: there, and back. Python's worker shares memory with the judge, for
frames from 64 KiB on, and three copies are made in all: into it, out of it into the subject's own, and into
it again. So 1.5 is what there is to hope for, and 0.8 to 1.2 was measured at 64 MiB. From 1 to 8 MiB it was 3
to 5 (on two busy cores; an idle machine has not been tried): probably a copy by another core has to fetch
what this one has written, where a copy measured alone finds it in its own cache. Less than 2 was not reached
there, nor through a pipe (5 to 20), as programs in other languages have it: that copies twice, a page at a
time.
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
from convform.adapters.process import Limits
from convform.conformance.isolation import worker

SUBJECT = """
from convform.adapters import Adapter
echo = Adapter("echo")
echo.implements("max_pool2d", dtypes=("float64",))(lambda x, kernel, stride: x)
"""

SIZES = (16, 1 << 10, 1 << 13, 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 23)
"""Elements of the array that goes there and comes back."""


def quickest(functions: Sequence[Callable[[], object]], rounds: int) -> list[tuple[float, float]]:
    """Minimum and median of the milliseconds that each call takes; in turns, for the load varies."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds + 2):
        for function, taken in zip(functions, times, strict=True):
            started = time.perf_counter()
            function()
            taken.append(1e3 * (time.perf_counter() - started))
    # The first two rounds find no memory yet.
    return [(min(taken[2:]), statistics.median(taken[2:])) for taken in times]


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
            (call, median), (pipe, _), (copy, _) = quickest(ways, 400 if size < 1 << 16 else 25)
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
