"""The door for Python: `check` judges an adapter, or bare functions, and returns a report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from convform.adapters import Adapter, Unavailable
from convform.adapters.process.client import Limits
from convform.adapters.process.guard import NOTHING, Printed, Remark, watching
from convform.conformance.inference.functions import expression_of, given_or_inferred
from convform.conformance.inference.targets import Found, adapters_here
from convform.conformance.laws.law import PROFILES
from convform.conformance.reports.report import Report
from convform.conformance.reports.results import OperatorReport
from convform.conformance.running.judge import Interrupted, Progress, judge
from convform.conformance.running.preparing import (
    Setting,
    declared_by,
    said_of,
    selected_operators,
    switches_of,
    way_of,
)
from convform.conformance.running.trial import without_files
from convform.conformance.subjects.hosting import isolated as in_own_process
from convform.spec.clauses import LEVELS

DEFAULT_SEED = 0
"""Without a seed of the caller's, every run is the same run."""


def check(
    adapter: Adapter | None = None,
    *,
    operators: Sequence[str] | None = None,
    profile: str = "quick",
    seed: int | None = None,
    level: str = "core",
    origin: str | None = None,
    progress: Progress | None = None,
    isolated: bool | None = None,
    limits: Limits | None = None,
    jobs: int = 1,
    budget: float | None = None,
    **functions: Callable[..., Any],
) -> Report:
    """Judge an adapter, or bare functions, as code that is trusted; a file that is not goes through `hosted`.

    Parameters
    ----------
    adapter
        The adapter; left out where functions are given.
    operators
        Names of the operators to judge; None means all that it implements.
    profile
        ``"brief"``, ``"quick"``, ``"full"`` or ``"search"``.
    seed
        Seed of every random choice; None means 0, so that two runs agree unless asked not to.
    level
        Which level decides the verdict: ``"core"`` or ``"strict"``. Both are always run.
    origin
        What `convform.adapters.load` finds the adapter by; reproducers use it.
    progress
        Called with operator and law before each law.
    isolated, limits
        Whether to judge it in a process of its own (None leaves that to the adapter); what that may spend.
    jobs
        Number of processes that laws are spread over, which must find the adapter, too; in a script, the
        call belongs under ``if __name__ == "__main__":``.
    budget
        Seconds that the run may take; what it does not reach makes the verdict ``"incomplete"``.
    **functions
        Functions or layer classes by operator, a dot written as an underscore: ``conv2d=my_conv,
        conv2d_backward=my_gradient``. Their layouts and parameters are found by experiment.

    Returns
    -------
    Report
        One verdict per operator, one result per law.

    Raises
    ------
    Unavailable
        If the backend or its device is not there.
    AdapterError
        If `operators` names one that the adapter does not implement, or it implements none.
    ValueError
        If `profile` or `level` is unknown, or `jobs` or `budget` is not positive.

    Examples
    --------
    >>> from convform import reference
    >>> check(im2col=reference.im2col).verdict
    'conforms'
    """
    _refuse_unknown(profile, level, jobs, budget)
    adapter = given_or_inferred(adapter, functions)
    origin = expression_of(functions) if functions and origin is None else origin
    own_process = adapter.isolated if isolated is None else isolated
    seed = DEFAULT_SEED if seed is None else seed
    setting = Setting(None, "", PROFILES[profile], seed, origin, own_process, limits, seconds=budget)
    setting = trusted(adapter, setting)
    return report_of(adapter, setting, operators=operators, level=level, jobs=jobs, progress=progress)


def trusted(adapter: Adapter, setting: Setting) -> Setting:
    """Complete a setting for an adapter whose code is trusted."""
    return replace(setting, target=adapter.origin or setting.origin, adapter=adapter.name, find=adapters_here)


def hosted(meant: Found, adapter: Adapter, setting: Setting) -> Setting:
    """Complete a setting, with `Setting.hosting`, for one of the adapters of a file or program.

    Its code runs in its worker alone.
    """
    return replace(
        setting,
        target=adapter.origin,
        adapter=adapter.name,
        origin=meant.origin_of(adapter),
        options=meant.options,
    )


def _refuse_unknown(profile: str, level: str, jobs: int, budget: float | None) -> None:
    if profile not in PROFILES:
        raise ValueError(f"profile={profile!r}: expected one of {', '.join(PROFILES)}")
    if level not in LEVELS:
        raise ValueError(f"level={level!r}: expected {' or '.join(LEVELS)}")
    if jobs < 1:
        raise ValueError(f"jobs={jobs}: expected at least 1")
    if budget is not None and not 0 < budget < float("inf"):
        raise ValueError(f"budget={budget}: expected seconds, more than 0")


def report_of(
    adapter: Adapter,
    setting: Setting,
    *,
    operators: Sequence[str] | None = None,
    level: str = "core",
    jobs: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Judge an adapter as a setting says that `trusted` or `hosted` has completed; the rest is as of `check`.

    Raises
    ------
    Unavailable, AdapterError
        As of `check`.
    """
    problem = adapter.available() if adapter.available else None
    if problem:
        raise Unavailable(f"the adapter {adapter.name!r} cannot run here: {problem}", adapter.install)
    started = time.perf_counter()
    names = selected_operators(adapter, operators)
    own_limits = () if setting.excuses else tuple(said_of(limit) for limit in adapter.known_limits)
    if not setting.excuses:
        adapter.known_limits.clear()
    switches = switches_of(adapter)

    def report(reports: Sequence[OperatorReport], remarks: tuple[Remark, ...], printed: Printed) -> Report:
        return Report(
            adapter.name,
            adapter.version,
            setting.seed,
            setting.profile.name,
            level,
            time.perf_counter() - started,
            tuple(reports),
            remarks,
            printed,
            switches,
            adapter.left_out,
            way_of(setting),
            declared_by(adapter, names),
            own_limits,
        )

    try:
        with without_files():
            return report(*_judged(adapter, names, setting, jobs, progress))
    except Interrupted as interrupt:
        interrupt.report = report(interrupt.operators, (), NOTHING)
        raise


def _judged(
    adapter: Adapter, names: Sequence[str], setting: Setting, jobs: int, progress: Progress | None
) -> tuple[list[OperatorReport], tuple[Remark, ...], Printed]:
    """Judge in this process, or in several; what the subject does besides answering is noted."""
    if jobs > 1:
        from convform.conformance.running.jobs import in_parallel  # few runs need other processes

        return in_parallel(adapter, names, setting, jobs, progress)
    seed, origin = setting.seed, setting.origin
    own = in_own_process(adapter, origin, setting.limits) if setting.isolated else nullcontext(adapter)
    with own as judged, watching(seed) as conduct:
        reports = judge(
            judged,
            names,
            setting.profile,
            seed,
            origin,
            progress,
            shrink_known=False,
            seconds=setting.seconds,
        )
    return reports, conduct.remarks, conduct.printed
