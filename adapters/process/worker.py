"""The worker: serves the wrappers of the adapters of one target to a judge in another process.

``python -m convform.adapters.process.worker OPTIONS`` answers each request on standard input with one frame
on standard output until its input ends; see docs/PROTOCOL.md. The first request asks what it offers: only
then is the subject imported. It knows no law and no answer.
"""

from __future__ import annotations

import faulthandler
import itertools
import json
import os
import random
import sys
import traceback
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convform.adapters.adapter import Adapter
from convform.adapters.errors import AdapterError, ReturnedWrong
from convform.adapters.find import find, split_target
from convform.adapters.implementation import Implementation
from convform.adapters.layout import Array
from convform.adapters.process import frames
from convform.adapters.process.client import (
    AFTER,
    DESCRIBE,
    EARLIER,
    REMEMBERED,
    UNUSUAL_DTYPES,
    WATCHED_BYTES,
)
from convform.adapters.process.description import LONGEST, MOST_DESCRIBED, describe
from convform.adapters.process.errors import printable
from convform.adapters.process.guard import (
    Conduct,
    Guarded,
    Paper,
    RandomStates,
    drew,
    quiet,
    random_states,
    subject_traceback,
    watching,
)
from convform.adapters.process.hearing import Hearing
from convform.adapters.process.sandbox import ANSWERS, folders_of
from convform.adapters.process.shared import ELSEWHERE, KEPT, SharedMemory, inherit

Answer = tuple[dict[str, str], dict[str, Array]]


def python_command(module: str, told: Mapping[str, Any]) -> list[str]:
    """Write the command that runs one of our modules, which is told something."""
    # -P: a homework called numpy.py in the current folder must not replace numpy.
    return [sys.executable, "-P", "-m", module, json.dumps(told)]


@dataclass(frozen=True)
class Options:
    """What a worker is told when it is started.

    Attributes
    ----------
    target
        What `convform.adapters.find` finds the adapters by.
    of
        The file that the target is about, where that is another one: an adapter that was inferred for it.
    forbid
        Modules that the subject may not import.
    trusted
        Whether the subject may import the standard's answers, as an adapter of one's own may.
    held
        Whether a sandbox holds its children, too.
    """

    target: str
    of: str | None = None
    forbid: tuple[str, ...] = ()
    trusted: bool = False
    held: bool = False

    @property
    def folder(self) -> Path:
        """The folder of the subject."""
        return Path(os.path.realpath(split_target(self.of or self.target)[0])).parent

    def command(self) -> list[str]:
        """Write the command that starts such a worker."""
        return python_command("convform.adapters.process.worker", asdict(self))


class Aloud(Paper):
    """What is printed goes to standard error at once: there the judge hears it, even if it is the last."""

    def __init__(self) -> None:
        super().__init__()
        self.said = 0

    def write(self, data: Any) -> int:
        """Write to the judge."""
        rest = memoryview(data).cast("B")
        self.said += len(rest)
        while rest:
            rest = rest[os.write(2, rest) :]
        return len(data)


class Watch:
    """What stands around the subject and tells the judge what it sees."""

    def __init__(self, conduct: Conduct, hearing: Hearing, aloud: Aloud) -> None:
        self.conduct, self.hearing, self.aloud = conduct, hearing, aloud
        self._states: RandomStates | None = None
        self._drew: set[str] = set()

    def around(self, operator: str) -> Guarded:
        """Exchange streams, compare and restore settings around one call."""
        if self._states is None:  # what the import has drawn is no deed of a call
            self._states = random_states()
        return Guarded(operator)

    def told(self) -> dict[str, str]:
        """Return what was noticed since the last time, as text for an answer."""
        self.hearing.compare()
        if self._states is not None and len(self._drew) < 2:  # what a whole run shows is said once
            new = set(drew(self._states, random_states())) - self._drew
            self._drew |= new
            for says in sorted(new):
                self.conduct.note(says)
        said = {"aloud": str(self.aloud.said)}
        if remarks := self.conduct.take_deeds():
            said["remarks"] = json.dumps(remarks)
        if self.hearing.breaches:
            said["breaches"] = json.dumps(self.hearing.breaches[-20:])
        return said


class Worker:
    """Answers requests with the wrappers of adapters."""

    def __init__(self, adapters: Sequence[Adapter], watch: Watch) -> None:
        # By the names under which the judge knows them.
        self.adapters = {printable(adapter.name, LONGEST): adapter for adapter in adapters}
        self.watch = watch
        # What the last calls returned, and a copy of it: kept alive to see it used again, or overwritten.
        self._earlier: dict[str, tuple[Array, Array]] = {}

    def answer(self, metadata: Mapping[str, str], arrays: Mapping[str, Array]) -> Answer:
        """Answer one request."""
        number, operator = metadata["request"], metadata["operator"]
        adapter = self.adapters[metadata.get("adapter", next(iter(self.adapters)))]
        implementation = adapter.implementations[operator]
        arguments = _arguments(implementation, metadata, arrays)
        said: dict[str, str] = {"request": number}
        results: dict[str, Array] = {}
        try:
            with self.watch.around(operator):
                returned = implementation.function(**arguments)
            results = dict(implementation.named_outputs(returned))
            said["shares"] = json.dumps(self._sharing(arguments, results))
        except ReturnedWrong as wrong:
            said |= {"wrong": wrong.message, "hint": wrong.hint or ""}
        except BaseException as error:  # nothing that a subject raises ends its worker
            said |= {"raised": type(error).__name__, "message": _message(error), "where": _where(error)}
            with suppress(BaseException):  # an exception that cannot be printed has no traceback either
                said["traceback"] = subject_traceback(error)
        said |= self.watch.told()
        changed = {
            AFTER + name: arguments[name]
            for name, array in arrays.items()
            if name in arguments and array.nbytes <= WATCHED_BYTES and _differ(array, arguments[name])
        }
        changed |= self._overwritten()
        for name, array in results.items():
            if array.nbytes <= WATCHED_BYTES:
                self._earlier[f"{EARLIER}{number} {name}"] = array, array.copy()
        while len(self._earlier) > REMEMBERED:
            del self._earlier[next(iter(self._earlier))]
        changed = {name: array for name, array in changed.items() if frames.can_hold(array.dtype)}
        return said, {**_sendable(results, said), **changed}

    def _overwritten(self) -> dict[str, Array]:
        """What earlier calls returned and this one has changed."""
        changed = {name: now for name, (now, then) in self._earlier.items() if _differ(then, now)}
        for name, now in changed.items():
            self._earlier[name] = now, now.copy()
        return changed

    def _sharing(
        self, arguments: Mapping[str, Any], results: Mapping[str, Array]
    ) -> list[tuple[str, str, str]]:
        """Which results lie in the memory of an argument, of each other, or of an earlier result."""
        small = {name: array for name, array in results.items() if array.nbytes <= WATCHED_BYTES}
        found = [
            (name, "argument", other)
            for name, array in small.items()
            for other, argument in arguments.items()
            if isinstance(argument, np.ndarray) and np.may_share_memory(array, argument)
        ]
        found += [
            (one, "result", other)
            for one, other in itertools.combinations(small, 2)
            if _writable_in_common(small[one], small[other])
        ]
        found += [
            (name, "earlier", other)
            for name, array in small.items()
            for other, (earlier, _) in self._earlier.items()
            if _writable_in_common(array, earlier)
        ]
        return found


def _arguments(
    implementation: Implementation, metadata: Mapping[str, str], arrays: Mapping[str, Array]
) -> dict[str, Any]:
    """What a wrapper is called with: arrays that lie in memory as at the judge's, and parameters."""
    strides = json.loads(metadata.get("strides", "{}"))
    read_only = json.loads(metadata.get("read_only", "[]"))
    arguments: dict[str, Any] = {}
    for name in implementation.takes:
        if name in arrays:
            arguments[name] = _arranged(arrays[name], strides.get(name), name in read_only)
        elif name in metadata:
            arguments[name] = _tuples(json.loads(metadata[name]))
    return arguments


def _sendable(results: dict[str, Array], said: dict[str, str]) -> dict[str, Array]:
    """Write arrays of dtypes that no frame can hold in one that it can; say in the text which they are."""
    sendable, dtypes = dict(results), {}
    for name, array in results.items():
        if frames.can_hold(array.dtype):
            continue
        dtype = next((name for name in UNUSUAL_DTYPES if array.dtype == np.dtype(name)), "")
        try:
            if not dtype:
                raise ValueError
            if dtype == "object":
                sendable[name] = array.astype(np.float64)
            else:
                cells = np.array(array, order="C")[..., np.newaxis]
                sendable[name] = cells.view(np.uint8)
        except Exception:
            # Not even its cells are numbers: this is no answer.
            said["wrong"] = f"{name} has dtype {array.dtype}, expected numbers"
            return {}
        dtypes[name] = dtype
    if dtypes:
        said["dtypes"] = json.dumps(dtypes)
    return sendable


def _writable_in_common(a: Array, b: Array) -> bool:
    return (a.flags.writeable or b.flags.writeable) and bool(np.shares_memory(a, b))


def _differ(sent: Array, now: Array) -> bool:
    """Whether bits have changed; NaN is equal to itself, and −0 is not 0."""
    if sent.shape != now.shape:
        return False  # the array was given another shape; its elements are where they were
    now = np.asarray(now)
    plain = sent.dtype == now.dtype and not sent.dtype.hasobject
    if plain and sent.flags.c_contiguous and now.flags.c_contiguous:
        return not np.array_equal(sent.reshape(-1).view(np.uint8), now.reshape(-1).view(np.uint8))
    return sent.tobytes() != now.tobytes()


def _arranged(array: Array, strides: list[int] | None, read_only: bool) -> Array:
    """Put an array from a frame into memory of its own, lying there as it lies at the judge's."""
    if strides is None or array.size == 0:
        # What is watched is compared with the frame afterwards; the rest need not be copied.
        arranged = array.copy() if array.nbytes <= WATCHED_BYTES else array
    else:
        reach = [(size - 1) * step for size, step in zip(array.shape, strides, strict=True)]
        below, above = (sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach))
        # What lies between the elements is no number of theirs.
        memory = np.full(above - below + array.itemsize, 77, np.uint8)
        arranged = np.ndarray(array.shape, array.dtype, memory.data, -below, strides)
        arranged[...] = array
    arranged.flags.writeable = not read_only
    return arranged


def _tuples(value: Any) -> Any:
    """JSON has lists where wrappers are given tuples."""
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value


def _message(error: BaseException) -> str:
    """What an exception says, if it can."""
    try:
        return str(error)[:1000]
    except BaseException:
        return "(it cannot be printed)"


def _where(error: BaseException) -> str:
    """Name the line that raised."""
    try:
        frames_ = traceback.extract_tb(error.__traceback__)
        last = frames_[-1] if len(frames_) > 1 else None
        return f"{os.path.basename(last.filename)}:{last.lineno}, in {last.name}" if last else ""
    except BaseException:
        return ""


class Pipes:
    """The way to the judge: two pipes, and memory that both share where the system has it."""

    def __init__(self) -> None:
        self.requests, self.answers = os.dup(0), os.dup(1)
        self._came = bytearray()  # of requests that nobody has read yet
        self._owner = os.getpid()
        # The pipes are the judge's: the subject reads nothing, and what it prints goes to standard error.
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        self.shared: tuple[SharedMemory, SharedMemory] | None = inherit()
        # The last request that lies in shared memory, while anybody holds one of its arrays.
        self._request: weakref.ref[Array] | None = None

    def read(self) -> Answer | None:
        """Read one frame; None where the judge has nothing more to ask."""
        self._leave_if_forked()
        prefix = np.empty(8, np.uint8)
        if not self._fill(prefix):
            return None
        (length,) = frames.PREFIX.unpack(prefix.tobytes())
        if self.shared is not None and length & ELSEWHERE:
            body = self.shared[0].get(length ^ ELSEWHERE)
            self._request = weakref.ref(body)
            return frames.decode(body)
        body = np.empty(length, np.uint8)
        return frames.decode(body) if self._fill(body) else None

    def write(self, frame: list[memoryview], *, may_share: bool = False) -> None:
        """Write one frame, into shared memory only if nobody reads the last one any more.

        The list is emptied: with its arrays goes what they may be views of, the request.
        """
        self._leave_if_forked()
        pieces = self.shared[1].put(frame) if self.shared and may_share else list(frame)
        frame.clear()
        if self._request is not None and self._request() is not None:
            (length,) = frames.PREFIX.unpack(pieces[0][:8])
            pieces = [memoryview(frames.PREFIX.pack(length | KEPT)), pieces[0][8:], *pieces[1:]]
        while pieces:
            written = os.writev(self.answers, pieces[:64])
            while pieces and written >= len(pieces[0]):
                written -= len(pieces.pop(0))
            if written:
                pieces[0] = pieces[0][written:]

    def _leave_if_forked(self) -> None:
        """A child that a subject has forked, and that has come back from its code, serves nobody."""
        if os.getpid() != self._owner:
            os._exit(0)

    def _fill(self, array: Array) -> bool:
        """Read until an array of bytes is full; False if the input ends before."""
        filled = 0
        while filled < len(array):
            if not self._came and len(array) - filled < _AT_ONCE:
                self._came += os.read(self.requests, _AT_ONCE)
                if not self._came:
                    return False
            if self._came:
                begun = self._came[: len(array) - filled]
                del self._came[: len(begun)]
                array[filled : filled + len(begun)] = begun
                filled += len(begun)
                continue
            count = os.readv(self.requests, [array.data[filled:]])
            if count == 0:
                return False
            filled += count
        return True


_AT_ONCE = 1 << 16
"""Bytes that are read at once: several small requests, where they wait."""


def serve(options: Options, pipes: Pipes) -> None:
    """Answer requests until there are none left.

    Parameters
    ----------
    options
        Whom to serve, and what the subject may not do.
    pipes
        The way to the judge.
    """
    faulthandler.enable()
    aloud = Aloud()
    with watching(paper=aloud) as conduct:
        hidden = [] if options.trusted else folders_of(*ANSWERS)
        forbidden = (*options.forbid, *(() if options.trusted else ANSWERS))
        holds = options.held or options.trusted
        hearing = Hearing(options.folder, forbidden, hidden, conduct.note, holds_children=holds)
        watch = Watch(conduct, hearing, aloud)
        first = pipes.read()
        if first is None or first[0].get("operator") != DESCRIBE:
            return
        hearing.install()
        with quiet(conduct):
            said, adapters = _introduced(options)
        said |= {"request": "0", **watch.told()}
        # As in the judge's own process: who draws random numbers draws the same ones each time.
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        pipes.write(frames.encode(said | ({"shared": "frames"} if pipes.shared else {}), {}))
        worker = Worker(adapters, watch)
        while adapters and (asked := pipes.read()) is not None:
            may_share = asked[0].get("answer") != "pipe"
            answer = frames.encode(*worker.answer(*asked))
            del asked  # nobody but the subject holds its arrays when that is asked
            pipes.write(answer, may_share=may_share)


def _introduced(options: Options) -> tuple[dict[str, str], list[Adapter]]:
    """Import the subject: what there is to say of it, and its adapters, none where something is wrong."""
    try:
        adapters = find(options.target)
        description = describe(adapters)
        if len(description) <= MOST_DESCRIBED:
            return {"description": description}, adapters
        said = {"wrong": f"{options.target}: it takes {len(description)} characters to describe"}
    except AdapterError as error:
        said = refusal(error)
    except BaseException as error:
        raised = f"{type(error).__name__}: {_message(error)}".removesuffix(": ")[:LONGEST]
        said = {"wrong": f"{options.target}: raised {raised} while it was imported", "kind": "BrokenFile"}
    return said, []


def refusal(error: AdapterError) -> dict[str, str]:
    """What a worker that cannot serve answers, while the error is handled."""
    return {
        "wrong": error.message[:LONGEST],
        "hint": (error.hint or "")[:LONGEST],
        "kind": type(error).__name__,
        "traceback": traceback.format_exc()[-4000:],
    }


def main(text: str) -> None:
    """Serve what the options say."""
    options = json.loads(text)
    serve(Options(**{**options, "forbid": tuple(options["forbid"])}), Pipes())
    with suppress(Exception):
        sys.stdout.flush()
    os._exit(0)  # threads that a subject has left running are not waited for


if __name__ == "__main__":
    main(sys.argv[1])
