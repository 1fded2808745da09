"""Options that several commands have."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from convform.adapters.process.client import Limits
from convform.adapters.process.sandbox import KINDS

_Command = TypeVar("_Command", bound=Callable[..., object])

BUDGET_SECONDS = 120.0
"""What a quick run may take, unless somebody says otherwise."""

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


class _Seed(click.ParamType[int | None]):
    """An integer, or ``random``, which is None until it is drawn."""

    name = "seed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Read a seed."""
        if value == "random":
            return None
        return int(click.INT.convert(value, param, ctx))


class _Seconds(click.ParamType[float]):
    """A number of seconds: more than none, and not for ever."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a number of seconds."""
        seconds = float(click.FLOAT.convert(value, param, ctx))
        if not 0 < seconds < math.inf:
            self.fail(f"{value!r}: expected a number of seconds, more than 0", param, ctx)
        return seconds


SEED_OR_RANDOM = click.option(
    "--seed",
    type=_Seed(),
    default="0",
    show_default=True,
    metavar="N|random",
    help="Seed of every random choice; random draws one, which the report tells afterwards.",
)
BUDGET = click.option(
    "--budget",
    type=_Seconds(),
    metavar="SECONDS",
    help=f"What the whole run may take (default {BUDGET_SECONDS:.0f} in quick); the rest is not reached.",
)


def level(says: str) -> Callable[[_Command], _Command]:
    """Which clauses decide."""
    choice = click.Choice(["core", "strict"])
    return click.option("--level", type=choice, default="core", show_default=True, help=says)


def jobs(says: str) -> Callable[[_Command], _Command]:
    """How many processes there are."""
    return click.option(
        "--jobs", type=click.IntRange(1), default=1, show_default=True, metavar="N", help=says
    )


def helpful(jobs: int, laws: int) -> int:
    """Not more processes than help: one for each processor, and for each law."""
    return max(1, min(jobs, os.cpu_count() or 1, laws))


def deadline(says: str) -> Callable[[_Command], _Command]:
    """How long a call may take; see `limits`."""
    return click.option("--deadline", type=_Seconds(), metavar="SECONDS", help=says)


def limits(deadline: float | None) -> Limits | None:
    """What a subject in another process may spend, where that is not as usual."""
    return None if deadline is None else Limits(deadline, start_seconds=max(10.0, 6 * deadline))


def seconds_of(budget: float | None, profile: str) -> float | None:
    """What a run may take."""
    return BUDGET_SECONDS if budget is None and profile == "quick" else budget


@dataclass(frozen=True)
class Hosts:
    """How files and programs are hosted, as the command line says it.

    Attributes
    ----------
    sandbox, forbid
        The sandbox that is wanted, and modules that are forbidden.
    in_process, isolate
        Whether a file is trusted to run in the judge; whether an installed adapter has its own process.
    accepts_limits
        Whether known limits that a file lists excuse it.
    limits
        What a subject may spend.
    """

    sandbox: str = "auto"
    forbid: tuple[str, ...] = ()
    in_process: bool = False
    isolate: bool = False
    accepts_limits: bool = False
    limits: Limits | None = None


SANDBOX = click.option(
    "--sandbox",
    "sandbox_kind",
    type=click.Choice(["auto", "require", *KINDS]),
    default="auto",
    show_default=True,
    help="What holds a file or program; require refuses to do without.",
)


@dataclass(frozen=True)
class Asked:
    """What the command line of ``check`` asks for.

    Attributes
    ----------
    operators, profile, level, seed, everything, jobs
        The options of these names; a seed of None is to be drawn.
    seconds
        What the run may take; None for as long as it takes.
    hosts
        How files and programs are hosted.
    """

    operators: tuple[str, ...]
    profile: str
    level: str
    seed: int | None
    everything: bool
    jobs: int
    seconds: float | None
    hosts: Hosts


ACCEPT_LIMITS = click.option(
    "--accept-known-limits", is_flag=True, help="Let known limits that a file lists itself excuse it."
)
IN_PROCESS = click.option(
    "--in-process", is_flag=True, help="Run your own, trusted file in the judge itself."
)
_HOSTING = (
    SANDBOX,
    click.option(
        "--forbid", multiple=True, metavar="MODULE", help="Refuse the import of a module (repeatable)."
    ),
    IN_PROCESS,
    click.option("--isolate", is_flag=True, help="Give an installed adapter a process of its own, too."),
    ACCEPT_LIMITS,
    deadline("How long a call in another process may take (default 10), and a sixth of what its import may."),
)


def hosting(command: _Command) -> _Command:
    """All options about hosting; the command gets them as `hosts`."""

    @functools.wraps(command)
    def with_hosts(
        sandbox_kind: str,
        forbid: tuple[str, ...],
        in_process: bool,
        isolate: bool,
        accept_known_limits: bool,
        deadline: float | None,
        **rest: Any,
    ) -> object:
        if in_process and forbid:
            raise click.UsageError("--forbid needs a process of its own, which --in-process takes away")
        given = Hosts(sandbox_kind, forbid, in_process, isolate, accept_known_limits, limits(deadline))
        return command(hosts=given, **rest)

    for option in reversed(_HOSTING):
        with_hosts = option(with_hosts)
    return with_hosts  # type: ignore[return-value]
