"""The worker: serves the wrappers of one adapter to a judge in another process.

``python -m convform.adapters.process.worker TARGET`` greets with an answer to request 0, then answers each
request on standard input with one frame on standard output until its input ends; see docs/PROTOCOL.md. It
knows no law; who wants calls to be watched for more than their answers passes a `Watch` to `serve`.
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
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from convform.adapters.adapter import Adapter
from convform.adapters.errors import AdapterError, ReturnedWrong
from convform.adapters.find import load
from convform.adapters.layout import Array
from convform.adapters.process import frames
from convform.adapters.process.client import AFTER, EARLIER, REMEMBERED, UNUSUAL_DTYPES, WATCHED_BYTES
from convform.adapters.process.shared import ELSEWHERE, KEPT, SharedMemory, inherit

Answer = tuple[dict[str, str], dict[str, Array]]


class Watch:
    """What stands around calls and sees what they do besides answering; this one looks away."""

    def around(self, operator: str) -> AbstractContextManager[None]:
        """Stand around one call."""
        return nullcontext()

    def remarks(self) -> Sequence[tuple[str, str]]:
        """Return what was noticed since the last time: sentences, with the names of operators."""
        return ()


class Worker:
    """Answers requests with the wrappers of an adapter."""

    def __init__(self, adapter: Adapter, watch: Watch | None = None) -> None:
        self.adapter = adapter
        self.watch = watch or Watch()
        # What the last calls returned, and a copy of it: kept alive to see it used again, or overwritten.
        self._earlier: dict[str, tuple[Array, Array]] = {}

    def answer(self, metadata: Mapping[str, str], arrays: Mapping[str, Array]) -> Answer:
        """Answer one request."""
        number, operator = metadata["request"], metadata["operator"]
        implementation = self.adapter.implementations[operator]
        strides = json.loads(metadata.get("strides", "{}"))
        read_only = json.loads(metadata.get("read_only", "[]"))
        arguments: dict[str, Any] = {}
        for name in implementation.takes:
            if name in arrays:
                arguments[name] = _arranged(arrays[name], strides.get(name), name in read_only)
            elif name in metadata:
                arguments[name] = _tuples(json.loads(metadata[name]))
        said: dict[str, str] = {"request": number}
        results: dict[str, Array] = {}
        try:
            with self.watch.around(operator):
                returned = implementation.function(**arguments)
            results = dict(implementation.named_outputs(returned))
            said["shares"] = json.dumps(self._sharing(arguments, results))
        except ReturnedWrong as wrong:
            said |= {"wrong": wrong.message, "hint": wrong.hint or ""}
        except (Exception, SystemExit) as error:
            said |= {"raised": type(error).__name__, "message": str(error)[:1000], "where": _where(error)}
        if remarks := self.watch.remarks():
            said["remarks"] = json.dumps(list(remarks))
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
        except (ValueError, TypeError):
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


def _where(error: BaseException) -> str:
    """Name the line that raised."""
    frames_ = traceback.extract_tb(error.__traceback__)
    last = frames_[-1] if len(frames_) > 1 else None
    return f"{os.path.basename(last.filename)}:{last.lineno}, in {last.name}" if last else ""


class Pipes:
    """The way to the judge: two pipes, and memory that both share where the system has it."""

    def __init__(self) -> None:
        self.requests, self.answers = os.dup(0), os.dup(1)
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
        prefix = np.empty(8, np.uint8)
        if not _fill(self.requests, prefix):
            return None
        (length,) = frames.PREFIX.unpack(prefix.tobytes())
        if self.shared is not None and length & ELSEWHERE:
            body = self.shared[0].get(length ^ ELSEWHERE)
            self._request = weakref.ref(body)
            return frames.decode(body)
        body = np.empty(length, np.uint8)
        return frames.decode(body) if _fill(self.requests, body) else None

    def write(self, frame: list[memoryview], *, may_share: bool = False) -> None:
        """Write one frame, into shared memory only if nobody reads the last one any more.

        The list is emptied: with its arrays goes what they may be views of, the request.
        """
        pieces = self.shared[1].put(frame) if self.shared and may_share else list(frame)
        frame.clear()
        if self._request is not None and self._request() is not None:
            (length,) = frames.PREFIX.unpack(pieces[0][:8])
            pieces = [memoryview(frames.PREFIX.pack(length | KEPT)), pieces[0][8:], *pieces[1:]]
        for piece in pieces:
            while piece:
                piece = piece[os.write(self.answers, piece) :]


def _fill(descriptor: int, array: Array) -> bool:
    """Read until an array of bytes is full; False if the input ends before."""
    filled = 0
    while filled < len(array):
        count = os.readv(descriptor, [array.data[filled:]])
        if count == 0:
            return False
        filled += count
    return True


def serve(target: str, pipes: Pipes, watch: Watch | None = None) -> None:
    """Answer requests until there are none left.

    Parameters
    ----------
    target
        What `convform.adapters.load` finds the adapter by.
    pipes
        The way to the judge.
    watch
        What stands around calls.
    """
    faulthandler.enable()
    try:
        worker = Worker(load(target), watch)
    except AdapterError as error:
        pipes.write(frames.encode({"request": "0", "wrong": error.message, "hint": error.hint or ""}, {}))
        return
    # As in the judge's own process: who draws random numbers draws the same ones each time.
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    greeting = {"request": "0"} | ({"shared": "frames"} if pipes.shared else {})
    pipes.write(frames.encode(greeting, {}))
    while (asked := pipes.read()) is not None:
        may_share = asked[0].get("answer") != "pipe"
        answer = frames.encode(*worker.answer(*asked))
        del asked  # nobody but the subject holds its arrays when that is asked
        pipes.write(answer, may_share=may_share)


if __name__ == "__main__":
    serve(sys.argv[1], Pipes())
