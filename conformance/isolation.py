"""Judging a subject in a process of its own: the same adapter, with proxies for its functions."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from convform.adapters import Adapter, AdapterError
from convform.adapters.process import Limits, Process


@contextmanager
def isolated(adapter: Adapter, origin: str | None = None, limits: Limits | None = None) -> Iterator[Adapter]:
    """Describe an adapter anew, so that calls go to a worker; the worker ends with the context.

    Parameters
    ----------
    adapter
        What `convform.adapters.find` has found.
    origin
        What the worker finds it by; None means where it was found.
    limits
        What the worker may spend.

    Raises
    ------
    AdapterError
        If it is not known where another process could find the adapter.
    """
    process = worker(adapter, origin, limits)
    functions = {
        name: _proxy(process, name)
        for name, implementation in adapter.implementations.items()
        if not getattr(implementation.function, "in_own_process", False)
    }
    try:
        yield adapter.with_functions(functions)
    finally:
        process.close()


def worker(adapter: Adapter, origin: str | None = None, limits: Limits | None = None) -> Process:
    """Describe the worker of an adapter; the first call starts it."""
    target = adapter.origin or origin
    if target is None:
        raise AdapterError(
            f"the adapter {adapter.name!r} was not loaded from anywhere, so no other process can find it",
            f"save it in a file and load it: load('hw.py:{adapter.name}')",
        )
    return Process(
        # -P: a homework called numpy.py in the current folder must not replace numpy.
        [sys.executable, "-P", "-m", "convform.adapters.worker", target],
        limits,
        greets=True,
        environment={"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
    )


def _proxy(process: Process, operator: str) -> Callable[..., Any]:
    def call(**arguments: Any) -> Any:
        return process.call(operator, arguments)

    return call
