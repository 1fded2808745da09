"""Programs in any language as subjects: whatever reads requests and writes answers as docs/PROTOCOL.md says.

::

    subject = Adapter("mine-in-c", dtypes=("float64",))
    program = Program(["./subject"])
    subject.implements("conv2d", padding="low-high")(program.wrapper("conv2d", "x w b stride padding"))

The program runs in a process of its own, which starts with the first call and again after it has died. What
it writes to standard error goes to the one here.
"""

from __future__ import annotations

import inspect
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

from convform.adapters.process.client import CannotStart, Limits, Process


class Program:
    """A program that speaks the protocol.

    Parameters
    ----------
    command
        The program and its arguments.
    limits
        What it may spend.
    """

    def __init__(self, command: Sequence[str], limits: Limits | None = None) -> None:
        self.process = Process(command, limits)

    def wrapper(self, operator: str, takes: str) -> Callable[..., Any]:
        """Make a wrapper that asks the program.

        Parameters
        ----------
        operator
            Name of the operator, as the program is told it.
        takes
            Names of the inputs and parameters that the program takes, separated by blanks. With ``b``,
            calls without a bias are claimed as well.

        Returns
        -------
        callable
            For `Adapter.implements`.
        """

        def call(**arguments: Any) -> Any:
            if shutil.which(self.process.command[0]) is None:
                raise CannotStart(f"there is no program {self.process.command[0]!r}", "build it first")
            try:
                return self.process.call(operator, arguments)
            finally:
                sys.stderr.write(self.process.take_conduct()[0])

        parameters = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None if name == "b" else inspect.Parameter.empty
            )
            for name in takes.split()
        ]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return call

    def close(self) -> None:
        """End the program."""
        self.process.close()
