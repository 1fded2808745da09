"""What commands tell a person: one sentence for whatever goes wrong, with its exit code."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from convform.adapters import AdapterError, Unavailable
from convform.adapters.process.guard import Conduct, first_line, leave
from convform.adapters.process.wishes import heard
from convform.conformance.doors.cli.outcome import Outcome
from convform.conformance.subjects.hosting import Breach, DiedOfImport

VIOLATES, WRONG, NOT_INSTALLED, INTERRUPTED = 1, 2, 3, 130


class _Console(Console):
    """A console whose reader may leave: what is told is lost then, and the exit code is not."""

    def print(self, *objects: Any, **how: Any) -> None:
        """Print, if anybody can still read it."""
        try:
            super().print(*objects, **how)
        except OSError:
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """Go on in silence."""
        silence(2 if self.stderr else 1)


def silence(descriptor: int) -> None:
    """Let nothing that is still written to a descriptor go anywhere, or fail."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


out = _Console(highlight=False)
err = _Console(stderr=True, highlight=False)


def message(kind: str, text: str, hint: str | None) -> Text:
    """One sentence and a hint, for whatever is not a verdict."""
    parts: list[str | tuple[str, str]] = [(f"{kind}: ", "bold yellow"), text]
    if hint:
        parts += ["\n  ", (hint, "")]
    return Text.assemble(*parts)


def aside(text: str) -> None:
    """Tell something that is no verdict and no problem, dimly."""
    err.print(Text(text, style="dim"))


class Problem(click.ClickException):
    """A problem that is told in one sentence, with an exit code of its own."""

    exit_code: int = WRONG  # type: ignore[misc]

    def __init__(self, text: str, hint: str | None, kind: str = "error", exit_code: int = WRONG) -> None:
        super().__init__(text)
        self.kind, self.hint, self.exit_code = kind, hint, exit_code

    def show(self, file: object = None) -> None:
        """Print the sentence and the hint."""
        err.print(message(self.kind, self.message, self.hint))


@contextmanager
def told(traceback: bool, outcome: Outcome | None = None) -> Iterator[None]:
    """Turn whatever goes wrong into one sentence, a hint and an exit code; and write what was judged.

    Parameters
    ----------
    traceback
        Whether to show that of an error, too.
    outcome
        The report of the command, which is written in any case.
    """
    before = Conduct()
    try:
        with _sentences(traceback, outcome):
            yield
    except click.ClickException as problem:
        _written(outcome, problem)
        if not before.left_behind:
            raise
        problem.show()
        leave(problem.exit_code, before)


def _written(outcome: Outcome | None, problem: click.ClickException) -> None:
    """Write the report of a run without a verdict."""
    if outcome is None:
        return
    kind, hint = getattr(problem, "kind", "error"), getattr(problem, "hint", None)
    try:
        outcome.write(problem.exit_code, {"kind": kind, "message": problem.message, "hint": hint})
    except OSError as error:
        assert outcome.file is not None
        unwritable(outcome.file, error).show()


@contextmanager
def _sentences(traceback: bool, outcome: Outcome | None) -> Iterator[None]:
    try:
        with heard():
            yield
    except click.ClickException:
        raise
    except KeyboardInterrupt as interrupt:
        with suppress(ValueError):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left to do is short
        report = getattr(interrupt, "report", None)  # of what was judged until then
        if outcome is not None and report is not None:
            outcome.reports.append(report)
        raise Problem("there is no verdict", None, "interrupted", INTERRUPTED) from None
    except Exception as error:
        if traceback:
            err.print_exception(show_locals=False)
        raise _problem(error, outcome, traceback) from None


def _problem(error: Exception, outcome: Outcome | None, traceback: bool) -> Problem:
    """The sentence that an error is told in."""
    if isinstance(error, Unavailable):
        return Problem(str(error), error.hint, "unavailable", NOT_INSTALLED)
    if isinstance(error, Breach):
        return Problem(str(error), error.hint, "violates", VIOLATES)
    if isinstance(error, DiedOfImport):
        return Problem(str(error), error.hint, error.outcome)
    if isinstance(error, AdapterError):
        return Problem(str(error), error.hint)
    if isinstance(error, OSError) and outcome is not None and outcome.written and outcome.file is not None:
        return unwritable(outcome.file, error)
    if isinstance(error, OSError) and error.filename is not None:
        return Problem(f"{str(error.filename)[:100]}: {error.strerror}", None)
    said = f"convform itself failed: {type(error).__name__}: {first_line(str(error))}"
    return Problem(said, None if traceback else "please report it, with what --traceback prints")


def unwritable(file: Path, why: OSError | str) -> Problem:
    """Say that a file cannot be written."""
    said = (why.strerror or str(why)) if isinstance(why, OSError) else why
    return Problem(f"cannot write {file}: {said}", "name a file in an existing folder")
