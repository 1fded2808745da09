"""One law on one subject: cases are run until one violates it, and that one is made small.

It owns Hypothesis: seeds, budgets, shrinking. No example database is used, so that a run depends on its seed
alone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity, configuration
from hypothesis.errors import Flaky

from convform.adapters import AdapterError, KnownLimit
from convform.adapters.process.wishes import heed
from convform.conformance.cases.case import Case, build, value_range
from convform.conformance.cases.geometry import Geometry, tables
from convform.conformance.laws.law import Drawn, Law, Listed, Profile, Swept
from convform.conformance.laws.violation import CRASHED, TIMED_OUT, Violation
from convform.conformance.reports.reproducer import reproducer
from convform.conformance.reports.results import Failed, Holds, LawResult, NotClaimed, NotReached, Violated
from convform.conformance.running.limits import excusing, narrowed, speaks_of
from convform.conformance.running.shrink import shrink_numbers
from convform.conformance.subjects.subject import AHEAD, Subject, SubjectGone, ask_ahead, forget_ahead

T = TypeVar("T")

SHRINK_SECONDS = 2.0
"""Time after which a slow subject's counterexample is not made any smaller."""


DEATHS = {CRASHED: 10, TIMED_OUT: 4}
"""Ends of the subject's process that the counterexample of one law may cost, by outcome.

That is for the first law that it dies in; in those after it the first case will do.
"""


SHRINK_DEATHS_SECONDS = 8.0
"""The same as `SHRINK_SECONDS` for a process that ends, and takes its time to start again."""


@contextlib.contextmanager
def without_files() -> Iterator[None]:
    """Let Hypothesis keep nothing in the user's folder: what it would keep there is of no use to anybody."""
    before = vars(configuration).get("__hypothesis_home_directory")
    configuration.set_hypothesis_home_dir(Path(os.devnull, "hypothesis"))  # where no folder can be made
    try:
        yield
    finally:
        configuration.set_hypothesis_home_dir(before)


@dataclass(frozen=True)
class Effort:
    """What a law may cost.

    Attributes
    ----------
    shrink
        Whether to look for the smallest counterexample; the first one will do where only the fact counts.
    shrink_known
        Whether to do so for a known limit of the adapter as well.
    has_died
        Whether the process of the subject has ended in another law already, so that one more small case of
        that is not worth the time.
    until
        When to stop, on the clock of `time.monotonic`; None for never.
    """

    shrink: bool = True
    shrink_known: bool = True
    has_died: bool = False
    until: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return self.until is not None and time.monotonic() >= self.until


@dataclass(frozen=True)
class _Trial:
    """What is asked; its attributes are the parameters of `run_law`, and limits that have shown already."""

    subject: Subject
    law: Law
    profile: Profile
    seed: int
    origin: str | None = None
    effort: Effort = Effort()
    left_out: tuple[KnownLimit, ...] = ()

    def looks_beyond(self, violation: Violation) -> bool:
        """Whether a search goes on: a wrong answer that is known must not hide the end of a process."""
        return self.profile.wide and violation.outcome is None and self.is_known(violation)

    def is_known(self, violation: Violation) -> bool:
        """Whether the adapter lists the violation among its known limits."""
        return bool(self.excused_by(violation))

    def excused_by(self, violation: Violation) -> tuple[KnownLimit, ...]:
        """The known limits of the adapter that excuse a violation."""
        limits = self.subject.implementation.known_limits
        return excusing(limits, self.law.name, self.law.clauses, violation)

    def leaves_out(self, case: Case) -> bool:
        """Whether a limit that has shown already speaks of a case."""
        return any((limit.dtypes or limit.when) and speaks_of(limit, case) for limit in self.left_out)


@dataclass
class _Search:
    """What has been found: cases are counted, and the simplest violation is kept."""

    trial: _Trial
    started: float = field(default_factory=time.perf_counter)
    cases: int = 0
    best: Violation | None = None
    first_at: float | None = None
    false_pass: float = 0.0
    deaths: int = 0
    shown: dict[KnownLimit, None] = field(default_factory=dict)
    wasted: bool = False  # whether what was asked ahead was not what the law calls for first
    cut: bool = False  # whether the time was over before all was asked

    def attempt(self, case: Case) -> Violation | None:
        """Run the law on one case; None as well where it is left out or its violation passed over."""
        heed()
        if self.trial.effort.is_over:
            self.cut = True
            return None
        case = self.trial.subject.fitted(case)
        if self.trial.leaves_out(case):
            return None
        self.cases += 1
        violation: Violation | None = None
        try:
            self.trial.law.check(self.trial.subject, case)
        except Violation as found:
            violation = found
        except SubjectGone as gone:
            violation = Violation.of(gone, case)
            self.deaths += 1
        if violation is None and self.trial.law.lane != "contract":
            self.trial.subject.remember(case, self.trial.law.check)
        return violation if violation is not None and self._keeps(violation) else None

    def ask_ahead(self, cases: Sequence[Case]) -> None:
        """Ask what will be asked anyhow, where answers take a while to come.

        Laws about what calls do to one another are asked in their own order.
        """
        subject, law = self.trial.subject, self.trial.law
        in_order = law.lane == "contract" and not law.of_process
        if not (self.wasted or self.trial.effort.is_over or in_order):
            ask_ahead(subject.implementation, [case for case in cases if subject.fitted(case) is case])

    def in_advance(self, cases: Iterable[Case]) -> Iterator[Case]:
        """Cases one after another; while some are looked at, the subject is busy with the next ones."""
        row = batches(cases, AHEAD)
        current = next(row, [])
        self.ask_ahead(current)
        while current:
            following = next(row, [])
            self.ask_ahead(following)
            yield from current
            self.wasted |= forget_ahead(self.trial.subject.implementation, current)
            current = following

    def _keeps(self, violation: Violation) -> bool:
        """Note a violation; False if a limit excuses it that has shown already, or another one than the best.

        What no limit excuses comes first; from there, shrinking never walks to what one excuses.
        """
        excused = self.trial.excused_by(violation)
        self.shown |= dict.fromkeys(excused)
        if any(limit in self.trial.left_out for limit in excused):
            return False
        if self.first_at is None:
            self.first_at = time.perf_counter()
        known = () if self.best is None else self.trial.excused_by(self.best)
        ends = violation.outcome is not None and known
        if self.best is not None and excused and excused != known and not ends:
            return False
        comes_first = known and not excused
        if self.best is None or comes_first or _complexity(violation) < _complexity(self.best):
            self.best = violation
        return True

    def shrinks_to(self, case: Case) -> Violation | None:
        """Run the law on a simpler case; only a violation with the same outcome counts."""
        found = None if self.exhausted else self.attempt(case)
        return found if found and self.best and found.outcome == self.best.outcome else None

    @property
    def exhausted(self) -> bool:
        """Whether shrinking has taken its time, or is not worth any."""
        if self.trial.effort.is_over:
            self.cut = True
            return True
        if self.best is None or self.first_at is None or self.trial.looks_beyond(self.best):
            return False
        if not self.trial.effort.shrink_known and self.trial.is_known(self.best):
            return True
        seconds = time.perf_counter() - self.first_at
        if self.best.outcome is not None:
            most = 1 if self.trial.effort.has_died else DEATHS[self.best.outcome]
            spent = self.deaths >= most or seconds > SHRINK_DEATHS_SECONDS
        else:
            spent = seconds > SHRINK_SECONDS
        return not self.trial.effort.shrink or spent


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
    effort: Effort | None = None,
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
    effort
        What it may cost.

    Returns
    -------
    LawResult
        `Holds`, `Violated`, `NotClaimed`, `NotReached` or `Failed`.
    """
    trial = _Trial(subject, law, profile, seed, origin, effort or Effort())
    found = result = _run(trial)
    cases, seconds, shown = result.cases, result.seconds, list(_shown(result))
    # What is known of some cases must not hide what happens in others: ask again what no limit speaks of.
    while confined := _confined(trial, result):
        left_out = trial.left_out + confined
        rest = narrowed(trial.subject, left_out)
        if rest is None:
            break
        trial = replace(trial, subject=rest, left_out=left_out)
        result = _run(trial)
        cases, seconds = cases + result.cases, seconds + result.seconds
        shown += _shown(result)
        found = result if isinstance(result, (Violated, Failed)) else found
    if isinstance(found, Violated):
        found = replace(found, shown=tuple(dict.fromkeys(shown)))
    return replace(found, cases=cases, seconds=seconds)


def _shown(result: LawResult) -> tuple[KnownLimit, ...]:
    return result.shown if isinstance(result, Violated) else ()


def _confined(trial: _Trial, result: LawResult) -> tuple[KnownLimit, ...]:
    """The limits that excuse a violation and leave other cases, or other wrong answers, to be asked for."""
    excused = trial.excused_by(result.violation) if isinstance(result, Violated) else ()
    return tuple(limit for limit in excused if limit.is_confined)


def _run(trial: _Trial) -> LawResult:
    """Run one law on all that is claimed."""
    subject, law = trial.subject, trial.law
    about = law.name, law.level, law.clauses
    reason = law.not_claimed(subject)
    if reason is not None:
        return NotClaimed(*about, reason=reason)
    search = _Search(trial)
    try:
        claimed = _look(search)
        forget_ahead(subject.implementation)
    except AdapterError as error:
        forget_ahead(subject.implementation)
        seconds = time.perf_counter() - search.started
        return Failed(*about, search.cases, seconds, reason=str(error))
    if search.cut and search.best is None:
        return NotReached(*about, search.cases, time.perf_counter() - search.started)
    if not claimed:
        return NotClaimed(*about, reason="no case of it lies within the claims")
    cases = search.cases
    if search.best is None:
        seconds = time.perf_counter() - search.started
        return Holds(*about, cases, seconds, search.false_pass or None)
    assert search.first_at is not None
    smallest = shrink_numbers(search.best, search.shrinks_to)
    return Violated(
        *about,
        cases,
        time.perf_counter() - search.started,
        violation=smallest,
        found_after=search.first_at - search.started,
        reproducer=reproducer(subject.implementation, smallest, trial.origin),
        shown=tuple(search.shown),
    )


def _look(search: _Search) -> bool:
    """Run cases until one violates the law; False if the claims leave no case."""
    trial = search.trial
    source, profile = trial.law.source, trial.profile
    seed = zlib.crc32(f"{trial.seed} {trial.subject.operator.name} {trial.law.name}".encode())
    if isinstance(source, Listed):
        for case in search.in_advance(source.cases(trial.subject)):
            if search.attempt(case) or search.cut:
                break
        return search.cases > 0
    wide = profile.wide and isinstance(source, Drawn) and not source.costly
    table = tables(trial.subject.space, source.focus, sweep=isinstance(source, Swept), wide=wide)
    if table.empty:
        return False
    if isinstance(source, Swept):
        for case in search.in_advance(_built(search, one) for one in table.sweep(profile.sweep, seed)):
            if search.cut:
                return True
            if search.attempt(case):
                _look_for_smaller(search, table.sweep(None, seed) if trial.effort.shrink else iter(()))
                return True
        return True
    _draw(search, source, table.strategy(), seed)
    return True


def _built(search: _Search, geometry: Geometry) -> Case:
    """Make the case of a geometry, and note how likely it lets a wrong sum pass."""
    operator = search.trial.subject.operator
    if search.trial.law.lane == "exact" and operator.is_linear:
        values = 2 * value_range(operator, geometry) + 1
        search.false_pass = max(search.false_pass, 2 / values)
    return build(operator, geometry)


def _look_for_smaller(search: _Search, geometries: Iterator[Geometry]) -> None:
    """A sweep that was thinned out may have passed over the smallest failing geometry."""
    assert search.best is not None
    for geometry in geometries:
        simplest = search.best.case.geometry
        if search.exhausted or simplest is None or geometry.complexity >= simplest.complexity:
            return
        if search.attempt(_built(search, geometry)):
            return


def _draw(
    search: _Search, source: Drawn, strategy: hypothesis.strategies.SearchStrategy[Geometry], seed: int
) -> None:
    """Let Hypothesis draw geometries, judge them, and let it shrink a failing one.

    It draws without waiting for answers first, so that many can be asked at once. Only where one of them
    violates the law it draws the same again, and takes over from there.
    """
    trial = search.trial
    examples = trial.profile.costly if source.costly else trial.profile.drawn
    contents = 1 if source.costly else trial.profile.contents
    drawn: list[Geometry] = []
    _let_draw(drawn.append, strategy, seed, examples, (Phase.generate,))
    failing, violation = _first_violation(search, drawn, contents)
    if violation is None or not trial.effort.shrink:
        return
    position = -1

    def test(geometry: Geometry) -> None:
        nonlocal position
        position += 1
        found = None
        if position == failing:
            found = violation
        elif position > failing and not search.exhausted:
            found = next(_violations(search, [geometry], contents), (0, None))[1]
        if found is not None:
            # Hypothesis tells failures apart by where they are raised: raise them all here.
            raise found

    # The search has kept the simplest violation; a flaky one is a violation all the same.
    with contextlib.suppress(Violation, Flaky):
        _let_draw(test, strategy, seed, examples, (Phase.generate, Phase.shrink))


def _let_draw(
    test: Callable[[Geometry], None],
    strategy: hypothesis.strategies.SearchStrategy[Geometry],
    seed: int,
    examples: int,
    phases: tuple[Phase, ...],
) -> None:
    """Let Hypothesis run a test, as often as is said, from a seed."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=False,
        phases=phases,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
        verbosity=Verbosity.quiet,
    )
    @hypothesis.given(strategy)
    def drawn(geometry: Geometry) -> None:
        test(geometry)

    drawn()


def _first_violation(
    search: _Search, geometries: Sequence[Geometry], contents: int
) -> tuple[int, Violation | None]:
    """Judge geometries until one violates the law: its position, and the violation."""
    return next(_violations(search, geometries, contents), (len(geometries), None))


def _violations(
    search: _Search, geometries: Sequence[Geometry], contents: int
) -> Iterator[tuple[int, Violation]]:
    """Judge geometries, each with several contents; yield what ends the search, with its position."""
    cases = (_built(search, _refilled(one, index)) for one in geometries for index in range(contents))
    for number, case in enumerate(search.in_advance(cases)):
        if search.cut:
            return
        violation = search.attempt(case)
        if violation is not None and not search.trial.looks_beyond(violation):
            yield number // contents, violation


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut a row of items into lists of a size; the last one may be shorter."""
    row = iter(items)
    while batch := list(itertools.islice(row, size)):
        yield batch


def _refilled(geometry: Geometry, index: int) -> Geometry:
    """The same geometry with other numbers."""
    return geometry if index == 0 else replace(geometry, seed=geometry.seed + (index << 16))
