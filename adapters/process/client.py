"""A subject in a process of its own: started, asked, watched, and buried.

`Process.call` sends a request and waits for the answer. Whatever goes wrong on the other side ends in one of
three ways, all of them a `SubjectDied`; the next call starts a new process:

==================================================  ===================
what happens                                        error
==================================================  ===================
the process ends before it has answered             `SubjectCrashed`
there is no answer when the deadline is over        `SubjectTimedOut`
what comes back is no answer to what was asked      `ProtocolError`
==================================================  ===================

An exception that the subject itself raises is an answer: `RaisedElsewhere`; after a MemoryError, a fresh
process is asked once more. How requests and answers are written is said in docs/PROTOCOL.md. Pipes, deadlines
and the end of a process are the matter of `process_running`, errors of `process_errors`, large arrays of
`process_shared`.
"""

from __future__ import annotations

import json
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convform.adapters.errors import NoAnswer
from convform.adapters.layout import Array
from convform.adapters.process import frames
from convform.adapters.process.errors import (
    CannotStart,
    ProtocolError,
    RaisedElsewhere,
    SubjectCrashed,
    SubjectDied,
    SubjectTimedOut,
    printable,
)
from convform.adapters.process.running import Limits, Running

__all__ = [
    "AFTER",
    "EARLIER",
    "REMEMBERED",
    "UNUSUAL_DTYPES",
    "WATCHED_BYTES",
    "CannotStart",
    "Limits",
    "Process",
    "ProtocolError",
    "RaisedElsewhere",
    "Received",
    "SubjectCrashed",
    "SubjectDied",
    "SubjectTimedOut",
    "request",
    "share_elsewhere",
    "share_memory",
]


class Received(np.ndarray):
    """An array that came out of another process.

    Attributes
    ----------
    shares_with
        Weak references to the arrays here whose counterparts over there lie in the same memory.
    """

    shares_with: tuple[weakref.ref[Array], ...] = ()


def share_memory(a: Array, b: Array) -> bool:
    """Whether two arrays share memory, here or in the process that they came from."""
    return np.may_share_memory(a, b) or share_elsewhere(a, b)


def share_elsewhere(a: Array, b: Array) -> bool:
    """Whether two arrays share memory in the process that they came from."""
    return any(
        isinstance(one, Received) and any(partner() is other for partner in one.shares_with)
        for one, other in ((a, b), (b, a))
    )


AFTER = "after "
"""Before the name of an argument: how the call has left it."""

EARLIER = "earlier "
"""Before the number of an earlier request and the name of its output: how this call has left that."""

REMEMBERED = 12
"""Arrays of earlier answers that are watched."""

WATCHED_BYTES = 1 << 16
"""Arguments and answers up to this size are watched for side effects; laws about those use small arrays."""

UNUSUAL_DTYPES = ("complex64", "complex128", "longdouble", "clongdouble", "object")
"""Dtypes of answers that no frame can hold: their cells travel as what their bytes or values are."""


class Process:
    """A program that answers requests, as `convform.adapters.process.worker` does.

    Parameters
    ----------
    command
        The program and its arguments.
    limits
        What it may spend.
    greets
        Whether it sends an answer to request 0, unasked, once it is ready.
    environment
        Environment variables beside those of this process.
    """

    def __init__(
        self,
        command: Sequence[str],
        limits: Limits | None = None,
        *,
        greets: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = tuple(command)
        self.limits = limits or Limits()
        self.greets = greets
        self.environment = dict(environment or {})
        self.deaths = 0
        self._number = 0
        self._asked = 0  # of the process that runs
        self._greeting: dict[str, str] = {}
        self._running: Running | None = None
        self._bury: weakref.finalize[..., Any] | None = None
        self._earlier: dict[str, Received] = {}
        self._remarks: list[tuple[str, str]] = []
        # A subject that hangs is not waited for as long the next time, or a run would never end.
        self._slowest = 0.0
        self._timeouts: dict[str, int] = {}

    def call(self, operator: str, arguments: Mapping[str, Any]) -> Any:
        """Ask for one answer.

        Parameters
        ----------
        operator
            Name of the operator.
        arguments
            What the wrapper is called with: arrays, integers, tuples of them, booleans, None. Arrays that
            the call modified over there are modified here.

        Returns
        -------
        numpy.ndarray or dict of numpy.ndarray or NoAnswer
            The array y, or all arrays by name.

        Raises
        ------
        SubjectDied
            If no answer came; the process is gone.
        RaisedElsewhere
            If the subject raised.
        CannotStart
            If the process could not be started.
        """
        try:
            return self._ask(operator, arguments)
        except RaisedElsewhere as error:
            # NumPy's own is called _ArrayMemoryError.
            if self._asked == 1 or not error.kind.endswith("MemoryError"):
                raise
        # What a library keeps of earlier calls takes of the memory that it may have, which is our limit and
        # not its own: in a fresh process, it has all of that for this call.
        self.close(grace=0)
        return self._ask(operator, arguments)

    def _ask(self, operator: str, arguments: Mapping[str, Any]) -> Any:
        """Ask once."""
        try:
            running = self._started()
            self._number += 1
            self._asked += 1
            seconds = self.patience(operator)
            started = time.monotonic()
            said, sent = request(self._number, operator, arguments)
            if running.sharing and not running.may_share:
                said["answer"] = "pipe"
            metadata, arrays = running.exchange(frames.encode(said, sent), seconds)
            answer = self._read(metadata, arrays, arguments)
            self._slowest = max(self._slowest, time.monotonic() - started)
        except SubjectDied as died:
            if isinstance(died, SubjectTimedOut):
                self._timeouts[operator] = self._timeouts.get(operator, 0) + 1
            self.deaths += 1
            self.close(grace=0)
            raise
        except BaseException as error:
            if not isinstance(error, RaisedElsewhere):
                self.close(grace=0)  # interrupted in the middle of a frame: the pipe is of no more use
            raise
        return answer

    def patience(self, operator: str) -> float:
        """Seconds that the next call may take: fewer, the more often its operator has hung."""
        full = self.limits.call_seconds
        shorter = full * 0.5 ** self._timeouts.get(operator, 0)
        return min(full, max(shorter, 1.0, 10 * self._slowest))

    def take_conduct(self) -> tuple[str, list[tuple[str, str]]]:
        """Return what the subject did besides answering, since this was asked last.

        Returns
        -------
        printed
            What it wrote to standard error, and a Python subject to standard output.
        remarks
            What a worker has noticed, as sentences with the names of operators (or empty texts).
        """
        printed = self._running.take_said() if self._running is not None else ""
        remarks, self._remarks = self._remarks, []
        return printed, remarks

    def start(self) -> dict[str, str]:
        """Start the process, unless it runs; return what it said in its greeting.

        Raises
        ------
        CannotStart
            If it says that it cannot serve.
        SubjectDied
            If it ends or hangs instead.
        """
        try:
            self._started()
        except BaseException:
            self.close(grace=0)
            raise
        return self._greeting

    def close(self, grace: float = 0.2) -> None:
        """End the process, after a moment of grace, and whatever it has started; a call starts another."""
        if self._bury is not None and self._bury.detach() and self._running is not None:
            self._running.end(grace)
        self._running = self._bury = None
        self._earlier = {}

    def _started(self) -> Running:
        if self._running is None:
            self._running = Running(self.command, self.limits, self.environment, greets=self.greets)
            self._bury = weakref.finalize(self, self._running.end)
            self._asked = 0
            if self.greets:
                self._greeting, _ = self._running.exchange([], self.limits.start_seconds)
                if self._greeting.get("wrong"):
                    raise CannotStart(
                        printable(self._greeting["wrong"]),
                        printable(self._greeting.get("hint", "")) or None,
                    )
                self._running.sharing = "shared" in self._greeting
                self._running.take_said()  # what it prints while it is imported is known to the judge
        return self._running

    def _read(self, metadata: dict[str, str], arrays: dict[str, Array], arguments: Mapping[str, Any]) -> Any:
        self._note_remarks(metadata.get("remarks", "[]"))
        if metadata.get("request") != str(self._number):
            said = repr(metadata["request"][:20]) if "request" in metadata else "none"
            raise ProtocolError(f"answered request {said} when it was asked request '{self._number}'")
        for name, argument in arguments.items():
            after = arrays.pop(AFTER + name, None)
            if after is not None and isinstance(argument, np.ndarray) and argument.flags.writeable:
                if (after.shape, after.dtype) != (argument.shape, argument.dtype):
                    raise ProtocolError(f"the argument {name} came back with another shape or dtype")
                argument[...] = after
        for name in [name for name in arrays if name.startswith(EARLIER)]:
            now, earlier = arrays.pop(name), self._earlier.get(name)
            if earlier is not None and (now.shape, now.dtype) == (earlier.shape, earlier.dtype):
                earlier[...] = now
        if "raised" in metadata:
            said = printable(metadata["raised"]) or "an exception"
            message = printable(metadata.get("message", ""))
            raise RaisedElsewhere(
                said + (f": {message}" if message else ""), printable(metadata.get("where", "")), said
            )
        if "wrong" in metadata:
            return NoAnswer(printable(metadata["wrong"]), printable(metadata.get("hint", "")) or None)
        arrays = _unusual(metadata, arrays)
        # Small arrays are kept for longer, and must not keep the memory that large ones are shared in.
        received = {
            name: (array.copy() if array.nbytes <= WATCHED_BYTES else array).view(Received)
            for name, array in arrays.items()
        }
        self._note_sharing(metadata.get("shares", "[]"), received, arguments)
        return received["y"] if set(received) == {"y"} else received

    def _note_remarks(self, text: str) -> None:
        """Note what a worker says of a call: ``[["read standard input, …", "conv2d"], …]``."""
        try:
            remarks = [(printable(says), printable(operator)) for says, operator in json.loads(text)]
        except (ValueError, TypeError, RecursionError):
            raise ProtocolError(f"'remarks' is {printable(text)[:60]!r}, expected a list of pairs") from None
        self._remarks += remarks[:100]

    def _note_sharing(
        self, text: str, received: Mapping[str, Received], arguments: Mapping[str, Any]
    ) -> None:
        """Note which arrays lie in the same memory over there: ``[["y", "argument", "x"], …]``."""
        try:
            shares = json.loads(text)
            for name, kind, other in shares:
                known = {"argument": arguments, "result": received, "earlier": self._earlier}[kind]
                if other in known:
                    received[name].shares_with += (weakref.ref(known[other]),)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ProtocolError(f"'shares' is {printable(text)[:60]!r}, expected a list of triples") from None
        for name, array in received.items():
            if array.nbytes <= WATCHED_BYTES:
                self._earlier[f"{EARLIER}{self._number} {name}"] = array
        while len(self._earlier) > REMEMBERED:
            del self._earlier[next(iter(self._earlier))]


def _unusual(metadata: Mapping[str, str], arrays: dict[str, Array]) -> dict[str, Array]:
    """Give arrays the dtypes that no frame can hold: ``{"y": "complex128"}`` beside the bytes of y."""
    try:
        named = json.loads(metadata.get("dtypes", "{}"))
        for name, dtype in named.items():
            if dtype not in UNUSUAL_DTYPES:
                raise ValueError
            cells = arrays[name]
            if dtype == "object":
                arrays[name] = cells.astype(object)
            else:
                arrays[name] = cells.copy().view(dtype)[..., 0]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        said = printable(metadata["dtypes"])[:60]
        raise ProtocolError(f"'dtypes' is {said!r}, which does not go with the arrays") from None
    return arrays


def request(
    number: int, operator: str, arguments: Mapping[str, Any]
) -> tuple[dict[str, str], dict[str, Array]]:
    """Write a request as text and arrays."""
    metadata = {"request": str(number), "operator": operator}
    arrays: dict[str, Array] = {}
    unusual: dict[str, list[int]] = {}
    read_only: list[str] = []
    for name, value in arguments.items():
        if not isinstance(value, np.ndarray):
            metadata[name] = json.dumps(value)
            continue
        arrays[name] = value
        if not value.flags.c_contiguous:
            unusual[name] = list(value.strides)
        if not value.flags.writeable:
            read_only.append(name)
    if unusual:
        metadata["strides"] = json.dumps(unusual)
    if read_only:
        metadata["read_only"] = json.dumps(read_only)
    return metadata, arrays
