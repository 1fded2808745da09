"""Judging a subject in a process of its own: the same adapter, with proxies for its functions."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convform.adapters import Adapter, AdapterError
from convform.adapters.process.client import Limits, Process, SubjectDied
from convform.conformance.subjects.guard import pass_on


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
    return _python(["serve", target], limits)


def _python(arguments: list[str], limits: Limits | None) -> Process:
    return Process(
        # -P: a homework called numpy.py in the current folder must not replace numpy.
        [sys.executable, "-P", "-m", "convform.conformance.doors.worker", *arguments],
        limits,
        greets=True,
        environment={"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
    )


def _proxy(process: Process, operator: str) -> Callable[..., Any]:
    def call(**arguments: Any) -> Any:
        try:
            return process.call(operator, arguments)
        finally:
            pass_on(*process.take_conduct())

    return call


INFERRING = "convform: inferring an adapter"
"""What a trial says on standard error when it has imported a target that has no adapter."""


def where_it_ended(last_words: str) -> str:
    """Cut what a process wrote to standard error down to the line that tells most; it may be empty."""
    before, _, frames = last_words.partition("(most recent call first):\n")
    lines = [line.strip() for line in (frames or before).splitlines() if line.strip()]
    # Python says where it was, innermost first; others say what they have to say at the end.
    return ", ".join(lines[:2]) if frames else lines[-1] if lines else ""


class DiedOfImport(AdapterError):
    """The process in which a target was tried has ended, or hung.

    Attributes
    ----------
    outcome
        ``"crashed"`` or ``"timed out"``.
    """

    def __init__(self, message: str, hint: str | None, outcome: str) -> None:
        super().__init__(message, hint)
        self.outcome = outcome


def try_import(target: str, file: Path, limits: Limits | None = None) -> None:
    """Import a target in another process, so that the judge knows what it is in for.

    Parameters
    ----------
    target
        What `convform.adapters.find` finds.
    file
        Where to write an adapter, if there is none in the target and one can be inferred.
    limits
        What the import, and the inference, may spend.

    Raises
    ------
    DiedOfImport
        If it ends or hangs its process.
    """
    trial = _python(["try", target, str(file)], limits)
    try:
        trial.start()
    except SubjectDied as died:
        inferring = INFERRING in died.last_words
        doing = "an adapter for it was inferred" if inferring else "it was imported"
        where = where_it_ended(died.last_words.replace(INFERRING, ""))
        raise DiedOfImport(
            f"{target}, while {doing}: {died}" + (f"; its last words were: {where}" if where else ""),
            "write the adapter yourself: adapter.implements(…)"
            if inferring
            else "it has not been judged: mend what it does outside of its functions",
            died.outcome,
        ) from None
    finally:
        trial.close(grace=0)
