"""What becomes of a process before it is a subject: limits, walls, and somebody who sweeps up behind it.

``python -I -S launch.py SETTINGS COMMAND …`` is run by path, with nothing but the standard library. SETTINGS
is JSON: ``limits`` (resource limits by name), ``landlock`` (paths, or null), ``keeps`` (whether this process
stays and kills what the command leaves behind; bubblewrap, with its process namespace, needs nobody for it).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER, _SET_NO_NEW_PRIVILEGES = 1, 36, 38

# System calls and rights of Landlock (linux/landlock.h); the numbers are the same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_RIGHTS_OF_VERSION = {1: 13, 2: 14, 3: 15, 4: 15}  # how many rights over files there are; 16 from version 5
_NEW_NETWORK, _NEW_IPC, _NEW_USER = 0x40000000, 0x08000000, 0x10000000

_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")


def system_call(number: int, *arguments: Any) -> int:
    """Call the kernel.

    Raises
    ------
    OSError
        If it refuses.
    """
    kernel = ctypes.CDLL(None, use_errno=True)
    result: int = kernel.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def landlock_version() -> int:
    """Version of Landlock that the kernel offers; 0 where it offers none."""
    try:
        return system_call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    except (OSError, AttributeError):
        return 0


def landlock(writable: Sequence[str], hidden: Sequence[str]) -> None:
    """Confine this process and its children: they read what is not hidden, and write to `writable` alone.

    Where the kernel can, they neither connect to a network nor send a signal to anybody outside.

    Raises
    ------
    OSError
        If the kernel refuses.
    """
    version = landlock_version()
    rights = (1 << _RIGHTS_OF_VERSION.get(version, 16)) - 1
    network, scoped = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    attributes = (ctypes.c_uint64 * 3)(rights, network, scoped)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = system_call(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))

    def allow(path: str, wanted: int) -> None:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return
        if not os.path.isdir(path):
            wanted &= _OF_FILES
        rule = wanted.to_bytes(8, sys.byteorder) + place.to_bytes(4, sys.byteorder)
        try:
            system_call(_ADD_RULE, ruleset, 1, ctypes.create_string_buffer(rule, 12), ctypes.c_uint32(0))
        finally:
            os.close(place)

    allow("/", _EXECUTE | _READ_DIR)
    for path in _beside(hidden):
        allow(path, _READ_FILE)
    for path in (*writable, *_DEVICES):
        allow(path, rights)
    ctypes.CDLL(None).prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    system_call(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0))
    os.close(ruleset)


def _beside(hidden: Sequence[str]) -> Iterator[str]:
    """The largest paths that hold nothing that is hidden: Landlock can allow, and cannot take away."""
    real = {os.path.realpath(path) for path in hidden}
    above = {path[:end] or "/" for path in real for end in range(len(path)) if path[end] == "/"}
    if not above:
        yield "/"
    for folder in above:
        try:
            entries = os.listdir(folder)
        except OSError:
            continue
        for entry in entries:
            path = os.path.join(folder, entry)
            if path not in above and path not in real:
                yield path


def without_network() -> None:
    """Leave the network, and the memory and queues that processes share, where the system allows it."""
    unshare = getattr(ctypes.CDLL(None), "unshare", None)
    if unshare is not None and unshare(_NEW_NETWORK | _NEW_IPC) != 0:
        unshare(_NEW_USER | _NEW_NETWORK | _NEW_IPC)


def limit(limits: Mapping[str, int]) -> None:
    """Set resource limits by the names that the module `resource` has for them; none is raised."""
    for name, most in limits.items():
        which = getattr(resource, name, None)
        if which is None:
            continue
        _, hard = resource.getrlimit(which)
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (soft, soft))


def _control(option: int, value: int) -> None:
    with contextlib.suppress(AttributeError, OSError):  # not Linux
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def start(settings: Mapping[str, Any], command: Sequence[str]) -> None:
    """Become the command."""
    confined = settings.get("landlock")
    if confined is not None:
        without_network()
    limit(settings["limits"])
    try:
        if confined is not None:
            landlock(confined["writable"], confined["hidden"])
        os.execvp(command[0], [*command])
    except OSError as error:
        os.write(2, f"{command[0]} cannot be started: {error.strerror}\n".encode())
        os._exit(1)


def keep(child: int) -> None:
    """Wait for a child, kill what it leaves behind, and end as it has ended."""
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGKILL))
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == child:
            break
    until = time.monotonic() + 2
    while time.monotonic() < until and _kill_children():
        time.sleep(0.002)
    if os.WIFSIGNALED(status):
        signal.signal(os.WTERMSIG(status), signal.SIG_DFL) if os.WTERMSIG(status) not in (9, 19) else None
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)


def _kill_children() -> bool:
    """Kill whatever has become a child of this process; False once there is none."""
    for child in children_of(os.getpid()):
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return False
    return True


def children_of(parent: int) -> list[int]:
    """Processes whose parent a process is, where /proc tells."""
    return [child for child, above in parents().items() if above == parent]


def parents() -> dict[int, int]:
    """The parent of every process, where /proc tells."""
    found = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    found[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                pass
    return found


def main() -> None:
    """Set up what the arguments say."""
    settings, command = json.loads(sys.argv[1]), sys.argv[2:]
    _control(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM if settings["keeps"] else signal.SIGKILL)
    if not settings["keeps"]:
        start(settings, command)
    _control(_SET_CHILD_SUBREAPER, 1)
    child = os.fork()
    if child == 0:
        _control(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        os.setsid()
        start(settings, command)
    os.closerange(0, 256)  # the pipes are the child's alone: their end is its end
    limit({"RLIMIT_CORE": 0})
    keep(child)


if __name__ == "__main__":
    main()
