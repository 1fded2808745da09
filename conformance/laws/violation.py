"""What a law raises when a subject does not do what the standard says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from convform.adapters.limits import SHOWS
from convform.adapters.process.guard import first_line
from convform.conformance.cases.case import Case
from convform.conformance.subjects.hosting import where_it_ended
from convform.conformance.subjects.subject import SubjectGone, SubjectRaised

VALUES, SHAPE, DTYPE, RAISES, ANSWERS, CRASHED, TIMED_OUT, OTHER = KINDS = SHOWS
"""How a subject can be wrong.

It gives wrong values, a wrong shape or rank, a wrong dtype; raises on valid input; answers what must be
refused; its process crashes, or is ended for it takes too long. Other is what shows only over several calls
or in the arguments, and an answer that cannot be read.
"""


class Violation(Exception):
    """A subject broke a law on a case.

    Attributes
    ----------
    case
        The case.
    says
        One sentence: what was seen, and what was expected.
    expected, actual
        Arrays by output name, where values can be shown.
    differs
        Boolean arrays by output name: the cells in which they differ.
    kind
        One of `KINDS`.
    """

    def __init__(
        self,
        case: Case,
        says: str,
        expected: Mapping[str, np.ndarray] | None = None,
        actual: Mapping[str, np.ndarray] | None = None,
        differs: Mapping[str, np.ndarray] | None = None,
        kind: str = VALUES,
    ) -> None:
        super().__init__(says)
        self.case = case
        self.says = says
        self.expected = dict(expected or {})
        self.actual = dict(actual or {})
        self.differs = dict(differs or {})
        self.kind = kind
        self._traceback: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process of the judge; the exception that caused it goes along as text."""
        arrays = dict(self.expected), dict(self.actual), dict(self.differs)
        return _arrived, (self.case, self.says, *arrays, self.kind, self.traceback)

    @classmethod
    def of(cls, gone: SubjectGone, judged: Case | None = None) -> Violation:
        """Describe the end of a subject's process as a violation by the call that it ended in.

        Where that was a call of another operator (the forward pass of a gradient), it goes with the case
        that was judged.
        """
        case = gone.case if judged is None or gone.case.operator is judged.operator else judged
        said = where_it_ended(gone.last_words)
        words = f"; its last words were: {first_line(said)}" if said else ""
        return cls(case, f"{gone.outcome}: {gone}{words}", kind=gone.outcome)

    @property
    def outcome(self) -> str | None:
        """``"crashed"`` or ``"timed out"`` where there was no answer; None where there was one."""
        return self.kind if self.kind in (CRASHED, TIMED_OUT) else None

    @property
    def traceback(self) -> str | None:
        """What the subject raised, with its own frames; None where it returned something."""
        return self.__cause__.traceback if isinstance(self.__cause__, SubjectRaised) else self._traceback


def _arrived(*parts: Any) -> Violation:
    *described, traceback = parts
    violation = Violation(*described)
    violation._traceback = traceback
    return violation
