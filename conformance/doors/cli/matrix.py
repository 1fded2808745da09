"""``convform matrix``: operators × backends."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import click

from convform.adapters.process.sandbox import sandbox
from convform.conformance.doors.cli import options
from convform.conformance.doors.cli.progress import shown_bar
from convform.conformance.doors.cli.telling import out, told, unwritable
from convform.conformance.inference.targets import found, is_judged
from convform.conformance.matrix.matrix import Guest, Run, exit_code, run_matrix, summary
from convform.conformance.subjects.hosting import Hosting


@click.command()
@click.argument("targets", metavar="[NAME …]", nargs=-1)
@options.PROFILE
@options.level("Which clauses decide the exit code; the matrix shows both.")
@options.SEED
@options.jobs("Judge N operators of a backend at once.")
@options.deadline("How long a call may take (default 10).")
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("matrix"),
    show_default=True,
    metavar="DIR",
    help="Where the matrix lies; what is there of other backends is kept.",
)
@click.option("--fresh", is_flag=True, help="Judge what is judged already, too.")
@click.option(
    "--reproduce/--no-reproduce",
    "reproduces",
    default=True,
    help="Run the ledger's programs in fresh interpreters (the default), or not.",
)
@options.SANDBOX
@options.IN_PROCESS
@options.ACCEPT_LIMITS
@options.TRACEBACK
def matrix(
    targets: tuple[str, ...],
    profile: str,
    level: str,
    seed: int,
    jobs: int,
    deadline: float | None,
    folder: Path,
    fresh: bool,
    reproduces: bool,
    sandbox_kind: str,
    in_process: bool,
    accept_known_limits: bool,
    traceback: bool,
) -> None:
    """Judge the installed backends, or those of NAME; write matrix.md, .json and .html.

    NAME may be a file or a program as well, as for check: with an adapter, or one that is inferred.

    Run it in the environment of each backend with the same --out, and one matrix is filled. A run that was
    interrupted goes on where it stopped.
    """
    with told(traceback), ExitStack() as processes:
        limits = options.limits(deadline)
        run = Run(profile, seed, options.helpful(jobs, jobs), fresh, reproduces, limits)

        def host(target: str) -> Guest | None:
            if in_process or not is_judged(target):
                return None
            hosting = Hosting(sandbox(sandbox_kind), limits)
            meant = found(target, hosting)
            processes.callback(meant.close)
            assert meant.options is not None
            return Guest(meant.adapters, hosting, meant.options, accept_known_limits)

        with shown_bar("matrix") as bar:
            try:
                data, names = run_matrix(targets, folder, run, bar, host)
            except OSError as error:
                raise unwritable(folder, error) from None
        for line in summary(data, names):
            out.print(line)
        out.print(f"written: {folder}/matrix.md, .json, .html")
        code = exit_code(data, names, level, named=bool(targets))
    sys.exit(code)
