"""Work in blocks that fit into a cache, and large batches in threads."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

# Blocks of this size were the fastest on machines with 1 to 2 MiB of cache for each core.
BLOCK_BYTES = 1 << 20
# Copying and adding is limited by memory: more threads than these gain nothing, and starting them and
# passing the interpreter around takes longer than reading or writing less than this.
MOST_THREADS = min(4, os.cpu_count() or 1)
THREAD_BYTES = 16 << 20


def tiles(shape: Sequence[int], most: int) -> Iterator[tuple[slice, ...]]:
    """Cut an index space into boxes of at most `most` places (at least one).

    The boxes are whole along the trailing axes, so each is one contiguous stretch of the row-major order
    of the axes behind the first that it cuts.

    Examples
    --------
    >>> list(tiles((2, 3), 3))
    [(slice(0, 1, None), slice(0, 3, None)), (slice(1, 2, None), slice(0, 3, None))]
    """
    cuts: list[list[slice]] = []
    for size in reversed(shape):
        step = max(1, min(size, most))
        cuts.insert(0, [slice(start, min(start + step, size)) for start in range(0, size, step)])
        most //= step
    return itertools.product(*cuts)


def in_threads(work: Callable[[int, int], None], length: int, nbytes: int) -> None:
    """Call ``work(start, stop)`` for stretches that make up range(length), in threads if it is worth it.

    Parameters
    ----------
    work
        Does its stretch and writes nowhere else. NumPy lets other threads run while it copies and computes.
    length
        Number of samples, or of whatever else is independent.
    nbytes
        Size of the arrays that are read and written: small ones are done in one stretch, here.
    """
    threads = min(MOST_THREADS, length, nbytes // THREAD_BYTES)
    if threads <= 1:
        work(0, length)
        return
    bounds = [length * part // threads for part in range(threads + 1)]
    # Threads live for one call: nothing is left behind that a fork could break.
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, bounds[:-1], bounds[1:]):
            pass
