"""Hosting: subjects in a process of their own, seen from the judge's side of the wall.

A `Hosting` says how; `hosted` starts the worker of a target and makes adapters of what it describes, whose
wrappers ask it over the protocol. The judge imports nothing of the target. `isolated` does the same for an
adapter that the judge knows already.
"""

from __future__ import annotations

import inspect
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convform.adapters import Adapter, AdapterError, Unavailable
from convform.adapters.errors import BrokenFile, NoAdapter, NotFound
from convform.adapters.find import split_target
from convform.adapters.process.client import CannotStart, Limits, Process, SubjectDied
from convform.adapters.process.description import adapters_of
from convform.adapters.process.errors import ProtocolError
from convform.adapters.process.guard import pass_on
from convform.adapters.process.sandbox import Sandbox
from convform.adapters.process.worker import Options


@dataclass(frozen=True)
class Hosting:
    """How subjects are hosted.

    Attributes
    ----------
    sandbox
        What holds them; None for code of one's own, which has the environment of the judge.
    limits
        What they may spend.
    forbid
        Modules that they may not import.
    """

    sandbox: Sandbox | None = None
    limits: Limits | None = None
    forbid: tuple[str, ...] = ()

    def process(self, options: Options) -> Process:
        """The worker of a target, not started yet; or the program that the target is."""
        place = split_target(options.target)[0]
        if is_program(place):
            return Process(
                [str(Path(place).resolve())], self.limits, describes=True, sandbox=self.sandbox, hides=True
            )
        told = replace(options, held=self.sandbox is not None and self.sandbox.kind != "none")
        return self.python(told.command(), hides=not options.trusted)

    def python(self, command: list[str], *, hides: bool) -> Process:
        """A process that speaks the protocol and runs our own Python."""
        path = {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        return Process(
            command,
            self.limits,
            describes=True,
            worker=True,
            environment=path,
            sandbox=self.sandbox,
            hides=hides,
        )


def is_program(place: str) -> bool:
    """Whether a target is a program of any language, which speaks the protocol itself."""
    if place.endswith((".py", ".ipynb")) or not os.path.isfile(place):
        return False
    return shutil.which(os.path.abspath(place)) is not None


@dataclass
class Hosted:
    """What a process offers, and the process."""

    process: Process
    adapters: list[Adapter]

    @property
    def printed(self) -> str:
        """What it printed while it was imported."""
        return self.process.printed_at_start

    def close(self) -> None:
        """End the process."""
        self.process.close()


def nothing() -> None:
    """Do nothing while a process starts."""


def hosted(hosting: Hosting, options: Options, meanwhile: Callable[[], object] = nothing) -> Hosted:
    """Start the process of a target, and ask what it offers.

    Parameters
    ----------
    hosting
        How.
    options
        The target, and what it may do.
    meanwhile
        Called while it starts.

    Raises
    ------
    AdapterError
        As `convform.adapters.find`, if that is what the worker has met; `Breach` where it did what no subject
        may; `DiedOfImport` where it has ended, or hung.
    """
    process = hosting.process(options)
    try:
        process.begin()
        meanwhile()
        answer = started(process, options.of or options.target)
        try:
            adapters = adapters_of(
                answer.get("description", ""), lambda name, operator: Proxy(process, operator, name)
            )
        except ProtocolError as error:
            raise AdapterError(
                f"{options.target}: {error}", "docs/PROTOCOL.md says what is expected"
            ) from None
        for adapter in adapters:
            alone = len(adapters) == 1 or split_target(options.target)[1] is not None
            adapter.origin = options.target if alone else f"{options.target}:{adapter.name}"
    except BaseException:
        process.close(grace=0)
        raise
    return Hosted(process, adapters)


def started(process: Process, target: str, inferring: str | None = None) -> dict[str, str]:
    """Start a process; what it says of itself, or the error that it met.

    Parameters
    ----------
    process
        The process.
    target
        What it imports.
    inferring
        What it says on standard error when that is done, and it goes on to infer an adapter.

    Raises
    ------
    AdapterError
        As of `hosted`.
    """
    try:
        return process.start()
    except CannotStart as error:
        if process.breaches:
            raise Breach(f"{target}: {process.breaches[0]}", process.breaches) from None
        met = _ERRORS.get(error.kind, AdapterError)(error.message, error.hint)
        met.add_note(error.trace)  # --traceback shows it
        raise met from None
    except SubjectDied as died:
        begun = "started" if is_program(split_target(target)[0]) else "imported"
        infers = inferring is not None and inferring in died.last_words
        where = where_it_ended(died.last_words.replace(inferring or "\0", ""))
        raise DiedOfImport(
            f"{target}, while {'an adapter for it was inferred' if infers else f'it was {begun}'}: {died}"
            + (f"; its last words were: {where}" if where else ""),
            "write the adapter yourself: adapter.implements(…)"
            if infers
            else "it has not been judged: mend what it does outside of its functions",
            died.outcome,
        ) from None


_ERRORS: dict[str, type[AdapterError]] = {
    error.__name__: error for error in (Unavailable, BrokenFile, NoAdapter, NotFound)
}


class Proxy:
    """The wrapper of an operator that lives in another process.

    Parameters
    ----------
    process
        The process.
    operator
        Name of the operator.
    adapter
        Name of its adapter, in a process that has described it; None for one that is trusted.
    """

    __signature__: inspect.Signature

    def __init__(self, process: Process, operator: str, adapter: str | None = None) -> None:
        self.process, self.operator, self.adapter = process, operator, adapter
        self.is_trusted = adapter is None
        self.waiting: dict[int, Waiting] = {}
        self.calls = 0

    def __call__(self, **arguments: Any) -> Any:
        """Ask, and wait for the answer."""
        self.calls += 1
        try:
            return self.process.call(self.operator, arguments, self.adapter)
        finally:
            pass_on(*self.process.take_conduct())

    def ask(self, case: object, arguments: dict[str, Any]) -> None:
        """Ask, and go on; the answer is fetched when the case is called."""
        self.calls += 1
        try:
            number = self.process.ask(self.operator, arguments, self.adapter, ahead=True)
        except SubjectDied:
            return  # who calls for it asks again, and hears of it
        self.waiting[id(case)] = Waiting(case, arguments, number)

    def fetch(self, waiting: Waiting) -> Any:
        """Wait for the answer to what was asked."""
        try:
            return self.process.fetch(waiting.number, self.operator, waiting.arguments, self.adapter)
        finally:
            pass_on(*self.process.take_conduct())

    def forget(self, cases: Sequence[int]) -> bool:
        """Forget cases, by identity, that were asked and never fetched; whether there were any."""
        left = [self.waiting.pop(case) for case in cases if case in self.waiting]
        if left:
            self.process.forget(waiting.number for waiting in left)
        return bool(left)


@dataclass(frozen=True)
class Waiting:
    """A case that was asked ahead: kept, so that nothing else has its identity."""

    case: object
    arguments: dict[str, Any]
    number: int


@contextmanager
def isolated(adapter: Adapter, origin: str | None = None, limits: Limits | None = None) -> Iterator[Adapter]:
    """Describe an adapter anew, so that calls go to a worker; the worker ends with the context.

    Parameters
    ----------
    adapter
        What `convform.adapters.find` has found: code that is trusted, and may end its process.
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
    functions: dict[str, Callable[..., Any]] = {
        name: Proxy(process, name) for name in adapter.implementations
    }
    try:
        yield adapter.with_functions(functions)
    finally:
        process.close()


def worker(adapter: Adapter, origin: str | None = None, limits: Limits | None = None) -> Process:
    """Describe the worker of an adapter of one's own; the first call starts it."""
    target = adapter.origin or origin
    if target is None:
        raise AdapterError(
            f"the adapter {adapter.name!r} was not loaded from anywhere, so no other process can find it",
            f"save it in a file and load it: load('hw.py:{adapter.name}')",
        )
    options = Options(target, trusted=True)
    return Hosting(limits=limits).python(options.command(), hides=False)


def where_it_ended(last_words: str) -> str:
    """Cut what a process wrote to standard error down to the line that tells most; it may be empty."""
    before, _, frames = last_words.partition("(most recent call first):\n")
    lines = [line.strip() for line in (frames or before).splitlines() if line.strip()]
    # Python says where it was, innermost first; others say what they have to say at the end.
    return ", ".join(lines[:2]) if frames else lines[-1] if lines else ""


class DiedOfImport(AdapterError):
    """The process in which a target was imported has ended, or hung.

    Attributes
    ----------
    outcome
        ``"crashed"`` or ``"timed out"``.
    """

    def __init__(self, message: str, hint: str | None, outcome: str) -> None:
        super().__init__(message, hint)
        self.outcome = outcome


class Breach(AdapterError):
    """A target did what no subject may, and could not be imported for it: it violates CONTRACT-10.

    Attributes
    ----------
    breaches
        What it did.
    """

    def __init__(self, message: str, breaches: tuple[str, ...]) -> None:
        super().__init__(message, "an implementation computes its answers itself (CONTRACT-10)")
        self.breaches = breaches
