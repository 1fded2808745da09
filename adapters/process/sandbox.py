"""Sandboxes: what a subject in its own process can reach, by the best means that the system offers.

==========  =======================================================================================
kind        what holds the subject
==========  =======================================================================================
bwrap       bubblewrap: namespaces of its own for processes, network, memory and files
landlock    Landlock: files and signals by rules of the kernel, the network where it can; what it
            starts is killed by a process that waits for it
none        a process with resource limits; what it starts is killed in the same way
==========  =======================================================================================

In the first two, files are read-only but for one temporary folder, and the standard's answers cannot be read.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from convform.adapters.errors import Unavailable
from convform.adapters.process import launch

KINDS = ("bwrap", "landlock", "none")
"""From the best to the least."""

ANSWERS = ("convform.reference", "convform.conformance")
"""Packages that know what is expected; a subject can neither import nor, in a sandbox, read them."""

PRIVATE_BYTES = 1 << 28
"""Room in the temporary folder, where the system can limit it."""

_ROOM = ("--size", str(PRIVATE_BYTES), "--tmpfs")

_WALLS = (
    *("--unshare-all", "--die-with-parent", "--new-session"),
    *("--cap-drop", "ALL"),  # root would keep them, and could take walls down
    *("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", *_ROOM, "/dev/shm"),
)
"""What bubblewrap is told for every subject, and tried with before it is relied on."""

_PASSED = ("PATH", "LANG", "LANGUAGE", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "PYTHONHASHSEED", "MPLBACKEND")
_PASSED_BEGINNINGS = (
    "LC_",
    "CUDA",
    "NVIDIA_",
    "OMP_",
    "MKL_",
    "OPENBLAS_",
    "ONEDNN_",
    "TORCH_",
    "XLA_",
    "JAX_",
)


@dataclass(frozen=True)
class Sandbox:
    """What holds a subject.

    Attributes
    ----------
    kind
        One of `KINDS`.
    why
        Why it is no better one, as a clause: ``"bubblewrap is not installed"``; None where it was asked for,
        or is the best.
    """

    kind: str
    why: str | None = None


def sandbox(wanted: str = "auto") -> Sandbox:
    """Find the sandbox that is wanted.

    Parameters
    ----------
    wanted
        ``"auto"`` for the best one here, ``"require"`` for one that holds (no plain process), or a kind.

    Raises
    ------
    Unavailable
        If this system does not offer it.
    """
    problems = {kind: _problem(kind) for kind in KINDS if wanted in (kind, "auto", "require")}
    if wanted == "require":
        del problems["none"]
    for kind, problem in problems.items():
        if problem is None:
            before = [said for said in problems.values() if said is not None]
            return Sandbox(kind, "; ".join(before) or None)
    said = "; ".join(problem for problem in problems.values() if problem)
    raise Unavailable(
        f"there is no such sandbox here: {said}", "apt-get install bubblewrap, or --sandbox auto"
    )


@cache
def _problem(kind: str) -> str | None:
    """Why a kind cannot be used here; None where it can."""
    if kind == "none":
        return None
    if sys.platform != "linux":
        return f"{kind} needs Linux"
    if kind == "landlock":
        return None if launch.landlock_version() else "the kernel has no Landlock"
    program = shutil.which("bwrap")
    if program is None:
        return "bubblewrap is not installed"
    try:
        said = subprocess.run(
            [program, *_WALLS, "true"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap cannot be started ({error})"
    lines = said.stderr.strip().splitlines()
    return (
        None if said.returncode == 0 else f"bubblewrap fails here ({lines[-1][:80] if lines else 'silently'})"
    )


@dataclass(frozen=True)
class Cell:
    """One life in a sandbox: its private folder, and what is hidden from it."""

    sandbox: Sandbox
    private: str | None = None
    hidden: tuple[str, ...] = ()

    @classmethod
    def make(cls, sandbox: Sandbox, *, hides: bool) -> Cell:
        """Make the private folder; the answers are hidden where that is said."""
        hidden = tuple(folders_of(*ANSWERS)) if hides and sandbox.kind != "none" else ()
        return cls(sandbox, tempfile.mkdtemp(prefix="convform-"), hidden)

    def command(self, command: Sequence[str], limits: Mapping[str, int]) -> list[str]:
        """Write the command that sets limits, goes into the sandbox, and becomes what is given."""
        inner = list(command)
        settings: dict[str, Any] = {
            "limits": dict(limits),
            "landlock": None,
            "keeps": self.sandbox.kind != "bwrap",
        }
        if self.sandbox.kind == "landlock":
            settings["landlock"] = {
                "writable": [self.private] if self.private else [],
                "hidden": list(self.hidden),
            }
        elif self.sandbox.kind == "bwrap":
            inner = [*self._bubblewrap(), *inner]
        return [sys.executable, "-I", "-S", launch.__file__, json.dumps(settings), *inner]

    def _bubblewrap(self) -> list[str]:
        words = [shutil.which("bwrap") or "bwrap", *_WALLS]
        for device in sorted(str(path) for path in Path("/dev").glob("nvidia*")):
            words += ["--dev-bind-try", device, device]
        # Sockets of other programs lie there, which are no network.
        beside = [os.path.realpath(place) for place in (_folder(), sys.prefix, *sys.path, self.private or "")]
        if os.path.isdir("/run") and not any(place.startswith("/run/") for place in beside):
            words += ["--tmpfs", "/run"]
        # What is hidden is an empty folder in there.
        if self.private is not None:
            words += [*_ROOM, self.private]
        for folder in self.hidden:
            words += ["--tmpfs", folder, "--remount-ro", folder]
        return [*words, "--chdir", _folder()]

    def environment(self) -> dict[str, str]:
        """The environment of a subject: nothing but what its libraries may need."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in _PASSED or name.startswith(_PASSED_BEGINNINGS)
        }
        return {**kept, "HOME": self.private or "/", "TMPDIR": self.private or "/"}

    def clear(self) -> None:
        """Remove the private folder, whatever the subject has put there."""
        if self.private is not None:
            shutil.rmtree(self.private, ignore_errors=True)


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return "/"


def folders_of(*packages: str) -> list[str]:
    """Folders in which packages lie, without importing them."""
    found = []
    for name in packages:
        spec = importlib.util.find_spec(name)
        found += (
            [str(Path(place).resolve()) for place in spec.submodule_search_locations or ()] if spec else []
        )
    return found
