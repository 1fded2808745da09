"""Around a call of a subject: what it prints is caught, what it changes is put back, and all is remembered.

A homework may print, ask for input, move to another folder or change how NumPy rounds and prints. None of
that is a violation, none of it may reach the report or the next call, and none of it goes unmentioned:

- `watching` stands around a whole run. It makes random numbers repeatable, gives standard input an end,
  and yields the `Conduct` that every call in it is written to.
- `Guarded` stands around one call (about 10 µs). It restores what the call changed.
- `quiet` stands around the import of a file: it catches what is printed and changes nothing else.
- `subject_traceback` cuts a traceback down to the frames of the subject.
"""

from __future__ import annotations

import builtins
import io
import os
import random
import sys
import sysconfig
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import numpy as np

KEPT_CHARACTERS = 2000
"""Of everything that a subject prints, this much is kept."""

KEPT_FRAMES = 8
"""Innermost frames of a traceback that are kept."""


@dataclass(frozen=True)
class Remark:
    """Something that a subject did besides answering.

    Attributes
    ----------
    says
        What it did, as the end of a sentence: ``"changed NumPy's error state (restored)"``.
    operators
        The operators it did that in; empty where only the whole run shows it.
    calls
        Number of calls that did.
    """

    says: str
    operators: tuple[str, ...] = ()
    calls: int = 0

    def __str__(self) -> str:
        who = ", ".join(self.operators) or "your code"
        often = f" · {self.calls} calls" if self.calls > 1 else ""
        return f"{who}: {self.says}{often}"

    def to_json(self) -> dict[str, Any]:
        """Write the remark as plain data."""
        return {"says": self.says, "operators": list(self.operators), "calls": self.calls}


@dataclass(frozen=True)
class Printed:
    """What a subject printed, to standard output and error together.

    Attributes
    ----------
    lines
        Number of lines.
    text
        The beginning of it, at most `KEPT_CHARACTERS`.
    """

    lines: int = 0
    text: str = ""

    def to_json(self) -> dict[str, Any]:
        """Write it as plain data."""
        return {"lines": self.lines, "text": self.text}


NOTHING = Printed()


class Paper(io.RawIOBase):
    """Bytes that are written here are counted; the first of them are kept."""

    def __init__(self) -> None:
        self.lines = 0
        self.kept = b""
        self.started = False

    def writable(self) -> bool:
        """Say that it is there to be written on."""
        return True

    def write(self, data: Any) -> int:
        """Count lines; keep the beginning."""
        text = bytes(data)
        self.lines += text.count(b"\n")
        self.started = not text.endswith(b"\n") if text else self.started
        if len(self.kept) < KEPT_CHARACTERS:
            self.kept += text[: KEPT_CHARACTERS - len(self.kept)]
        return len(text)

    def close(self) -> None:
        """Stay open: the next call prints here, too."""


class _NoInput(io.TextIOBase):
    """Standard input at its end, which remembers whether it was read."""

    def __init__(self) -> None:
        self.was_read = False
        self.buffer = io.BytesIO()

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> str:
        self.was_read = True
        return ""

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        self.was_read = True
        return ""

    def close(self) -> None:
        """Stay open for the next call."""


@dataclass
class Conduct:
    """What subjects did besides answering, collected over a run."""

    deeds: dict[str, Counter[str]] = field(default_factory=dict)
    threads: frozenset[threading.Thread] = field(default_factory=lambda: frozenset(threading.enumerate()))
    _paper: Paper = field(default_factory=Paper)
    _stdin: _NoInput = field(default_factory=_NoInput)
    _stdout: io.TextIOWrapper | None = None

    def note(self, says: str, operator: str | None = None) -> None:
        """Remember one more call that did something."""
        self.deeds.setdefault(says, Counter())[operator or ""] += 1

    def take_deeds(self) -> list[tuple[str, str]]:
        """Return what was noted since the last time, each with its operator (or an empty text)."""
        taken = [(says, name) for says, calls in self.deeds.items() for name in calls.elements()]
        self.deeds.clear()
        return taken

    def streams(self) -> tuple[io.TextIOWrapper, _NoInput]:
        """Return what a call finds as its standard output and error, and as its standard input."""
        if self._stdout is None or self._stdout.closed:  # a subject may have closed it
            self._stdout = io.TextIOWrapper(self._paper, "utf-8", "replace", write_through=True)  # type: ignore[arg-type]
        return self._stdout, self._stdin

    @property
    def printed(self) -> Printed:
        """What was printed."""
        paper = self._paper
        return Printed(paper.lines + paper.started, paper.kept.decode("utf-8", "replace"))

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What else was done, in the order in which it was first seen."""
        return tuple(
            Remark(says, tuple(name for name in calls if name), sum(calls.values()))
            for says, calls in self.deeds.items()
        )

    @property
    def left_behind(self) -> list[threading.Thread]:
        """Threads that are still running, and were not before; the interpreter would wait for them."""
        return [
            thread
            for thread in threading.enumerate()
            if thread not in self.threads and not thread.daemon and thread is not threading.current_thread()
        ]


_current: ContextVar[Conduct | None] = ContextVar("conduct", default=None)


def pass_on(printed: str, remarks: Iterable[tuple[str, str]]) -> None:
    """Take for a deed of this process's what a subject did in another one, in a `Guarded` call.

    Parameters
    ----------
    printed
        What it printed.
    remarks
        What else it did, with the operator (or an empty text), as of `Conduct.take_deeds`.
    """
    conduct = _current.get()
    if printed:
        (sys.stdout if conduct is None else conduct.streams()[0]).write(printed)
    for says, operator in remarks if conduct is not None else ():
        conduct.note(says, operator or None)  # type: ignore[union-attr]


class Guarded:
    """Around one call: streams are exchanged before, settings compared and restored after."""

    __slots__ = ("before", "conduct", "operator", "streams")

    def __init__(self, operator: str) -> None:
        self.operator = operator

    def __enter__(self) -> None:
        self.conduct = _current.get() or Conduct(threads=frozenset())
        self.before = _settings()
        self.streams = sys.stdout, sys.stderr, sys.stdin
        caught, sys.stdin = self.conduct.streams()
        sys.stdout = sys.stderr = caught

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        sys.stdout, sys.stderr, sys.stdin = self.streams
        if kind is SystemExit:
            self.conduct.note("tried to end the program (SystemExit)", self.operator)
        if self.conduct._stdin.was_read:
            self.conduct._stdin.was_read = False
            self.conduct.note("read standard input, which is empty here", self.operator)
        after = _settings()
        if after != self.before:
            for says in _restore(self.before, after):
                self.conduct.note(says, self.operator)


# What is compared around a call. Plain tuples: this runs twice for every call.
_Settings = tuple[dict[str, str], dict[str, Any], str | None, list[Any], list[Any], int, int]


def _settings() -> _Settings:
    filters = warnings.filters
    figures = sys.modules.get("matplotlib._pylab_helpers")
    return (
        np.geterr(),
        np.get_printoptions(),
        _folder(),
        filters,  # type: ignore[return-value]
        filters[:],
        threading.active_count(),
        len(figures.Gcf.figs) if figures else 0,
    )


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return None


def _restore(before: _Settings, after: _Settings) -> Iterator[str]:
    """Put back what a call changed, and say what that was."""
    errors, options, folder, filters, filters_before, threads, figures = before
    if after[0] != errors:
        np.seterr(**errors)  # type: ignore[arg-type]
        yield "changed NumPy's error state (restored)"
    if after[1] != options:
        np.set_printoptions(**options)
        yield "changed NumPy's print options (restored)"
    if after[2] != folder:
        if folder is not None:
            with suppress(OSError):
                os.chdir(folder)
        yield "changed the working directory (restored)"
    if after[3] is not filters or after[4] != filters_before:
        warnings.filters = filters
        warnings.resetwarnings()  # empties the list, and tells the interpreter that it changed
        filters[:] = filters_before
        yield "changed the warnings filters (restored)"
    if after[5] > threads:
        yield "left threads running"
    if after[6] > figures:
        pyplot = sys.modules["matplotlib.pyplot"]
        for number in pyplot.get_fignums()[figures:]:
            pyplot.close(number)
        yield "left figures open (closed)"


@contextmanager
def watching(seed: int = 0, paper: Paper | None = None) -> Iterator[Conduct]:
    """Stand around a run: collect what its calls do besides answering.

    Parameters
    ----------
    seed
        What the global random states start from, so that subjects which draw from them are judged alike
        each time. Both are put back at the end.
    paper
        Where what they print goes; None means that it is kept.

    Yields
    ------
    Conduct
        Complete when the context has ended.
    """
    conduct = Conduct(_paper=paper or Paper())
    token = _current.set(conduct)
    before = random_states()
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    seeded = random_states()
    try:
        with _without_input(conduct):
            yield conduct
    finally:
        _current.reset(token)
        for says in drew(seeded, random_states()):
            conduct.note(says)
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002


RandomStates = tuple[Any, Any]
"""The global random states of Python and of NumPy."""


def random_states() -> RandomStates:
    """Return the global random states."""
    return random.getstate(), np.random.get_state()  # noqa: NPY002


def drew(before: RandomStates, after: RandomStates) -> Iterator[str]:
    """Say which global random states have changed."""
    if after[0] != before[0]:
        yield "drew from Python's global random state, or seeded it (restored)"
    (kind, keys, *rest), (kind_before, keys_before, *rest_before) = after[1], before[1]
    if kind != kind_before or rest != rest_before or not np.array_equal(keys, keys_before):
        yield "drew from NumPy's global random state, or seeded it (restored)"


@contextmanager
def _without_input(conduct: Conduct) -> Iterator[None]:
    """Give the process an empty standard input, and `input` an end: nobody is there to answer."""
    asked = builtins.input

    def no_input(prompt: object = "", /) -> NoReturn:
        print(prompt, end="")
        conduct._stdin.was_read = True
        raise EOFError("there is no input")

    try:
        kept, empty = os.dup(0), os.open(os.devnull, os.O_RDONLY)
    except OSError:  # there is no standard input
        kept = empty = -1
    if empty >= 0:
        os.dup2(empty, 0)
        os.close(empty)
    builtins.input = no_input
    try:
        yield
    finally:
        builtins.input = asked
        if kept >= 0:
            os.dup2(kept, 0)
            os.close(kept)


@contextmanager
def quiet(conduct: Conduct | None = None) -> Iterator[Conduct]:
    """Catch what is printed while a file is imported, and give it no input.

    Settings stay as the file leaves them: they are those that its functions were written for.
    """
    conduct = conduct or Conduct()
    streams = sys.stdout, sys.stderr, sys.stdin
    folder = _folder()
    caught, sys.stdin = conduct.streams()
    sys.stdout = sys.stderr = caught
    try:
        with _without_input(conduct):
            yield conduct
    finally:
        sys.stdout, sys.stderr, sys.stdin = streams
        if folder is not None and _folder() != folder:
            with suppress(OSError):
                os.chdir(folder)


def leave(code: int, conduct: Conduct) -> NoReturn:
    """End the process, without waiting for threads that subjects have left running."""
    if conduct.left_behind:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


_ROOT = Path(__file__).resolve().parents[2]
_JUDGE = tuple(str(_ROOT / folder) + os.sep for folder in ("conformance", "reference", "spec"))
_LIBRARIES = tuple(
    {
        os.path.realpath(sysconfig.get_path(name)) + os.sep
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
)


def subject_traceback(error: BaseException) -> str:
    """Write an exception with the frames of the subject alone.

    Frames of the judge are left out, and those of libraries where there are others: the line to look at is
    in the subject's own file.

    Parameters
    ----------
    error
        What the subject raised.

    Returns
    -------
    str
        As Python writes it, without its first line; at most `KEPT_FRAMES` frames.
    """
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(_JUDGE)]
    own = [frame for frame in theirs if not _is_library(frame.filename)] or theirs
    lines = traceback.format_list([_short(frame) for frame in own[-KEPT_FRAMES:]])
    said = traceback.format_exception_only(type(error), error)
    return _cut("".join([*lines, *said]).rstrip("\n"))


def _is_library(filename: str) -> bool:
    return filename.startswith("<frozen") or os.path.realpath(filename).startswith(_LIBRARIES)


def _short(frame: traceback.FrameSummary) -> traceback.FrameSummary:
    """Name a file of the working directory the way its user does, and its line without columns."""
    filename = frame.filename
    with suppress(ValueError, OSError):
        filename = str(Path(filename).relative_to(Path.cwd()))
    return traceback.FrameSummary(filename, frame.lineno, frame.name, line=frame.line)


def first_line(text: str, longest: int = 300) -> str:
    """Cut what somebody else wrote down to one line of reasonable length."""
    lines = text.strip().splitlines() or [""]
    shown = lines[0] if len(lines[0]) <= longest else lines[0][:longest] + "…"
    return shown + (" […]" if len(lines) > 1 else "")


def _cut(text: str, longest: int = 300) -> str:
    """Cut long lines, and a message of many lines: the grids must not drown in it."""
    lines = [line if len(line) <= longest else line[:longest] + "…" for line in text.splitlines()]
    most = 3 * KEPT_FRAMES
    return "\n".join(lines if len(lines) <= most else [*lines[:most], f"[… {len(lines) - most} more lines]"])
