"""The runner: takes a subject through its laws and records what happened.

It owns Hypothesis: seeds, budgets, shrinking. No example database is used, so that a run depends on its
seed alone. Command line, pytest plugin and Python callers are thin doors to `check` and `run_law`.
"""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis.errors import Flaky

from convform.adapters import Adapter, AdapterError, KnownLimit, Switch, Unavailable
from convform.adapters.errors import closest
from convform.adapters.process.client import Limits
from convform.conformance.cases.case import Case, build, value_range
from convform.conformance.cases.geometry import Geometry, tables
from convform.conformance.diagnosis.diagnose import diagnose
from convform.conformance.diagnosis.findings import Findings
from convform.conformance.diagnosis.record import kind_of
from convform.conformance.inference.functions import adapter_of, source_of
from convform.conformance.laws.index import laws_of
from convform.conformance.laws.law import PROFILES, Drawn, Law, Listed, Profile, Swept
from convform.conformance.laws.violation import Violation
from convform.conformance.reports.report import CRASHED, TIMED_OUT, LawResult, OperatorReport, Report
from convform.conformance.reports.reproducer import reproducer
from convform.conformance.running.shrink import shrink_numbers
from convform.conformance.running.smoke import SMOKE, smoke
from convform.conformance.subjects.guard import watching
from convform.conformance.subjects.isolation import isolated as in_own_process
from convform.conformance.subjects.subject import Subject, SubjectGone, first_line
from convform.spec.clauses import LEVELS

DEFAULT_SEED = 0
"""Without a seed of the caller's, every run is the same run."""

SHRINK_SECONDS = 2.0
"""Time after which a slow subject's counterexample is not made any smaller."""

DEATHS = {"crashed": 10, "timed out": 4}
"""Ends of the subject's process that the counterexample of one law may cost, by outcome.

That is for the first law that it dies in; in those after it the first case will do.
"""

SHRINK_DEATHS_SECONDS = 8.0
"""The same as `SHRINK_SECONDS` for a process that ends, and takes its time to start again."""

Progress = Callable[[str, str], None]
"""Called with operator and law before each law is run."""


@dataclass
class _Trial:
    """Runs a law on cases, counting them and keeping the simplest violation."""

    subject: Subject
    law: Law
    shrink: bool = True
    shrink_known: bool = True
    cases: int = 0
    best: Violation | None = None
    first_at: float | None = None
    false_pass: float = 0.0
    deaths: int = 0
    has_died: bool = False
    searches: bool = False

    def attempt(self, case: Case) -> Violation | None:
        """Run the law on one case."""
        self.cases += 1
        case = self.subject.fitted(case)
        violation: Violation | None = None
        try:
            self.law.check(self.subject, case)
        except Violation as found:
            violation = found
        except SubjectGone as gone:
            violation = Violation.of(gone, case)
            self.deaths += 1
        if violation is not None:
            if self.first_at is None:
                self.first_at = time.perf_counter()
            if self.best is None or _complexity(violation) < _complexity(self.best):
                self.best = violation
        return violation

    def shrinks_to(self, case: Case) -> Violation | None:
        """Run the law on a simpler case; only a violation with the same outcome counts."""
        found = None if self.exhausted else self.attempt(case)
        return found if found and self.best and found.outcome == self.best.outcome else None

    def looks_beyond(self, violation: Violation) -> bool:
        """Whether a search goes on: a wrong answer that is known must not hide the end of a process."""
        return self.searches and violation.outcome is None and self.is_known(violation)

    def is_known(self, violation: Violation) -> bool:
        """Whether the adapter lists the violation among its known limits."""
        names = (self.law.name, *self.law.clauses, violation.outcome)
        return any(
            limit.law_or_clause in names and limit.speaks_of(violation.case.dtype.name)
            for limit in self.subject.implementation.known_limits
        )

    @property
    def exhausted(self) -> bool:
        """Whether shrinking has taken its time, or is not worth any."""
        if self.first_at is None or (self.best is not None and self.looks_beyond(self.best)):
            return False
        if self.best is not None and not self.shrink_known and self.is_known(self.best):
            return True
        seconds = time.perf_counter() - self.first_at
        if self.best is not None and self.best.outcome is not None:
            most = 1 if self.has_died else DEATHS[self.best.outcome]
            spent = self.deaths >= most or seconds > SHRINK_DEATHS_SECONDS
        else:
            spent = seconds > SHRINK_SECONDS
        return not self.shrink or spent


def _complexity(violation: Violation) -> tuple[object, ...]:
    """What to show first: the end of a process before a wrong answer, then the smaller case."""
    geometry, answered = violation.case.geometry, violation.outcome is None
    return (answered, 0) if geometry is None else (answered, 1, *geometry.complexity)


def run_law(
    subject: Subject,
    law: Law,
    profile: Profile,
    seed: int,
    origin: str | None = None,
    *,
    shrink: bool = True,
    shrink_known: bool = True,
    has_died: bool = False,
) -> LawResult:
    """Run one law on one subject.

    Parameters
    ----------
    subject
        The implementation, after its smoke test.
    law
        A law of its operator.
    profile
        How many cases to spend.
    seed
        Seed of the run; the law derives its own from it, so laws can be run alone.
    origin
        What `convform.adapters.load` finds the adapter by, for the reproducer.
    shrink
        Whether to look for the smallest counterexample; the first one will do where only the fact counts.
    shrink_known
        Whether to do so for a known limit of the adapter as well.
    has_died
        Whether the process of the subject has ended in another law already, so that one more small case of
        that is not worth the time.

    Returns
    -------
    LawResult
        Status ``"holds"``, ``"violated"``, ``"not-claimed"`` or ``"error"``.
    """

    def run(subject: Subject) -> LawResult:
        return _run_law(
            _Trial(subject, law, shrink, shrink_known, has_died=has_died, searches=profile.wide),
            profile,
            seed,
            origin,
        )

    found = result = run(subject)
    cases, seconds = result.cases, result.seconds
    # What one dtype is known to break must not hide what others break.
    while rest := _dtypes_without_limit(subject, result):
        implementation = subject.implementation
        claims = replace(implementation.claims, dtypes=rest)
        subject = Subject(replace(implementation, claims=claims), subject.answers)
        result = run(subject)
        cases, seconds = cases + result.cases, seconds + result.seconds
        found = result if result.status in ("violated", "error") else found
    return replace(found, cases=cases, seconds=seconds)


def _dtypes_without_limit(subject: Subject, result: LawResult) -> tuple[str, ...]:
    """Which dtypes have to be asked again, as a violation is one that is known of other dtypes."""
    if result.violation is None:
        return ()
    dtype = result.violation.case.dtype.name
    excused = {
        name
        for limit in subject.implementation.known_limits
        if limit.law_or_clause in (result.law, *result.clauses, result.outcome)
        and limit.dtypes is not None
        and dtype in limit.dtypes
        for name in limit.dtypes
    }
    claimed = subject.implementation.claims.dtypes
    return tuple(name for name in claimed if name not in excused) if excused else ()


def _run_law(trial: _Trial, profile: Profile, seed: int, origin: str | None) -> LawResult:
    """Run one law on all that is claimed."""
    subject, law = trial.subject, trial.law
    reason = law.not_claimed(subject)
    if reason is not None:
        return LawResult(law.name, law.level, law.clauses, "not-claimed", reason=reason)
    own_seed = zlib.crc32(f"{seed} {subject.operator.name} {law.name}".encode())
    started = time.perf_counter()
    try:
        claimed = _search(trial, profile, own_seed)
    except AdapterError as error:
        seconds = time.perf_counter() - started
        return LawResult(law.name, law.level, law.clauses, "error", trial.cases, seconds, reason=str(error))
    cases = trial.cases
    if not claimed:
        return LawResult(
            law.name, law.level, law.clauses, "not-claimed", reason="no case of it lies within the claims"
        )
    if trial.best is None:
        seconds = time.perf_counter() - started
        return LawResult(
            law.name, law.level, law.clauses, "holds", cases, seconds, false_pass=trial.false_pass or None
        )
    assert trial.first_at is not None
    smallest = shrink_numbers(trial.best, trial.shrinks_to)
    return LawResult(
        law.name,
        law.level,
        law.clauses,
        "violated",
        cases,
        time.perf_counter() - started,
        violation=smallest,
        reproducer=reproducer(subject.implementation, smallest, origin),
        found_after=trial.first_at - started,
    )


def _search(trial: _Trial, profile: Profile, seed: int) -> bool:
    """Run cases until one violates the law; False if the claims leave no case."""
    source = trial.law.source
    if isinstance(source, Listed):
        for case in source.cases(trial.subject):
            if trial.attempt(case):
                break
        return trial.cases > 0
    wide = profile.wide and isinstance(source, Drawn) and not source.costly
    table = tables(trial.subject.space, source.focus, sweep=isinstance(source, Swept), wide=wide)
    if table.empty:
        return False
    if isinstance(source, Swept):
        for geometry in table.sweep(profile.sweep, seed):
            if _attempt(trial, geometry):
                _look_for_smaller(trial, table.sweep(None, seed) if trial.shrink else iter(()))
                break
        return True
    _draw(trial, source, table.strategy(), profile, seed)
    return True


def _attempt(trial: _Trial, geometry: Geometry) -> Violation | None:
    if trial.law.lane == "exact" and trial.subject.operator.is_linear:
        values = 2 * value_range(trial.subject.operator, geometry) + 1
        trial.false_pass = max(trial.false_pass, 2 / values)
    return trial.attempt(build(trial.subject.operator, geometry))


def _look_for_smaller(trial: _Trial, geometries: Iterator[Geometry]) -> None:
    """A sweep that was thinned out may have passed over the smallest failing geometry."""
    assert trial.best is not None
    for geometry in geometries:
        simplest = trial.best.case.geometry
        if trial.exhausted or simplest is None or geometry.complexity >= simplest.complexity:
            return
        if _attempt(trial, geometry):
            return


def _draw(
    trial: _Trial,
    source: Drawn,
    strategy: hypothesis.strategies.SearchStrategy[Geometry],
    profile: Profile,
    seed: int,
) -> None:
    """Let Hypothesis draw geometries and shrink a failing one."""
    contents = 1 if source.costly else profile.contents

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=profile.costly if source.costly else profile.drawn,
        database=None,
        deadline=None,
        derandomize=False,
        phases=(Phase.generate, Phase.shrink) if trial.shrink else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
        verbosity=Verbosity.quiet,
    )
    @hypothesis.given(strategy)
    def test(geometry: Geometry) -> None:
        if trial.exhausted:
            return
        for index in range(contents):
            violation = _attempt(trial, _refilled(geometry, index))
            if violation is not None and not trial.looks_beyond(violation):
                # Hypothesis tells failures apart by where they are raised: raise them all here.
                raise violation

    # The trial has kept the simplest violation; a flaky one is a violation all the same.
    with contextlib.suppress(Violation, Flaky):
        test()


def _refilled(geometry: Geometry, index: int) -> Geometry:
    """The same geometry with other numbers."""
    return geometry if index == 0 else replace(geometry, seed=geometry.seed + (index << 16))


def judge(
    adapter: Adapter,
    names: Sequence[str],
    profile: Profile,
    seed: int,
    origin: str | None = None,
    progress: Progress | None = None,
    *,
    shrink_known: bool = True,
) -> list[OperatorReport]:
    """Take implementations through the smoke law, then the core laws, then the strict ones.

    All operators are asked the core questions before any is asked a strict one, so that what a homework is
    about is known first. A known limit is made small where `shrink_known` says so.
    """
    subjects: dict[str, Subject | None] = {}
    results: dict[str, list[LawResult]] = {}
    for name in names:
        if progress:
            progress(name, SMOKE)
        subjects[name], smoke_result = smoke(adapter.implementations[name])
        results[name] = [smoke_result]
    for level in LEVELS:
        for name, subject in subjects.items():
            if subject is None:
                continue
            for law in laws_of(subject.operator):
                if law.level != level:
                    continue
                if progress:
                    progress(name, law.name)
                died = any(result.outcome for result in results[name])
                result = run_law(
                    subject, law, profile, seed, origin, shrink_known=shrink_known, has_died=died
                )
                results[name].append(result)
    reports = []
    for name, found in results.items():
        subject = subjects[name]
        if subject is not None:
            if progress and any(result.status == "violated" for result in found):
                progress(name, "diagnosis")
            found = diagnosed(subject, found, seed)
        applied = known_limits_applied(adapter, name, found, thorough=profile.thorough)
        reports.append(OperatorReport(name, tuple(applied)))
    return reports


def diagnosed(subject: Subject, results: Sequence[LawResult], seed: int) -> list[LawResult]:
    """Find out why violated laws are violated; laws about ordinary values share their findings."""
    laws = {law.name: law for law in laws_of(subject.operator)}
    known: dict[str, Findings] = {}
    explained = []
    # Whoever ends the process, or hangs, is not asked the hundreds of questions that a diagnosis takes.
    dies = any(result.outcome is not None for result in results)
    for result in results:
        if result.status == "violated" and result.violation is not None and not dies:
            law = laws[result.law]
            kind = kind_of(law)
            if kind not in known:
                known[kind] = diagnose(subject, law, result.violation.case, seed)
            result = replace(result, findings=known[kind])
        explained.append(result)
    return explained


def known_limits_applied(
    adapter: Adapter, operator: str, results: Sequence[LawResult], *, thorough: bool = True
) -> list[LawResult]:
    """Mark violations that the adapter lists; a listed limit that no longer shows becomes a violation.

    A limit covers every law that it names or whose clauses it names. It still shows while any of them is
    violated; laws that cite the clause in passing may hold all the time, so that it no longer shows is told
    by the laws that it names, or whose first clause it names; and only where the profile is `thorough`.
    """
    marked = list(results)
    # Where a process has ended, a limit that says so has the last word.
    outcomes = (CRASHED, TIMED_OUT)
    for limit in sorted(adapter.known_limits, key=lambda limit: limit.law_or_clause in outcomes):
        if limit.operator != operator:
            continue
        covered = [
            i
            for i, result in enumerate(results)
            if limit.law_or_clause in (result.law, *result.clauses, result.outcome)
        ]
        shows = [i for i in covered if results[i].status == "violated" and _is_of(limit, results[i])]
        for i in shows:
            marked[i] = results[i].known(limit)
        for i in covered if limit.always and thorough and not shows else ():
            named = limit.law_or_clause in (results[i].law, results[i].clauses[0])
            if results[i].status == "holds" and named and results[i].law != SMOKE:
                marked[i] = results[i].outgrown(limit)
    return marked


def _is_of(limit: KnownLimit, result: LawResult) -> bool:
    """Whether a limit speaks of the dtype in which a law was violated."""
    return result.violation is None or limit.speaks_of(result.violation.case.dtype.name)


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
    **functions: Callable[..., Any],
) -> Report:
    """Judge an adapter, or bare functions.

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
    isolated
        Whether to judge it in a process of its own; None leaves that to the adapter.
    limits
        What that process may spend.
    jobs
        Number of processes that laws are spread over. What is found does not depend on it. The adapter must
        be one that other processes find, too; in a script, the call belongs under ``if __name__ ==
        "__main__":``.
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
        If `profile` or `level` is unknown, or `jobs` is not positive.

    Examples
    --------
    >>> from convform import reference
    >>> check(im2col=reference.im2col).verdict
    'conforms'
    """
    if profile not in PROFILES:
        raise ValueError(f"profile={profile!r}: expected one of {', '.join(PROFILES)}")
    if level not in ("core", "strict"):
        raise ValueError(f"level={level!r}: expected core or strict")
    if jobs < 1:
        raise ValueError(f"jobs={jobs}: expected at least 1")
    adapter = adapter_of(adapter, functions)
    if functions and origin is None:
        origin = source_of(functions)
    problem = adapter.available() if adapter.available else None
    if problem:
        raise Unavailable(f"the adapter {adapter.name!r} cannot run here: {problem}", adapter.install)
    started = time.perf_counter()
    used = DEFAULT_SEED if seed is None else seed
    names = selected_operators(adapter, operators)
    switches = switches_of(adapter)
    own_process = adapter.isolated if isolated is None else isolated
    if jobs > 1:
        from convform.conformance.running import jobs as parallel  # it knows this module

        how = {"profile": PROFILES[profile], "seed": used, "isolated": own_process, "limits": limits}
        setting = parallel.setting_of(adapter, origin, **how)
        reports, remarks, printed = parallel.in_parallel(adapter, names, setting, jobs, progress)
    else:
        own = in_own_process(adapter, origin, limits) if own_process else contextlib.nullcontext(adapter)
        with own as judged, watching(used) as conduct:
            reports = judge(judged, names, PROFILES[profile], used, origin, progress, shrink_known=False)
        remarks, printed = conduct.remarks, conduct.printed
    return Report(
        adapter.name,
        adapter.version,
        used,
        profile,
        level,
        time.perf_counter() - started,
        tuple(reports),
        remarks,
        printed,
        switches,
    )


def switches_of(adapter: Adapter) -> tuple[Switch, ...]:
    """Read the global settings that an adapter says its arithmetic depends on.

    Raises
    ------
    AdapterError
        If they cannot be read.
    """
    try:
        return tuple(adapter.switches()) if adapter.switches else ()
    except Exception as error:
        said = f"{type(error).__name__}: {first_line(str(error))}"
        raise AdapterError(f"{adapter.name}: its switches cannot be read: {said}") from error


def selected_operators(adapter: Adapter, operators: Sequence[str] | None) -> list[str]:
    """Names of the operators to judge, in the adapter's order.

    Raises
    ------
    AdapterError
        If it implements none, or not what is asked for; or if it lists a limit of which no law speaks.
    """
    implemented = list(adapter.implementations)
    if not implemented:
        raise AdapterError(
            f"the adapter {adapter.name!r} implements no operator",
            hint=f'register a wrapper: @{adapter.name}.implements("conv2d")',
        )
    for name in operators or ():
        if name not in implemented:
            raise AdapterError(
                f"the adapter {adapter.name!r} does not implement {name!r}",
                hint=f"it implements {', '.join(implemented)}",
            )
    for limit in adapter.known_limits:
        if limit.operator in implemented:
            _check_limit(adapter, limit)
    return [name for name in implemented if not operators or name in operators]


def _check_limit(adapter: Adapter, limit: KnownLimit) -> None:
    """Refuse a limit that could never show: it is a slip."""
    laws = laws_of(adapter.implementations[limit.operator].operator)
    known = list(dict.fromkeys(name for law in laws for name in (law.name, *law.clauses)))
    known += [CRASHED, TIMED_OUT]
    if limit.law_or_clause not in known:
        raise AdapterError(
            f"{adapter.name}: known limit of {limit.operator}: no law of it is called "
            f"{limit.law_or_clause!r}, and none cites such a clause",
            closest(limit.law_or_clause, known) or "convform spec lists the clauses",
        )
