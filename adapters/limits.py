"""Known limits: what an adapter is known to break, as data with a reason and a link."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from convform.adapters.claims import DTYPES
from convform.adapters.errors import AdapterError, closest
from convform.spec.operators import OPERATORS, RANKS, Operator

SHOWS = ("values", "shape", "dtype", "raises", "answers", "crashed", "timed out", "other")
"""The kinds of wrong answer that a limit may be confined to: those of a violation."""

_WORD = re.compile(r"timed out|\S+")


@dataclass(frozen=True)
class KnownLimit:
    """Laws or clauses that an adapter is known to break, where it does, and what it does then.

    It excuses a violation if all of this fits the smallest case that shows it, and no other.

    Attributes
    ----------
    operators
        Names of operators, or shell patterns over those that the adapter implements.
    breaks
        Names of laws, or ids of clauses such as ``"CONV-6"``; or ``"crashed"`` or ``"timed out"``, whatever
        law that happens in.
    reason
        One sentence: what happens.
    link
        Where it is documented or reported.
    dtypes
        The dtypes that break it, as names or patterns; None for any.
    ranks
        The numbers of spatial axes; None for any.
    when
        The condition on a valid case, in the words of `convform.conformance.diagnosis.condition`; None for
        any case.
    shows
        The kind of wrong answer, one of `SHOWS`; None for any.
    always
        Whether every run shows it, so that it is to be taken off once one does not. What comes from
        uninitialised memory, or is rare, shows in some runs; so does the end of a process.
    """

    operators: tuple[str, ...]
    breaks: tuple[str, ...]
    reason: str
    link: str
    dtypes: tuple[str, ...] | None = None
    ranks: tuple[int, ...] | None = None
    when: str | None = None
    shows: str | None = None
    always: bool = True

    @property
    def is_confined(self) -> bool:
        """Whether it leaves something of its operators to be judged by the same law."""
        return (self.dtypes, self.when, self.shows) != (None, None, None)

    def is_of(self, operator: Operator) -> bool:
        """Whether it is about an operator."""
        ranked = self.ranks is None or operator.rank in self.ranks
        return ranked and any(fnmatchcase(operator.name, pattern) for pattern in self.operators)

    def speaks_of(self, dtype: str) -> bool:
        """Whether it is about a dtype."""
        return self.dtypes is None or any(fnmatchcase(dtype, pattern) for pattern in self.dtypes)


def limit_of(
    where: str,
    operators: str,
    breaks: str,
    dtypes: str | Sequence[str] | None,
    ranks: Sequence[int] | None,
    **rest: Any,
) -> KnownLimit:
    """Read a known limit as it is written, names and patterns apart by spaces.

    Raises
    ------
    AdapterError
        If no operator, dtype or rank is meant, a kind of answer does not exist, or something is empty.
    """
    for name, value in (("operators", operators), ("breaks", breaks), *((n, rest[n]) for n in _TEXTS)):
        if not isinstance(value, str) or not value.strip():
            raise AdapterError(f"{where}: known limit of {operators}: {name}={value!r}, expected a text")
    where = f"{where}: known limit of {operators}"
    _check_meant(f"{where}: there is no operator", operators.split(), OPERATORS)
    only = tuple(dtypes.split() if isinstance(dtypes, str) else dtypes) if dtypes is not None else None
    _check_meant(f"{where}: there is no dtype", only, DTYPES)
    if ranks is not None and not set(ranks) & set(RANKS):
        raise AdapterError(f"{where}: ranks={ranks!r}, expected some of {RANKS}")
    shows = rest["shows"]
    if shows is not None and shows not in SHOWS:
        raise AdapterError(
            f"{where}: shows={shows!r}, expected one of {', '.join(SHOWS)}", closest(str(shows), SHOWS)
        )
    along = None if ranks is None else tuple(ranks)
    return KnownLimit(
        tuple(operators.split()), tuple(_WORD.findall(breaks)), dtypes=only, ranks=along, **rest
    )


_TEXTS = ("reason", "link")


def _check_meant(says: str, patterns: Sequence[str] | None, names: Sequence[str] | Any) -> None:
    for pattern in patterns or ():
        if not any(fnmatchcase(name, pattern) for name in names):
            raise AdapterError(f"{says} {pattern!r}", closest(pattern, names))
