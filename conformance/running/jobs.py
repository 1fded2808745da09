"""Judging in several processes at once: the same laws, the same verdicts, sooner.

Each process of the pool finds the adapter by itself, in a process of the subject's own where that is asked
for, and runs one law of one operator at a time. Results come back as data and are put together in the order
in which a single process would have found them.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import NoReturn, TypeVar

from convform.adapters import Adapter, AdapterError
from convform.adapters.process.guard import KEPT_CHARACTERS, Printed, Remark, quiet, watching
from convform.adapters.process.wishes import heed
from convform.conformance.laws.index import laws_of
from convform.conformance.reports.results import Holds, LawResult, OperatorReport, Violated
from convform.conformance.running.judge import Progress, as_listed, diagnosed, in_drawn_order
from convform.conformance.running.limits import known_limits_applied
from convform.conformance.running.preparing import Setting
from convform.conformance.running.smoke import SMOKE, smoke
from convform.conformance.running.trial import Effort, run_law, without_files
from convform.conformance.subjects.hosting import hosted, isolated
from convform.conformance.subjects.subject import Subject

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Done:
    """What one job came to: results of laws, and what the subject did besides answering."""

    results: tuple[LawResult, ...]
    remarks: tuple[Remark, ...]
    printed: Printed


def in_parallel(
    adapter: Adapter, names: Sequence[str], setting: Setting, jobs: int, progress: Progress | None = None
) -> tuple[list[OperatorReport], tuple[Remark, ...], Printed]:
    """Judge implementations as `convform.conformance.running.judge.judge` does, in `jobs` processes.

    Parameters
    ----------
    adapter
        The adapter, of which the operators and known limits count here.
    names
        Names of the operators.
    setting
        How the other processes find and judge it.
    jobs
        Number of processes.
    progress
        Called with operator and law when a law is done.

    Raises
    ------
    AdapterError
        If it is not known where another process could find the adapter, or it cannot, or the subject ends it.
    """
    if setting.target is None:
        raise AdapterError(
            f"the adapter {adapter.name!r} was not loaded from anywhere, so no other process can find it",
            f"save it in a file and load it: load('hw.py:{adapter.name}'); or leave jobs out",
        )
    note = progress or (lambda operator, law: None)
    until = None if setting.seconds is None else time.monotonic() + setting.seconds
    done: dict[tuple[str, str], Done] = {}
    with pool(jobs) as processes:

        def run(keys: Iterable[tuple[str, str]], has_died: bool = False) -> None:
            futures: dict[Future[Done], tuple[str, str]] = {
                processes.submit(_run_law, setting, *key, has_died, until): key for key in keys
            }
            for future in finished(futures):
                key = futures[future]
                done[key] = future.result()
                note(*key)

        run((name, SMOKE) for name in names)
        sound = [name for name in names if isinstance(done[name, SMOKE].results[0], Holds)]
        drawn = [(name, law.name) for name, law in in_drawn_order(sound, setting.seed)]
        run(drawn)
        keys = [(name, SMOKE) for name in names] + drawn
        run(_after_a_death(keys, done), has_died=True)
        found = {
            name: as_listed(name, [done[key].results[0] for key in keys if key[0] == name]) for name in names
        }
        violated = [name for name in sound if any(isinstance(law, Violated) for law in found[name])]
        if until is not None and time.monotonic() >= until:
            violated = []
        explained = [processes.submit(_diagnose, setting, name, found[name]) for name in violated]
        for name, future in zip(violated, explained, strict=True):
            note(name, "diagnosis")
            done[name, "diagnosis"] = future.result()
            found[name] = list(future.result().results)
            keys.append((name, "diagnosis"))
    thorough = setting.profile.thorough
    reports = [
        OperatorReport(name, tuple(known_limits_applied(adapter, name, found[name], thorough=thorough)))
        for name in names
    ]
    return reports, _remarks(done[key] for key in keys), _printed(done[key] for key in keys)


def _after_a_death(
    keys: Iterable[tuple[str, str]], done: dict[tuple[str, str], Done]
) -> list[tuple[str, str]]:
    """Laws in which a subject died that had died before: one process spends less on them."""
    died: set[str] = set()
    again = []
    for name, law in keys:
        if done[name, law].results[0].outcome is not None:
            if name in died:
                again.append((name, law))
            died.add(name)
    return again


def _remarks(done: Iterable[Done]) -> tuple[Remark, ...]:
    """Put remarks together as a single run would have made them."""
    remarks: dict[str, Remark] = {}
    for remark in (remark for one in done for remark in one.remarks):
        before = remarks.get(remark.says, Remark(remark.says))
        operators = tuple(dict.fromkeys((*before.operators, *remark.operators)))
        # What only a whole run shows is said once.
        calls = before.calls + remark.calls if remark.operators else remark.calls
        remarks[remark.says] = Remark(remark.says, operators, calls)
    return tuple(remarks.values())


def _printed(done: Iterable[Done]) -> Printed:
    papers = [one.printed for one in done]
    text = "".join(paper.text for paper in papers)
    kept = text.encode()[:KEPT_CHARACTERS].decode("utf-8", "replace")
    return Printed(sum(paper.lines for paper in papers), kept)


# ------------------------------------------------------------------------------------------ the pool


class JudgeEnded(AdapterError):
    """A process of the pool has ended before its work was done."""


@contextmanager
def pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Start processes that judge; none is left behind, however the context ends.

    Raises
    ------
    JudgeEnded
        If one of them ends before its work is done.
    """
    # A homework called queue.py in the current folder must not replace Python's.
    others = set(multiprocessing.active_children())
    # What they put aside lies in a folder of this process, which is there to remove it whatever happens.
    folder = tempfile.TemporaryDirectory(prefix="convform-", ignore_cleanup_errors=True)
    settings = {"PYTHONSAFEPATH": "1", "TMPDIR": folder.name}
    before = {name: os.environ.get(name) for name in settings}
    os.environ |= settings
    try:
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin) as processes:
            try:
                yield processes
            except BaseException:
                _end(set(multiprocessing.active_children()) - others)
                processes.shutdown(cancel_futures=True)
                raise
    except BrokenProcessPool:
        raise JudgeEnded(
            "a process of the judge has ended: the subject has crashed it, or memory was short",
            "judge it in a process of its own: --isolate, or without --in-process",
        ) from None
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        folder.cleanup()


def _end(children: Collection[BaseProcess]) -> None:
    """Let processes end their subjects, and end those that do not."""
    for child in children:
        child.terminate()
    until = time.monotonic() + 2
    for child in children:
        child.join(max(until - time.monotonic(), 0))
        child.kill()


def finished(futures: Iterable[Future[_Result]]) -> Iterator[Future[_Result]]:
    """Futures as they are done; between two of them, the wish that all this ends is heeded."""
    left = set(futures)
    while left:
        heed()
        done, left = wait_for(left, timeout=0.2, return_when=FIRST_COMPLETED)
        yield from done


def _begin() -> None:
    """Leave interrupts to the process that started this one, and end with it, or when it says so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _leave(*_: object) -> NoReturn:
    """End subjects, and this process: without an exception, which may be lost where the signal arrives."""
    atexit._run_exitfuncs()
    os._exit(0)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


@cache
def judged(setting: Setting) -> Adapter:
    """Find the adapter in this process, in a process of its own where that is asked for."""
    assert setting.target is not None
    if setting.hosting is not None and setting.options is not None:
        guest = hosted(setting.hosting, setting.options)
        atexit.register(guest.close)
        (adapter,) = (adapter for adapter in guest.adapters if adapter.name == setting.adapter)
        if not setting.excuses:
            adapter.known_limits.clear()
        return adapter
    with quiet():
        adapters = setting.find(setting.target)
    adapter = next(adapter for adapter in adapters if adapter.name == setting.adapter)
    if not setting.isolated:
        return adapter
    context = isolated(adapter, setting.target, setting.limits)
    atexit.register(context.__exit__, None, None, None)
    return context.__enter__()


@cache
def _smoked(setting: Setting, operator: str) -> tuple[Subject | None, LawResult]:
    return smoke(judged(setting).implementations[operator])


def _watched(seed: int, work: Callable[[], list[LawResult]]) -> Done:
    with watching(seed) as conduct, without_files():
        results = work()
    return Done(tuple(results), conduct.remarks, conduct.printed)


def _run_law(setting: Setting, operator: str, law_name: str, has_died: bool, until: float | None) -> Done:
    """Run one law: what a process of the pool does."""
    if law_name == SMOKE:
        return _watched(setting.seed, lambda: [_smoked(setting, operator)[1]])
    with watching(setting.seed):  # its conduct in the smoke law is known
        subject, _ = _smoked(setting, operator)
    assert subject is not None
    law = next(law for law in laws_of(subject.operator) if law.name == law_name)

    def work() -> list[LawResult]:
        effort = Effort(shrink_known=False, has_died=has_died, until=until)
        return [run_law(subject, law, setting.profile, setting.seed, setting.origin, effort)]

    return _watched(setting.seed, work)


def _diagnose(setting: Setting, operator: str, results: Sequence[LawResult]) -> Done:
    """Explain what is violated: the other thing that a process of the pool does."""
    with watching(setting.seed):
        subject, _ = _smoked(setting, operator)
    assert subject is not None
    return _watched(setting.seed, lambda: diagnosed(subject, results, setting.seed))
