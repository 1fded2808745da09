"""What can go wrong between an adapter and the judge, and which error says so.

Every stage has its own error; each carries one sentence for the person who sees it, and a hint where
there is something to type instead:

======================================================  =====================  ========
what happens                                            error                  whose?
======================================================  =====================  ========
a file, module, entry point or variable is not there    `NotFound`             command
a file or module does not compile or raises on import   `BrokenFile`           adapter
a module that the adapter needs is not installed        `Unavailable`          machine
a layout, claim, operator or wrapper signature is off   `AdapterError`         adapter
the wrapper returns what is no answer (None, a string)  `ReturnedWrong`        adapter
the wrapper returns an array of another shape           `ShapeMismatch`        subject
the wrapper raises                                      its own, untouched     subject
its process ends, hangs or does not keep the protocol   `SubjectDied`          subject
======================================================  =====================  ========

The first five are errors of the description and derive from `AdapterError`: the subject has not been
judged. `ShapeMismatch` is a wrong answer of the subject, so it is a plain `ValueError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AdapterError(Exception):
    """An adapter, or the way to it, is wrong; the subject has not been judged.

    Attributes
    ----------
    message
        One sentence: what was wrong, and what was expected.
    hint
        What to type instead, or None.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class NotFound(AdapterError):
    """There is no such file, module, entry point or adapter."""


class NoAdapter(AdapterError):
    """A file or module is there and can be imported, but holds no adapter."""


class BrokenFile(AdapterError):
    """A file or module that should hold an adapter does not compile, or raises while it is imported."""


class Unavailable(AdapterError):
    """A backend is not installed, or its device is not there."""


class ReturnedWrong(AdapterError):
    """A wrapper returned something that is no answer: None, a string, too many arrays, an unknown name."""


class NoAnswer:
    """Stands for a returned value that is no answer (None, a string) and stayed in another process."""

    def __init__(self, message: str, hint: str | None) -> None:
        self.message, self.hint = message, hint


class ShapeMismatch(ValueError):
    """A returned array cannot be read in the declared layout: a wrong answer of the subject.

    Attributes
    ----------
    array
        Name of the output, for example ``"dx"``.
    shape, expected
        The shape that was returned and the one that the layout asks for.
    """

    def __init__(self, array: str, pattern: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
        super().__init__(f"{array} has shape {shape}, expected {expected} (layout {pattern!r})")
        self.array = array
        self.shape = shape
        self.expected = expected


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return a hint ``did you mean 'conv2d'?`` with the names most like `word`, or None."""
    # Case does not count: dW is a dw. Of two names that differ in case only, the first one is meant.
    names: dict[str, str] = {}
    for name in sorted(known):
        names.setdefault(name.lower(), name)
    matches = difflib.get_close_matches(word.lower(), names, n=3)
    return f"did you mean {' or '.join(repr(names[match]) for match in matches)}?" if matches else None


def described(value: object) -> str:
    """Say what kind of value something is: ``a list``, ``an int``."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
