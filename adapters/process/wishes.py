"""The wish that this process ends: heeded between two questions, and not in the middle of anything.

An exception that a signal raises can be lost, in a callback of the garbage collector for example. So the
first signal is only noted, and `heed` raises; where nobody heeds within two seconds, it is raised all the
same.
"""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 2.0
"""Seconds that a wish waits to be heeded."""


class _Wish:
    asked = False
    timer: threading.Timer | None = None


def heed() -> None:
    """Raise KeyboardInterrupt where somebody has asked for an end; it is not raised a second time then."""
    if _Wish.asked:
        if _Wish.timer is not None:
            _Wish.timer.cancel()
        raise KeyboardInterrupt


@contextmanager
def heard() -> Iterator[None]:
    """Note SIGINT and SIGTERM; in another thread than the main one, leave them as they are."""

    def note(*_: object) -> None:
        if _Wish.asked:
            raise KeyboardInterrupt
        _Wish.asked = True
        _Wish.timer = threading.Timer(PATIENCE, _thread.interrupt_main)
        _Wish.timer.daemon = True
        _Wish.timer.start()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    _Wish.asked = False
    try:
        yield
        heed()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if _Wish.timer is not None:
            _Wish.timer.cancel()
        _Wish.asked, _Wish.timer = False, None
