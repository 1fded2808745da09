"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click

from convform.adapters.process.client import Limits

_Command = TypeVar("_Command", bound=Callable[..., object])

PROFILE = click.option(
    "--profile",
    type=click.Choice(["brief", "quick", "full", "search"]),
    default="quick",
    show_default=True,
    help="How many cases.",
)
SEED = click.option(
    "--seed", type=int, default=0, show_default=True, metavar="N", help="Seed of every random choice."
)
TRACEBACK = click.option("--traceback", is_flag=True, help="Show the traceback of an error.")


def level(says: str) -> Callable[[_Command], _Command]:
    """Which clauses decide."""
    choice = click.Choice(["core", "strict"])
    return click.option("--level", type=choice, default="core", show_default=True, help=says)


def jobs(says: str) -> Callable[[_Command], _Command]:
    """How many processes there are."""
    return click.option(
        "--jobs", type=click.IntRange(1), default=1, show_default=True, metavar="N", help=says
    )


def deadline(says: str) -> Callable[[_Command], _Command]:
    """How long a call may take; see `limits`."""
    return click.option("--deadline", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help=says)


def limits(deadline: float | None) -> Limits | None:
    """What a subject in another process may spend, where that is not as usual."""
    return None if deadline is None else Limits(deadline, start_seconds=max(10.0, 6 * deadline))
