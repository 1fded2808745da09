"""The judge: cases, subjects, laws, diagnosis, reports, and the doors to them.

>>> from convform.adapters import load
>>> from convform.conformance import check
>>> check(load("reference"), operators=["im2col"]).verdict
'conforms'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convform.conformance.doors.python import check
    from convform.conformance.laws.violation import Violation
    from convform.conformance.reports.report import Report
    from convform.conformance.reports.results import (
        Failed,
        Holds,
        Known,
        LawResult,
        NotClaimed,
        OperatorReport,
        Outgrown,
        Violated,
    )

__all__ = [
    "Failed",
    "Holds",
    "Known",
    "LawResult",
    "NotClaimed",
    "OperatorReport",
    "Outgrown",
    "Report",
    "Violated",
    "Violation",
    "check",
]

_HOMES = {
    **dict.fromkeys(__all__, "reports.results"),
    "Report": "reports.report",
    "Violation": "laws.violation",
    "check": "doors.python",
}


def __getattr__(name: str) -> Any:
    """Import on first use: pytest loads this package, with its plugin, into every run of an environment."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
