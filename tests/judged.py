"""Homework that is judged through the real command line, and what must be true whatever it does.

A `Homework` is the text of a file with what must come out. `check` runs ``convform check`` on it in a process
of its own, with a temporary folder and a mark of its own, and asserts what holds for every subject: the exit
code, the report, and that nothing is left behind.

Every second homework is judged in a sandbox and the others without one, but for those of which something
else is promised in each; with ``CONVFORM_EVERY_SANDBOX=1`` in the environment all are judged in both.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import unicodedata
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest

from convform.adapters.errors import Unavailable
from convform.adapters.process.sandbox import sandbox

COMMAND = (sys.executable, "-P", "-m", "convform.conformance.doors.cli")
"""The command line, as another process runs it."""

QUICKLY = ("--profile", "brief", "--budget", "20", "--deadline", "2")
"""Options that keep a verdict short; none of them makes it depend on the speed of the machine."""

MARK = "MARK_OF_THIS_RUN"
"""In the text of a homework: a word that no other process of the machine has in its arguments."""

REPORT = "report.json"

PATIENCE = 200.0
"""Seconds after which a run counts as hanging: far beyond its budget, on however busy a machine."""

_CARRIES_MARK = "OMP_CONVFORM_MARK"  # of a kind that a sandbox lets through

HEAD = '''
import numpy as np
from convform.adapters import Adapter
from convform.tests.plain import im2col as right

hw = Adapter("hw")


def wrong(x, kernel):
    """Leave out the last window: a judge is soon done with that."""
    return right(x, kernel)[..., :-1].copy()
'''

TAIL = """

@hw.implements("im2col1d")
def im2col1d(x, kernel):
"""


@dataclass(frozen=True)
class Homework:
    """A file that is judged, and what must come out.

    Attributes
    ----------
    name
        What it does, as a word.
    kind
        The group that it is one of.
    text
        The whole file, or None where it is made of `setup` and `call`.
    setup, call
        Lines beside the wrapper of im2col1d, and the body of it, which has ``right`` and ``wrong``.
    codes
        Exit codes that are in order.
    says
        A part of what must be told.
    options
        Options of the command beside `QUICKLY`.
    only
        Kinds of sandboxes for which something is promised: ``"none"``, ``"auto"``, or both.
    file
        Name of the file.
    """

    name: str
    kind: str
    setup: str = ""
    call: str = "return wrong(x, kernel)"
    text: str | bytes | None = None
    codes: tuple[int, ...] = (1,)
    says: str = "violates"
    options: tuple[str, ...] = ()
    only: tuple[str, ...] = ("none", "auto")
    file: str = "hw.py"

    @property
    def source(self) -> bytes:
        """The file."""
        if isinstance(self.text, bytes):
            return self.text
        if self.text is not None:
            return dedent(self.text).encode()
        return (HEAD + dedent(self.setup) + TAIL + indent(dedent(self.call).strip(), "    ") + "\n").encode()


@dataclass(frozen=True)
class Run:
    """What has come of a run."""

    code: int
    out: str
    err: str
    folder: Path
    seconds: float
    report: Any = field(repr=False, default=None)

    @property
    def said(self) -> str:
        """All that was told, with single blanks."""
        return " ".join((self.out + " " + self.err).split())


def run_in(
    folder: Path,
    arguments: Sequence[str],
    *,
    mark: str | None = None,
    before: str = "",
    environment: Mapping[str, str] | None = None,
) -> Run:
    """Run the command in a folder of its own, and assert that it ends and leaves nothing behind.

    Parameters
    ----------
    folder
        Holds ``work``, where the command runs, and ``tmp``, which is its temporary folder.
    arguments
        Arguments of the command.
    mark
        What processes of the run have in their environment or arguments; None for a new one.
    before
        A line of shell before the command, which stands in ``"$@"``; empty for no shell.
    environment
        Environment variables beside those of this process.
    """
    mark = mark or uuid.uuid4().hex
    (folder / "tmp").mkdir(exist_ok=True)
    (folder / "work").mkdir(exist_ok=True)
    command = [*COMMAND, *arguments]
    if before:
        command = ["sh", "-c", before, "sh", *command]
    given = {**os.environ, "TMPDIR": str(folder / "tmp"), "COLUMNS": "200", _CARRIES_MARK: mark}
    given = {name: value for name, value in given.items() if not name.startswith(("CONVFORM_SUB", "FORCE_"))}
    # Files, and no pipes: what a run leaves behind would keep those open.
    with open(folder / "out", "wb") as out, open(folder / "err", "wb") as err:
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=folder / "work",
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**given, **(environment or {})},
            start_new_session=True,
        )
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            left = _ended(mark, process)
    seconds = time.monotonic() - started
    run = Run(
        -1 if code is None else code,
        *((folder / name).read_text("utf-8", "replace") for name in ("out", "err")),
        folder,
        seconds,
    )
    assert code is not None, f"still running after {PATIENCE:.0f} s: {run.said[-2000:]}"
    assert left == [], f"left processes behind: {left}"
    _assert_clean(run)
    return run


def _assert_clean(run: Run) -> None:
    """No traceback, no control character, no folder of ours."""
    assert "Traceback" not in run.err, run.err[-3000:]
    assert "convform itself failed" not in run.err, run.err[-3000:]
    assert controls(run.out + run.err) == [], run.said[:2000]
    assert [path.name for path in (run.folder / "tmp").iterdir() if "convform" in path.name] == []
    if (run.folder / "work").exists():
        names = [path.name for path in (run.folder / "work").iterdir()]
        assert ".hypothesis" not in names
        assert [name for name in names if name.startswith("." + REPORT)] == []


def controls(text: str) -> list[str]:
    """Characters that a terminal could obey, each once."""
    return sorted({repr(c) for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs")})


def _ended(mark: str, process: subprocess.Popen[bytes]) -> list[str]:
    """Kill what a run has left behind, after a moment in which what was killed may go; say what that was."""
    until = time.monotonic() + 2
    while process.poll() is not None and (left := marked(mark)) and time.monotonic() < until:
        time.sleep(0.02)
    left = marked(mark) if process.poll() is not None else {}
    for child in {process.pid, *marked(mark)}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    process.wait()
    return sorted(left.values())


def marked(mark: str) -> dict[int, str]:
    """Processes that carry a mark in their environment or arguments, by number."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            if mark.encode() in words or mark.encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = words.replace(b"\0", b" ").decode("utf-8", "replace")[:200]
        except OSError:
            continue
    found.pop(os.getpid(), None)
    return found


def check(
    folder: Path, homework: Homework, kind: str, *more: str, beside: Mapping[str, bytes] | None = None
) -> Run:
    """Judge a homework in a sandbox of a kind, with a report; assert what holds for every subject."""
    mark = uuid.uuid4().hex
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    for name, data in {**(beside or {}), homework.file: homework.source}.items():
        (work / name).write_bytes(data.replace(MARK.encode(), mark.encode()))
    options = [*QUICKLY, "--sandbox", kind, "--json", REPORT, *homework.options, *more]
    run = run_in(folder, ["check", homework.file, *options], mark=mark)
    report = read_report(work / REPORT, run)
    return Run(run.code, run.out, run.err, folder, run.seconds, report)


def read_report(file: Path, run: Run) -> Any:
    """Read a report, and assert that it is whole and ends as the command has."""
    assert file.is_file(), f"no report: {run.code} {run.said[-2000:]}"
    text = file.read_text(encoding="utf-8")
    assert controls(text) == []
    report = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the report"))
    exits = [one["exit"] for one in (report if isinstance(report, list) else [report])]
    assert set(exits) == {run.code}, (exits, run.code, run.said[-2000:])
    return report


def assert_judged(folder: Path, homework: Homework, kind: str) -> Run:
    """Judge a homework; assert what must come out."""
    run = check(folder, homework, kind)
    assert run.code in homework.codes, (run.code, run.said[-3000:])
    assert homework.says in run.said, run.said[-3000:]
    return run


@cache
def has_sandbox() -> bool:
    """Whether this system has a sandbox."""
    try:
        sandbox("require")
    except Unavailable:
        return False
    return True


def table(homework: Sequence[Homework], both: Sequence[str] = ()) -> list[Any]:
    """Homework with kinds of sandboxes, as parameters of a test.

    Parameters
    ----------
    homework
        What is judged.
    both
        Names of what is judged in a sandbox and without one, whatever the environment says.
    """
    names = [one.name for one in homework]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    assert set(both) <= set(names), set(both) - set(names)
    every = os.environ.get("CONVFORM_EVERY_SANDBOX") == "1"
    chosen = [
        (one, kind)
        for number, one in enumerate(homework)
        for kind in one.only
        if every or one.name in both or len(one.only) == 1 or kind == one.only[number % 2]
    ]
    return [pytest.param(one, kind, id=f"{one.kind}-{one.name}-{kind}") for one, kind in chosen]
