"""The smoke law: whether the wrapper runs at all, and what it returns.

It comes first, so that a broken adapter is called that and does not show up as forty failures.
"""

from __future__ import annotations

import time

from convform.adapters import AdapterError, Implementation
from convform.adapters.process.client import RaisedElsewhere
from convform.conformance.cases.case import build
from convform.conformance.cases.geometry import Axis, Channels, Geometry, Space
from convform.conformance.laws.violation import Violation
from convform.conformance.reports.results import Failed, Holds, LawResult, Violated
from convform.conformance.subjects.subject import Subject, SubjectGone, SubjectRaised, call

SMOKE = "smoke"


def smoke_geometries(space: Space) -> list[Geometry]:
    """Two ordinary inputs that every implementation can be expected to survive."""
    stride = 1 if space.strides or not space.pooling else 2
    return [
        Geometry(
            (Axis(n, 2, stride, 0, 0, 1),) * space.rank,
            Channels(),
            space.dtypes[0],
            seed=n,
            bias=space.biases[0],
        )
        for n in (4, 5)
    ]


def smoke(implementation: Implementation) -> tuple[Subject | None, LawResult]:
    """Call a wrapper on two ordinary inputs.

    Returns
    -------
    subject
        The implementation with the names of the outputs it returns; None if it is broken.
    result
        `Holds`; `Failed` with one sentence; or `Violated` where the process has ended.
    """
    operator = implementation.operator
    started = time.perf_counter()
    problem = ""
    answers: frozenset[str] | None = None
    gone: SubjectGone | None = None
    space = Space.of(implementation)
    geometries = smoke_geometries(space) if space.dtypes else []
    if not geometries:
        problem = f"the wrapper for {operator.name} claims integers only, and an average of integers is none"
    for geometry in geometries:
        try:
            result = call(implementation, build(operator, geometry))
        except SubjectRaised as error:
            problem = f"the wrapper for {operator.name} raised {error}{_where(error)}"
            continue
        except SubjectGone as error:
            gone = error
            continue
        except AdapterError as error:
            problem = f"{error} ({error.hint})" if error.hint else str(error)
            answers = None
            break
        # Where the shape is wrong the names are unknown: the laws will ask for all of them.
        answers = frozenset(result.outputs) or _all_outputs(implementation)
    seconds = time.perf_counter() - started
    about = SMOKE, "core", (operator.row.first_clause,), len(geometries), seconds
    if answers is not None:
        return Subject(implementation, answers), Holds(*about)
    if gone is not None:
        return None, Violated(*about, violation=Violation.of(gone), found_after=seconds)
    return None, Failed(*about, reason=problem)


def _all_outputs(implementation: Implementation) -> frozenset[str]:
    names = frozenset(implementation.operator.outputs)
    return names if implementation.claims.indices else names - {"indices"}


def _where(error: SubjectRaised) -> str:
    """Name the line of the subject's own file that raised."""
    if isinstance(error.__cause__, RaisedElsewhere):
        return f" ({error.__cause__.where})" if error.__cause__.where else ""
    traceback = error.__cause__.__traceback__ if error.__cause__ else None
    last = None
    while traceback is not None:
        last, traceback = traceback, traceback.tb_next
    if last is None:
        return ""
    code = last.tb_frame.f_code
    return f" ({code.co_filename.rsplit('/', 1)[-1]}:{last.tb_lineno}, in {code.co_name})"
