"""A law: an executable property that clauses of the standard imply.

A law is a plain function on (subject, case) that raises `Violation`, together with where its cases come
from and the clauses it speaks for. Its level is that of its strictest clause.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from convform.conformance.cases.case import Case
from convform.conformance.cases.geometry import Focus
from convform.conformance.subjects.subject import Subject
from convform.spec.clauses import clause


@dataclass(frozen=True)
class Profile:
    """How many cases a run spends.

    Attributes
    ----------
    name
        ``"quick"``, ``"full"``, ``"search"`` for what is rare, or ``"brief"`` for a subject that takes a
        tenth of a second and more for every new shape.
    drawn
        Geometries drawn for a law about values.
    contents
        Times that a drawn geometry is filled with numbers.
    sweep
        Small geometries visited one by one; None visits all.
    costly
        Geometries drawn for a law that calls the subject many times, or the slow definition.
    wide
        Whether geometries for laws about values may be larger than a person would follow on paper.
    thorough
        Whether it sees enough to say that something does not happen: that a known limit shows no longer.
    """

    name: str
    drawn: int
    contents: int
    sweep: int | None
    costly: int
    wide: bool = False
    thorough: bool = True


BRIEF = Profile("brief", drawn=5, contents=1, sweep=20, costly=2, thorough=False)
QUICK = Profile("quick", drawn=20, contents=2, sweep=120, costly=5)
FULL = Profile("full", drawn=60, contents=2, sweep=None, costly=15)
SEARCH = Profile("search", drawn=1500, contents=1, sweep=None, costly=15, wide=True)
PROFILES = {profile.name: profile for profile in (BRIEF, QUICK, FULL, SEARCH)}


@dataclass(frozen=True)
class Drawn:
    """Random geometries within a focus, drawn by Hypothesis."""

    focus: Focus
    costly: bool = False


@dataclass(frozen=True)
class Swept:
    """All small one-axis geometries within a focus, pairing axes."""

    focus: Focus


@dataclass(frozen=True)
class Listed:
    """Cases written out by a function of the subject; an empty list means not claimed."""

    cases: Callable[[Subject], Iterable[Case]]


Source = Drawn | Swept | Listed
Check = Callable[[Subject, Case], None]

ORDINARY = "values"
"""The record that all laws share whose violations show in what ordinary calls answer."""


@dataclass(frozen=True)
class Evidence:
    """What is looked at when a violation is explained: which calls are recorded, and what counts in them.

    Attributes
    ----------
    memory
        Whether nothing counts but what a call does to its arguments, and where its outputs lie.
    dtypes
        Whether dtypes count as well as values.
    repeated
        How many calls are made once more after the others: a subject with memory shows it only then.
    arrangements
        How arrays lie in memory, for every drawn geometry.
    replayed
        Whether its listed cases are recorded; those that may be large are not.
    """

    memory: bool = False
    dtypes: bool = False
    repeated: int = 0
    arrangements: tuple[str, ...] = ("contiguous",)
    replayed: bool = True


@dataclass(frozen=True)
class Law:
    """One law.

    Attributes
    ----------
    name
        Unique within an operator family; known limits and reports use it.
    families
        Operator families that it applies to.
    clauses
        Ids of the clauses that it speaks for; the first one is the headline of a violation.
    source
        Where its cases come from.
    check
        The property: returns None, or raises `Violation`.
    needs
        Parameters that the wrapper must take for the law to be claimed.
    output
        Output that the subject must return for the law to be claimed; None for any.
    lane
        ``"exact"``, ``"bounded"``, ``"contract"``, or ``"equal"`` for figures that leave no room for
        rounding, not even that of a transform.
    evidence
        How a violation is explained.
    of_process
        Whether it asks what only a process of its own can show; it is then asked last, and of subjects that
        nobody trusts.
    """

    name: str
    families: tuple[str, ...]
    clauses: tuple[str, ...]
    source: Source
    check: Check
    needs: tuple[str, ...] = ()
    output: str | None = None
    lane: str = "exact"
    evidence: Evidence = Evidence()
    of_process: bool = False

    @property
    def record(self) -> str:
        """Which record explains a violation: `ORDINARY`, or one of its own, by the name of the law."""
        return ORDINARY if self.level == "core" and self.lane == "exact" else self.name

    @property
    def level(self) -> str:
        """``"core"`` where every clause is, else ``"strict"``."""
        levels = {clause(name).level for name in self.clauses}
        return "strict" if "strict" in levels else "core"

    def not_claimed(self, subject: Subject) -> str | None:
        """Say why the subject does not claim what the law is about; None where it does."""
        if self.of_process and not subject.is_suspect:
            return "its code is trusted"
        missing = [name for name in self.needs if not subject.takes(name)]
        if missing:
            return f"the wrapper takes no {' and no '.join(missing)}"
        if self.output is not None and self.output not in subject.answers:
            return f"the wrapper returns no {self.output}"
        transform = subject.implementation.claims.arithmetic == "transform"
        if self.lane == "equal" and transform and subject.operator.is_linear:
            return "with arithmetic='transform' figures are not equal"
        return None
