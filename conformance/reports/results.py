"""What a run found, as values: one result per law, one verdict per operator, one for the adapter."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from convform.adapters import KnownLimit, Switch
from convform.adapters.process.guard import NOTHING, Printed, Remark
from convform.conformance.diagnosis.findings import Findings
from convform.conformance.laws.violation import CRASHED, TIMED_OUT, Violation

SCHEMA = 1


CONFORMS, VIOLATES, BROKEN, INCOMPLETE = "conforms", "violates", "broken adapter", "incomplete"


VERDICTS = (BROKEN, CRASHED, TIMED_OUT, VIOLATES, INCOMPLETE, CONFORMS)
"""From the worst to the best."""

EXIT_CODES = {CONFORMS: 0, BROKEN: 2, INCOMPLETE: 4}
"""Exit codes of verdicts; of any other verdict it is 1."""


@dataclass(frozen=True)
class LawResult:
    """What one law found: one of the outcomes below.

    Attributes
    ----------
    status
        ``"holds"``, ``"violated"``, ``"known"``, ``"not-claimed"`` or ``"error"``: one for each outcome, and
        ``"violated"`` also for `Outgrown`.
    law, level, clauses
        Name of the law, its level, and the clauses it cites.
    cases, seconds
        How many cases were run, in what time.
    """

    status: ClassVar[str]
    law: str
    level: str
    clauses: tuple[str, ...]
    cases: int = 0
    seconds: float = 0.0

    @property
    def outcome(self) -> str | None:
        """``"crashed"`` or ``"timed out"`` where the smallest violation is the end of a process."""
        return None

    def decides(self, level: str) -> bool:
        """Whether it counts at a level."""
        return level in (self.level, "strict")

    def to_json(self) -> dict[str, Any]:
        """Write the result as plain data."""
        data: dict[str, Any] = {
            "law": self.law,
            "level": self.level,
            "clauses": list(self.clauses),
            "status": self.status,
            "cases": self.cases,
            "seconds": round(self.seconds, 4),
            "counterexample": None,
            "reproducer": None,
        }
        return data | {name: value for name, value in self._details().items() if value is not None}

    def _details(self) -> dict[str, Any]:
        """What only this outcome has, by its name in JSON; None is left out."""
        return {}


@dataclass(frozen=True)
class NotClaimed(LawResult):
    """The adapter does not claim what the law is about; the reason says why."""

    status = "not-claimed"
    reason: str = field(kw_only=True)

    def _details(self) -> dict[str, Any]:
        return {"reason": self.reason}


@dataclass(frozen=True)
class Failed(LawResult):
    """The law could not be run: the adapter is broken, in the way that the reason says."""

    status = "error"
    reason: str = field(kw_only=True)

    def _details(self) -> dict[str, Any]:
        return {"reason": self.reason}


@dataclass(frozen=True)
class NotReached(LawResult):
    """The time of the run was over before the law had been asked, or asked to its end."""

    status = "not-reached"

    @property
    def reason(self) -> str:
        """Say why."""
        return "the time of the run was over"

    def _details(self) -> dict[str, Any]:
        return {"reason": self.reason}


@dataclass(frozen=True)
class Holds(LawResult):
    """No case violates the law.

    Attributes
    ----------
    false_pass
        Upper bound on the probability that a wrong linear map passes on one tested geometry.
    """

    status = "holds"
    false_pass: float | None = None

    def outgrown(self, limit: KnownLimit, breaks: str) -> Outgrown:
        """Return a violation: the adapter lists a limit that does not show any more."""
        return Outgrown(**vars(self), limit=limit, breaks=breaks)

    def _details(self) -> dict[str, Any]:
        return {"false_pass": self.false_pass}


@dataclass(frozen=True)
class Outgrown(Holds):
    """A violation without a case: the law holds, though the adapter lists a limit of what it `breaks`."""

    status = "violated"
    limit: KnownLimit = field(kw_only=True)
    breaks: str = field(kw_only=True)

    @property
    def reason(self) -> str:
        """Say what is wrong."""
        return f"the known limit {self.breaks} no longer shows; take it off the adapter's list"

    def decides(self, level: str) -> bool:
        """Hold at every level."""
        return True

    def _details(self) -> dict[str, Any]:
        return {"reason": self.reason, "link": self.limit.link, **super()._details()}


@dataclass(frozen=True)
class Violated(LawResult):
    """Some case violates the law.

    Attributes
    ----------
    violation
        The smallest violation found.
    found_after
        Seconds from the start of the law to its first violation.
    reproducer
        Python source that shows it.
    findings
        Why the law is violated, as far as it could be found out.
    shown
        Known limits that excuse one of the violations that were met, this one or another.
    """

    status = "violated"
    violation: Violation = field(kw_only=True)
    found_after: float = field(kw_only=True)
    reproducer: str | None = None
    findings: Findings | None = None
    shown: tuple[KnownLimit, ...] = ()

    def known(self, limit: KnownLimit) -> Known:
        """Return the same violation as one that the adapter lists."""
        return Known(**vars(self), limit=limit)

    @property
    def outcome(self) -> str | None:
        """``"crashed"`` or ``"timed out"`` where the smallest violation is the end of a process."""
        return self.violation.outcome

    def _details(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "counterexample": counterexample(self.violation),
            "reproducer": self.reproducer,
            "found_after": self.found_after,
            "outcome": self.outcome,
        }
        if self.findings is not None:
            data["diagnosis"] = [diagnosis.to_json() for diagnosis in self.findings.diagnoses]
            if self.findings.condition is not None:
                data["when"] = self.findings.condition.to_json()
            data["remark"] = self.findings.remark
        return data


@dataclass(frozen=True)
class Known(Violated):
    """A violation that the adapter lists as a known limit; it does not decide."""

    status = "known"
    limit: KnownLimit = field(kw_only=True)

    def _details(self) -> dict[str, Any]:
        return {"reason": self.limit.reason, "link": self.limit.link, **super()._details()}


@dataclass(frozen=True)
class OperatorReport:
    """The laws of one operator."""

    name: str
    laws: tuple[LawResult, ...]

    @property
    def seconds(self) -> float:
        """Seconds spent on all laws."""
        return sum(law.seconds for law in self.laws)

    def violated(self, level: str = "strict") -> list[Violated | Outgrown]:
        """Violated laws that decide at a level, worst first: core before strict, simple before complex."""
        decisive = (law for law in self.laws if law.decides(level) and not isinstance(law, Known))
        return [law for law in decisive if isinstance(law, (Violated, Outgrown))]

    def verdict(self, level: str) -> str:
        """One of `VERDICTS`: the worst of its laws."""
        if any(isinstance(law, Failed) for law in self.laws):
            return BROKEN
        found = {law.outcome or VIOLATES for law in self.violated(level)}
        decided = [law for law in self.laws if law.decides(level)]
        # Where nothing was asked, nothing is known: a verdict says no more than was asked.
        asked = any(law.cases for law in decided if law.clauses and not isinstance(law, (Failed, NotReached)))
        if not asked or any(isinstance(law, NotReached) for law in decided):
            found.add(INCOMPLETE)
        return next((verdict for verdict in VERDICTS if verdict in found), CONFORMS)

    @property
    def cases(self) -> int:
        """Cases run over all laws."""
        return sum(law.cases for law in self.laws)


@dataclass(frozen=True)
class Way:
    """The way in which a subject was judged.

    Attributes
    ----------
    own_process
        Whether it ran in a process of its own.
    sandbox
        The kind of sandbox that held it, of `convform.adapters.process.sandbox.KINDS`; None for code that is
        trusted.
    why
        Why it was no better one; None where there is nothing to say.
    forbidden
        Modules that it could not import.
    excused
        Whether known limits that it lists itself excused it.
    of_file
        Whether it came out of a file.
    """

    own_process: bool = False
    sandbox: str | None = None
    why: str | None = None
    forbidden: tuple[str, ...] = ()
    excused: bool = True
    of_file: bool = False

    def __str__(self) -> str:
        if not self.own_process:
            return "judged in process, where it could reach the judge"
        if self.sandbox is None:
            return "judged in a process of its own"
        held = "without a sandbox" if self.sandbox == "none" else f"in a sandbox ({self.sandbox})"
        forbids = f", {' and '.join(self.forbidden)} forbidden" if self.forbidden else ""
        return f"judged {held}{forbids}" + (f": {self.why}" if self.why else "")


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
    left_out
        What the adapter does not claim here, for something is not installed: one phrase each.
    way
        The way in which it was judged.
    declared
        What it declares and is judged by, one phrase each: dialects, and that its sums are transforms.
    own_limits
        Known limits that it lists itself, and that excuse nothing: one phrase each.
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
    left_out: tuple[str, ...] = ()
    way: Way = Way()
    declared: tuple[str, ...] = ()
    own_limits: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The worst verdict of any operator, at the level of the report; incomplete where there is none."""
        verdicts = {operator.verdict(self.level) for operator in self.operators} or {INCOMPLETE}
        return next(verdict for verdict in VERDICTS if verdict in verdicts)

    @property
    def exit_code(self) -> int:
        """0 conforms, 2 broken adapter, 4 incomplete, 1 anything else."""
        return EXIT_CODES.get(self.verdict, 1)

    @property
    def cases(self) -> int:
        """Cases run over all operators."""
        return sum(operator.cases for operator in self.operators)

    def __getitem__(self, operator: str) -> OperatorReport:
        """Return the report of one operator."""
        return next(report for report in self.operators if report.name == operator)

    def to_json(self) -> dict[str, Any]:
        """Write the report as plain data, in the documented schema."""
        data: dict[str, Any] = {
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
            "judged": dataclasses.asdict(self.way),
            "declared": list(self.declared),
            "own_limits": list(self.own_limits),
        }
        return {**data, "left_out": list(self.left_out)} if self.left_out else data

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
