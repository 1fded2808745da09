"""What commands tell a person: one sentence for whatever goes wrong, with its exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from convform.adapters import AdapterError, Unavailable
from convform.conformance.subjects.guard import Conduct, first_line, leave
from convform.conformance.subjects.isolation import DiedOfImport

WRONG, NOT_INSTALLED, INTERRUPTED = 2, 3, 130

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


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
def told(traceback: bool) -> Iterator[None]:
    """Turn whatever goes wrong into one sentence, a hint and an exit code."""
    before = Conduct()
    try:
        with _sentences(traceback):
            yield
    except click.ClickException as problem:
        if not before.left_behind:
            raise
        problem.show()
        leave(problem.exit_code, before)


@contextmanager
def _sentences(traceback: bool) -> Iterator[None]:
    try:
        yield
    except click.ClickException:
        raise
    except KeyboardInterrupt:
        raise Problem("there is no verdict", None, "interrupted", INTERRUPTED) from None
    except Exception as error:
        if traceback:
            err.print_exception(show_locals=False)
        if isinstance(error, Unavailable):
            raise Problem(str(error), error.hint, "unavailable", NOT_INSTALLED) from None
        if isinstance(error, DiedOfImport):
            raise Problem(str(error), error.hint, error.outcome) from None
        if isinstance(error, AdapterError):
            raise Problem(str(error), error.hint) from None
        said = f"convform itself failed: {type(error).__name__}: {first_line(str(error))}"
        raise Problem(said, None if traceback else "please report it, with what --traceback prints") from None


def unwritable(file: Path, why: OSError | str) -> Problem:
    """Say that a file cannot be written."""
    said = (why.strerror or str(why)) if isinstance(why, OSError) else why
    return Problem(f"cannot write {file}: {said}", "name a file in an existing folder")
