"""What it costs to judge a subject in its own process: per call, and per byte.

Run with ``python -m convform.benchmarks.isolation_speed``. The subject returns what it is given, so that all
that is measured is the way there and back. Nothing here passes or fails.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from convform.adapters import load
from convform.conformance.isolation import isolated

SUBJECT = """
from convform.adapters import Adapter
echo = Adapter("echo")
echo.implements("max_pool2d", dtypes=("float64",))(lambda x, kernel, stride: x)
"""

SIZES = (16, 1 << 10, 1 << 14, 1 << 17, 1 << 20, 1 << 23)
"""Elements of the array that goes there and comes back."""


def milliseconds(function: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median and minimum of the time for a call."""
    function()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times), min(times)


def main() -> None:
    """Print the table."""
    table = Table("array", "call ms (median, min)", "copy ms", "call / copies", title="there and back")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "echo.py"
        file.write_text(SUBJECT, encoding="utf-8")
        with isolated(load(str(file))) as adapter:
            echo = adapter["max_pool2d"]
            for size in SIZES:
                x = np.arange(float(size)).reshape(1, 1, 1, -1)
                rounds = 400 if size < 1 << 16 else 20
                call, fastest = milliseconds(lambda x=x: echo(x=x, kernel=(1, 1), stride=(1, 1)), rounds)  # type: ignore[misc]
                copy, quickest = milliseconds(lambda x=x: x.copy(), rounds)  # type: ignore[misc]
                # The array is copied there, and copied back.
                table.add_row(
                    f"{x.nbytes / 2**20:.3g} MiB" if x.nbytes >= 1 << 17 else f"{x.nbytes} bytes",
                    f"{call:.3f}  {fastest:.3f}",
                    f"{copy:.4f}",
                    f"{fastest / (2 * quickest):.1f}",
                )
    Console().print(table)


if __name__ == "__main__":
    main()
