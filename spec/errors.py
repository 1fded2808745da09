"""The one error of this package: a page of the standard is malformed, or a clause does not exist."""

from __future__ import annotations


class SpecError(Exception):
    """A page of the standard cannot be read as one.

    Parameters
    ----------
    where
        The page, and the clause or part in it: ``"conv.md, CONV-1"``.
    problem
        What is wrong, what is expected, and what to write instead, in one sentence.
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where = where
        self.problem = problem


class UnknownClauseError(SpecError, KeyError):
    """There is no clause with that id; the message names the ids that look like it."""

    __str__ = Exception.__str__  # KeyError would show the repr of the message
