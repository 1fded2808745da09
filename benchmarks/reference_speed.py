"""Speed of the fast reference operators beside torch, and the memory that a convolution takes.

Run ``python -m convform.benchmarks.reference_speed``. Each line is a layer of a network in float64 on the
processor; both sides run in this process, in stretches by turns, and the median of all calls counts. A
ratio below 1 means that the reference is faster. Ratios are printed, not tested: they belong to the machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

import convform.reference as reference

# Shape of x, "n c h w", and output channels; every kernel is 3 × 3.
LAYERS = (
    ((10, 8, 32, 32), 16),
    ((100, 8, 32, 32), 16),
    ((32, 64, 56, 56), 64),
    ((4, 32, 64, 64), 32),
    ((8, 128, 28, 28), 128),
)
# Kernel, stride and padding of the pooling windows: two defaults, and what networks have besides.
POOLS = ((2, 2, 0), (3, 3, 0), (3, 2, 1), (3, 1, 1))
# Stretches of repetitions in which each side is measured.
STRETCHES = 3


class Contest(NamedTuple):
    """One operator on one layer, as a call of ours and one of torch's that compute the same."""

    operator: str
    ours: Callable[[], Any]
    theirs: Callable[[], Any]


def contests(shape: tuple[int, ...], outputs: int) -> Iterator[Contest]:
    """Yield every contest on one layer."""
    import torch
    from torch.nn import functional

    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(shape), rng.standard_normal((outputs, shape[1], 3, 3))
    tx, tw = torch.from_numpy(x), torch.from_numpy(w)
    for p in (0, 1):
        yield Contest(
            f"conv k3 p{p}",
            lambda p=p: reference.conv(x, w, padding=p),  # type: ignore[misc]
            lambda p=p: functional.conv2d(tx, tw, padding=p),  # type: ignore[misc]
        )
    cols = reference.im2col(x, 3, padding=1)
    tcols = torch.from_numpy(cols)
    yield Contest(
        "im2col k3 p1",
        lambda: reference.im2col(x, 3, padding=1),
        lambda: functional.unfold(tx, 3, padding=1),
    )
    yield Contest(
        "col2im k3 p1",
        lambda: reference.col2im(cols, shape, 3, padding=1),
        lambda: functional.fold(tcols, shape[2:], 3, padding=1),
    )
    for k, s, p in POOLS:
        yield Contest(
            f"max k{k} s{s} p{p}",
            lambda k=k, s=s, p=p: reference.max_pool_values(x, k, stride=s, padding=p),  # type: ignore[misc]
            lambda k=k, s=s, p=p: functional.max_pool2d(tx, k, s, p),  # type: ignore[misc]
        )
    for k, s, p in POOLS:
        yield Contest(
            f"avg k{k} s{s} p{p}",
            lambda k=k, s=s, p=p: reference.avg_pool(x, k, stride=s, padding=p),  # type: ignore[misc]
            lambda k=k, s=s, p=p: functional.avg_pool2d(tx, k, s, p),  # type: ignore[misc]
        )


def medians(contest: Contest, repetitions: int) -> tuple[float, float]:
    """Measure both sides in stretches and give the median milliseconds of each.

    Torch's threads go on spinning for a while after a call, so a single call of ours between two of
    torch's would have one core less.
    """
    seconds: tuple[list[float], list[float]] = [], []
    for _ in range(STRETCHES):
        for side, call in enumerate((contest.ours, contest.theirs)):
            call()  # warms up
            for _ in range(repetitions):
                start = time.perf_counter()
                call()
                seconds[side].append(time.perf_counter() - start)
    return 1e3 * statistics.median(seconds[0]), 1e3 * statistics.median(seconds[1])


def extra_memory(shape: tuple[int, ...], outputs: int) -> float:
    """Give the peak MiB that a convolution with padding 1 allocates beyond its output."""
    x, w = np.ones(shape), np.ones((outputs, shape[1], 3, 3))
    tracemalloc.start()
    try:
        y = reference.conv(x, w, padding=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return float(peak - y.nbytes) / 2**20


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Speed of the reference beside torch (float64, CPU).")
    parser.add_argument(
        "--repetitions",
        type=int,
        default=9,
        help="measurements of each side in each of 3 stretches (default 9)",
    )
    repetitions = parser.parse_args().repetitions
    console = Console(width=max(Console().width, 150))
    try:
        import torch
    except ModuleNotFoundError:
        console.print("torch is not installed: pip install 'convform\\[torch]'")
        raise SystemExit(3) from None

    ratios: dict[str, list[float]] = {}
    rows: dict[str, list[str]] = {}
    with torch.no_grad():
        for shape, outputs in LAYERS:
            for contest in contests(shape, outputs):
                ours, theirs = medians(contest, repetitions)
                ratios.setdefault(contest.operator, []).append(ours / theirs)
                rows.setdefault(contest.operator, []).append(f"{ours:.2f}/{theirs:.2f}={ours / theirs:.2f}")
    layers = [f"{'×'.join(map(str, shape))}→{outputs}" for shape, outputs in LAYERS]
    table = Table(
        "operator",
        *layers,
        "geometric mean",
        title=f"reference / torch {torch.__version__}, ms/ms=ratio "
        f"(numpy {np.__version__}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads)",
    )
    for operator, cells in rows.items():
        table.add_row(operator, *cells, f"{statistics.geometric_mean(ratios[operator]):.2f}")
    table.add_section()
    table.add_row("conv, extra MiB", *(f"{extra_memory(*layer):.1f}" for layer in LAYERS))
    console.print(table)
    for family in ("conv", "im2col", "col2im", "max", "avg"):
        pooled = [ratio for name, values in ratios.items() if name.startswith(family) for ratio in values]
        console.print(f"{family:>7}: geometric mean of all lines {statistics.geometric_mean(pooled):.2f}")


if __name__ == "__main__":
    main()
