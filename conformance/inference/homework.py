"""The homework that is looked at, and the one way in which inference calls it."""

from __future__ import annotations

import contextlib
import signal
import threading
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from convform.adapters.process.guard import Guarded, first_line
from convform.conformance.inference.probe import Probe, arguments_for

CALL_SECONDS = 2.0
"""Time after which a call on arrays of a few numbers has hung."""

MOST_HANGS = 3
"""Calls of one function or class that may hang before it is given up."""

RECORDER = '''class Recorder:
    """An optimizer that keeps the gradients it is given and leaves the weights alone."""

    def __init__(self):
        self.seen = []

    def update(self, w, grad):
        self.seen.append(grad)
        return w
'''

INITIAL = '''def initial(values):
    """An initialiser that starts with given values, or with zeros, in the shape it is asked for."""

    def initialiser(*shape):
        shape = shape[0] if isinstance(shape[0], tuple) else shape
        return np.zeros(shape) if values is None else values.reshape(shape)

    return initialiser
'''

HELPERS: Mapping[str, str] = {"Recorder(": RECORDER, "initial(": INITIAL}
"""Source of what a draft may use, by the text that shows that it does."""


def helpers() -> dict[str, Any]:
    """Return the helpers by name, made from the source that an adapter file gets."""
    scope: dict[str, Any] = {"np": np}
    for source in HELPERS.values():
        exec(source, scope)
    return {name: scope[name] for name in ("Recorder", "initial")}


class Hangs(Exception):
    """Calls of one function or class have hung so often that it is given up."""


class _TimeOver(BaseException):
    """Raised inside a call that has hung: no ``except Exception`` of a homework stops it."""


@dataclass
class Homework:
    """What is looked at, and how it has behaved so far.

    Attributes
    ----------
    module
        What drafts call ``homework``: a module, or anything with attributes.
    call_seconds
        Time that a call may take. It ends by a signal of the main thread, so that there is no limit in
        other threads, nor where code that is not Python never comes back.
    hung
        Calls that have taken longer since `look_at`.
    raised
        What the first call since then raised; None once any call has answered.
    """

    module: Any
    call_seconds: float = CALL_SECONDS
    hung: int = 0
    raised: str | None = None
    answered: bool = False

    def __post_init__(self) -> None:
        self.namespace: dict[str, Any] = {"homework": self.module, "np": np, **helpers()}

    def look_at(self) -> None:
        """Turn to another function or class: calls of the one before do not count against it."""
        self.hung, self.raised, self.answered = 0, None, False

    def run(
        self, takes: Sequence[str], lines: Sequence[str], arguments: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Run the lines of a draft and return its local variables, or None where it raises or hangs.

        Raises
        ------
        Hangs
            If that was one time too often.
        """
        source = f"def wrapper({', '.join(takes)}):\n" + "".join(f"    {line}\n" for line in lines)
        source += "    return locals()\n"
        scope = dict(self.namespace)
        try:
            exec(_compiled(source), scope)
            with (
                Guarded("inference"),
                np.errstate(all="ignore"),
                warnings.catch_warnings(),
                _time_limit(self.call_seconds),
            ):
                warnings.simplefilter("ignore")
                result: dict[str, Any] = scope["wrapper"](**arguments)
        except (Exception, SystemExit) as error:  # an exception is just "no"
            if self.raised is None and not self.answered:
                self.raised = f"{type(error).__name__}: {first_line(str(error))}".removesuffix(": ")
            return None
        except _TimeOver:
            self.hung += 1
        else:
            self.answered, self.raised = True, None
            return result
        if self.hung >= MOST_HANGS:
            raise Hangs
        return None

    def tried(
        self,
        takes: Sequence[str],
        lines: Sequence[str],
        claims: Mapping[str, Any],
        layouts: Mapping[str, str],
        probe: Probe,
        **changed: Any,
    ) -> dict[str, Any] | None:
        """Run a draft on a probe, with some arguments replaced, as `run` does."""
        try:
            arguments = arguments_for(takes, claims, layouts, probe)
        except Exception:  # a layout that leaves out an axis which the probe has
            return None
        return self.run(takes, lines, {**arguments, **changed})

    def value(self, text: str, scope: Mapping[str, Any]) -> np.ndarray | None:
        """Evaluate an expression over the variables of a draft, as an array; None where it raises."""
        try:
            return np.asarray(eval(text, dict(self.namespace), dict(scope)))
        except Exception:
            return None


@lru_cache(maxsize=4096)
def _compiled(source: str) -> types.CodeType:
    return compile(source, "<draft>", "exec")


@contextlib.contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise in the middle of what takes longer."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def over(*_: object) -> None:
        raise _TimeOver

    before = signal.signal(signal.SIGALRM, over)
    # Again and again after that: a bare ``except:`` may swallow the first.
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before if before is not None else signal.SIG_DFL)
