"""How a subject in another process can end, each with an error of its own; `process` says when."""

from __future__ import annotations

from convform.adapters.errors import AdapterError


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
    """The program is not there, or a worker cannot load its adapter.

    Attributes
    ----------
    kind
        Name of the error that the worker met, as of `convform.adapters.errors`; or an empty text.
    trace
        Its traceback over there, or an empty text.
    """

    def __init__(self, message: str, hint: str | None = None, kind: str = "", trace: str = "") -> None:
        super().__init__(message, hint)
        self.kind, self.trace = kind, trace


class RaisedElsewhere(Exception):
    """The subject raised, in its own process; the text says what.

    Attributes
    ----------
    where
        ``file:line`` in the subject's code, or an empty text.
    kind
        Name of the exception.
    trace
        Its traceback, with the frames of the subject alone; or an empty text.
    """

    def __init__(self, says: str, where: str = "", kind: str = "", trace: str = "") -> None:
        super().__init__(says)
        self.where, self.kind, self.trace = where, kind, trace


def printable_lines(text: str, longest: int = 4000) -> str:
    """Clean what another process wrote as `printable` does, and keep its lines apart."""
    return "\n".join(map(printable, text[-longest:].splitlines()))


def printable(text: str, longest: int = 300) -> str:
    """Cut what another process wrote to a length that can be shown, without control characters."""
    return "".join(c if c.isprintable() else " " for c in text[:longest])
