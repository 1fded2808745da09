"""The ledger of divergences: where a library answers otherwise than the standard, one entry for each cause.

A divergence is a violated law, be it known or not, or a declared dialect at the place where its answer is
not the standard's. `divergences` collects them from the report on one operator; `merged` puts those of one
cause together, over ranks, operators and laws; `reproduce` runs their programs.
"""

from __future__ import annotations

import dataclasses
import io
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.console import Console

from convform.adapters import Adapter, Implementation, ShapeMismatch
from convform.adapters.process.guard import first_line
from convform.conformance.laws.index import laws_of
from convform.conformance.laws.law import ORDINARY, Profile
from convform.conformance.laws.violation import ANSWERS, DTYPE, OTHER, RAISES, SHAPE, TIMED_OUT, Violation
from convform.conformance.reports.reproducer import standalone
from convform.conformance.reports.results import Known, OperatorReport, Outgrown, Violated, counterexample
from convform.conformance.reports.terminal import drawing
from convform.conformance.running.trial import Effort, run_law
from convform.conformance.subjects.subject import Subject
from convform.reference.misreadings.catalogue import MISREADINGS
from convform.spec.clauses import LEVELS
from convform.spec.operators import OPERATORS, Operator

VIOLATION, KNOWN, OUTGROWN, DIALECT = "violation", "known limit", "outgrown limit", "dialect"
KINDS = (VIOLATION, OUTGROWN, KNOWN, DIALECT)
"""What should be looked at first stands first."""

SHOWN = "shown"
NO_SCRIPT = "the adapter has no script for this operator"

SECONDS = 120.0
"""Time that a reproducer may take: it imports the library."""

WIDTH = 110


@dataclass(frozen=True)
class Divergence:
    """One law, or one dialect, of one operator of one backend. All of it is plain data.

    Attributes
    ----------
    kind
        One of `KINDS`.
    operator, law, level, clause
        What was judged, and the clause that it departs from.
    says
        What was seen.
    outcome
        ``"crashed"`` or ``"timed out"`` where there was no answer.
    dialect
        ``ties="split"`` for a dialect.
    explanation
        Readings of the standard that explain it, each as the end of "it gives what the standard gives …".
    misreadings
        Their names.
    evidence
        What they explain: ``"values"`` of ordinary calls, shared by all laws about those; else the law.
    when
        The condition under which it happens, where no reading explains it.
    reason, link
        Of a known limit.
    case
        The smallest case as data, with expected and actual arrays; None for an outgrown limit.
    drawing
        The same as text.
    size
        How much there is to read in it.
    program
        A program that shows it with nothing but the library; None where there is none.
    prints
        What the program prints if it shows the divergence, see `_prints`.
    reproduced
        What came of running it: ``"shown"``, or what happened instead; None where it was not run.
    """

    kind: str
    operator: str
    law: str
    level: str
    clause: str
    says: str
    outcome: str | None = None
    dialect: str | None = None
    explanation: tuple[str, ...] = ()
    misreadings: tuple[str, ...] = ()
    evidence: str = ""
    when: str | None = None
    reason: str | None = None
    link: str | None = None
    case: Mapping[str, Any] | None = None
    drawing: str | None = None
    size: int = 0
    program: str | None = None
    prints: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reproduced: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Write the divergence as plain data, without what is empty."""
        return {name: value for name, value in vars(self).items() if value not in (None, (), {})}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Divergence:
        """Read what `to_json` has written."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return cls(**values)


@dataclass(frozen=True)
class Entry:
    """All divergences of one backend that have one cause.

    Attributes
    ----------
    backend, version
        The library.
    divergence
        The one with the smallest case.
    operators, laws
        Where else it shows.
    """

    backend: str
    version: str | None
    divergence: Divergence
    operators: tuple[str, ...]
    laws: tuple[str, ...]


# --------------------------------------------------------------------------------------- collecting


def divergences(
    adapter: Adapter, subject: Subject | None, report: OperatorReport, profile: Profile, seed: int
) -> list[Divergence]:
    """Collect the divergences of one operator.

    Parameters
    ----------
    adapter
        The adapter, as it was judged.
    subject
        The operator as it was judged; None where its smoke law was violated.
    report
        What was found.
    profile, seed
        As in the run; dialects are looked for with the same.
    """
    implementation = adapter.implementations[report.name]
    found = [
        _of_law(adapter, implementation, result)
        for result in report.laws
        if isinstance(result, (Violated, Outgrown))
    ]
    if subject is not None:
        died = any(result.outcome for result in report.laws)
        found += _of_dialects(adapter, subject, profile, seed, died)
    return found


def _of_law(adapter: Adapter, implementation: Implementation, result: Violated | Outgrown) -> Divergence:
    operator = implementation.operator
    evidence = _evidence(operator, result.law)
    about = operator.name, result.law, result.level, result.clauses[0]
    if isinstance(result, Outgrown):
        return Divergence(OUTGROWN, *about, result.reason, evidence=evidence, link=result.limit.link)
    limit = result.limit if isinstance(result, Known) else None
    findings = result.findings
    named = [] if findings is None else [diagnosis.misreadings for diagnosis in findings.diagnoses]
    if evidence != ORDINARY:
        # Only right and wrong was compared, which tells readings of other clauses from it badly.
        named = [names for names in named if all(MISREADINGS[n].clause in result.clauses for n in names)]
    return Divergence(
        KNOWN if limit else VIOLATION,
        *about,
        without_paths(result.violation.says),
        evidence=evidence,
        outcome=result.outcome,
        explanation=tuple(" and ".join(MISREADINGS[name].says for name in names) for names in named),
        misreadings=tuple(" + ".join(names) for names in named),
        when=findings.condition.condition if findings and findings.condition else None,
        reason=limit.reason if limit else None,
        link=limit.link if limit else None,
        **_described(adapter, implementation, result.violation),
    )


def _evidence(operator: Operator, law_name: str) -> str:
    laws = {law.name: law for law in laws_of(operator)}
    return laws[law_name].record if law_name in laws else law_name  # the smoke law is no other law


def _of_dialects(
    adapter: Adapter, subject: Subject, profile: Profile, seed: int, died: bool
) -> Iterator[Divergence]:
    """Take each dialect away, and see where the answer is not the standard's then."""
    implementation = subject.implementation
    told: set[tuple[str, str]] = set()
    for reading in subject.dialects:
        assert reading.dialect is not None
        others = tuple(other for other in implementation.claims.dialects if other != reading.dialect)
        plain = Subject(
            replace(implementation, claims=replace(implementation.claims, dialects=others)), subject.answers
        )
        citing = [law for law in laws_of(subject.operator) if reading.clause in law.clauses]
        for law in sorted(citing, key=lambda law: LEVELS.index(law.level)):
            if reading.dialect in told:
                break
            result = run_law(plain, law, profile, seed, effort=Effort(has_died=died))
            if not isinstance(result, Violated) or result.outcome is not None:
                continue
            told.add(reading.dialect)
            name, value = reading.dialect
            yield Divergence(
                DIALECT,
                subject.operator.name,
                law.name,
                law.level,
                reading.clause,
                without_paths(result.violation.says),
                dialect=f'{name}="{value}"',
                explanation=(reading.says,),
                misreadings=(reading.name,),
                **_described(adapter, implementation, result.violation),
            )


def _described(adapter: Adapter, implementation: Implementation, violation: Violation) -> dict[str, Any]:
    """What a violation shows: the case as data and drawn, and a program."""
    arrays = [*violation.case.inputs.values(), *violation.expected.values()]
    case = counterexample(violation)
    del case["traceback"], case["says"]  # whose code it is, and what is said beside it
    described: dict[str, Any] = {
        "case": case,
        "drawing": drawn(violation),
        "size": sum(array.size for array in arrays),
    }
    if adapter.script is not None:
        program = standalone(adapter.script, implementation, violation)
        program = without_paths(program) if program else None
        described |= {"program": program, "prints": _prints(implementation, violation)}
    return described


def drawn(violation: Violation) -> str:
    """Draw a violation as plain text."""
    paper = Console(file=io.StringIO(), width=WIDTH, color_system=None, highlight=False)
    paper.print(drawing(violation, "actual"))
    assert isinstance(paper.file, io.StringIO)
    return without_paths("\n".join(line.rstrip() for line in paper.file.getvalue().splitlines()).strip("\n"))


_FOLDERS = re.compile(r"(?<![\w.)/:])/(?:[\w.+-]+/)+")


def without_paths(text: str) -> str:
    """Name files without the folders that they lie in on this machine."""
    return _FOLDERS.sub("", text)


# ------------------------------------------------------------------------------------------ merging


def merged(backend: str, version: str | None, found: Iterable[Divergence]) -> list[Entry]:
    """Put divergences of one cause together, what should be looked at first in front.

    One cause is one reason of a known limit, one dialect, one explanation, one way for a family of operators
    to end the process; else one law.
    """
    groups: dict[tuple[object, ...], list[Divergence]] = {}
    for divergence in found:
        groups.setdefault(_cause(divergence), []).append(divergence)
    entries = []
    for group in groups.values():
        names = tuple(name for name in OPERATORS if name in {found.operator for found in group})
        laws = tuple(dict.fromkeys(divergence.law for divergence in group))
        entries.append(Entry(backend, version, min(group, key=_readability), names, laws))
    return sorted(entries, key=lambda e: (KINDS.index(e.divergence.kind), LEVELS.index(e.divergence.level)))


def _cause(divergence: Divergence) -> tuple[object, ...]:
    family = OPERATORS[divergence.operator].family
    cause: object
    if divergence.kind == KNOWN:
        # The row of the adapter's list that excuses it: several may speak of one clause.
        cause = divergence.reason, divergence.link
    elif divergence.kind == OUTGROWN:
        cause = divergence.says, divergence.link
    elif divergence.outcome is not None:
        cause = divergence.says.partition(";")[0], family.partition(".")[0]
    elif divergence.kind == DIALECT:
        cause = divergence.dialect
    elif divergence.evidence == ORDINARY:
        cause = divergence.misreadings[:1] or (divergence.when, family)
    else:
        cause = divergence.clause, divergence.law, divergence.misreadings[:1]
    return divergence.kind, cause


def _readability(divergence: Divergence) -> tuple[object, ...]:
    """Sort key: what a program shows, in values, in ordinary calls, on a small case."""
    shows_values = bool(divergence.case and divergence.case["expected"])
    row = list(OPERATORS).index(divergence.operator)
    return divergence.program is None, not shows_values, LEVELS.index(divergence.level), divergence.size, row


# -------------------------------------------------------------------------------------- reproducing


def _prints(implementation: Implementation, violation: Violation) -> dict[str, Any]:
    """Say what the program of a violation does: how the judge knows that it shows it.

    ``{"does": …}`` with one of ``"ends"`` (the process dies or hangs), ``"answers"`` (instead of raising),
    ``"raises"`` (instead of answering), ``"dtype"``, ``"shape"``, ``"values"``, ``"figures"`` (of a worked
    example, in its own layout) or ``"more"`` (what is wrong shows only over several calls, or in the
    arguments).
    """
    kind = violation.kind
    if violation.outcome is not None:
        return {"does": "ends", "outcome": violation.outcome}
    if kind in (ANSWERS, RAISES):
        return {"does": kind}
    if kind == DTYPE:
        return {"does": kind, "dtype": violation.case.dtype.name}
    if isinstance(violation.__cause__, ShapeMismatch):
        return {"does": SHAPE, "shapes": {violation.__cause__.array: str(violation.__cause__.shape)}}
    if violation.case.example is not None:
        return {"does": "figures"}
    if kind == OTHER or not violation.actual:
        return {"does": "more"}
    return {
        "does": "values",
        "actual": {name: _printed(implementation, name, array) for name, array in violation.actual.items()},
        "expected": {
            name: _printed(implementation, name, array) for name, array in violation.expected.items()
        },
    }


def _printed(implementation: Implementation, name: str, array: np.ndarray) -> str:
    """What the program prints for an output after its dtype: shape and values in the library's layout."""
    if array.dtype == object:
        array = array.astype(np.float64)
    try:
        native = implementation.layouts[name].to_native(array)
    except ValueError:  # it has another shape
        native = array
    return f"{native.shape} {native.tolist()}"


_LINE = re.compile(r"(\w+) (\S+) (\([\d, ]*\)) (.*)")


def reproduce(divergence: Divergence, python: str = sys.executable, seconds: float = SECONDS) -> str:
    """Run the program of a divergence in a fresh interpreter.

    Returns
    -------
    str
        `SHOWN`, or what happened instead.
    """
    if divergence.program is None:
        return NO_SCRIPT
    with tempfile.TemporaryDirectory() as folder:
        try:
            ran = subprocess.run(
                [python, "-c", divergence.program],
                capture_output=True,
                timeout=seconds,
                text=True,
                errors="replace",
                cwd=folder,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            timed_out = divergence.prints.get("outcome") == TIMED_OUT
            return SHOWN if timed_out else f"no answer within {seconds:g} s"
    return _compared(divergence.prints, ran.returncode, ran.stdout, ran.stderr)


def _compared(prints: Mapping[str, Any], code: int, out: str, err: str) -> str:
    """Hold what a program did against what it should have shown."""
    does = prints["does"]
    said = first_line(err.strip().rpartition("\n")[2], 120)
    lines = {match[1]: match for match in map(_LINE.fullmatch, out.splitlines()) if match}
    if code < 0 or code > 1:
        return SHOWN if does == "ends" else f"the process ended with code {code}: {said}"
    if code:
        return SHOWN if does == "raises" else f"raised {said}"
    if does in ("ends", "raises"):
        return "gave an answer"
    if not lines:
        return "printed no output"
    if does == "answers":
        return SHOWN
    if does == "more":
        return "ran; one call alone does not show it"
    if does == "figures":
        return "ran; what it prints is to be compared with the figures above"
    if does == "dtype":
        return SHOWN if any(line[2] != prints["dtype"] for line in lines.values()) else "the dtype was right"
    if does == "shape":
        same = all(name in lines and lines[name][3] == shape for name, shape in prints["shapes"].items())
        return SHOWN if same else "gave another shape"
    given = {name: f"{line[3]} {line[4]}" for name, line in lines.items()}
    if all(given.get(name) == text for name, text in prints["actual"].items()):
        return SHOWN
    if all(given.get(name) == text for name, text in prints["expected"].items()):
        return "gave the standard's answer"
    return "gave a third answer"
