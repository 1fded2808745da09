"""How far a run has come, shown on a terminal until it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress as bars

from convform.conformance.doors.cli.telling import err

Told = Callable[[str, str], None]
"""Is told what is run: an operator, and what of it."""


@contextmanager
def status() -> Iterator[Told]:
    """Show what is being run."""
    if not err.is_terminal:
        yield lambda operator, what: None
        return
    with err.status("") as shown:
        yield lambda operator, what: shown.update(f"{operator} · {what}")


class Bar:
    """How far a run has come; without a terminal it is not drawn."""

    def __init__(self, bar: bars.Progress, title: str) -> None:
        self.bar = bar
        self.task = bar.add_task(title, total=0)

    def expect(self, steps: int) -> None:
        """So many more steps are to come."""
        self.bar.update(self.task, total=(self.bar.tasks[self.task].total or 0) + steps)

    def done(self, says: str) -> None:
        """One of them is there."""
        self.bar.update(self.task, advance=1, description=says)


@contextmanager
def shown_bar(title: str) -> Iterator[Bar]:
    """Show how many steps have been."""
    columns = (
        bars.BarColumn(bar_width=20),
        bars.MofNCompleteColumn(),
        bars.TimeElapsedColumn(),
        bars.TextColumn("{task.description}", markup=False),
    )
    with bars.Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        yield Bar(bar, title)


@contextmanager
def laws_bar(title: str, laws: int) -> Iterator[Told]:
    """Show which law is run, and how many have been."""
    with shown_bar(title) as bar:
        bar.expect(laws)
        yield lambda operator, law: bar.done(f"{operator} · {law}")
