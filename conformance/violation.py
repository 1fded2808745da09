"""What a law raises when a subject does not do what the standard says."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from convform.conformance.case import Case


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
    """

    def __init__(
        self,
        case: Case,
        says: str,
        expected: Mapping[str, np.ndarray] | None = None,
        actual: Mapping[str, np.ndarray] | None = None,
        differs: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        super().__init__(says)
        self.case = case
        self.says = says
        self.expected = dict(expected or {})
        self.actual = dict(actual or {})
        self.differs = dict(differs or {})
