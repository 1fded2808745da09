"""What a diagnosis comes to, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Condition:
    """A condition that holds for all failing cases and for no passing one.

    Attributes
    ----------
    condition
        In words: ``"H ≠ W and stride > 1"``.
    fails, passes
        (k, n): k of the n failing (passing) cases fulfil (do not fulfil) the condition: all of them.
    """

    condition: str
    fails: tuple[int, int]
    passes: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """Write the condition as plain data."""
        return {"condition": self.condition, "fails": list(self.fails), "passes": list(self.passes)}


@dataclass(frozen=True)
class Diagnosis:
    """One explanation of everything that a subject answered.

    Attributes
    ----------
    misreadings
        One misreading, or two that go together.
    explains
        Number of answers explained, and number of answers recorded: the same, or it would not be named.
    says
        The sentence for the author.
    """

    misreadings: tuple[str, ...]
    clauses: tuple[str, ...]
    explains: tuple[int, int]
    says: str

    def to_json(self) -> dict[str, Any]:
        """Write the diagnosis as plain data."""
        return {
            "misreading": " + ".join(self.misreadings),
            "clause": " + ".join(self.clauses),
            "explains": list(self.explains),
            "says": self.says,
        }


@dataclass(frozen=True)
class Findings:
    """What a diagnosis came to: explanations, or a condition, or a remark why neither can be had."""

    diagnoses: tuple[Diagnosis, ...] = ()
    condition: Condition | None = None
    remark: str | None = None
