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

import contextlib
import json
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    printable_lines,
)
from convform.adapters.process.running import Limits, Running
from convform.adapters.process.sandbox import Sandbox

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


DESCRIBE = "describe"
"""What is asked for before anything else: the operator of request 0."""


class Process:
    """A program that answers requests, as `convform.adapters.process.worker` does.

    Parameters
    ----------
    command
        The program and its arguments.
    limits
        What it may spend.
    describes
        Whether it says, before anything else, what it offers: it is asked for that when it starts.
    worker
        Whether it is Python's own worker.
    environment
        Environment variables beside those of this process, or of the sandbox.
    sandbox
        What holds it; None for a plain process that has the environment of this one.
    hides
        Whether it cannot read the standard's answers, where the sandbox can see to that.
    """

    def __init__(
        self,
        command: Sequence[str],
        limits: Limits | None = None,
        *,
        describes: bool = False,
        worker: bool = False,
        environment: Mapping[str, str] | None = None,
        sandbox: Sandbox | None = None,
        hides: bool = False,
    ) -> None:
        self.command = tuple(command)
        self.limits = limits or Limits()
        self.describes, self.worker = describes, worker
        self.environment = dict(environment or {})
        self.sandbox, self.hides = sandbox, hides
        self.deaths = 0
        self.printed_at_start = ""
        self._number = 0
        self._asked = 0  # of the process that runs
        self._greeting: dict[str, str] = {}
        self._introduced = False
        self._running: Running | None = None
        self._bury: weakref.finalize[..., Any] | None = None
        self._earlier: dict[str, Received] = {}
        self._remarks: list[tuple[str, str]] = []
        self._breaches: list[str] = []
        self._bare = 0
        # Requests whose answers have not come, oldest first; and answers that nobody has fetched yet.
        self._ahead: dict[int, str] = {}
        self._early: dict[int, tuple[dict[str, str], dict[str, Array]] | SubjectDied] = {}
        # A subject that hangs is not waited for as long the next time, or a run would never end.
        self._slowest = 0.0
        self._timeouts: dict[str, int] = {}

    def call(self, operator: str, arguments: Mapping[str, Any], adapter: str | None = None) -> Any:
        """Ask for one answer.

        Parameters
        ----------
        operator
            Name of the operator.
        arguments
            What the wrapper is called with: arrays, integers, tuples of them, booleans, None. Arrays that
            the call modified over there are modified here.
        adapter
            Name of the adapter that is meant, where the process describes several.

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
        return self.fetch(self.ask(operator, arguments, adapter), operator, arguments, adapter)

    def ask(
        self, operator: str, arguments: Mapping[str, Any], adapter: str | None = None, *, ahead: bool = False
    ) -> int:
        """Send a request; return its number, for `fetch`.

        Parameters
        ----------
        operator, arguments, adapter
            As of `call`.
        ahead
            Whether other requests may follow before the answer is fetched: large arrays then go through the
            pipe, too.
        """
        if not ahead:
            self._drain()
        running = self._started()
        self._number += 1
        self._asked += 1
        said, sent = request(self._number, operator, arguments)
        if adapter is not None:
            said["adapter"] = adapter
        if running.sharing and (ahead or not running.may_share):
            said["answer"] = "pipe"
        with self._burying():
            running.send(frames.encode(said, sent), more=ahead)
        self._ahead[self._number] = operator
        return self._number

    def fetch(
        self, number: int, operator: str, arguments: Mapping[str, Any], adapter: str | None = None
    ) -> Any:
        """Wait for the answer to a request, as `call` does."""
        try:
            try:
                return self._fetch(number, operator, arguments, adapter)
            except RaisedElsewhere as error:
                # NumPy's own is called _ArrayMemoryError.
                short = error.kind.endswith("MemoryError") and self._running is not None
                if not (short and self._asked > 1 and self._running.is_large):  # type: ignore[union-attr]
                    raise
            # What a library keeps of earlier calls takes of the memory that it may have, which is our limit
            # and not its own: in a fresh process, it has all of that for this call.
            self.close(grace=0)
            return self._fetch(self.ask(operator, arguments, adapter), operator, arguments, adapter)
        except SubjectDied:
            self.close(grace=0)
            raise

    def _fetch(self, number: int, operator: str, arguments: Mapping[str, Any], adapter: str | None) -> Any:
        while number in self._ahead:
            self._await_next()
        answer = self._early.pop(number, None)
        if answer is None:  # the process has ended in a request before this one
            return self._fetch(self.ask(operator, arguments, adapter), operator, arguments, adapter)
        if isinstance(answer, SubjectDied):
            raise answer
        with self._burying():
            return self._read(number, *answer, arguments)

    def _await_next(self) -> None:
        """Wait for the answer to the oldest request; where none comes, that is what there is to fetch."""
        number, operator = next(iter(self._ahead.items()))
        running = self._started()
        started = time.monotonic()
        try:
            with self._burying():
                metadata, arrays = running.receive(self.patience(operator))
                if metadata.get("request") != str(number):
                    said = repr(metadata["request"][:20]) if "request" in metadata else "none"
                    raise ProtocolError(f"answered request {said} when it was asked request '{number}'")
                self._note_conduct(metadata, running)
        except SubjectDied as died:
            if isinstance(died, SubjectTimedOut):
                self._timeouts[operator] = self._timeouts.get(operator, 0) + 1
            self._early[number] = died
            return
        self._slowest = max(self._slowest, time.monotonic() - started)
        del self._ahead[number]
        self._early[number] = metadata, arrays

    def go(self) -> None:
        """Let what was asked ahead go: the subject works while nobody waits for it yet."""
        if self._running is not None:
            self._running.sending.go_on()

    def forget(self, numbers: Iterable[int]) -> None:
        """Wait for answers that nobody will fetch, and forget them."""
        self._drain()
        for number in numbers:
            self._early.pop(number, None)

    def _drain(self) -> None:
        """Wait for all that was asked ahead; who fetches it later finds it."""
        while self._ahead:
            self._await_next()

    @contextlib.contextmanager
    def _burying(self) -> Iterator[None]:
        """End the process where something goes wrong, for its pipe is of no more use then."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, RaisedElsewhere):
                self.deaths += isinstance(error, SubjectDied)
                self.close(grace=0)
            raise

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

    @property
    def breaches(self) -> tuple[str, ...]:
        """What the subject tried that no subject may, in the order in which it did."""
        return tuple(dict.fromkeys(self._breaches))

    def note_breaches(self, breaches: Sequence[str]) -> None:
        """Note what the same subject tried in another process."""
        self._breaches += breaches

    def start(self) -> dict[str, str]:
        """Start the process, unless it runs; return what it said when it was asked what it offers.

        Raises
        ------
        CannotStart
            If it says that it cannot serve.
        SubjectDied
            If it ends or hangs instead.
        """
        self._started()
        return self._greeting

    def close(self, grace: float = 0.2) -> None:
        """End the process, after a moment of grace, and whatever it has started; a call starts another."""
        running, self._running = self._running, None
        if self._bury is not None and self._bury.detach() and running is not None:
            running.end(grace)
        self._bury = None
        self._earlier = {}
        self._ahead = {}

    def begin(self) -> None:
        """Start the process, and ask what it offers; whoever needs it waits for that."""
        if self._running is not None:
            return
        self._running = running = Running(
            self.command, self.limits, self.environment, self.sandbox, worker=self.worker, hides=self.hides
        )
        self._bury = weakref.finalize(self, running.end)
        self._asked = self._bare = 0
        self._introduced = not self.describes
        if self.describes:
            with self._burying():
                running.send(frames.encode({"request": "0", "operator": DESCRIBE, "convform": "1"}, {}))

    def _started(self) -> Running:
        self.begin()
        running = self._running
        assert running is not None
        if self._introduced:
            return running
        with self._burying():
            said, _ = running.receive(self.limits.start_seconds)
            self._note_conduct(said, running)
            if said.get("wrong"):
                hint = printable(said.get("hint", "")) or None
                trace = printable_lines(said.get("traceback", ""))
                raise CannotStart(printable(said["wrong"]), hint, said.get("kind", ""), trace)
            if said.get("request") != "0":
                raise ProtocolError("did not answer request '0', which asks what it offers")
        self._introduced = True
        running.sharing = self.worker and "shared" in said
        self._greeting = said
        self.printed_at_start = running.take_said()
        return running

    def _read(
        self, number: int, metadata: dict[str, str], arrays: dict[str, Array], arguments: Mapping[str, Any]
    ) -> Any:
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
                said + (f": {message}" if message else ""),
                printable(metadata.get("where", "")),
                said,
                printable_lines(metadata.get("traceback", "")),
            )
        if "wrong" in metadata:
            return NoAnswer(printable(metadata["wrong"]), printable(metadata.get("hint", "")) or None)
        arrays = _unusual(metadata, arrays)
        # Small arrays are kept for longer, and must not keep the memory that large ones are shared in.
        received = {
            name: (array.copy() if array.nbytes <= WATCHED_BYTES else array).view(Received)
            for name, array in arrays.items()
        }
        self._note_sharing(number, metadata.get("shares", "[]"), received, arguments)
        return received["y"] if set(received) == {"y"} else received

    def _note_conduct(self, metadata: Mapping[str, str], running: Running) -> None:
        """Note what a worker says that its subject has done besides answering."""
        self._note_remarks(metadata.get("remarks", "[]"))
        try:
            breaches = json.loads(metadata.get("breaches", "[]"))
            new = [printable(str(says)) for says in breaches[:20]]
            self._remarks += [(says, "") for says in dict.fromkeys(new) if says not in self._breaches]
            self._breaches += new
            aloud = int(metadata.get("aloud", "-1"))
        except (ValueError, TypeError, RecursionError):
            raise ProtocolError("'breaches' is no list of texts, or 'aloud' no number") from None
        # While other answers are under way, what belongs to them may have been heard already.
        if aloud >= 0 and not running.in_flight and running.heard > aloud + self._bare:
            self._bare = running.heard - aloud
            self._remarks.append(("wrote to descriptor 1 or 2, past Python's streams", ""))

    def _note_remarks(self, text: str) -> None:
        """Note what a worker says of a call: ``[["read standard input, …", "conv2d"], …]``."""
        try:
            remarks = [(printable(str(says)), printable(str(who))) for says, who in json.loads(text)[:100]]
        except (ValueError, TypeError, RecursionError):
            raise ProtocolError(f"'remarks' is {printable(text)[:60]!r}, expected a list of pairs") from None
        self._remarks += remarks[:100]

    def _note_sharing(
        self, number: int, text: str, received: Mapping[str, Received], arguments: Mapping[str, Any]
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
                self._earlier[f"{EARLIER}{number} {name}"] = array
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
