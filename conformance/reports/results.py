"""What a run found, as values: one result per law, one verdict per operator, one for the adapter."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from convform.adapters import KnownLimit, Switch
from convform.conformance.diagnosis.findings import Findings
from convform.conformance.laws.violation import Violation
from convform.conformance.subjects.guard import NOTHING, Printed, Remark

SCHEMA = 1


CONFORMS, VIOLATES, BROKEN = "conforms", "violates", "broken adapter"


CRASHED, TIMED_OUT = "crashed", "timed out"


VERDICTS = (BROKEN, CRASHED, TIMED_OUT, VIOLATES, CONFORMS)
"""From the worst to the best."""


@dataclass(frozen=True)
class LawResult:
    """What one law found.

    Attributes
    ----------
    law, level, clauses
        Name of the law, its level, and the clauses it cites.
    status
        ``"holds"``, ``"violated"``, ``"not-claimed"``, ``"error"``; or ``"known"`` for a violation that the
        adapter lists as a known limit.
    cases, seconds
        How many cases were run, in what time.
    reason
        Why it is not claimed, what the error was, or the reason of the known limit.
    violation
        The smallest violation found.
    reproducer
        Python source that shows it.
    found_after
        Seconds from the start of the law to its first violation.
    false_pass
        Upper bound on the probability that a wrong linear map passes on one tested geometry.
    link
        Where a known limit is documented.
    findings
        Why a violated law is violated, as far as it could be found out.
    shown
        Known limits that excuse one of the violations that were met, the smallest or another.
    """

    law: str
    level: str
    clauses: tuple[str, ...]
    status: str
    cases: int = 0
    seconds: float = 0.0
    reason: str | None = None
    violation: Violation | None = None
    reproducer: str | None = None
    found_after: float | None = None
    false_pass: float | None = None
    link: str | None = None
    findings: Findings | None = None
    shown: tuple[KnownLimit, ...] = ()

    def known(self, limit: KnownLimit) -> LawResult:
        """Return the same violation as one that the adapter lists."""
        return replace(self, status="known", reason=limit.reason, link=limit.link)

    def outgrown(self, limit: KnownLimit, word: str) -> LawResult:
        """Return a violation: the adapter lists a limit that does not show any more."""
        return replace(
            self,
            status="violated",
            reason=f"the known limit {word} no longer shows; take it off the adapter's list",
            link=limit.link,
        )

    def decides(self, level: str) -> bool:
        """Whether it counts at a level. That an adapter lists what does not show any more counts at each."""
        outgrown = self.status == "violated" and self.violation is None
        return level in (self.level, "strict") or outgrown

    @property
    def outcome(self) -> str | None:
        """``"crashed"`` or ``"timed out"`` where the smallest violation is the end of a process."""
        return None if self.violation is None else self.violation.outcome

    def to_json(self) -> dict[str, Any]:
        """Write the result as plain data."""
        data: dict[str, Any] = {
            "law": self.law,
            "level": self.level,
            "clauses": list(self.clauses),
            "status": self.status,
            "cases": self.cases,
            "seconds": round(self.seconds, 4),
            "counterexample": None if self.violation is None else counterexample(self.violation),
            "reproducer": self.reproducer,
        }
        for name in ("reason", "link", "found_after", "false_pass"):
            if getattr(self, name) is not None:
                data[name] = getattr(self, name)
        if self.outcome is not None:
            data["outcome"] = self.outcome
        if self.findings is not None:
            data["diagnosis"] = [diagnosis.to_json() for diagnosis in self.findings.diagnoses]
            if self.findings.condition is not None:
                data["when"] = self.findings.condition.to_json()
            if self.findings.remark is not None:
                data["remark"] = self.findings.remark
        return data


@dataclass(frozen=True)
class OperatorReport:
    """The laws of one operator."""

    name: str
    laws: tuple[LawResult, ...]

    @property
    def seconds(self) -> float:
        """Seconds spent on all laws."""
        return sum(law.seconds for law in self.laws)

    def violated(self, level: str = "strict") -> list[LawResult]:
        """Violated laws that decide at a level, worst first: core before strict, simple before complex."""
        return [law for law in self.laws if law.status == "violated" and law.decides(level)]

    def verdict(self, level: str) -> str:
        """One of `VERDICTS`: the worst of its laws."""
        if any(law.status == "error" for law in self.laws):
            return BROKEN
        found = {law.outcome or VIOLATES for law in self.violated(level)}
        return next((verdict for verdict in VERDICTS if verdict in found), CONFORMS)

    @property
    def cases(self) -> int:
        """Cases run over all laws."""
        return sum(law.cases for law in self.laws)


@dataclass(frozen=True, repr=False)
class Results:
    """Everything that a run found out about one adapter, as values.

    Attributes
    ----------
    adapter, version
        What was judged.
    seed, profile, level, seconds
        How it was judged.
    operators
        What was found, for each operator.
    remarks
        What the subject did besides answering.
    printed
        What it printed meanwhile.
    switches
        Global settings that its arithmetic depends on, as they were.
    """

    adapter: str
    version: str | None
    seed: int
    profile: str
    level: str
    seconds: float
    operators: tuple[OperatorReport, ...]
    remarks: tuple[Remark, ...] = ()
    printed: Printed = NOTHING
    switches: tuple[Switch, ...] = ()

    @property
    def verdict(self) -> str:
        """The worst verdict of any operator, at the level of the report."""
        verdicts = {operator.verdict(self.level) for operator in self.operators}
        return next(verdict for verdict in VERDICTS if verdict in verdicts)

    @property
    def exit_code(self) -> int:
        """0 conforms, 2 broken adapter, 1 anything else."""
        return {CONFORMS: 0, BROKEN: 2}.get(self.verdict, 1)

    @property
    def cases(self) -> int:
        """Cases run over all operators."""
        return sum(operator.cases for operator in self.operators)

    def __getitem__(self, operator: str) -> OperatorReport:
        """Return the report of one operator."""
        return next(report for report in self.operators if report.name == operator)

    def to_json(self) -> dict[str, Any]:
        """Write the report as plain data, in the documented schema."""
        return {
            "schema": SCHEMA,
            "adapter": self.adapter,
            "version": self.version,
            "seed": self.seed,
            "profile": self.profile,
            "level": self.level,
            "verdict": self.verdict,
            "seconds": round(self.seconds, 3),
            "settings": arithmetic_settings(),
            "switches": [dataclasses.asdict(switch) for switch in self.switches],
            "operators": {
                operator.name: {
                    "verdict": operator.verdict(self.level),
                    "cases": operator.cases,
                    "laws": [law.to_json() for law in operator.laws],
                }
                for operator in self.operators
            },
            "remarks": [remark.to_json() for remark in self.remarks],
            "printed": self.printed.to_json(),
        }

    def dumps(self) -> str:
        """Write the report as JSON text."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n"


def arithmetic_settings() -> dict[str, str]:
    """Environment variables that are known to change arithmetic, where they are set."""
    names = ("ONEDNN_DEFAULT_FPMATH_MODE", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")
    return {name: os.environ[name] for name in names if name in os.environ}


def counterexample(violation: Violation) -> dict[str, Any]:
    """Write a violation as plain data: the case, and what was expected and given."""
    case = violation.case
    return {
        "says": violation.says,
        "operator": case.operator.name,
        "dtype": case.dtype.name,
        "parameters": {name: _plain(value) for name, value in case.parameters.items()},
        "inputs": _arrays(case.inputs),
        "arrangement": case.arrangement,
        "refused": case.refused,
        "expected": _arrays(violation.expected),
        "actual": _arrays(violation.actual),
        "traceback": violation.traceback,
    }


def _arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {name: {"shape": list(array.shape), "values": _values(array)} for name, array in arrays.items()}


def _values(array: np.ndarray) -> Any:
    """Nested lists of JSON numbers; what JSON cannot hold becomes a string such as "nan"."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(entry) for entry in value]
        if isinstance(value, (bool, int)):
            return value
        try:
            number = float(value)
        except (TypeError, ValueError):  # a cell that is no real number, in an answer
            return str(value)
        return number if np.isfinite(number) else str(number)

    return plain(array.tolist())


def _plain(value: object) -> object:
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value
