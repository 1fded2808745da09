"""Known limits: what an adapter is known to break, as data with a reason and a link."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownLimit:
    """A law or clause that an adapter is known to break for one operator.

    Attributes
    ----------
    operator
        Name of the operator.
    law_or_clause
        Name of a law, or id of a clause such as ``"CONV-6"``; or ``"crashed"`` or ``"timed out"``, whatever
        law that happens in.
    reason
        One sentence: what happens.
    link
        Where it is documented or reported.
    dtypes
        The dtypes that break it; None for any. All others are judged by themselves.
    always
        Whether every run shows it, so that it is to be taken off once one does not. What comes from
        uninitialised memory, or is rare, shows in some runs; so does the end of a process.
    """

    operator: str
    law_or_clause: str
    reason: str
    link: str
    dtypes: tuple[str, ...] | None = None
    always: bool = True

    def speaks_of(self, dtype: str) -> bool:
        """Whether it is about a dtype."""
        return self.dtypes is None or dtype in self.dtypes
