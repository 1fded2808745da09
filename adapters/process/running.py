"""One life of a process: how it is started, how frames go there and come back, and how it ends."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
import uuid
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convform.adapters.layout import Array
from convform.adapters.process import frames, launch
from convform.adapters.process.errors import (
    CannotStart,
    ProtocolError,
    SubjectCrashed,
    SubjectTimedOut,
    printable,
)
from convform.adapters.process.sandbox import Cell, Sandbox
from convform.adapters.process.shared import ELSEWHERE, KEPT, SHARED_BYTES, VARIABLE, SharedMemory, create
from convform.adapters.process.wishes import heed


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
    cpu_seconds
        Processor time of one life of the process (``RLIMIT_CPU``).
    file_bytes, open_files
        Longest file that it writes, and files that it has open.
    processes
        Processes that it may start beside itself.
    frame_bytes
        Longest answer.
    shared_bytes
        Longest frame that lies in memory shared with a Python worker, of which only what was written to is
        taken up; 0 for none.
    """

    call_seconds: float = 10.0
    start_seconds: float = 60.0
    memory_bytes: int = 4 << 30
    cpu_seconds: int = 3600
    file_bytes: int = 1 << 28
    open_files: int = 1024
    processes: int = 64
    frame_bytes: int = frames.FRAME_BYTES
    shared_bytes: int = SHARED_BYTES

    @property
    def resources(self) -> dict[str, int]:
        """What the system itself holds a process to, by the names of the module `resource`."""
        return {
            "RLIMIT_DATA": self.memory_bytes,
            "RLIMIT_CPU": self.cpu_seconds,
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_CORE": 0,
        }


_MARK = "CONVFORM_SUBJECT"
"""Environment variable by which the children of a subject are told from other people's processes."""

_PIPE_BYTES = 1 << 20
_AT_ONCE = 1 << 16
_LAST_WORDS = 4096
_SAID_BYTES = 1 << 16
_MOST_LINES = 1 << 20


class Running:
    """One life of a process: its pipes, and how it ends.

    Parameters
    ----------
    command, limits, environment, sandbox
        As for `convform.adapters.process.client.Process`.
    worker
        Whether it is Python's own worker, which may use shared memory, and says where it is when it is
        aborted.
    """

    def __init__(
        self,
        command: Sequence[str],
        limits: Limits,
        environment: Mapping[str, str],
        sandbox: Sandbox | None = None,
        *,
        worker: bool = False,
        hides: bool = False,
    ) -> None:
        if os.name != "posix":
            raise CannotStart("a subject in its own process needs a POSIX system", "--in-process, or use WSL")
        self.limits = limits
        self.worker = worker
        self.shared = _shared(limits) if worker else None
        self.sharing = False  # until the worker has said that it has opened it
        self.request_kept = False  # whether the subject holds an array of the request that lies there
        descriptors = [memory.descriptor for memory in self.shared or ()]
        if descriptors:
            environment = {**environment, VARIABLE: " ".join(map(str, descriptors))}
        self.mark = uuid.uuid4().hex
        self.cell = Cell.make(sandbox, hides=hides) if sandbox else Cell(Sandbox("none"))
        passed = os.environ if sandbox is None else self.cell.environment()
        try:
            self.process = subprocess.Popen(
                self.cell.command(command, limits.resources),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env={**passed, **environment, _MARK: self.mark},
                pass_fds=descriptors,
                start_new_session=True,  # a group of its own, so that its children go with it
            )
        except BaseException:
            self.cell.clear()
            raise
        finally:
            for descriptor in descriptors:
                os.close(descriptor)  # the memory stays
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
        self.sending = _Sending(self.to)
        self.left_over = bytearray()  # what has come after the end of a frame
        self.in_flight = 0
        self.last_words = b""
        self.heard = 0  # bytes on standard error, in all
        self._said, self._more_lines = b"", 0
        # The last answer that lies in shared memory, while anybody holds one of its arrays.
        self._held: weakref.ref[Array] | None = None

    def _widen_pipes(self) -> None:
        """Fewer turns for large arrays, where the system allows it."""
        with contextlib.suppress(ImportError, AttributeError, OSError):
            import fcntl

            for descriptor in (self.to, self.out):
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def send(self, pieces: Sequence[memoryview], *, more: bool = False) -> None:
        """Send a frame, or as much of it as there is room for; the rest goes during `receive`.

        Where more frames follow, all of them go together: whoever waits for them wakes up once.
        """
        if not self.in_flight and (self.left_over or self.poll.poll(0)):
            self._before_it_was_asked()
        if self.sharing and self.shared and not self.request_kept and not self.in_flight:
            pieces = self.shared[0].put(pieces)
        self.in_flight += 1
        self.sending.pieces += pieces
        if not more:
            self.sending.go_on()

    def receive(self, seconds: float) -> tuple[dict[str, str], dict[str, Array]]:
        """Wait for a frame, within the deadline."""
        started = time.monotonic()
        deadline = started + seconds
        receiving = self._receiving()
        waits_for_room = False
        self.sending.go_on()
        while True:
            if self.sending.unfinished != waits_for_room:
                waits_for_room = self.sending.unfinished
                if waits_for_room:
                    self.poll.register(self.to, select.POLLOUT)
                else:
                    self.poll.unregister(self.to)
            heed()
            now = time.monotonic()
            if now >= deadline:
                if self.worker:
                    self._abort()
                raise SubjectTimedOut(f"gave no answer within {seconds:.3g} s", self.words())
            # Not longer at a time: a child may hold the pipes open when the process itself is long gone.
            wait = 0 if self.left_over else min(deadline - now, 0.05) * 1000
            events = {descriptor for descriptor, _ in self.poll.poll(wait)}
            if self.err in events:
                self._listen()
            if self.to in events:
                self.sending.go_on()
            if self.out in events or self.left_over:
                try:
                    receiving.go_on()
                    if receiving.complete:
                        answer = frames.decode(receiving.body)
                        self.request_kept = receiving.kept
                        if receiving.elsewhere:
                            self._held = weakref.ref(receiving.body)
                        break
                except frames.FrameError as error:
                    raise ProtocolError(f"answered with what is no frame: {error}", self.words()) from None
            if receiving.ended or (not events and self.has_ended()):
                self._ended(receiving)
            if not events and now - started > 0.1:
                self._count_processes()
        if waits_for_room:
            self.poll.unregister(self.to)
        self.in_flight -= 1
        self._listen()
        return answer

    def _count_processes(self) -> None:
        """End a subject that multiplies: who waits for an answer has time to count."""
        above = launch.parents()
        ours = {self.process.pid}
        while more := {child for child, parent in above.items() if parent in ours} - ours:
            ours |= more
        if len(ours) > self.limits.processes + 4:
            said = f"it has started more than {self.limits.processes} processes, so it was ended"
            raise SubjectCrashed(said, self.words())
        if sum(map(_resident_bytes, ours)) > 2 * self.limits.memory_bytes:
            raise SubjectCrashed(
                "it and what it has started take too much memory, so it was ended", self.words()
            )

    @property
    def may_share(self) -> bool:
        """Whether the next answer may overwrite the last one that lies in shared memory."""
        return self.sharing and (self._held is None or self._held() is None)

    def _receiving(self) -> _Receiving:
        shared = self.shared[1] if self.sharing and self.shared else None
        return _Receiving(self.out, self.limits.frame_bytes, self.left_over, shared)

    def _abort(self) -> None:
        """Let a worker that hangs say where: SIGABRT makes it write its traceback."""
        with contextlib.suppress(OSError):
            os.kill(self._inmost(), signal.SIGABRT)
        until = time.monotonic() + 0.3
        while not self.has_ended() and time.monotonic() < until:
            self._listen()
            time.sleep(0.005)

    def _inmost(self) -> int:
        """The process of the subject itself: those around it are bubblewrap's, or the one that waits."""
        process, above = self.process.pid, launch.parents()
        for _ in range(2 if self.cell.sandbox.kind == "bwrap" else 1):
            process = min((child for child, parent in above.items() if parent == process), default=process)
        return process

    @property
    def is_large(self) -> bool:
        """Whether the process holds a good part of the memory that it may have."""
        return _resident_bytes(self._inmost()) > self.limits.memory_bytes // 4

    def _before_it_was_asked(self) -> None:
        """Something happened since the last answer: words on standard error may, nothing else."""
        self._listen()
        receiving = self._receiving()
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
        if result is None:
            return "exit code unknown"
        number = result.si_status
        if result.si_code == os.CLD_EXITED:
            # Bubblewrap ends with 128 + N where signal N has ended what it held, as a shell does.
            number -= 128
            if self.cell.sandbox.kind != "bwrap" or number not in signal.valid_signals():
                return f"exit code {result.si_status}"
        with contextlib.suppress(ValueError):
            return f"{signal.strsignal(number)} ({signal.Signals(number).name})"
        return f"signal {number}"

    def _listen(self) -> None:
        """Keep the beginning and the end of what is said on standard error; forget the rest."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(16):  # a pipe full; who writes faster than that has an answer to give as well
                said = os.read(self.err, _PIPE_BYTES >> 4)
                if not said:
                    with contextlib.suppress(KeyError):
                        self.poll.unregister(self.err)
                    return
                self.heard += len(said)
                self.last_words = (self.last_words + said)[-_LAST_WORDS:]
                room = max(_SAID_BYTES - len(self._said), 0)
                self._said += said[:room]
                self._more_lines += said.count(b"\n", room)

    def take_said(self) -> str:
        """Return what was said on standard error since this was asked last."""
        # Of more than anybody will read, only the number of lines counts.
        said = self._said + b"\n" * min(self._more_lines, _MOST_LINES)
        self._said, self._more_lines = b"", 0
        return "\n".join(printable(line, _LAST_WORDS) for line in said.decode("utf-8", "replace").split("\n"))

    def words(self) -> str:
        """Return the end of what was said on standard error."""
        self._listen()
        return "\n".join(printable(line) for line in self.last_words.decode("utf-8", "replace").splitlines())

    def end(self, grace: float = 0.0) -> None:
        """End the process, its group, children that have left the group, and what it has written."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        until = time.monotonic() + grace
        while not self.has_ended() and time.monotonic() < until:
            time.sleep(0.002)
        if self.cell.sandbox.kind != "bwrap":  # let the one that waits for it sweep up
            self.process.terminate()
            until = time.monotonic() + 2
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
        self.cell.clear()


def _resident_bytes(process: int) -> int:
    """Memory that a process takes, where /proc tells."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return 0


def _marked(mark: str) -> Iterator[int]:
    """Processes that inherited a mark (where /proc tells)."""
    wanted = f"{_MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)


def _shared(limits: Limits) -> tuple[SharedMemory, SharedMemory] | None:
    """Memory for requests and for answers."""
    size = min(limits.shared_bytes, limits.frame_bytes)
    if size == 0:
        return None
    requests, answers = create(size), create(size)
    return None if requests is None or answers is None else (requests, answers)


class _Sending:
    """Bytes on their way into a pipe."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.pieces: list[memoryview] = []

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
    """A frame on its way out of a pipe, or announced there."""

    def __init__(
        self, descriptor: int, most: int, left_over: bytearray, shared: SharedMemory | None = None
    ) -> None:
        self.descriptor = descriptor
        self.most = most
        self.left_over = left_over
        self.shared = shared
        self.elsewhere = self.kept = False
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
                if not self.left_over:
                    came = os.read(self.descriptor, _AT_ONCE)
                    self.ended = not came
                    self.left_over += came
                self.prefix += self._taken(8 - len(self.prefix))
                if len(self.prefix) < 8:
                    return
                self._begin()
            if self.left_over and not self.complete:
                begun = self._taken(len(self.body) - self.filled)
                self.body[self.filled : self.filled + len(begun)] = np.frombuffer(begun, np.uint8)
                self.filled += len(begun)
            while not self.complete:
                count = os.readv(self.descriptor, [self.body.data[self.filled :]])
                if count == 0:
                    self.ended = True
                    return
                self.filled += count
        except BlockingIOError:
            pass

    def _taken(self, most: int) -> bytes:
        """Take bytes that are there already."""
        taken = bytes(self.left_over[:most])
        del self.left_over[:most]
        return taken

    def _begin(self) -> None:
        """Read the length, and find room for the rest."""
        (length,) = frames.PREFIX.unpack(self.prefix)
        prefix = self.prefix
        if self.shared is not None:
            self.elsewhere, self.kept = bool(length & ELSEWHERE), bool(length & KEPT)
            prefix = frames.PREFIX.pack(length & ~(ELSEWHERE | KEPT))
        if self.shared is not None and self.elsewhere:
            self.body = self.shared.get(frames.length_of(prefix, self.most))
            self.filled = len(self.body)
        else:
            self.body = np.empty(frames.length_of(prefix, self.most), np.uint8)
