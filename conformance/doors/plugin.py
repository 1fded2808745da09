"""The pytest plugin: ``pytest --pyargs convform.conformance --adapter NAME_OR_FILE``, one item per law."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from convform.conformance.inference.targets import Found

# Nothing heavy is imported here: every pytest run in the environment loads this module.

_LEFT_OUT = pytest.StashKey[list[str]]()
"""What adapters do not claim, for something is not installed."""

_FOUND = pytest.StashKey["dict[str, Found]"]()
"""What targets have come to."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; all of them start with ``--adapter`` or ``--convform``."""
    group = parser.getgroup("convform", "judging implementations of convolution and pooling")
    group.addoption(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME_OR_FILE",
        help="adapter to judge: an installed name, file.py, or file.py:name (repeatable)",
    )
    profiles = ["brief", "quick", "full", "search"]  # law.py is not imported before it is asked for
    group.addoption("--convform-profile", default="quick", choices=profiles, help="how many cases")
    group.addoption(
        "--convform-level",
        default="core",
        choices=["core", "strict"],
        help="violations above this level are reported as expected failures",
    )
    group.addoption("--convform-seed", type=int, default=0, metavar="N", help="seed of every random choice")
    kinds = ["auto", "require", "bwrap", "landlock", "none"]  # sandbox.py is not imported either
    group.addoption(
        "--convform-sandbox", default="auto", choices=kinds, help="what holds a file, in a process of its own"
    )
    group.addoption(
        "--convform-forbid",
        action="append",
        default=[],
        metavar="MODULE",
        help="refuse the import of a module",
    )
    group.addoption(
        "--convform-in-process", action="store_true", help="run your own, trusted file in this process"
    )
    group.addoption(
        "--convform-accept-known-limits", action="store_true", help="let a file's own known limits excuse it"
    )


def meant(target: str, config: pytest.Config) -> Found:
    """Find the adapters of a target, or infer them, once for all items."""
    if target not in config.stash.setdefault(_FOUND, {}):
        from convform.adapters.process.sandbox import sandbox
        from convform.conformance.inference.targets import found, found_here
        from convform.conformance.subjects.hosting import Hosting

        if config.getoption("--convform-in-process"):
            found_now = found_here(target)
        else:
            forbid = tuple(config.getoption("--convform-forbid"))
            found_now = found(target, Hosting(sandbox(config.getoption("--convform-sandbox")), None, forbid))
            if found_now.options is not None and not config.getoption("--convform-accept-known-limits"):
                for adapter in found_now.adapters:
                    adapter.known_limits.clear()
        config.stash[_FOUND][target] = found_now
    return config.stash[_FOUND][target]


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the processes of subjects."""
    for found in config.stash.get(_FOUND, {}).values():
        found.close()


def pytest_sessionstart(session: pytest.Session) -> None:
    """End the run with one sentence where there is nothing to judge; exit codes are those of the command."""
    targets = session.config.getoption("--adapter")
    if not targets:
        return
    from convform.adapters import AdapterError, Unavailable
    from convform.conformance.running.preparing import selected_operators

    left_out = session.config.stash[_LEFT_OUT] = []
    for target in targets:
        try:
            for adapter in meant(target, session.config).adapters:
                selected_operators(adapter, None)
                left_out += [f"{adapter.name}: not claimed: {said}" for said in adapter.left_out]
        except AdapterError as error:
            hint = f"; {error.hint}" if error.hint else ""
            pytest.exit(f"convform: {error}{hint}", returncode=3 if isinstance(error, Unavailable) else 2)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was not asked: nothing is left out silently."""
    for said in config.stash.get(_LEFT_OUT, []):
        terminalreporter.write_line(said)
