"""What runs on the other side of `isolation`: a worker whose calls are guarded, and the trial of an import.

``python -m convform.conformance.doors.worker serve TARGET`` is `convform.adapters.process.worker` with the
guard of `convform.conformance.subjects.guard` around every call. ``… try TARGET FILE`` imports a target,
writes an adapter into FILE where the target has none and one can be inferred, and greets; whatever an import
or an inference does to its process, it does it there.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from convform.adapters import AdapterError, find
from convform.adapters.errors import NoAdapter
from convform.adapters.process import frames
from convform.adapters.process.worker import Pipes, Watch, serve
from convform.conformance.inference.targets import keep
from convform.conformance.subjects.guard import (
    Conduct,
    Guarded,
    Paper,
    RandomStates,
    drew,
    quiet,
    random_states,
    watching,
)
from convform.conformance.subjects.isolation import INFERRING


class _Aloud(Paper):
    """What is printed goes to standard error at once: there the judge hears it, even if it is the last."""

    def write(self, data: Any) -> int:
        """Write to the judge."""
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[os.write(2, rest) :]
        return len(data)


class _Guard(Watch):
    """Stands around calls as in the judge's own process, and tells the judge what it sees."""

    def __init__(self, conduct: Conduct) -> None:
        self.conduct = conduct
        self.states: RandomStates | None = None
        self.said: set[str] = set()

    def around(self, operator: str) -> AbstractContextManager[None]:
        """Exchange streams, compare and restore settings."""
        if self.states is None:  # what the import has drawn is no deed of a call
            self.states = random_states()
        return Guarded(operator)

    def remarks(self) -> list[tuple[str, str]]:
        """Return what was noticed since the last time."""
        if self.states is not None and len(self.said) < 2:  # what a whole run shows is said once
            new = set(drew(self.states, random_states())) - self.said
            self.said |= new
            for says in sorted(new):
                self.conduct.note(says)
        return self.conduct.take_deeds()


def main(what: str, target: str, *rest: str) -> None:
    """Serve an adapter, or try an import."""
    pipes = Pipes()
    if what == "serve":
        with watching(paper=_Aloud()) as conduct:
            serve(target, pipes, _Guard(conduct))
        return
    faulthandler.enable()
    with quiet():
        _try(target, Path(rest[0]))
    pipes.write(frames.encode({"request": "0"}, {}))


def _try(target: str, file: Path) -> None:
    """Import a target; what is wrong with it, the judge will see for itself when it does the same."""
    try:
        find(target)
    except NoAdapter:
        os.write(2, f"{INFERRING}\n".encode())
        with suppress(AdapterError):
            keep(target, file)
    except AdapterError:
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # threads that a subject has left running are not waited for
