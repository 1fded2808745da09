"""One law on one subject: cases are run until one violates it, and that one is made small.

It owns Hypothesis: seeds, budgets, shrinking. No example database is used, so that a run depends on its seed
alone.
"""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis.errors import Flaky

from convform.adapters import AdapterError, KnownLimit
from convform.conformance.cases.case import Case, build, value_range
from convform.conformance.cases.geometry import Geometry, tables
from convform.conformance.laws.law import Drawn, Law, Listed, Profile, Swept
from convform.conformance.laws.violation import Violation
from convform.conformance.reports.reproducer import reproducer
from convform.conformance.reports.results import LawResult
from convform.conformance.running.limits import excusing, narrowed, speaks_of
from convform.conformance.running.shrink import shrink_numbers
from convform.conformance.subjects.subject import Subject, SubjectGone

SHRINK_SECONDS = 2.0
"""Time after which a slow subject's counterexample is not made any smaller."""


DEATHS = {"crashed": 10, "timed out": 4}
"""Ends of the subject's process that the counterexample of one law may cost, by outcome.

That is for the first law that it dies in; in those after it the first case will do.
"""


SHRINK_DEATHS_SECONDS = 8.0
"""The same as `SHRINK_SECONDS` for a process that ends, and takes its time to start again."""


@dataclass
class _Trial:
    """Runs a law on cases, counting them and keeping the simplest violation."""

    subject: Subject
    law: Law
    shrink: bool = True
    shrink_known: bool = True
    left_out: tuple[KnownLimit, ...] = ()
    cases: int = 0
    best: Violation | None = None
    first_at: float | None = None
    false_pass: float = 0.0
    deaths: int = 0
    has_died: bool = False
    searches: bool = False
    shown: dict[KnownLimit, None] = field(default_factory=dict)

    def attempt(self, case: Case) -> Violation | None:
        """Run the law on one case."""
        case = self.subject.fitted(case)
        if any((limit.dtypes or limit.when) and speaks_of(limit, case) for limit in self.left_out):
            return None
        self.cases += 1
        violation: Violation | None = None
        try:
            self.law.check(self.subject, case)
        except Violation as found:
            violation = found
        except SubjectGone as gone:
            violation = Violation.of(gone, case)
            self.deaths += 1
        return violation if violation is not None and self._is_kept(violation) else None

    def _is_kept(self, violation: Violation) -> bool:
        """Note a violation; False if it is one that something else is known of than of what is looked at."""
        excused = self.excused_by(violation)
        self.shown |= dict.fromkeys(excused)
        if any(limit in self.left_out for limit in excused):
            return False
        if self.first_at is None:
            self.first_at = time.perf_counter()
        known = () if self.best is None else self.excused_by(self.best)
        if self.best is not None and excused and excused != known and not (known and violation.outcome):
            return False  # shrinking must not walk to what another limit excuses
        unexcused = bool(known) and not excused
        if self.best is None or unexcused or _complexity(violation) < _complexity(self.best):
            self.best = violation
        return True

    def shrinks_to(self, case: Case) -> Violation | None:
        """Run the law on a simpler case; only a violation with the same outcome counts."""
        found = None if self.exhausted else self.attempt(case)
        return found if found and self.best and found.outcome == self.best.outcome else None

    def looks_beyond(self, violation: Violation) -> bool:
        """Whether a search goes on: a wrong answer that is known must not hide the end of a process."""
        return self.searches and violation.outcome is None and self.is_known(violation)

    def excused_by(self, violation: Violation) -> tuple[KnownLimit, ...]:
        """The known limits of the adapter that excuse a violation."""
        limits = self.subject.implementation.known_limits
        return excusing(limits, self.law.name, self.law.clauses, violation)

    def is_known(self, violation: Violation) -> bool:
        """Whether the adapter lists the violation among its known limits."""
        return bool(self.excused_by(violation))

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

    def run(subject: Subject, left_out: tuple[KnownLimit, ...]) -> LawResult:
        trial = _Trial(subject, law, shrink, shrink_known, left_out, has_died=has_died, searches=profile.wide)
        return _run_law(trial, profile, seed, origin)

    left_out: tuple[KnownLimit, ...] = ()
    found = result = run(subject, left_out)
    cases, seconds, shown = result.cases, result.seconds, result.shown
    # What is known of some cases must not hide what happens in others: ask again what no limit speaks of.
    while confined := _confined(subject, result):
        left_out += confined
        rest = narrowed(subject, left_out)
        if rest is None:
            break
        result = run(rest, left_out)
        cases, seconds, shown = cases + result.cases, seconds + result.seconds, shown + result.shown
        found = result if result.status in ("violated", "error") else found
    return replace(found, cases=cases, seconds=seconds, shown=tuple(dict.fromkeys(shown)))


def _confined(subject: Subject, result: LawResult) -> tuple[KnownLimit, ...]:
    """The limits that excuse a violation and leave other cases, or other wrong answers, to be asked for."""
    if result.violation is None:
        return ()
    limits = excusing(subject.implementation.known_limits, result.law, result.clauses, result.violation)
    return tuple(limit for limit in limits if limit.is_confined)


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
        shown=tuple(trial.shown),
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
