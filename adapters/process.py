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

An exception that the subject itself raises is an answer: `RaisedElsewhere`. How requests and answers are
written is said in docs/PROTOCOL.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import uuid
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convform.adapters import frames
from convform.adapters.errors import AdapterError, NoAnswer
from convform.adapters.layout import Array


@dataclass(frozen=True)
class Limits:
    """What a subject in another process may spend.

    Attributes
    ----------
    call_seconds
        Deadline of a call.
    start_seconds
        Deadline for the start of a worker, which may have much to import.
    memory_bytes
        Private memory of the process (``RLIMIT_DATA``).
    frame_bytes
        Longest answer.
    """

    call_seconds: float = 10.0
    start_seconds: float = 60.0
    memory_bytes: int = 4 << 30
    frame_bytes: int = frames.FRAME_BYTES


class SubjectDied(Exception):
    """A process gave no answer.

    Attributes
    ----------
    outcome
        ``"crashed"`` or ``"timed out"``.
    last_words
        The end of what it wrote to standard error.
    """

    outcome = "crashed"

    def __init__(self, message: str, last_words: str = "") -> None:
        super().__init__(message)
        self.last_words = last_words


class SubjectCrashed(SubjectDied):
    """The process ended before it had answered."""


class SubjectTimedOut(SubjectDied):
    """There was no answer within the deadline."""

    outcome = "timed out"


class ProtocolError(SubjectDied):
    """What came back is no answer to what was asked."""


class CannotStart(AdapterError):
    """The program is not there, or a worker cannot load its adapter."""


class RaisedElsewhere(Exception):
    """The subject raised, in its own process; the text says what.

    Attributes
    ----------
    where
        ``file:line`` in the subject's code, or an empty text.
    """

    def __init__(self, says: str, where: str = "") -> None:
        super().__init__(says)
        self.where = where


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


class Process:
    """A program that answers requests, as `convform.adapters.worker` does.

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
        self._running: _Running | None = None
        self._bury: weakref.finalize[..., Any] | None = None
        self._earlier: dict[str, Received] = {}
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
            running = self._started()
            self._number += 1
            seconds = self.patience(operator)
            started = time.monotonic()
            metadata, arrays = running.exchange(
                frames.encode(*request(self._number, operator, arguments)), seconds
            )
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

    def close(self, grace: float = 0.2) -> None:
        """End the process, after a moment of grace, and whatever it has started; a call starts another."""
        if self._bury is not None and self._bury.detach() and self._running is not None:
            self._running.end(grace)
        self._running = self._bury = None
        self._earlier = {}

    def _started(self) -> _Running:
        if self._running is None:
            self._running = _Running(self.command, self.limits, self.environment)
            self._bury = weakref.finalize(self, self._running.end)
            if self.greets:
                metadata, _ = self._running.exchange([], self.limits.start_seconds)
                if metadata.get("wrong"):
                    raise CannotStart(
                        _printable(metadata["wrong"]), _printable(metadata.get("hint", "")) or None
                    )
        return self._running

    def _read(self, metadata: dict[str, str], arrays: dict[str, Array], arguments: Mapping[str, Any]) -> Any:
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
            said = _printable(metadata["raised"]) or "an exception"
            message = _printable(metadata.get("message", ""))
            raise RaisedElsewhere(
                said + (f": {message}" if message else ""), _printable(metadata.get("where", ""))
            )
        if "wrong" in metadata:
            return NoAnswer(_printable(metadata["wrong"]), _printable(metadata.get("hint", "")) or None)
        received = {name: array.view(Received) for name, array in arrays.items()}
        self._note_sharing(metadata.get("shares", "[]"), received, arguments)
        return received["y"] if set(received) == {"y"} else received

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
            raise ProtocolError(
                f"'shares' is {_printable(text)[:60]!r}, expected a list of triples"
            ) from None
        for name, array in received.items():
            self._earlier[f"{EARLIER}{self._number} {name}"] = array
        while len(self._earlier) > REMEMBERED:
            del self._earlier[next(iter(self._earlier))]


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


# The launcher sets limits and becomes the program: it is the same process, so signals tell how that ended.
# On Linux the program dies with the judge, should that be killed.
_LAUNCH = """
import ctypes, os, resource, signal, sys
try:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
except (AttributeError, OSError):
    pass
most = int(sys.argv[1])
for which, limit in ((resource.RLIMIT_DATA, most), (resource.RLIMIT_CORE, 0)):
    hard = resource.getrlimit(which)[1]
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(which, (limit, limit))
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]} cannot be started: {error.strerror}")
"""

_MARK = "CONVFORM_SUBJECT"
"""Environment variable by which the children of a subject are told from other people's processes."""

_PIPE_BYTES = 1 << 20
_LAST_WORDS = 4096


class _Running:
    """One life of a process: its pipes, and how it ends."""

    def __init__(self, command: Sequence[str], limits: Limits, environment: Mapping[str, str]) -> None:
        if os.name != "posix":
            raise CannotStart(
                "a subject in its own process needs a POSIX system", "leave --isolate out, or use WSL"
            )
        self.limits = limits
        self.mark = uuid.uuid4().hex
        launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(limits.memory_bytes)]
        self.process = subprocess.Popen(
            [*launch, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **environment, _MARK: self.mark},
            start_new_session=True,  # a group of its own, so that its children go with it
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.to, self.out, self.err = (
            stream.fileno() for stream in (self.process.stdin, self.process.stdout, self.process.stderr)
        )
        for descriptor in (self.to, self.out, self.err):
            os.set_blocking(descriptor, False)
        self._widen_pipes()
        self.poll = select.poll()
        self.poll.register(self.out, select.POLLIN)
        self.poll.register(self.err, select.POLLIN)
        self.last_words = b""

    def _widen_pipes(self) -> None:
        """Fewer turns for large arrays, where the system allows it."""
        with contextlib.suppress(ImportError, AttributeError, OSError):
            import fcntl

            for descriptor in (self.to, self.out):
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def exchange(
        self, pieces: Sequence[memoryview], seconds: float
    ) -> tuple[dict[str, str], dict[str, Array]]:
        """Send a frame (or nothing) and wait for one, within the deadline."""
        if pieces and self.poll.poll(0):
            self._before_it_was_asked()
        deadline = time.monotonic() + seconds
        sending = _Sending(self.to, pieces)
        receiving = _Receiving(self.out, self.limits.frame_bytes)
        waits_for_room = False
        sending.go_on()
        while True:
            if sending.unfinished != waits_for_room:
                waits_for_room = sending.unfinished
                if waits_for_room:
                    self.poll.register(self.to, select.POLLOUT)
                else:
                    self.poll.unregister(self.to)
            left = deadline - time.monotonic()
            if left <= 0:
                raise SubjectTimedOut(f"gave no answer within {seconds:.3g} s", self.words())
            # Not longer at a time: a child may hold the pipes open when the process itself is long gone.
            events = {descriptor for descriptor, _ in self.poll.poll(min(left, 0.05) * 1000)}
            if self.err in events:
                self._listen()
            if self.to in events:
                sending.go_on()
            if self.out in events:
                try:
                    receiving.go_on()
                    if receiving.complete:
                        answer = frames.decode(receiving.body)
                        break
                except frames.FrameError as error:
                    raise ProtocolError(f"answered with what is no frame: {error}", self.words()) from None
            if receiving.ended or (not events and self.has_ended()):
                self._ended(receiving)
        if waits_for_room:
            self.poll.unregister(self.to)
        return answer

    def _before_it_was_asked(self) -> None:
        """Something happened since the last answer: words on standard error may, nothing else."""
        self._listen()
        receiving = _Receiving(self.out, self.limits.frame_bytes)
        with contextlib.suppress(frames.FrameError):
            receiving.go_on()
        if receiving.ended:
            self._ended(receiving, " after its last answer, before this call")
        if receiving.begun:
            raise ProtocolError("sent more than one answer to the request before this one", self.words())

    def _ended(self, receiving: _Receiving, when: str = "") -> None:
        """The pipe is closed or the process is gone: say how."""
        until = time.monotonic() + 0.5
        while not self.has_ended() and time.monotonic() < until:
            self._listen()
            time.sleep(0.005)
        cut = " in the middle of an answer" if receiving.begun else ""
        if not self.has_ended():
            raise ProtocolError(f"closed its output{cut or ' without an answer'}{when}", self.words())
        raise SubjectCrashed(f"the process ended{cut}{when}: {self._how_it_ended()}", self.words())

    def has_ended(self) -> bool:
        """Whether the process is gone; it stays unburied, so that nobody else gets its number."""
        if self.process.returncode is not None:
            return True
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.process.pid, flags) is not None

    def _how_it_ended(self) -> str:
        result = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if result is None or result.si_code == os.CLD_EXITED:
            return f"exit code {result.si_status if result else 'unknown'}"
        number = result.si_status
        with contextlib.suppress(ValueError):
            return f"{signal.strsignal(number)} ({signal.Signals(number).name})"
        return f"signal {number}"

    def _listen(self) -> None:
        """Keep the end of what is said on standard error; forget the rest."""
        with contextlib.suppress(BlockingIOError):
            said = os.read(self.err, 1 << 16)
            if not said:
                with contextlib.suppress(KeyError):
                    self.poll.unregister(self.err)
            self.last_words = (self.last_words + said)[-_LAST_WORDS:]

    def words(self) -> str:
        """Return the end of what was said on standard error."""
        self._listen()
        return "\n".join(_printable(line) for line in self.last_words.decode("utf-8", "replace").splitlines())

    def end(self, grace: float = 0.0) -> None:
        """End the process, its group, and children that have left the group."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        until = time.monotonic() + grace
        while not self.has_ended() and time.monotonic() < until:
            time.sleep(0.002)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for child in _marked(self.mark):
            with contextlib.suppress(OSError):
                os.kill(child, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()


def _marked(mark: str) -> Iterator[int]:
    """Processes that inherited a mark (where /proc tells)."""
    wanted = f"{_MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


class _Sending:
    """Bytes on their way into a pipe."""

    def __init__(self, descriptor: int, pieces: Sequence[memoryview]) -> None:
        self.descriptor = descriptor
        self.pieces = list(pieces)

    @property
    def unfinished(self) -> bool:
        """Whether something is left to send."""
        return bool(self.pieces)

    def go_on(self) -> None:
        """Send as much as fits."""
        try:
            while self.pieces:
                sent = os.writev(self.descriptor, self.pieces[:64])
                while self.pieces and sent >= len(self.pieces[0]):
                    sent -= len(self.pieces.pop(0))
                if sent:
                    self.pieces[0] = self.pieces[0][sent:]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self.pieces = []  # it does not listen any more, but it may still answer


class _Receiving:
    """A frame on its way out of a pipe."""

    def __init__(self, descriptor: int, most: int) -> None:
        self.descriptor = descriptor
        self.most = most
        self.prefix = b""
        self.body: Array = np.empty(0, np.uint8)
        self.filled = 0
        self.ended = False

    @property
    def begun(self) -> bool:
        """Whether anything has come."""
        return bool(self.prefix)

    @property
    def complete(self) -> bool:
        """Whether all of it is there."""
        return len(self.prefix) == 8 and self.filled == len(self.body)

    def go_on(self) -> None:
        """Read what is there.

        Raises
        ------
        FrameError
            If the length is out of bounds; memory is asked for only afterwards.
        """
        try:
            if len(self.prefix) < 8:
                came = os.read(self.descriptor, 8 - len(self.prefix))
                self.ended = not came
                self.prefix += came
                if len(self.prefix) < 8:
                    return
                self.body = np.empty(frames.length_of(self.prefix, self.most), np.uint8)
            while not self.complete:
                count = os.readv(self.descriptor, [self.body.data[self.filled :]])
                if count == 0:
                    self.ended = True
                    return
                self.filled += count
        except BlockingIOError:
            pass


def _printable(text: str, longest: int = 300) -> str:
    """Cut what another process wrote to a length that can be shown, without control characters."""
    return "".join(c if c.isprintable() else " " for c in text[:longest])
