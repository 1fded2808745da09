"""The JSON report of a command: written whatever happens, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convform.conformance.reports.results import Results


class Outcome:
    """What a command will have come to.

    Parameters
    ----------
    file
        Where the report is written; None for nowhere.

    Attributes
    ----------
    reports
        What has been judged so far.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.reports: list[Results] = []
        self.written = file is None

    def write(self, code: int, problem: dict[str, Any] | None = None) -> None:
        """Write the report; what lay there before stays where that fails.

        Parameters
        ----------
        code
            The exit code that the command ends with.
        problem
            Why there is no verdict: kind, message and hint. None where there is one.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        if self.written or self.file is None:
            return
        self.written = True
        reports = [{**report.to_json(), "exit": code} for report in self.reports]
        data: Any = reports[0] if len(reports) == 1 else reports
        if problem is not None:
            data = {"schema": 1, "verdict": None, "exit": code, "error": problem, "reports": reports}
        write_atomically(self.file, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def unfit(file: Path, subjects: Sequence[str]) -> str | None:
    """Say why a report cannot be written to a file; None where it can, as far as is known.

    Parameters
    ----------
    file
        The file.
    subjects
        Files that are judged, and must not be overwritten.
    """
    if len(file.name) > 255:
        return "no file has so long a name"
    if file.is_dir():
        return "it is a folder"
    if not file.parent.is_dir():
        return "there is no such folder"
    for subject in subjects:
        with contextlib.suppress(OSError):
            if os.path.samefile(file, subject):
                return "it is the file that is judged"
    return None


def write_atomically(file: Path, text: str) -> None:
    """Write a file so that whoever reads it finds the old text or the new one, and never a part.

    Raises
    ------
    OSError
        If it cannot be written; the old one is there as before.
    """
    file = Path(os.path.realpath(file))
    if file.exists() and not stat.S_ISREG(file.stat().st_mode):  # a pipe, or a terminal
        file.write_text(text, encoding="utf-8")
        return
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as new:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
        mode = stat.S_IMODE(file.stat().st_mode) if file.exists() else 0o666 & ~_umask()
        os.chmod(name, mode)
        os.replace(name, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
