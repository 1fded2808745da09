"""Hearing: what a subject does to the machine besides answering, as Python's audit events tell it.

Installed before the subject is imported, and never taken off (no audit hook can be). What is forbidden
(the standard's answers, modules that somebody names) is refused, and noted as a breach; the rest is noted as
a remark, with the line that did it.
"""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MOST_NOTES = 40
"""Different things that are noted of one process; who does more than that has been described."""

_HERE = os.path.realpath(__file__)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_STARTED = "started a process"

_DEEDS = {
    "socket.connect": "used the network",
    "socket.bind": "used the network",
    "socket.getaddrinfo": "used the network",
    "socket.gethostbyname": "used the network",
    "socket.sendto": "used the network",
    "subprocess.Popen": _STARTED,
    "os.system": _STARTED,
    "os.exec": _STARTED,
    "os.posix_spawn": _STARTED,
    "os.spawn": _STARTED,
    "os.fork": _STARTED,
    "os.forkpty": _STARTED,
    "os.putenv": "changed the environment",
    "os.unsetenv": "changed the environment",
    "os.kill": "sent a signal",
    "os.killpg": "sent a signal",
    "signal.pthread_kill": "sent a signal",
    "resource.setrlimit": "changed a resource limit",
    "resource.prlimit": "changed a resource limit",
    "sys.settrace": "traced the interpreter",
    "sys.setprofile": "traced the interpreter",
    "os.remove": "changed files",
    "os.rename": "changed files",
    "os.mkdir": "changed files",
    "os.rmdir": "changed files",
    "os.link": "changed files",
    "os.symlink": "changed files",
    "os.chmod": "changed files",
    "os.truncate": "changed files",
}
"""Audit events that are told, and what they are called."""

_NAMES_FILES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "subprocess.Popen", "os.system")


def _library_folders() -> tuple[str, ...]:
    own = str(Path(__file__).resolve().parents[2])
    places = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    places += [sys.prefix, sys.base_prefix, own, "/proc", "/sys", "/dev", "/usr", "/lib"]
    return tuple({os.path.realpath(place) + os.sep for place in places if place})


class Hearing:
    """What is noted of the subject of this process.

    Parameters
    ----------
    folder
        The folder of the subject's file: what it reads there is its own.
    forbidden
        Names of modules that it may not import, submodules included.
    hidden
        Folders in which it may not read.
    note
        Called with each remark.
    holds_children
        Whether what the subject starts is held as it is itself; else it may not start what could look for the
        answers in its place.
    """

    def __init__(
        self,
        folder: Path,
        forbidden: Sequence[str],
        hidden: Sequence[str],
        note: Callable[[str], None],
        *,
        holds_children: bool = True,
    ) -> None:
        self.folder = os.path.realpath(folder) + os.sep
        self.forbidden, self.hidden = tuple(forbidden), tuple(place + os.sep for place in hidden)
        self.note, self.holds_children = note, holds_children
        self.breaches: list[str] = []
        self._libraries = _library_folders()
        self._own = os.path.realpath(os.environ.get("TMPDIR", "/tmp")) + os.sep
        self._told: set[str] = set()
        self._handlers = _standing()

    def install(self) -> None:
        """Listen from now on."""
        sys.addaudithook(self._heard)
        sys.addaudithook(_keeper(self.hidden))
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Refuse an import that no event tells of: `importlib.import_module` has none."""
        self._imported(name)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Refuse what is forbidden, note what is not; called for every audit event of the process."""
        if event == "import":
            self._imported(str(arguments[0]))
        elif event == "open":
            self._opened(*arguments)
        elif event in _DEEDS:
            if not self.holds_children and _DEEDS[event] == _STARTED:
                self._refuse_go_between(arguments)
            self._tell(_DEEDS[event], event, arguments)

    def _imported(self, name: str) -> None:
        for forbidden in self.forbidden:
            if name == forbidden or name.startswith(forbidden + "."):
                breach = f"imported {name}, which is forbidden{self._place()}"
                if breach not in self.breaches:
                    self.breaches.append(breach)
                raise ImportError(f"{name} is forbidden here", name=name)

    def _opened(self, file: object, mode: object, flags: object) -> None:
        if not isinstance(file, str | bytes):
            return
        path = os.path.realpath(os.fsdecode(file))
        if path.startswith(self.hidden) and (
            self._place() or threading.current_thread() is not threading.main_thread()
        ):  # our own code opens its own lines, to write a traceback
            self.breaches.append(f"opened {path}, which knows the answers{self._place()}")
            raise PermissionError(13, "the standard's answers are hidden here", path)
        writes = isinstance(flags, int) and flags & _WRITES
        if writes and path not in ("/dev/null", "/dev/tty"):
            where = " in its temporary folder" if path.startswith(self._own) else ""
            self._note(f"opened a file for writing{where}: {path}")
        elif not writes and not path.startswith((*self._libraries, self.folder, self._own)):
            self._note(f"read a file outside its folder: {path}")

    def _refuse_go_between(self, arguments: tuple[Any, ...]) -> None:
        """Refuse another Python, or convform itself: no sandbox keeps it from the answers."""
        said = repr(arguments).lower()
        if "python" in said or "convform" in said:
            self.breaches.append(f"started a process that could know the answers{self._place()}")
            raise RuntimeError("without a sandbox, no other Python may be started here")

    def _tell(self, says: str, event: str, arguments: tuple[Any, ...]) -> None:
        named = arguments[0] if arguments and event in _NAMES_FILES else None
        shown = os.fsdecode(named) if isinstance(named, str | bytes) else ""
        self._note(says + (f": {shown[:100]}" if shown else ""))

    def _note(self, says: str) -> None:
        place = self._place()
        if not place and not says.startswith(("started", "used")):
            return  # a library's own affair
        if len(self._told) < MOST_NOTES:
            self._note_once(says + place)

    def _place(self) -> str:
        """Name the innermost line that is the subject's own."""
        frame = sys._getframe(1)
        while frame is not None:
            name = frame.f_code.co_filename
            real = os.path.realpath(name)
            own = real.startswith(self.folder) or not real.startswith(self._libraries)
            if own and real != _HERE and not name.startswith("<frozen"):
                return f" ({os.path.basename(name)}:{frame.f_lineno})"
            frame = frame.f_back  # type: ignore[assignment]
        return ""

    def compare(self) -> None:
        """Note what has changed of the process that no event tells: signal handlers, umask, tracing."""
        now = _standing()
        for name, before in self._handlers.items():
            if now[name] != before:
                self._note_once(f"changed {name}")
        self._handlers = now

    def _note_once(self, says: str) -> None:
        if says not in self._told:
            self._told.add(says)
            self.note(says)


def _keeper(hidden: Sequence[str]) -> Callable[[str, tuple[Any, ...]], None]:
    """Make a hook that refuses the files in some folders, by whatever name, and that nobody can find.

    A subject can change whatever it can reach, a `Hearing` for example. This function is held by nothing but
    the interpreter, calls nothing that is written in Python, and refuses those who would look for it.
    """
    places = (
        os.path.join(root, name) for place in hidden for root, _, names in os.walk(place) for name in names
    )
    kept = frozenset((status.st_dev, status.st_ino) for status in map(os.stat, places))
    status_of, refusal = os.stat, PermissionError
    seen = ("gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys._current_frames")

    def keep(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and kept:
            try:
                status = status_of(arguments[0])
            except (OSError, TypeError, ValueError):
                return
            if (status.st_dev, status.st_ino) in kept:
                raise refusal(13, "the standard's answers are hidden here")
        elif event in seen:
            raise refusal(1, f"{event} is refused here")

    return keep


_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGPIPE", "SIGXCPU")


def _standing() -> dict[str, Any]:
    mask = os.umask(0o077)
    os.umask(mask)
    return {
        "the umask": mask,
        "a signal handler": [signal.getsignal(getattr(signal, name)) for name in _SIGNALS],
        "the tracing of the interpreter": (sys.gettrace(), sys.getprofile()),
    }
