"""Memory that judge and worker share: where large frames lie, so that no pipe has to carry them.

A pipe copies every byte twice, a page at a time, and is slower by that than a copy in memory, several times
for arrays of a few MiB. The judge makes one `SharedMemory` for requests and one for answers, and a worker
that has opened both says so in its greeting. A frame that lies there is announced on the pipe by its length
alone, with the highest bit set, and is read where it lies: who still holds one of its arrays says so, and is
sent the next frame through the pipe. Programs in other languages greet nobody, and their frames come whole.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Sequence

import numpy as np

from convform.adapters.layout import Array
from convform.adapters.process import frames

ELSEWHERE = 1 << 63
"""This bit of a length says that the frame lies in shared memory."""

KEPT = 1 << 62
"""This bit of an answer's length says that the subject has kept an array of a request that lies there."""

SHARED_FROM = 1 << 16
"""Frames of this many bytes lie there; below, a pipe is as quick."""

SHARED_BYTES = 256 << 20
"""Longest frame that lies there, unless somebody says otherwise."""

VARIABLE = "CONVFORM_SHARED"
"""Environment variable by which a worker is told the two descriptors."""


class SharedMemory:
    """Memory behind a file descriptor, which holds one frame at a time.

    Parameters
    ----------
    descriptor
        What `create` or `inherit` found.
    size
        Its length in bytes.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self.array: Array = np.frombuffer(mmap.mmap(descriptor, size), np.uint8)

    def put(self, pieces: Sequence[memoryview]) -> list[memoryview]:
        """Put a frame there, if it is large and fits; return what goes through the pipe."""
        length = sum(map(len, pieces)) - 8
        if not SHARED_FROM <= length <= len(self.array):
            return list(pieces)
        end = 0
        for piece in (pieces[0][8:], *pieces[1:]):
            begin, end = end, end + len(piece)
            self.array[begin:end] = np.frombuffer(piece, np.uint8)
        return [memoryview(frames.PREFIX.pack(length | ELSEWHERE))]

    def get(self, length: int) -> Array:
        """Return the bytes of a frame: a view, which the next frame overwrites.

        Raises
        ------
        FrameError
            If it is longer than the memory.
        """
        if length > len(self.array):
            raise frames.FrameError(
                f"a frame claims {length} bytes of shared memory, expected {len(self.array)} at most"
            )
        return self.array[:length]


def create(size: int) -> SharedMemory | None:
    """Make shared memory without a name; None where the system has none of that kind (other than Linux)."""
    if sys.platform != "linux":
        return None
    import fcntl

    try:
        descriptor = os.memfd_create("convform", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        return None
    try:
        os.ftruncate(descriptor, size)
        # Who reads where a file has been cut off dies of it: nobody may cut this one, or let it grow.
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        return SharedMemory(descriptor, size)
    except OSError:
        os.close(descriptor)
        return None


def inherit() -> tuple[SharedMemory, SharedMemory] | None:
    """Open what the judge has made, for requests and for answers; None where it has made nothing."""
    said = os.environ.pop(VARIABLE, "")
    descriptors = [int(number) for number in said.split()]
    if len(descriptors) != 2:
        return None
    requests, answers = (SharedMemory(number, os.fstat(number).st_size) for number in descriptors)
    for number in descriptors:
        os.close(number)  # the subject and its children have no business there
    return requests, answers
